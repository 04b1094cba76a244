"""Break the engine by hand, one semantic at a time, and see that the tests notice.

Run it as ``python tests/semantics/mutants.py [part of a name ...]``; it takes about three minutes and ends with status 0 where
every mutant was noticed and the tests pass on the engine as it is. Each works on a copy of the package and the tests in a
temporary folder. A mutant whose old text is not found exactly once in the package is reported as *moved*: the engine was
rewritten there, so write the mutant anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).resolve().parents[2]
SEMANTICS, PROPERTIES = "tests/semantics/test_", "tests/properties/test_"
JOURNAL, VALUES, LEASES = "tests/durable/test_journal", "tests/durable/test_values", "tests/durable/test_leases"
RECOVERY, SEVERAL = "tests/durable/test_recovery", "tests/durable/test_recovery_of_several"
DIED, DOUBT, START_ONCE = "tests/durable/test_died_anywhere", "tests/durable/test_doubt", "tests/durable/test_start_once"
CONTRACT, SQLITE, POSTGRES = "tests/storage/test_contract", "tests/storage/test_sqlite", "tests/storage/test_postgres"
IN_MEMORY, IN_SQLITE = " and memory", " and sqlite and not sqlalchemy"


class Mutant(NamedTuple):
    """What is broken, the text that does it (once in the package), what takes its place, and the tests that must notice.

    Those are a file without its ending, or ``file -k expression``.
    """

    name: str
    old: str
    new: str
    tests: str


MUTANTS = [
    Mutant(
        "undo in forward order",
        "self._compensate(self.plan.steps[self.undo[-1]], at)",
        "self._compensate(self.plan.steps[self.undo[0]], at)",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "undo in forward order while nobody looks",
        "[steps[index] for index in self.undo]",
        "[steps[index] for index in reversed(self.undo)]",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "stop at the first failing compensation",
        "not (self.unfinished_undo and self.stop_on_compensation_failure)",
        "not self.unfinished_undo",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "call it compensated though an undo failed",
        "if self.unfinished_undo or self.asked:\n            self.record",
        "if self.asked:\n            self.record",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "compensate the failing step",
        "elif (step.compensate_on_failure or event.executed) and step.compensates:",
        "elif step.compensates:",
        SEMANTICS + "failures",
    ),
    Mutant(
        "one attempt too many",
        "return attempt < self.max_attempts and",
        "return attempt <= self.max_attempts and",
        SEMANTICS + "failures",
    ),
    Mutant(
        "a key of its own for every attempt",
        'return f"{self.saga_id}/{self.name}"',
        'return f"{self.saga_id}/{self.name}/{self.attempt}"',
        SEMANTICS + "failures",
    ),
    Mutant(
        "swallow an interrupt",
        "if execution.interrupt is not None:\n            execution.interrupt.add_note(result.report())",
        "if False:\n            execution.interrupt.add_note(result.report())",
        SEMANTICS + "interrupts",
    ),
    Mutant(
        "an interrupt is not in doubt",
        "if event.in_doubt:\n            self._doubt(step)",
        "if event.in_doubt:\n            pass",
        SEMANTICS + "interrupts",
    ),
    Mutant(
        "skip an interrupt",
        "elif step.on_error is Skip and isinstance(error, Exception):",
        "elif step.on_error is Skip:",
        "tests/drivers/test_stopped_past_the_pivot",
    ),
    Mutant(
        "an interrupt ends the driver",
        "                struck = error\n",
        "                raise\n",
        SEMANTICS + "ctrl_c",
    ),
    Mutant(
        "compensate a straggler before it ends",
        "self.stragglers |= {step.index}",
        "self._doubt(step)",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "terminal with a straggler open",
        "        if self.stragglers:\n            return\n",
        "",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "retry beside a straggler",
        "elif not event.running:\n            self._retry",
        "else:\n            self._retry",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "a given-up straggler's changes are seen",
        "        if given_up:\n            return view\n",
        "",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "the deadline ends compensations",
        "if self.status.terminal or self.past_pivot or self.went_through:\n            return None\n"
        "        error = SagaTimeoutError",
        "self.undoing.clear()\n        error = SagaTimeoutError",
        SEMANTICS + "timeout",
    ),
    Mutant(
        "the deadline waits for running steps",
        "self.record(StepTimedOut(step.name, self.attempts.get(index, 1), at, elapsed, error))",
        "pass",
        SEMANTICS + "timeout",
    ),
    Mutant(
        "branches share a view",
        "self._scope(_parent(parents[scope]))._fork()",
        "self._scope(_parent(parents[scope]))",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "branches share containers",
        "view.__dict__.update((key, _isolate(value, memo)) for key, value in self.__dict__.items())",
        "view.__dict__.update(self.__dict__)",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "no conflict is one",
        "if key in changed and not _agree(changed[key][1], value):",
        "if False:",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "merge in any order",
        "zip(group.names, views, strict=True)",
        "reversed(list(zip(group.names, views, strict=True)))",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "undo while siblings run",
        "if self.open or self.status.terminal:",
        "if self.status.terminal:",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "state on the saga",
        "context._begin(plan, saga_id)",
        "self.context = context\n        context._begin(plan, saga_id)",
        SEMANTICS + "one_saga_many_executions",
    ),
    Mutant(
        "one id for all",
        "saga_id = os.urandom(16).hex()",
        'saga_id = "id"',
        SEMANTICS + "one_saga_many_executions",
    ),
    Mutant(
        "import configures logging",
        "from saga.context import Context\nfrom saga.events import Status, StepStatus\n",
        "import logging\nlogging.basicConfig()\nfrom saga.context import Context\nfrom saga.events import Status, StepStatus\n",
        SEMANTICS + "import",
    ),
    Mutant(
        "an attempt after the saga gave up",
        "elif step.index in self.waiting and self.status is RUNNING",
        "elif True",
        PROPERTIES + "machine_flows",
    ),
    Mutant(
        "compensations are not retried",
        "if step.compensation_retry.allows(event.attempt, event.error):",
        "if False:",
        PROPERTIES + "machine_sequences",
    ),
    Mutant(
        "state that no event tells",
        "policy = step.compensation_retry if compensation else step.retry",
        "policy = step.compensation_retry if compensation else step.retry\n        self.attempts[step.index] = attempt",
        PROPERTIES + "machine_sequences",
    ),
    Mutant(
        "a late success is owed no undo",
        "        if step.compensates:\n            self.undo.append(index)\n",
        "        if step.compensates and index not in self.skipped:\n            self.undo.append(index)\n",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "removed keys come back",
        "changes.update((key, _MISSING) for key in base if key not in now)",
        "pass",
        PROPERTIES + "context_views",
    ),
    # -- 7: the journal -----------------------------------------------------------------------------------------------
    Mutant(
        "call before its intent is stored",
        "type(commands[0]) not in (Join, Pass):  # what follows these is stored with it\n                self._tell()",
        "type(commands[0]) not in (Join, Pass, Call):\n                self._tell()",
        JOURNAL + " -k every_intent_is_stored_before_its_call",
    ),
    Mutant(
        "await before its intent is stored",
        "type(commands[0]) not in (Join, Pass):  # what follows these is stored with it\n                await self._tell()",
        "type(commands[0]) not in (Join, Pass, Call):\n                await self._tell()",
        JOURNAL + " -k every_intent_is_stored_before_its_call",
    ),
    Mutant(
        "undo before compensating is stored",
        "(Join, Pass):  # what follows these is stored with it\n                self._tell()",
        "(Join, Pass) and not getattr(commands[0], 'compensation', False):\n                self._tell()",
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
        "            self._append(entries, status)\n        except StorageError:",
        "            for entry in entries[:-1]:\n                self._append([entry], self._status)\n"
        "            self._append(entries[-1:], status)\n        except StorageError:",
        JOURNAL + " -k each_commit_has_an_outcome_and_the_next_intent",
    ),
    Mutant(
        "a group's join has a commit of its own",
        "(Join, Pass):  # what follows these is stored with it\n                self._tell()",
        "(Pass,):\n                self._tell()",
        JOURNAL + " -k the_intents_of_a_group_share_a_commit",
    ),
    Mutant(
        "attempts begin anew after a crash",
        "self._execute_again(step, attempt + 1, at)\n                continue",
        "self._execute_again(step, 1, at)\n                continue",
        DOUBT + " -k a_crash_uses_up_an_attempt",
    ),
    Mutant(
        "compensations begin anew after a crash",
        "self._compensate_again(steps[index], self.undo_attempts.get(index, 1) + 1, at)\n        for scheduled",
        "self._compensate_again(steps[index], 1, at)\n        for scheduled",
        DIED + " -k a_run_that_died_anywhere_is_undone",
    ),
    Mutant(
        "a transaction is open while user code runs",
        '            connection.execute("BEGIN IMMEDIATE")\n            result = write.apply(connection)\n'
        '            connection.execute("COMMIT")\n',
        '            if not connection.in_transaction:\n                connection.execute("BEGIN IMMEDIATE")\n'
        '            result = write.apply(connection)\n            connection.execute("COMMIT")\n'
        '            connection.execute("BEGIN IMMEDIATE")\n',
        JOURNAL + " -k no_transaction_is_open",
    ),
    Mutant(
        "observers hear of what is not stored",
        "            try:\n                self.journal.commit(self.machine)",
        "            try:\n                self._publish()\n                self.journal.commit(self.machine)",
        JOURNAL + " -k observers_see_stored_events_only",
    ),
    # -- 8: values ----------------------------------------------------------------------------------------------------
    Mutant(
        "believe a result that is not read back",
        "                value = self.codec.decode(text)\n            return value,",
        "            return value,",
        VALUES + " -k a_task_cannot_reach_into_the_context",
    ),
    Mutant(
        "believe a change that is not read back",
        "for key, (value, _) in read.items():\n            values[key] = value",
        "pass",
        VALUES + " -k a_task_cannot_reach_into_the_context",
    ),
    Mutant(
        "what cannot be stored was not executed",
        "self._send(StepFailed(step.name, call.attempt, at, elapsed, error, executed=True))",
        "self._send(StepFailed(step.name, call.attempt, at, elapsed, error))",
        VALUES + " -k a_step_whose_outcome_cannot_be_stored",
    ),
    Mutant(
        "what cannot be stored stays in the context",
        "            self._revert(view)\n            raise",
        "            raise",
        VALUES + " -k a_step_whose_outcome_cannot_be_stored",
    ),
    Mutant(
        "what a failing step leaves stays in the context",
        "            self._revert(view)\n            logging",
        "            logging",
        VALUES + " -k what_a_failing_step_leaves_that_cannot_be_stored",
    ),
    Mutant(
        "the input is checked by the first step",
        'texts = {key: (value, codec.encode(value, f"context.{key}")) for key, value in context.__dict__.items()}',
        "texts = {key: (value, codec.encode(value)) for key, value in context.__dict__.items() if type(value) in _ATOMS}",
        VALUES + " -k an_input_that_cannot_be_stored_is_refused",
    ),
    Mutant(
        "an error that does not name the key",
        'text = self.codec.encode(value, f"context.{key}")',
        "text = self.codec.encode(value)",
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
        "    for view in views.all():\n        remember_texts(view, saga.codec)",
        "    for view in views.all():\n        pass",
        VALUES + " -k what_a_recovered_step_changes",
    ),
    # -- 9: one owner -------------------------------------------------------------------------------------------------
    Mutant(
        "memory: an earlier epoch appends",
        "row.owner == lease.owner and row.epoch == lease.epoch else None",
        "row.owner == lease.owner else None",
        CONTRACT + " -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "memory: another owner appends",
        "row.owner == lease.owner and row.epoch == lease.epoch else None",
        "row.epoch == lease.epoch else None",
        CONTRACT + " -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "memory: a live lease is claimed",
        "if row.lease_until <= now\n                and (names",
        "if (names",
        CONTRACT + " -k a_live_lease_is_respected" + IN_MEMORY,
    ),
    Mutant(
        "memory: a claim keeps the epoch",
        "row = row._replace(owner=owner, epoch=row.epoch + 1,",
        "row = row._replace(owner=owner, epoch=row.epoch,",
        CONTRACT + " -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: an earlier epoch appends",
        'HOLDS = "id = ? AND epoch = ? AND owner = ?"',
        'HOLDS = "id = ? AND ? IS NOT NULL AND owner = ?"',
        CONTRACT + " -k who_lost_the_lease_stores_nothing" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: the insert has no fence",
        "saga.id = entry.column1 AND saga.epoch = entry.column7 AND saga.owner = entry.column8",
        "saga.id = entry.column1",
        CONTRACT + " -k who_lost_the_lease_stores_nothing" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: the lease is checked before the insert",
        "if append(connection, values) != rows:",
        "if connection.execute(CHECK, holds).fetchone() is None or append(connection, values) != rows:",
        SQLITE + " -k alone_each_append_is_one_statement",
    ),
    Mutant(
        "sqlite: who lost the lease stores with others",
        "if self._insert(connection, values) != sum([write.rows for write in group]):",
        "if self._insert(connection, values) < 0:",
        SQLITE + " -k who_lost_the_lease_stores_nothing_with_others",
    ),
    Mutant(
        "postgres: in a crowd an earlier epoch appends",
        "AND s.epoch = lease.epoch FOR NO KEY UPDATE",
        "FOR NO KEY UPDATE",
        POSTGRES + " -k in_a_crowd_each_finds_out_by_itself",
    ),
    Mutant(
        "postgres: a crowd waits for a locked row",
        "lease.epoch FOR NO KEY UPDATE OF s SKIP LOCKED",
        "lease.epoch FOR NO KEY UPDATE OF s",
        POSTGRES + " -k a_locked_row_holds_up_its_own_writer_only",
    ),
    Mutant(
        "postgres: what a crowd may have stored is stored again",
        "write.result = done, None if done else sent and perhaps",
        "write.result = done, None if done else False",
        POSTGRES + " -k a_crowd_whose_answer_was_lost",
    ),
    Mutant(
        "a leader that is interrupted before it begins gives its place away",
        "        if not group:",
        "        if False:",
        "tests/storage/test_turns -k interrupted_before_it_begins",
    ),
    Mutant(
        "an interrupt as a turn ends leaves others waiting",
        "            except BaseException:\n                self._end(leader, group)\n",
        "            except BaseException:\n",
        "tests/storage/test_turns -k an_interrupt_anywhere",
    ),
    Mutant(
        "sqlite: a live lease is claimed",
        'FREE = "SELECT id, due, name FROM saga WHERE id = ? AND lease_until <= ?"',
        'FREE = "SELECT id, due, name FROM saga WHERE id = ? AND ? IS NOT NULL"',
        CONTRACT + " -k a_live_lease_is_respected" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: a stale heartbeat renews the lease",
        'updated = ? WHERE id = ? AND epoch = ? AND owner = ?"\n    " RETURNING EXISTS',
        "updated = ? WHERE id = ? AND epoch >= ? AND ? <> ''\"\n    \" RETURNING EXISTS",
        CONTRACT + " -k renewing_returns_those_leases" + IN_SQLITE,
    ),
    Mutant(
        "who lost the lease goes on",
        "                self.journal.commit(self.machine)\n            except Exception as error:\n                raise",
        "                self.journal.commit(self.machine)\n            except Exception as error:\n"
        "                if 'no longer held' not in str(error):\n                    raise",
        LEASES + " -k who_has_lost_the_lease_stops",
    ),
    Mutant(
        "who lost the lease begins its other branches",
        "        self._call_off()\n        if self._running:",
        "        if self._running:",
        "tests/crash/test_storage_failures -k a_branch_that_has_not_begun",
    ),
    Mutant(
        "no lease is kept",
        "                self._renew(store, [one for one in held if one.seconds == seconds], seconds)",
        "                pass",
        LEASES + " -k a_slow_step_keeps_its_lease",
    ),
    Mutant(
        "the lease of what was joined is not kept",
        "    journal.hold(saga.lease, execution.notify)\n    return execution\n\n\ndef rebuild",
        "    return execution\n\n\ndef rebuild",
        LEASES + " -k who_finishes_what_it_joined_keeps_its_lease",
    ),
    Mutant(
        "the leases of those that wait are not kept",
        "keeper.hold(one.lease, lease, one.on_mail, waits=True)",
        "pass",
        LEASES + " -k a_slow_recovered_step_keeps_its_lease",
    ),
    Mutant(
        "the heartbeat is as slow as ever",
        "if seconds / 3 < self._interval:",
        "if False:",
        LEASES + " -k a_slow_step_keeps_its_lease",
    ),
    Mutant(
        "a failing heartbeat ends all",
        '            logging.getLogger("saga").warning("leases could not be renewed: %s", error)\n            return',
        "            raise",
        LEASES + " -k heartbeats_that_fail_are_tried_again",
    ),
    # -- 10: in doubt -------------------------------------------------------------------------------------------------
    Mutant(
        "execute again what a person is to be asked about",
        "if goes_on and (self.past_pivot or step.in_doubt is InDoubt.RERUN) and step in waited_for:",
        "if goes_on and step in waited_for:",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "go on beside what is to be compensated",
        "all(step.in_doubt is not InDoubt.COMPENSATE for step in waited_for)",
        "any(step.in_doubt is not InDoubt.COMPENSATE for step in waited_for)",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "compensate what a person is to be asked about",
        "        if step.in_doubt is InDoubt.ASK:\n            self.asked",
        "        if False:\n            self.asked",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "in doubt is done again unless the task says otherwise",
        "in_doubt: InDoubt = InDoubt.COMPENSATE",
        "in_doubt: InDoubt = InDoubt.RERUN",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "go forward once the undo has begun",
        "going = self.status is RUNNING and not self.plan.open",
        "going = not self.plan.open",
        DIED + " -k a_run_that_died_anywhere_and_is_rerun",
    ),
    Mutant(
        "a crash in a step leaves no doubt",
        "self.record(StepFailed(step.name, attempt, at, 0.0, error, True))",
        "self.record(StepFailed(step.name, attempt, at, 0.0, error))",
        DIED + " -k a_run_that_died_anywhere_is_undone",
    ),
    Mutant(
        "a waiting compensation is made at once after a crash",
        "sorted(self.undoing - self.undo_waiting.keys()):\n            self._compensate_again",
        "sorted(self.undoing):\n            self._compensate_again",
        DOUBT + " -k a_compensation_waits_for_what_is_left",
    ),
    Mutant(
        "the wait before another attempt begins anew after a crash",
        "left = max(0.0, scheduled.at + scheduled.delay - at)\n            self.commands.append(Wait(self.plan.by_name",
        "left = scheduled.delay\n            self.commands.append(Wait(self.plan.by_name",
        DOUBT + " -k a_wait_that_is_over_is_not_begun_again",
    ),
    Mutant(
        "a block goes on after its process died",
        "going = self.status is RUNNING and not self.plan.open",
        "going = self.status is RUNNING",
        "tests/frontdoors/test_transaction_stored -k a_dead_blocks_step_in_doubt",
    ),
    Mutant(
        "a recovered step does not get the result before it",
        "        view._run.previous = event.result\n    elif",
        "    elif",
        DIED + " -k a_run_that_died_anywhere_and_is_rerun",
    ),
    Mutant(
        "a join is lost in a crash",
        "if self.joined[group.index] == len(group.scopes) and group.index not in self.merged",
        "if False",
        DOUBT + " -k a_join_that_was_not_recorded",
    ),
    Mutant(
        "another key after a crash",
        "context._begin(plan, row.saga_id)",
        'context._begin(plan, f"{row.saga_id}/{row.epoch}")',
        DOUBT + " -k idempotency_key",
    ),
    # -- 11: stores that fail -----------------------------------------------------------------------------------------
    Mutant(
        "go on without the journal",
        "self.journal.commit(self.machine)\n            except Exception as error:\n"
        "                raise UnstoredError(error) from error",
        "self.journal.commit(self.machine)\n            except Exception:\n                self.journal = None",
        LEASES + " -k a_store_that_fails_at_any_write",
    ),
    Mutant(
        "what is not stored counts as stored",
        "            self._append(entries, status)\n        except StorageError:",
        "            self.written += len(entries)\n            self._append(entries, status)\n"
        "            self.written -= len(entries)\n        except StorageError:",
        LEASES + " -k an_interrupt_in_any_write",
    ),
    Mutant(
        "what is stored counts as not stored",
        "stored = self._stored_already(entries)",
        "stored = 0",
        LEASES + " -k an_interrupt_in_any_write",
    ),
    Mutant(
        "the lease is kept after a failure",
        "        else:\n            self.journal.let_go()",
        "        else:\n            pass",
        LEASES + " -k a_store_that_fails_at_any_write",
    ),
    Mutant(
        "the lease is given back while a branch runs",
        "        while any(running.outcome is None for running in self._running.values()):\n            self._wakes.get()\n",
        "",
        LEASES + " -k a_lease_is_not_given_back_while_a_branch_runs",
    ),
    Mutant(
        "a fault of the store is the step's",
        "                self.journal.commit(self.machine)\n            except Exception as error:",
        "                self.journal.commit(self.machine)\n            except StorageError as error:",
        LEASES + " -k what_a_faulty_store_raises",
    ),
    Mutant(
        "go on without the journal in an event loop",
        "            raise UnstoredError(error) from error\n        then(result)",
        "            return\n        then(result)",
        "tests/drivers/test_event_loop -k a_store_that_fails_under_asyncio_run",
    ),
    Mutant(
        "a block's step is not told to the journal",
        """execution.journal.attach(execution.machine.events[-1], f',"task":{text}')""",
        "pass",
        "tests/frontdoors/test_transaction_stored -k the_undo_of_a_dead_process",
    ),
    # -- the same id, another definition ------------------------------------------------------------------------------
    Mutant(
        "another input joins",
        "if existing.digest != new.digest:",
        "if False:",
        START_ONCE + " -k another_input_is_refused",
    ),
    Mutant(
        "another saga joins",
        "if existing.name != saga.name:",
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
        "a taken id is begun anew",
        "if existing := self.get(new.saga_id):",
        "if False:",
        CONTRACT + " -k a_taken_id_returns" + IN_MEMORY,
    ),
    Mutant(
        "finish by a definition that changed",
        "if row.fingerprint != plan.fingerprint and row.version not in saga.compatible_with:",
        "if False:",
        RECOVERY + " -k a_definition_that_changed and another",
    ),
    Mutant(
        "nobody says what is compatible",
        "if row.fingerprint != plan.fingerprint and row.version not in saga.compatible_with:",
        "if row.fingerprint != plan.fingerprint:",
        RECOVERY + " -k a_new_definition_may_say",
    ),
    Mutant(
        "try a definition that changed for ever",
        "        except DefinitionChangedError as error:\n            self._park(row, lease, str(error))",
        "        except DefinitionChangedError as error:\n            self._leave(lease, 60.0)",
        RECOVERY + " -k a_definition_that_changed",
    ),
    Mutant(
        "the next task runs before the end of the one before it is stored",
        "                if ended is not None:\n                    if one.execution is not None:",
        "                if ended is not None and following is None:\n                    if one.execution is not None:",
        SEVERAL + " -k before_a_task_runs_the_end",
    ),
    Mutant(
        "what could not be stored together counts as stored",
        "            if stored:\n                journal._stored",
        "            if True:\n                journal._stored",
        SEVERAL + " -k what_could_not_be_stored_together",
    ),
    Mutant(
        "what may have killed a process is read before an end is stored",
        "following is not None and following.row.recoveries == 1)",
        "following is not None)",
        SEVERAL + " -k one_whose_journal_kills_the_process",
    ),
    Mutant(
        "executions wait for a slow one for ever",
        "until = time.monotonic() + BEAT if waits else math.inf",
        "until = math.inf",
        SEVERAL + " -k what_waits_behind_a_slow_step",
    ),
    Mutant(
        "what is being given back is forgotten",
        'those before it took long", row.saga_id)\n            return',
        'those before it took long", row.saga_id)\n            one.settled = True\n            return',
        SEVERAL + " -k what_is_being_given_back",
    ),
    Mutant(
        "what could not be stored with others counts as stored",
        "elif one.journal.written == len(one.machine.events):",
        "elif group.done:",
        "tests/drivers/test_commits_together -k cannot_be_stored",
    ),
    Mutant(
        "two threads of a process are two owners",
        "with _lock:  # two threads that begin at the same time have the same owner\n            if _owner[0] != os.getpid():",
        "if True:\n            if True:",
        LEASES + " -k begin_at_the_same_time",
    ),
    Mutant(
        "a claim with which nothing was tried counts",
        "self.give_back(one.lease, untried=True)",
        "self.give_back(one.lease)",
        SEVERAL + " -k what_waits_behind_a_slow_step",
    ),
    Mutant(
        "a message to an execution that waits for others is lost",
        "        self.mail = True\n\n    def unstored",
        "        pass\n\n    def unstored",
        SEVERAL + " -k a_message_to_one_that_waits",
    ),
    Mutant(
        "an execution kills recoveries for ever",
        "if row.recoveries > self.max_attempts and not got_on(",
        "if False and not got_on(",
        RECOVERY + " -k an_execution_that_kills_each_recovery",
    ),
    Mutant(
        "give up an execution that gets on",
        "row.recoveries > self.max_attempts and not got_on(entries, self.max_attempts)",
        "row.recoveries > self.max_attempts",
        RECOVERY + " -k an_execution_that_gets_on",
    ),
]


def check(mutant: Mutant) -> str:
    """Return ``noticed``, ``SURVIVED`` or ``MOVED``."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in ("saga", "tests"):
            shutil.copytree(HOME / folder, home / folder, ignore=ignored)
        shutil.copy(HOME / "setup.cfg", home)
        if mutant.old:
            found = [path for path in (home / "saga").rglob("*.py") for _ in range(path.read_text().count(mutant.old))]
            if len(found) != 1:
                return f"MOVED (the old text is found {len(found)} times)"
            found[0].write_text(found[0].read_text().replace(mutant.old, mutant.new))
        file, _, chosen = mutant.tests.partition(" -k ")
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"{file}.py", "-k", chosen]
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return "noticed (it hangs)"
        return {0: "SURVIVED", 1: "noticed"}.get(ended.returncode, f"SURVIVED? pytest ended with {ended.returncode}")


def main(wanted: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = sorted({mutant.tests for mutant in chosen})
        unbroken = pool.map(check, [Mutant("", "", "", name) for name in tests])
        failing = [name for name, told in zip(tests, unbroken, strict=True) if told != "SURVIVED"]
        if failing:
            print(f"these tests fail on the engine as it is, so they tell nothing: {', '.join(failing)}")
            return 1
        outcomes = dict(zip(chosen, pool.map(check, chosen), strict=True))
    for mutant, outcome in outcomes.items():
        print(f"{outcome:<10} {mutant.name}  [{mutant.tests}]")
    return 0 if all(outcome.startswith("noticed") for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
