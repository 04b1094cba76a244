"""What users' tests are written with, broken: one call alone, stand-ins, a clock that is moved, a store that dies."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_TESTING"]

TESTING = "tests/testing/test_"
CALLING = TESTING + "calling"
STAND_INS = TESTING + "stand_ins"
CLOCK = TESTING + "clock"
DYING = TESTING + "dying"
MISTAKES = TESTING + "mistakes"
CERTIFICATES = TESTING + "certificates"
BLOCKS = TESTING + "blocks_explored"

OF_TESTING = [
    Mutant(
        "a block whose process died goes on in a history",
        "        if self.dead or self.stalled:\n            self.abandoned = True",
        "        if False:\n            self.abandoned = True",
        BLOCKS + " -k nothing_of_a_function",
    ),
    Mutant(
        "what a block's function cleans up as its process dies is taken for an undo",
        '                self.breaks("what a killed process would not clean up is a step"',
        '                len("what a killed process would not clean up is a step"',
        BLOCKS + " -k mistake_is_found",
    ),
    Mutant(
        "a block that completed may tell its caller of an error in a history",
        "            if not process.machine.state.past_pivot:\n",
        "            if False:\n",
        BLOCKS + " -k mistake_is_found",
    ),
    Mutant(
        "a block's own code never fails at its end",
        "        raised = self.history._raised_after(self)\n",
        "        raised = None\n",
        BLOCKS + " -k mistake_is_found",
    ),
    Mutant(
        "a block's own code never fails between two steps",
        "        raised = self._raised_after(self._own)\n",
        "        raised = None\n",
        BLOCKS + " -k own_code_fails",
    ),
    Mutant(
        "a block may be begun again under another id",
        "        if self._given_id not in (None, block.saga_id):",
        "        if False:",
        BLOCKS + " -k mistake_is_found",
    ),
    Mutant(
        "what a run leaves is not seen when the next begins",
        "            lines = differences(self.before, self.seen())\n",
        "            lines = []\n",
        BLOCKS + " -k before_that_hides_it",
    ),
    Mutant(
        "a program that is begun again leaves it to a recovery in a history",
        "            if not self._block.again:\n",
        "            if True:\n",
        BLOCKS + " -k run_again",
    ),
    Mutant(
        "a block without a recovery's codec is explored until something dies",
        "        block.check_durable()",
        "        pass",
        BLOCKS + " -k is_wrong_is_refused",
    ),
    Mutant(
        "a block that is stuck past its pivot is taken for one that names nothing",
        " or history.stopped_past_pivot):",
        "):",
        BLOCKS + " -k past_the_pivot",
    ),
    Mutant(
        "blocks that are made elsewhere are explored, too",
        "        KIND.reset(before)",
        "        pass",
        BLOCKS + " -k run_as_ever",
    ),
    Mutant(
        "deaths where something is stored strike unasked",
        "tuple(kind for kind in kinds if kind in wanted)",
        "tuple(kinds)",
        TESTING + "explore -k what_is_not_asked_for",
    ),
    Mutant(
        "what a person paused in a history stays so",
        "        operations.resume(self._history.saga_id, _WHY)\n        return True",
        "        return False",
        TESTING + "explore -k what_a_person_pauses",
    ),
    Mutant(
        "a stand-in of a transactional step is left in doubt",
        "        kinds -= _ROLLED_BACK",
        "        pass",
        TESTING + "explore -k transactional",
    ),
    Mutant(
        "what a task object keeps outlives its process in a history",
        "        return apart(self.setting.define(self.world), self.blobs)",
        "        return self.definition",
        MISTAKES + " -k a_task_object_keeps",
    ),
    Mutant(
        "what a task object keeps in a list is not seen",
        "value.copy() if type(value) in _CONTAINERS else None",
        "None",
        MISTAKES + " -k a_task_object_keeps",
    ),
    Mutant(
        "what dies at an await cleans up in a history",
        "                self._history.keep(work)  # nothing of it runs any more, though it would clean up\n",
        "                work.close()\n",
        TESTING + "explore -k cleans_nothing_up",
    ),
    Mutant(
        "what waits on and on is struck at each wait",
        "self._fault() if self._left else None",
        "self._fault()",
        TESTING + "explore -k waits_on_and_on",
    ),
    Mutant(
        "a store that is gone in a history comes back at once",
        "                vars(self).update(dict.fromkeys(_ASKED, _refuse))\n",
        "                pass\n",
        TESTING + "explore -k the_store_fails",
    ),
    Mutant(
        "what has ended need not be stored in a history",
        "        if history.is_stored_otherwise():\n",
        "        if False:\n",
        TESTING + "semantics_explored -k noticed",
    ),
    Mutant(
        "each entry may be stored by itself in a history",
        "    if writes > calls and",
        "    if False and",
        TESTING + "semantics_explored -k noticed",
    ),
    Mutant(
        "what a person skipped may be undone in a history",
        "            if event.step in skipped:\n",
        "            if False:\n",
        TESTING + "semantics_explored -k noticed",
    ),
    Mutant(
        "nothing is said of a plain call that never returns",
        "        if not self._strikes:\n            self._say(call)\n",
        "        if not self._strikes:\n            self._over.set()\n",
        TESTING + "explore -k another_thread",
    ),
    Mutant(
        "an async saga is explored under the synchronous driver",
        "    return AsyncProcess if plan.asynchronous else SyncProcess",
        "    return SyncProcess",
        TESTING + "semantics_explored -k noticed",
    ),
    Mutant(
        "a process that others take up cuts off the one that still runs",
        "        left = asyncio.all_tasks(self) - self._standing",
        "        left = asyncio.all_tasks(self)",
        TESTING + "explore -k transactional_step",
    ),
    Mutant(
        "a block's own timeout does not strike the step that it awaits",
        "                    self._running.cancel()",
        "                    pass",
        BLOCKS + " -k timeout_of_a_blocks_own",
    ),
    Mutant(
        "what nobody awaits outlives its process in a history",
        "            self.loop.cut_off()",
        "            pass",
        MISTAKES + " -k what_nobody_awaits",
    ),
    Mutant(
        "what nobody awaits is not there in the end",
        "            self.loop.let_end()",
        "            pass",
        MISTAKES + " -k what_nobody_awaits",
    ),
    Mutant(
        "the result of a call's own step is taken for that of the step before",
        "        if name != self.info.name:\n            self.previous",
        "        if True:\n            self.previous",
        CALLING + " -k a_call_has",
    ),
    Mutant(
        "a context stays bound to the call that a test made with it",
        "        binding.user = None\n        set_binding(context, before)",
        "        binding.user = None",
        CALLING + " -k is_seen",
    ),
    Mutant(
        "a compensation that is not there is called, and a test of it cannot fail",
        'phase != "execute" and not (compensates',
        "False and not (compensates",
        CALLING + " -k cannot_be_called",
    ),
    Mutant(
        "a stand-in without an undo leaves the real task's",
        "getattr(stand_in, method, None) or _nothing",
        "getattr(stand_in, method, None) or getattr(real, method)",
        STAND_INS + " -k its_compensation",
    ),
    Mutant(
        "a stand-in has policies of its own",
        "policies={**defaults, **policies_of(real.task, given_in_flow), **beside}",
        "policies={**given_in_flow, **beside}",
        STAND_INS + " -k the_same_but",
    ),
    Mutant(
        "a task that is added takes the stand-ins away",
        "    twin._whole = partial(_whole, twin)\n    _ = twin.definition",
        "    twin._whole = partial(_whole, twin)\n    _ = twin.definition\n    del twin._whole",
        STAND_INS + " -k may_be_added",
    ),
    Mutant(
        "a mock of a task is taken for a coroutine function",
        "type(_code_flags(call)) is int and",
        "",
        STAND_INS + " -k anything_can",
    ),
    Mutant(
        "leases are not renewed when a test moves the time",
        "                keeper.renew(moment - now)",
        "                pass",
        CLOCK + " -k keeps_its_lease",
    ),
    Mutant(
        "a call that a test makes slow is done before its timeout is looked at",
        "if one is None or not one.times_out():",
        "if True:",
        CLOCK + " -k moves_past",
    ),
    Mutant(
        "a call is late for what others did after it",
        "self._limits(math.inf if self.ended is None else self.ended)",
        "self._limits(math.inf)",
        CLOCK + " -k not_late",
    ),
    Mutant(
        "what waits moves the time while something runs",
        "            if due is None or (execution._calls_run() and due > self._read()):",
        "            if due is None:",
        CLOCK + " -k nobody_moves",
    ),
    Mutant(
        "what waits in an event loop moves the time while something runs",
        "            if not execution._calls_run():",
        "            if True:",
        CLOCK + " -k nobody_moves",
    ),
    Mutant(
        "a clock waits for ever for a process that is dead",
        "                self.move(pause)",
        "                pass",
        CLOCK + " -k what_another_runs",
    ),
    Mutant(
        "what an async call is told of its time comes after its end",
        "                driver._timer(beside)",
        "                pass",
        CLOCK + " -k moves_past",
    ),
    Mutant(
        "what is dead gives its leases back, and others find them free too early",
        "    def _refuse_if_closed(self) -> None:\n        if self.dead:",
        "    def _refuse_if_closed(self) -> None:\n        if False:",
        DYING + " -k who_is_dead",
    ),
    Mutant(
        "what is lost at a death is stored",
        "            if self._before in known:",
        "            if False:",
        DYING + " -k dies_at_a_write",
    ),
    Mutant(
        "what is left of who died is leased by it for long",
        "                if row.owner is not None:",
        "                if False:",
        DYING + " -k dies_at_a_write",
    ),
    Mutant(
        "who waits for what runs here lets time rush by",
        "yield pause if self._anything_runs() else 0.0",
        "yield 0.0",
        CLOCK + " -k hurries_nobody",
    ),
    Mutant(
        "who waits for others under a clock sleeps",
        "yield pause if self._anything_runs() else 0.0",
        "yield 60.0",
        CLOCK + " -k a_rate_is_kept",
    ),
    Mutant(
        "a certificate says that undo restores the world where the undo alone is looked at",
        "    before = calls.state()\n    calls.compensate(calls.execute())",
        "    view = calls.execute()\n    before = calls.state()\n    calls.compensate(view)",
        CERTIFICATES + " -k a_task_is_measured",
    ),
    Mutant(
        "the second undo is given what the first has left in the context",
        "own, binding = fork(view, None), self._view.__binding__",
        "own, binding = view, self._view.__binding__",
        CERTIFICATES + " -k a_task_is_measured",
    ),
    Mutant(
        "what is run again in doubt is not executed twice",
        "(step.retry.max_attempts != 1 or step.in_doubt is InDoubt.RERUN)",
        "step.retry.max_attempts != 1",
        CERTIFICATES + " -k a_task_is_measured",
    ),
    Mutant(
        "a verification is believed that says that something was done before it was",
        "if said is not None and not isinstance(said, NotDone):",
        "if False:",
        CERTIFICATES + " -k a_task_is_measured",
    ),
    Mutant(
        "the tasks of a fallback have no place in which they are measured",
        "                left.append(turns | {(name, _FAILS)})",
        "                pass",
        CERTIFICATES + " -k comes_to_it",
    ),
    Mutant(
        "... nor have those on the ways that are not taken",
        "                left += [turns | {(name, way)} for way in step.ways.entries]",
        "                pass",
        CERTIFICATES + " -k comes_to_it",
    ),
    Mutant(
        "a task that is done for each item is called as its first branch calls it",
        "declared_name(process.machine.plan, call.step), call.step",
        "name, call.step",
        CERTIFICATES + " -k comes_to_it",
    ),
    Mutant(
        "what is done in a branch of a branch is called as in its own place",
        'return f"{declared_name(plan, plan.by_name[each])}[]',
        'return f"{each}[]',
        CERTIFICATES + " -k comes_to_it",
    ),
    Mutant(
        "a diagram of an execution marks no certificate of what was done for each item",
        "standing.get(declared_name(plan, step))",
        "standing.get(name)",
        "tests/unit/test_diagram -k marked_in_all",
    ),
    Mutant(
        "a certificate outlives a change of the undo's function",
        "adapted = (task.action, task.compensation, task.verification)",
        "adapted = (task.action, None, task.verification)",
        CERTIFICATES + " -k has_changed",
    ),
    Mutant(
        "a certificate outlives a change of a policy",
        "(*sources, *policies(step))",
        "sources",
        CERTIFICATES + " -k has_changed",
    ),
    Mutant(
        "a certificate of what is no step any more is kept for ever",
        "[*(one for one in self if one.saga not in sagas), *other]",
        "[*self, *other]",
        CERTIFICATES + " -k is_read_again",
    ),
    Mutant(
        "pytest draws what was explored by its fixture in no process but its own",
        "if isinstance(error, laws.LawBrokenError):",
        'if isinstance(error, laws.LawBrokenError) and not hasattr(item.config, "workerinput"):',
        TESTING + "plugin -k drawn",
    ),
    Mutant(
        "a picture of a history does not say which law it breaks",
        "[faults, *broken]",
        "[faults]",
        TESTING + "explore -k is_drawn",
    ),
    Mutant(
        "a Ctrl-C while tasks are measured is an outcome of the call that it struck",
        "        except BaseException as error:\n            self._struck = error\n            self._end()",
        "        except BaseException as error:\n            raise",
        CERTIFICATES + " -k ctrl_c",
    ),
    Mutant(
        "what a transaction undoes once is measured twice",
        "    return step.compensates and not step.transactional",
        "    return step.compensates",
        CERTIFICATES + " -k rolls_back",
    ),
]
