"""Drivers broken: calls and what is around them, outcomes, interrupts, views of the context, and the doors in front of them."""

from __future__ import annotations

from . import DRIVERS, FRONT_DOORS, LEASES, PROPERTIES, SEMANTICS, UNDO, Mutant

__all__ = ["OF_DRIVERS"]

OWN_VIEWS = DRIVERS + "own_views"
LEFT = "        except BaseException as error:\n            self._leave(entered, error)\n            raise\n"
SWALLOWED = (
    "        except BaseException as error:\n"
    "            if any(one.__exit__(type(error), error, error.__traceback__) for one in entered):\n"
    "                return None\n            raise\n"
)
ANOTHER = "# the task executed another saga with it\n            set_binding(view, binding)\n"
IN_A_SERIES = "        if note is None or (value is not None and "
STRUCK = "                    struck, strikes = error, strikes + 1\n"

OF_DRIVERS = [
    # -- calls --------------------------------------------------------------------------------------------------------
    Mutant(
        "an `around` that swallows an exception makes a success of it",
        "            value = method(view)\n" + LEFT,
        "            value = method(view)\n" + SWALLOWED,
        DRIVERS + "around -k swallows",
    ),
    Mutant(
        "an `around` that swallows an exception makes a success of it in an event loop",
        "            value = await awaited(await method(view))\n" + LEFT,
        "            value = await awaited(await method(view))\n" + SWALLOWED,
        DRIVERS + "around -k swallows",
    ),
    Mutant(
        "a compensation that was cut off has failed with its cancellation",
        "        elif beside.overdue is not None and call.phase is COMPENSATE:\n",
        "        elif False:\n",
        DRIVERS + "compensation_timeout -k that_attempt_has_failed",
    ),
    Mutant(
        "a compensation whose time is limited keeps the loop from all else",
        "        if call.step.compensation_timeout is not None if call.phase is COMPENSATE else ",
        "        if False if call.phase is COMPENSATE else ",
        DRIVERS + "compensation_timeout -k the_rest_is_undone_meanwhile",
    ),
    Mutant(
        "a call that runs on beside what was abandoned asks a machine that is gone",
        "        if not execution.beside:  # else",
        "        if True:  # else",
        DRIVERS + "compensation_timeout -k what_still_runs",
    ),
    Mutant(
        "what a late undo did not change takes the place of what others did",
        "        changed = [key for key in {**before, **theirs} if before.get(key, _NONE)[1] != theirs.get(key, _NONE)[1]]\n",
        "        changed = [*{**before, **theirs}]\n",
        DRIVERS + "compensation_timeout -k takes_nothing_from",
    ),
    Mutant(
        "a late undo works on what the others see",
        "            return self.views.apart(call.step, view)\n",
        "            return share(view)\n",
        DRIVERS + "compensation_timeout -k takes_nothing_from",
    ),
    Mutant(
        "nobody hears how a late compensation ended",
        "    under_way = state.compensating | state.compensation_stragglers\n    return",
        "    under_way = state.compensating\n    return",
        DRIVERS + "compensation_timeout -k the_rest_is_undone_meanwhile",
    ),
    Mutant(
        "an `around` that raises prevents the call",
        "                    raise\n                self._report(around)\n",
        "                    raise\n                raise\n",
        DRIVERS + "around -k raises",
    ),
    Mutant(
        "an `around` that raises as it is left changes the outcome",
        "                if other is error:",
        "                raise\n                if other is error:",
        DRIVERS + "around -k raises",
    ),
    Mutant(
        "a series goes on after a coroutine that nobody awaits",
        ANOTHER + IN_A_SERIES + "(type(value) is kind or id(type(value)) not in FINISHED)",
        ANOTHER + IN_A_SERIES + "type(value) is kind",
        FRONT_DOORS + "not_awaited",
    ),
    Mutant(
        "a series goes on after a context that a task returned",
        ANOTHER + IN_A_SERIES + "(type(value) is kind or id(type(value)) not in FINISHED)",
        ANOTHER + IN_A_SERIES + "(type(value) is not kind and id(type(value)) not in FINISHED)",
        FRONT_DOORS + "declared -k context",
    ),
    Mutant(
        "what a plain function returned to be awaited is taken for its result",
        "outcome[1] and is_awaitable(outcome[2])",
        "False",
        FRONT_DOORS + "not_awaited -k event_loop",
    ),
    Mutant(
        "a coroutine that nobody awaits is a result",
        "        if what is not None and not (self.awaits and is_awaitable(value) and not step.transactional):",
        "        if what is not None and not is_awaitable(value):",
        FRONT_DOORS + "not_awaited -k nobody",
    ),
    Mutant(
        "a generator is a result",
        '        return "a generator"\n',
        "        return None\n",
        FRONT_DOORS + "not_awaited -k nobody",
    ),
    Mutant(
        "what is not awaited is not closed",
        "        elif _is_a(type(value), Coroutine) or _is_a(type(value), Generator):\n            value.close()",
        "        elif _is_a(type(value), Generator):\n            value.close()",
        FRONT_DOORS + "not_awaited -k nobody",
    ),
    Mutant(
        "what was not awaited may have done its work",
        "        self.machine.send(StepFailed(step.name, call.attempt, at, elapsed, unrun, encoded=",
        "        self.machine.send(StepFailed(step.name, call.attempt, at, elapsed, unrun, True, encoded=",
        FRONT_DOORS + "not_awaited -k nobody",
    ),
    Mutant(
        "a call that raised is noted as one that returned",
        "            del series, note, surroundings  # the error's traceback may keep this frame, and the log keeps the error\n"
        "            return call, False, error, clock() - started",
        "            return call, True, None, clock() - started",
        SEMANTICS + "failures",
    ),
    Mutant(
        "a call that is made ready has begun",
        "binding.call = None  #",
        "binding.call = call  #",
        DRIVERS + "series",
    ),
    Mutant(
        "a block that an interrupt leaves goes on with the state it struck",
        "        if is_exception(error):\n            self.machine.give_up(error, self.now())\n        else:",
        "        self.machine.give_up(error, self.now())\n        if False:",
        DRIVERS + "series",
    ),
    Mutant(
        "an interrupt as a block ends undoes nothing",
        "        except BaseException as struck:\n            execution.leave(struck)\n",
        "        except BaseException as struck:\n            raise struck\n",
        DRIVERS + "series",
    ),
    # -- interrupts ---------------------------------------------------------------------------------------------------
    Mutant(
        "swallow an interrupt",
        "    if execution.interrupt is not None:\n        add_note(execution.interrupt, result.summary())",
        "    if False:\n        add_note(execution.interrupt, result.summary())",
        SEMANTICS + "interrupts",
    ),
    Mutant(
        "an interrupt ends the driver",
        "                    self._abandon()\n                except BaseException as error:\n" + STRUCK,
        "                    self._abandon()\n                except BaseException as error:\n                    raise\n",
        SEMANTICS + "ctrl_c",
    ),
    Mutant(
        "an interrupted compensation of a stored execution has failed",
        "    if not undoes or not _stops(driver, error) or struck_here(error):\n",
        "    if True:\n",
        UNDO,
    ),
    Mutant(
        "an interrupt in a compensation stops an execution that nobody can take up",
        "    if driver.journal is None or is_exception(error):\n",
        "    if is_exception(error):\n",
        UNDO + " -k without_a_store",
    ),
    Mutant(
        "an interrupt in the user's code around a compensation makes that fail",
        "            if _stops(driver, error):\n                cut_short",
        "            if False:\n                cut_short",
        UNDO + " -k in_the_users_code_around",
    ),
    Mutant(
        "a recovery goes forward after an interrupted compensation",
        "    if machine.status is RUNNING:  # the recovery is not to go forward\n",
        "    if False:\n",
        UNDO + " -k does_not_go_forward",
    ),
    Mutant(
        "calls begin after an interrupted compensation",
        "        while commands and not self.cut_short:\n            if self._heard and",
        "        while commands:\n            if self._heard and",
        UNDO + " -k no_other_branchs_undo",
    ),
    Mutant(
        "calls begin after an interrupted compensation in an event loop",
        "        while commands and not self.cut_short:\n            if self._exposed and",
        "        while commands:\n            if self._exposed and",
        UNDO + " -k no_other_branchs_undo",
    ),
    Mutant(
        "nobody is told that an interrupted compensation is left to a recovery",
        '    LOG.warning(\n        "saga %s is left',
        '    LOG.info(\n        "saga %s is left',
        UNDO + " -k it_is_raised_at_once",
    ),
    Mutant(
        "a second interrupt keeps the lease of an execution that is left to a recovery",
        "        except BaseException as error:  # another interrupt, which must not keep the lease\n",
        "        except ZeroDivisionError as error:\n",
        UNDO + " -k another_interrupt_while_the_lease",
    ),
    Mutant(
        "a straggler whose compensation is interrupted is seen to for ever",
        "            while not (self.machine.ended or self.parked or self.abandoned):\n                self.advance(wait=True)",
        "            while not (self.machine.ended or self.parked):\n                self.advance(wait=True)",
        UNDO + " -k straggler",
    ),
    Mutant(
        "a block's interrupt does not tell what is left to a recovery",
        " and (not execution.abandoned or error is interrupt):",
        " and not execution.abandoned:",
        UNDO + " -k in_a_block",
    ),
    # -- one context, one execution; what nobody awaits -----------------------------------------------------------------
    Mutant(
        "a context in use is taken",
        "        if holder is not None and not _is_inside(holder):",
        "        if False:",
        SEMANTICS + "one_context_one_execution",
    ),
    Mutant(
        "a task that a call began is a stranger to its context",
        "holder.user == threading.get_ident() or holder in INSIDE.get()",
        "holder.user == threading.get_ident()",
        SEMANTICS + "one_context_one_execution -k tasks_begun",
    ),
    Mutant(
        "a context is kept when its execution has ended",
        "    binding.user = None\n    if binding.within",
        "    if binding.within",
        SEMANTICS + "one_context_one_execution",
    ),
    Mutant(
        "a task does not get its context back from the saga that it executed",
        "    if binding.within is not None and context.__binding__ is binding:",
        "    if False:",
        SEMANTICS + "one_context_one_execution -k tasks_begun",
    ),
    Mutant(
        "two steps of a block run at once",
        "        if self.user is not None:  # no other thread",
        "        if False:  # no other thread",
        SEMANTICS + "one_context_one_execution -k beside_another",
    ),
    Mutant(
        "a block ends well though nobody has awaited its step",
        "        if awaited and not left:\n",
        "        if True:\n",
        SEMANTICS + "one_context_one_execution -k nobody_awaits",
    ),
    Mutant(
        "a block ends while another thread executes its step",
        "        while self.user not in (None, threading.get_ident()):\n",
        "        while False:\n",
        SEMANTICS + "one_context_one_execution -k in_a_thread",
    ),
    Mutant(
        "an async function that nobody awaits is taken",
        "    if is_coroutine_function(call):\n        raise SagaDefinitionError(f",
        "    if False:\n        raise SagaDefinitionError(f",
        FRONT_DOORS + "async_where_nobody_awaits",
    ),
    Mutant(
        "what an observer left to be awaited is forgotten",
        "                    if left is not None:\n",
        "                    if False:\n",
        FRONT_DOORS + "async_where_nobody_awaits -k observer",
    ),
    # -- odd exceptions -------------------------------------------------------------------------------------------------
    Mutant(
        "an exception says itself what it is",
        "        return issubclass(type(error), kinds)  # which",
        "        return issubclass(error.__class__, kinds)  # which",
        SEMANTICS + "odd_exceptions -k like_any_other and lies",
    ),
    Mutant(
        "an exception's traceback is set where its class may refuse",
        "    _TRACEBACK.__set__(error, trace)\n",
        "    error.__traceback__ = trace\n",
        SEMANTICS + "odd_exceptions -k like_any_other and frozen",
    ),
    Mutant(
        "a record is lost with a traceback that cannot be formatted",
        "        traceback.TracebackException(type(error), error, trace, limit=0)\n",
        "        pass\n",
        SEMANTICS + "odd_exceptions -k like_any_other and notes",
    ),
    # -- what only goes round -----------------------------------------------------------------------------------------
    Mutant(
        "a fault that does not let up strikes for ever",
        "    if strikes < (2 if is_exception(error) else MOST_STRIKES):\n",
        "    if True:\n",
        DRIVERS + "in_vain -k does_not_let_up",
    ),
    Mutant(
        "what strikes where nothing can be called strikes for ever",
        "            if strikes > MOST_STRIKES:  # not even stopping succeeds, as at the end of the stack\n",
        "            if False:\n",
        DRIVERS + "in_vain -k wherever_the_stack",
    ),
    Mutant(
        "no thread, no undo",
        "            if beside.call.phase is EXECUTE:\n                raise\n",
        "            raise\n",
        DRIVERS + "in_vain -k plain_undo_of_an_event_loop",
    ),
    Mutant(
        "nobody sees to a straggler where no thread is to be had",
        "        except RuntimeError:\n            self._see_to_stragglers()\n",
        "        except ZeroDivisionError:\n            self._see_to_stragglers()\n",
        DRIVERS + "in_vain -k a_straggler_is_seen_to_here",
    ),
    Mutant(
        "a scope of anyio cancels at every turn",
        '    anyio = sys.modules.get("anyio")\n',
        "    anyio = None\n",
        DRIVERS + "in_vain -k scope",
    ),
    Mutant(
        "an execution past its pivot is exposed to cancellations for ever",
        "self.machine.status is RUNNING and self.machine.halt is None:",
        "self.machine.status is RUNNING:",
        DRIVERS + "in_vain -k scope",
    ),
    Mutant(
        "an interrupt as a block's undo comes to run leaves that",
        "        except BaseException as struck:\n            execution.leave(struck)\n        finally:\n",
        "        except ZeroDivisionError as struck:\n            execution.leave(struck)\n        finally:\n",
        SEMANTICS + "interrupts_at_every_line -k wherever_interrupts_strike",
    ),
    # -- threads that end without a word ------------------------------------------------------------------------------
    Mutant(
        "a call that a lost thread never came to is in doubt",
        "            if beside.turn.locked():\n",
        "            if True:\n",
        DRIVERS + "lost_threads -k never_came_to_it",
    ),
    Mutant(
        "a call that a lost thread has made is taken as not done",
        "                lost = OutcomeUnknownError(",
        "                lost = ValueError(",
        DRIVERS + "lost_threads -k could_not_tell",
    ),
    Mutant(
        "an outcome that a lost thread has left is not taken",
        "            if beside.outcome is not None:\n                self._arrived.append(beside)\n                continue\n",
        "",
        DRIVERS + "lost_threads -k left_before_it_ended",
    ),
    # -- forks --------------------------------------------------------------------------------------------------------
    Mutant(
        "a child undoes what its parent has done",
        "        if self.process is not forks.process:\n            forks.refuse(self, None if returned else value)\n",
        "",
        DRIVERS + "forks -k goes_on_with_nothing",
    ),
    Mutant(
        "a child goes on with its parent's series",
        '            frame.f_locals["binding"].__class__ = _OfParent\n',
        "            pass\n",
        DRIVERS + "forks -k goes_on_with_nothing",
    ),
    Mutant(
        "a child leaves a block of its parent's by the undo",
        "    if driver.process is process:\n        return\n    driver.abandoned = True\n",
        "    if True:\n        return\n    driver.abandoned = True\n",
        DRIVERS + "forks -k goes_on_with_nothing",
    ),
    # -- cancellations that a call swallows ---------------------------------------------------------------------------
    Mutant(
        "a cancellation that a call swallows is lost",
        "        if cancels <= self._cancels or not (made[1]",
        "        if True or not (made[1]",
        DRIVERS + "swallowed",
    ),
    Mutant(
        "a series goes on after a cancellation that a call swallows",
        "            or cancelling() != cancels\n",
        "",
        DRIVERS + "swallowed",
    ),
    Mutant(
        "a call that raises of its cancellation is attempted again",
        " or not (made[1] or is_exception(made[2])):",
        " or not made[1]:",
        DRIVERS + "swallowed -k what_it_fails_with",
    ),
    Mutant(
        "a call that swallowed a cancellation is followed by the next",
        "        self.machine.give_up(cancellation, self.now())  # first: then nothing follows the call\n"
        "        self._take(made, view)\n",
        "        self._take(made, view)\n        self.machine.give_up(cancellation, self.now())\n",
        DRIVERS + "swallowed",
    ),
    Mutant(
        "a saga that cleans up after a cancellation is taken to be cancelled",
        "            self._cancels = cancelling()\n",
        "            self._cancels = 0\n",
        DRIVERS + "swallowed -k cleans_up",
    ),
    Mutant(
        "a cancellation that was taken back hides the next",
        "            self._cancels = cancels  #",
        "            pass  #",
        DRIVERS + "swallowed -k takes_a_cancellation_back",
    ),
    Mutant(
        "a pivot that swallowed a cancellation is undone",
        "        if made[1] and made[0].step.pivot:\n",
        "        if False:\n",
        DRIVERS + "swallowed -k the_pivot",
    ),
    Mutant(
        "who cancels until it is heard does not find its own words",
        "            await asyncio.sleep(0)  # who cancels",
        "            pass  # who cancels",
        DRIVERS + "swallowed -k who_cancels_until_it_is_heard",
    ),
    # -- views --------------------------------------------------------------------------------------------------------
    Mutant(
        "a given-up straggler's changes are seen",
        "        if given_up:\n            return view\n",
        "",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "branches share a view",
        "self._scopes[scope] = fork(self._scope(self._parent(scope)), self._read)",
        "self._scopes[scope] = self._scope(self._parent(scope))",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "branches share containers",
        "twin.__dict__.update((key, isolated(value, copies)) for key, value in view.__dict__.items())",
        "twin.__dict__.update(view.__dict__)",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "no conflict is one",
        "            if not _agree(before, branch, key):",
        "            if False:",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "merge in any order",
        "zip(group.names, views, strict=True)",
        "reversed(list(zip(group.names, views, strict=True)))",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "removed keys come back",
        "keys = {**view.__dict__, **branch.__dict__}",
        "keys = branch.__dict__",
        PROPERTIES + "context_views",
    ),
    Mutant(
        "what is one whole is compared with ==",
        "    if shape is None:\n        return False\n    met = ",
        "    if shape is None:\n        return bool(one == other)\n    met = ",
        "tests/unit/test_content -k something_else",
    ),
    Mutant(
        "attributes beside a dataclass's fields are lost in a view",
        "list(attributes(value).values())",
        "[item for name, item in attributes(value).items() if name in kind.__dataclass_fields__]",
        OWN_VIEWS + " -k attribute",
    ),
    Mutant(
        "what a mapper takes note of is copied",
        'return not any(hasattr(one, "__set__")',
        'return True or not any(hasattr(one, "__set__")',
        OWN_VIEWS + " -k holds",
    ),
    Mutant(
        "who holds an object does not see what a step did to its copy",
        "    if changed:\n        shape.fill(original, value, inside)\n",
        "    original = value\n",
        OWN_VIEWS + " -k holds",
    ),
    Mutant(
        "a copy that was not changed is written over what somebody else made of its original",
        "changed = before is None or not",
        "changed = True or not",
        "tests/unit/test_content -k given_back",
    ),
    Mutant(
        "an object that a step dropped after it had changed it is not given back",
        "        for copy in found.values():",
        "        for copy in ():",
        OWN_VIEWS + " -k holds",
    ),
    Mutant(
        "stored values are compared as objects",
        "    if texts is not None and others is not None:\n        return",
        "    if False:\n        return",
        OWN_VIEWS + " -k alike",
    ),
    Mutant(
        "branches share what is registered",
        "                own = read(known[1])\n",
        "                own = isolated(value, {})\n",
        OWN_VIEWS + " -k registered",
    ),
    Mutant(
        "a closed context takes any key",
        "    if key not in known and not isinstance(",
        "    if False and not isinstance(",
        "tests/unit/test_context -k closed",
    ),
    Mutant(
        "a conflict tells the values",
        "return type(view.__dict__[key]).__name__ if",
        "return repr(view.__dict__[key]) if",
        "tests/unit/test_merge -k conflict",
    ),
    # -- timers -------------------------------------------------------------------------------------------------------
    Mutant(
        "a receive's time is over though its signal is in the inbox",
        "            self.mail = True\n        return due",
        "            pass\n        return due",
        FRONT_DOORS + "waiting -k a_signal_that_only_the_store_knows",
    ),
    # -- observers ----------------------------------------------------------------------------------------------------
    Mutant(
        "observers of a block know no step of it",
        "machine.saga_id, self.context, machine.plan, so_far)",
        "machine.saga_id, self.context, self.definition.plan, so_far)",
        FRONT_DOORS + "transaction -k observers_know_the_steps",
    ),
    Mutant(
        "observers are told of no plan",
        "machine.saga_id, self.context, machine.plan, so_far)",
        "machine.saga_id, self.context, _so_far=so_far)",
        FRONT_DOORS + "transaction -k observers_know_the_steps",
    ),
    # -- stores that fail, as drivers take it -------------------------------------------------------------------------
    Mutant(
        "go on without the journal",
        "return False\n            except Exception as error:\n                raise AbandonedError(error) from error",
        "return False\n            except Exception:\n                self.journal = None",
        LEASES + " -k a_store_that_fails_at_any_write",
    ),
    Mutant(
        "go on without the journal in an event loop",
        "        raise AbandonedError(error) from error\n    then(result)",
        "        return\n    then(result)",
        DRIVERS + "event_loop -k a_store_that_fails_under_asyncio_run",
    ),
    Mutant(
        "a fault of the store is the step's",
        "                return False\n            except Exception as error:",
        "                return False\n            except StorageError as error:",
        LEASES + " -k what_a_faulty_store_raises",
    ),
    Mutant(
        "the lease is kept after a failure",
        "        if self.journal is not None and not self._calls_run():  # else the last of them gives the lease back\n",
        "        if False:\n",
        LEASES + " -k a_store_that_fails_at_any_write",
    ),
    Mutant(
        "the lease is given back while a branch runs",
        "        if self.journal is not None and not self._calls_run():  # else the last of them gives the lease back\n",
        "        if self.journal is not None:\n",
        LEASES + " -k a_lease_is_not_given_back_while_a_branch_runs",
    ),
    Mutant(
        "who lost the lease goes on",
        "                return False\n            except Exception as error:\n                raise",
        "                return False\n            except Exception as error:\n"
        "                if 'no longer held' not in str(error):\n                    raise",
        LEASES + " -k who_has_lost_the_lease_stops",
    ),
    Mutant(
        "who lost the lease begins its other branches",
        "        call_off(self)\n        if self.journal is not None and",
        "        if self.journal is not None and",
        "tests/crash/test_storage_failures -k a_branch_that_has_not_begun",
    ),
    # -- definitions and doors ----------------------------------------------------------------------------------------
    Mutant(
        "state on the saga",
        "        return begin(definition, *inputs(definition, context, ",
        "        self.context = context = getattr(self, 'context', context)\n"
        "        return begin(definition, *inputs(definition, context, ",
        SEMANTICS + "one_saga_many_executions",
    ),
    Mutant(
        "executions share their results",
        "        self.results: dict[str, Any] = {}\n",
        '        self.results: dict[str, Any] = vars(Binding.__init__).setdefault("results", {})\n',
        SEMANTICS + "one_saga_many_executions",
    ),
    Mutant(
        "one id for all",
        "saga_id = os.urandom(16).hex() if saga_id is None else",
        'saga_id = "id" if saga_id is None else',
        SEMANTICS + "one_saga_many_executions",
    ),
    Mutant(
        "import configures logging",
        '__version__ = "0.1.0"\n',
        'import logging\n\n__version__ = "0.1.0"\n\nlogging.basicConfig()\n',
        SEMANTICS + "import",
    ),
    Mutant(
        "a block's step is not told to the journal",
        """execution.add(self._plan.extend(found, allow_async, store.transacts, store.transacts_async), f',"task":{text}')""",
        "execution.add(self._plan.extend(found, allow_async))",
        FRONT_DOORS + "transaction_stored -k the_undo_of_a_dead_process",
    ),
]
