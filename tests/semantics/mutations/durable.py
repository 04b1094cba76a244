"""Durable executions broken: journals and their entries, values, leases, starting, rebuilding, recovering, and operations."""

from __future__ import annotations

from . import ACROSS, CLOCKS, DOUBT, DRIVERS, DURABLE, IN_SQLITE, JOURNAL, LEASES, RECOVERY, SEVERAL, START_ONCE, VALUES, Mutant

__all__ = ["OF_DURABLE"]

NOBODY = "tests/durable/test_leases_of_nobody"
CIPHER = "tests/durable/test_cipher"
MODULES = "tests/unit/codec/test_modules"
REGISTERED = "tests/unit/codec/test_registered"

OF_DURABLE = [
    Mutant(
        "of several that are submitted, the first whose id is taken ends it",
        "            taken |= others\n        return _all_of(handles, taken)\n\n    async",
        "            taken |= others\n            _all_of(handles, taken)\n        return handles\n\n    async",
        DURABLE + "submit -k of_many_all_are_stored",
    ),
    # -- modules that a text names ------------------------------------------------------------------------------------
    Mutant(
        "a text has any module imported",
        "        if not self._is_named(module):\n            raise NotNamedError(\n",
        "        if False:\n            raise NotNamedError(\n",
        MODULES + " -k a_class_is_found_in_modules_that_are_named",
    ),
    Mutant(
        "a class is found in any module that is imported, whatever is named",
        "if self.modules is not None and not self._is_named(module) and",
        "if False and",
        MODULES + " -k a_value_that_would_not_be_found_again",
    ),
    Mutant(
        "a text has any function called",
        "        self.check_called(module)\n        found",
        "        found",
        MODULES + " -k a_text_can_have_no_function_called",
    ),
    Mutant(
        "a text has a function called that a module has from another",
        'self.check_called(str(getattr(found, "__module__", None)))',
        "pass",
        MODULES + " -k a_text_can_have_no_function_called",
    ),
    Mutant(
        "what begins as a package's name does is in it",
        'f"{module}.".startswith(f"{one}.")',
        "module.startswith(one)",
        MODULES + " -k a_class_is_found_in_modules_that_are_named",
    ),
    Mutant(
        "who looks at a block has its functions called",
        "find = _to_look_at if codec.names.modules is None else codec.names.callable_of",
        "find = _imported if codec.names.modules is None else codec.names.callable_of",
        "tests/frontdoors/test_transaction_stored -k looking_at_a_block",
    ),
    Mutant(
        "blocks are undone by whoever names no modules",
        "if names and (codec is None or codec.names.modules is None):",
        "if False:",
        "tests/frontdoors/test_transaction_stored -k who_undoes_blocks_names",
    ),
    Mutant(
        "a base's rule is that of the farthest",
        "for base in cls.__mro__ if base in bases",
        "for base in cls.__mro__[::-1] if base in bases",
        REGISTERED + " -k the_nearest_base",
    ),
    Mutant(
        "what is met before its base is registered is stored as before",
        "            if base in known.__mro__:\n",
        "            if False:\n",
        REGISTERED + " -k a_rule_for_a_base_is_one_for_all",
    ),
    Mutant(
        "a base's rule builds anything",
        "        value = self._based[base](cls, held)\n        if type(value) is not cls:",
        "        value = self._based[base](cls, held)\n        if False:",
        REGISTERED + " -k what_a_rule_for_a_base_builds",
    ),
    Mutant(
        "a field that a class has got makes every input another",
        " or _same_as_read(store.journal",
        " or False and _same_as_read(store.journal",
        START_ONCE + " -k a_field_that_a_class_has_got",
    ),
    Mutant(
        "what is read is the same input, whatever it is",
        "return digests[0] == digests[1]",
        "return True",
        START_ONCE + " -k a_field_that_a_class_has_got",
    ),
    # -- values encrypted at rest -------------------------------------------------------------------------------------
    Mutant(
        "what a step returned is not encrypted",
        'SEALED: Final = ("result", "changes",',
        'SEALED: Final = ("changes",',
        CIPHER + " -k no_value_is_in_the_store",
    ),
    Mutant(
        "what a block calls is not encrypted",
        '"value", "task", "error")',
        '"value", "error")',
        CIPHER + " -k no_value_is_in_a_databases_files",
    ),
    Mutant(
        "the text of an error is not encrypted",
        '{"type": hidden[key]["type"], "text": ENCRYPTED,',
        '{"type": hidden[key]["type"], "text": hidden[key]["text"],',
        CIPHER + " -k no_value_is_in_the_store",
    ),
    Mutant(
        "a row tells the text of an error that is encrypted",
        "text_of if self.codec.cipher is None else _nothing_of",
        "text_of",
        CIPHER + " -k no_value_is_in_the_store",
    ),
    Mutant(
        "a signal's value is not encrypted",
        '        fields["value"] = sealed_text(fields["value"], _place(saga_id, name), codec.cipher)\n',
        "        pass\n",
        CIPHER + " -k no_value_is_in_the_store",
    ),
    Mutant(
        "what is encrypted is bound to no entry",
        "return f\"entry\\n{saga_id}\\n{entry.seq}\\n{entry.kind}\\n{entry.step or ''}\"",
        'return f"entry\\n{saga_id}"',
        CIPHER + " -k what_belongs_to_one_entry",
    ),
    Mutant(
        "an input that is encrypted is told by its digest",
        'digest_of(texts) if codec.cipher is None else ""',
        "digest_of(texts)",
        CIPHER + " -k the_same_input_is_told",
    ),
    Mutant(
        "what is encrypted is the same input, whatever it is",
        'existing.digest == new.digest != ""',
        "existing.digest == new.digest",
        CIPHER + " -k the_same_input_is_told",
    ),
    Mutant(
        "an entry is encrypted anew each time",
        "next((entry for of, entry in known if of is event), None)",
        "None",
        CIPHER + " -k what_was_stored_when_an_interrupt",
    ),
    Mutant(
        "what was encrypted is told where it cannot be rebuilt",
        "if self.cipher is not None:  # the text of this",
        "if False:  # the text of this",
        CIPHER + " -k what_cannot_be_rebuilt",
    ),
    # -- 7: the journal -----------------------------------------------------------------------------------------------
    Mutant(
        "a gap in a journal is read over",
        "if entry.seq != number:",
        "if False:",
        "tests/durable/test_entries -k gap",
    ),
    Mutant(
        "call before its intent is stored",
        "type(commands[0]) not in STORED_WITH_WHAT_FOLLOWS:\n                self._publish()",
        "type(commands[0]) not in (*STORED_WITH_WHAT_FOLLOWS, Call):\n                self._publish()",
        JOURNAL + " -k every_intent_is_stored_before_its_call",
    ),
    Mutant(
        "await before its intent is stored",
        "type(commands[0]) not in STORED_WITH_WHAT_FOLLOWS:\n                await self._publish()",
        "type(commands[0]) not in (*STORED_WITH_WHAT_FOLLOWS, Call):\n                await self._publish()",
        JOURNAL + " -k every_intent_is_stored_before_its_call",
    ),
    Mutant(
        "undo before compensating is stored",
        "not in STORED_WITH_WHAT_FOLLOWS:\n                self._publish()",
        "not in STORED_WITH_WHAT_FOLLOWS "
        "and getattr(commands[0], 'phase', 0) != 'compensate':\n                self._publish()",
        JOURNAL + " -k every_intent_is_stored_before_its_call",
    ),
    Mutant(
        "the undo begins without its status",
        "return str(status) if status is not self._status else None",
        "return str(status) if status.terminal else None",
        JOURNAL + " -k an_undo_costs_one_commit",
    ),
    Mutant(
        "a commit for every entry",
        "            self._append(entries, machine, status)\n        except UnreadMessagesError:",
        "            for entry in entries[:-1]:\n                self.store.append(self.lease, [entry])\n"
        "            self._append(entries[-1:], machine, status)\n        except StorageError:",
        JOURNAL + " -k each_commit_has_an_outcome_and_the_next_intent",
    ),
    Mutant(
        "a group's join has a commit of its own",
        "STORED_WITH_WHAT_FOLLOWS: Final = (Merge, Finish)",
        "STORED_WITH_WHAT_FOLLOWS: Final = (Finish,)",
        JOURNAL + " -k the_intents_of_a_group_share_a_commit",
    ),
    Mutant(
        "observers hear of what is not stored",
        "            try:\n                self.journal.commit(self.machine)",
        "            try:\n                if self._observers:\n                    self._show()\n"
        "                self.journal.commit(self.machine)",
        JOURNAL + " -k observers_see_stored_events_only",
    ),
    # -- entries: what a payload looks like ---------------------------------------------------------------------------
    Mutant(
        "an error is stored with each entry that has it",
        "_, known = errors.setdefault(id(value), (value, number))",
        "_, known = value, number",
        JOURNAL + " -k an_error_is_stored_once",
    ),
    Mutant(
        "an error that is stored already is stored again by a recovery",
        "errors.setdefault(id(failure), (failure, entry.seq))",
        "pass",
        JOURNAL + " -k an_error_is_stored_once",
    ),
    Mutant(
        "where an error is stored is not looked up",
        'return getattr(before[number - 1].event, "error", None)',
        'return EncodingError(f"the error of entry {number}")',
        JOURNAL + " -k an_error_is_stored_once",
    ),
    Mutant(
        "where an error is stored is not looked up for who looks on",
        'details["error"] = found[details.pop("error_at")]["error"]',
        'details.pop("error_at")',
        DURABLE + "operations_looking -k a_timeline_has_an_error",
    ),
    Mutant(
        "a journal of a later version is read as this one's",
        'if payload.pop("format", FORMAT) > FORMAT:',
        'if payload.pop("format", FORMAT) == 0:',
        DURABLE + "later_versions",
    ),
    Mutant(
        "a journal says nothing of its format",
        ',"format":{FORMAT}{event.encoded}',
        "{event.encoded}",
        DURABLE + "later_versions",
    ),
    # -- 8: values ----------------------------------------------------------------------------------------------------
    Mutant(
        "believe a result that is not read back",
        "            value = codec.decode(text)\n        return value,",
        "        return value,",
        VALUES + " -k a_task_cannot_reach_into_the_context",
    ),
    Mutant(
        "believe a change that is not read back",
        "    for key, (value, _) in read.items():\n        values[key] = value\n",
        "",
        VALUES + " -k a_task_cannot_reach_into_the_context",
    ),
    Mutant(
        "what cannot be stored was not executed",
        "executed = not step.transactional  # that",
        "executed = False  # that",
        VALUES + " -k a_step_whose_outcome_cannot_be_stored",
    ),
    Mutant(
        "what cannot be stored stays in the context",
        "        revert(codec, view)\n        raise",
        "        raise",
        VALUES + " -k a_step_whose_outcome_cannot_be_stored",
    ),
    Mutant(
        "what a failing step leaves stays in the context",
        "        revert(codec, view)\n        LOG",
        "        LOG",
        VALUES + " -k what_a_failing_step_leaves_that_cannot_be_stored",
    ),
    Mutant(
        "the input is checked by the first step",
        'codec.encode(value, f"context.{key}")) for key, value in context.__dict__.items()}',
        'codec.encode(value, f"context.{key}")) for key, value in context.__dict__.items() if id(type(value)) in ATOMS}',
        VALUES + " -k an_input_that_cannot_be_stored_is_refused",
    ),
    Mutant(
        "an error that does not name the key",
        'text = codec.encode(value, f"context.{key}")',
        "text = codec.encode(value)",
        VALUES + " -k a_step_whose_outcome_cannot_be_stored",
    ),
    Mutant(
        "tuples become lists",
        "tuple: lambda value, depth: f'{{\"$tuple\":{self._write_list(value, depth)}}}',",
        "tuple: lambda value, depth: self._write_list(value, depth),",
        VALUES + " -k values_come_back_with_their_type",
    ),
    Mutant(
        "what a recovered step changes is stored with all the rest",
        "    for key, value in recorded.changes.items():\n        texts[key] = ",
        "    for key, value in ():\n        texts[key] = ",
        VALUES + " -k what_a_recovered_step_changes",
    ),
    Mutant(
        "a list's text grows without end",
        "                text = self[type(item)](item, depth)\n                room -= len(text)\n",
        "                text = self[type(item)](item, depth)\n",
        "tests/unit/codec/test_refusals -k no_more_parts",
    ),
    Mutant(
        "a text is as long as it likes",
        "            if len(text) > self._max_size:\n",
        "            if False:\n",
        "tests/unit/codec/test_refusals -k as_long_as",
    ),
    # -- 9: one owner -------------------------------------------------------------------------------------------------
    Mutant(
        "no lease is kept",
        "            self._renew_all(store, held)\n            del",
        "            del",
        LEASES + " -k a_slow_step_keeps_its_lease",
    ),
    Mutant(
        "the lease of what was joined is not kept",
        "execution.carried())\n    journal.keep_lease(definition.lease, execution)\n",
        "execution.carried())\n",
        LEASES + " -k who_finishes_what_it_joined_keeps_its_lease",
    ),
    Mutant(
        "the leases of those that wait are not kept",
        "            held = [one for one, renewed in asked if renewed]\n",
        "            held = [one for one, renewed in asked if renewed and not one.waits]\n",
        LEASES + " -k a_slow_recovered_step_keeps_its_lease",
    ),
    Mutant(
        "leases are kept for who does not live any more",
        "        if holder is None:\n            return False\n",
        "        if holder is None:\n            return True\n",
        NOBODY + " -k nobody_runs",
    ),
    Mutant(
        "leases are kept for who does not vouch for them",
        "        return now < self.until or (holder.vouches() and not self.waits)\n",
        "        return True\n",
        NOBODY + " -k nobody_runs",
    ),
    Mutant(
        "a closed event loop vouches",
        "        if loop is not None and loop.is_closed():\n",
        "        if False:\n",
        NOBODY + " -k nobody_runs",
    ),
    Mutant(
        "an event loop that does not run vouches",
        "(True if loop is None or loop.is_running() else None)",
        "True",
        NOBODY + " -k does_not_run_now",
    ),
    Mutant(
        "a heartbeat that could not begin once never does",
        "self._thread is None or not self._thread.is_alive():",
        "self._thread is None:",
        NOBODY + " -k begins_again",
    ),
    Mutant(
        "a renewal that raises is the last one",
        "        except BaseException as error:  # of a store with a fault, too: nobody else would renew them\n",
        "        except ZeroDivisionError as error:\n",
        NOBODY + " -k whatever_a_renewal_raises",
    ),
    Mutant(
        "an interrupt as an execution begins leaves it",
        "        if not journal.has_begun(machine, error):\n            raise\n",
        "        raise\n",
        NOBODY + " -k nobody_runs",
    ),
    Mutant(
        "an interrupt as an execution begins ends another one that has its id",
        "[: len(mine)] == mine:",
        "[: len(mine)]:",
        NOBODY + " -k another_that_has_the_id",
    ),
    Mutant(
        "the heartbeat is as slow as ever",
        "if seconds / 3 < self._interval:",
        "if False:",
        LEASES + " -k a_slow_step_keeps_its_lease",
    ),
    Mutant(
        "a failing heartbeat ends all",
        '            LOG.warning("leases could not be renewed: %s", error)\n            return',
        "            raise",
        LEASES + " -k heartbeats_that_fail_are_tried_again",
    ),
    Mutant(
        "two threads of a process are two owners",
        "with _lock:  # two threads that begin at the same time have the same owner\n            if _owner[0] != os.getpid():",
        "if True:\n            if True:",
        LEASES + " -k begin_at_the_same_time",
    ),
    # -- 11: stores that fail -----------------------------------------------------------------------------------------
    Mutant(
        "what is not stored counts as stored",
        "            self._append(entries, machine, status)\n        except UnreadMessagesError:",
        "            self.written += len(entries)\n            self._append(entries, machine, status)\n"
        "            self.written -= len(entries)\n        except UnreadMessagesError:",
        LEASES + " -k an_interrupt_in_any_write",
    ),
    Mutant(
        "what is stored counts as not stored",
        "stored = self._stored_already(entries)",
        "stored = 0",
        LEASES + " -k an_interrupt_in_any_write",
    ),
    Mutant(
        "what could not be stored together counts as stored",
        "            if stored:\n                journal.take_stored",
        "            if True:\n                journal.take_stored",
        DURABLE + "undone_in_turns -k stored_alone",
    ),
    Mutant(
        "what could not be stored with others counts as stored",
        "elif one.journal.written == len(one.machine.events):",
        "elif group.done:",
        DRIVERS + "commits_together -k cannot_be_stored",
    ),
    # -- starting: the same id, another definition --------------------------------------------------------------------
    Mutant(
        "another input joins",
        'if existing.digest == new.digest != "" or',
        "if True or",
        START_ONCE + " -k another_input_is_refused",
    ),
    Mutant(
        "another saga joins",
        "if existing.name != name:",
        "if False:",
        START_ONCE + " -k another_saga_is_refused",
    ),
    Mutant(
        "the order of keys makes another input",
        "for key in sorted(texts):",
        "for key in texts:",
        START_ONCE + " -k keys_in_another_order",
    ),
    Mutant(
        "who waits for what was purged is told of a fault",
        'raise UnknownExecutionError(f"execution {saga_id!r} was purged")\n    if status_of',
        'raise LookupError(f"execution {saga_id!r} was purged")\n    if status_of',
        START_ONCE + " -k one_that_is_purged_while_waited_for",
    ),
    # -- rebuilding ---------------------------------------------------------------------------------------------------
    Mutant(
        "a recovered step does not get the result before it",
        "take_result(step.name, event.result)\n    elif isinstance(event, e.StepFailed)",
        "results.__setitem__(step.name, event.result)\n    elif isinstance(event, e.StepFailed)",
        ACROSS + " -k a_run_that_died_anywhere_and_is_rerun",
    ),
    Mutant(
        "another key after a crash",
        "bind(context, plan, row.name, row.saga_id)",
        'bind(context, plan, row.name, f"{row.saga_id}/{row.epoch}")',
        DOUBT + " -k idempotency_key",
    ),
    Mutant(
        "an execution that was purged is damaged",
        "    if not entries and store.get(saga_id) is None:\n",
        "    if False:\n",
        START_ONCE + " -k purged",
    ),
    Mutant(
        "another saga's execution is loaded",
        "if row is None or row.name != definition.name:",
        "if row is None:",
        DURABLE + "load -k what_is_not_there",
    ),
    Mutant(
        "an execution that is not there is any error of a store",
        'raise UnknownExecutionError(f"there is no execution {saga_id!r}")',
        'raise StorageError(f"there is no execution {saga_id!r}")',
        DURABLE + "operations -k one_that_is_not_there",
        file="saga/looking/looks.py",
    ),
    Mutant(
        "finish by a definition that changed",
        "if row.fingerprint != plan.fingerprint and row.version not in definition.compatible_with:",
        "if False:",
        RECOVERY + " -k a_definition_that_changed and another",
    ),
    Mutant(
        "nobody says what is compatible",
        "if row.fingerprint != plan.fingerprint and row.version not in definition.compatible_with:",
        "if row.fingerprint != plan.fingerprint:",
        RECOVERY + " -k a_new_definition_may_say",
    ),
    Mutant(
        "what was taken over stays another definition's",
        "        journal.take_over(definition.version, definition.plan.fingerprint)\n",
        "        pass\n",
        DURABLE + "taken_over",
    ),
    Mutant(
        "what was taken over is read as if one definition had done it all",
        "same = row.fingerprint == definition.plan.fingerprint and row.version == begun_by",
        "same = row.fingerprint == definition.plan.fingerprint",
        DURABLE + "taken_over",
    ),
    # -- recovering ---------------------------------------------------------------------------------------------------
    Mutant(
        "try a definition that changed for ever",
        "        except StorageError as error:\n            jobs.park(row, lease, str(error))",
        "        except StorageError:\n            store.release(lease)",
        RECOVERY + " -k a_definition_that_changed",
    ),
    Mutant(
        "who has taken a lease and does not begin keeps it for ever",
        "waits, now + TIME_TO_BEGIN, now)",
        "waits, math.inf, now)",
        DURABLE + "leases_of_nobody",
    ),
    Mutant(
        "what is being given back is forgotten",
        "            self.leave([job])\n            return None\n        try:",
        "            return None\n        try:",
        SEVERAL + " -k what_is_being_given_back",
    ),
    Mutant(
        "a claim with which nothing was tried counts",
        "self.give_back(one.lease, untried=one.waits)",
        "self.give_back(one.lease)",
        SEVERAL + " -k what_waits_behind_a_slow_step",
    ),
    Mutant(
        "a message to an execution that waits for others is lost",
        "        self.mail = True\n\n    def vouches",
        "        pass\n\n    def vouches",
        SEVERAL + " -k a_message_to_one_that_waits",
    ),
    Mutant(
        "an execution kills recoveries for ever",
        "if row.recoveries > self.max_attempts and not made_progress(",
        "if False and not made_progress(",
        RECOVERY + " -k an_execution_that_kills_each_recovery",
    ),
    Mutant(
        "give up an execution that gets on",
        "row.recoveries > self.max_attempts and not made_progress(entries, self.max_attempts)",
        "row.recoveries > self.max_attempts",
        RECOVERY + " -k an_execution_that_gets_on",
    ),
    Mutant(
        "a clock that was ahead lengthens a wait",
        "    return min(seconds, max(0.0, since + seconds - now))",
        "    return max(0.0, since + seconds - now)",
        CLOCKS + " -k a_wait_is_no_longer",
    ),
    Mutant(
        "sqlite: whoever sets the clock ends all leases",
        "        return host_time() if self._ahead is None else since_boot() + self._ahead",
        "        return host_time()",
        CLOCKS + " -k in_sqlite_a_clock_that_is_set",
    ),
    Mutant(
        "sqlite: what another definition went on with is counted under the one before",
        " OR new.version <> old.version OR new.fingerprint <> old.fingerprint",
        "",
        "tests/storage/test_contract_leases -k went_on_with" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: after a start of the host with another time leases last for hours",
        "                connection.execute(_SET_BACK, (since_boot() + epoch,))\n",
        "                pass\n",
        CLOCKS + " -k in_sqlite_a_host_that_was_started_again",
    ),
    Mutant(
        "a test that freezes the time stops what waits",
        "= perf_counter.__call__  # type: ignore[operator]",
        "= perf_counter",
        CLOCKS + " -k patience_ends_in_another_time",
    ),
    Mutant(
        "who waits for hours is told of where it was before",
        "self.journal.park(delay, self.step())",
        "self.journal.park(delay, None)",
        DURABLE + "operations_looking -k where_an_execution_waits",
    ),
]
