"""What a person is asked, and what follows from what they say, broken."""

from __future__ import annotations

from . import DRIVERS, DURABLE, FRONT_DOORS, Mutant

__all__ = ["OF_PEOPLE"]

ASKING = FRONT_DOORS + "asking"
TABLE = "tests/unit/machine/test_table"
EXPLORED = "tests/testing/test_explore -k a_person_decides"
UNDO_ON_REQUEST, CAUSE = FRONT_DOORS + "undo_on_request", DRIVERS + "cause"

OF_PEOPLE = [
    # -- what they do of an execution that nobody runs ------------------------------------------------------------------
    Mutant(
        "a step is skipped only where the row names it",
        'if action == "skip" and asked else None',
        "if not asked else None",
        DURABLE + "operations_many -k wherever_a_person",
    ),
    Mutant(
        "the step that a row names is skipped twice",
        "undecided or () if step != row.step)",
        "undecided or ())",
        DURABLE + "operations_many -k wherever_a_person",
    ),
    Mutant(
        "what a person has ended is theirs until they give it back",
        "status=str(status), release=status.terminal, told=told",
        "status=str(status), told=told",
        "tests/durable/test_submitted -k what_a_person_ends",
    ),
    # -- on_error=Ask -------------------------------------------------------------------------------------------------
    Mutant(
        "a step that failed for good asks nobody",
        "    elif step.on_error is Ask:\n        machine.record",
        "    elif False:\n        machine.record",
        ASKING + " -k a_person_decides",
    ),
    Mutant(
        "a straggler that has a fallback asks a person",
        "return step.on_error is Ask and not (step.fallback and is_a(error, step.fallback_on))",
        "return step.on_error is Ask",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "a straggler asks before it has ended",
        "_retry_after(machine, step, event) is None and not _asks(step, event.error)",
        "_retry_after(machine, step, event) is None",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "a saga that gave up still asks about a step that failed",
        "    state.asking -= failed\n",
        "",
        "tests/unit/machine/test_state -k what_an_event_changes",
    ),
    Mutant(
        "a step that failed and that a person resumes is in doubt",
        "state.in_doubt |= again - state.exhausted",
        "state.in_doubt |= again",
        "tests/unit/machine/test_state -k what_an_event_changes",
    ),
    Mutant(
        "what a person skipped is undone all the same",
        "        if index in state.asking:\n            withdraw(state, index)",
        "        state.asking.discard(index)",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "who skips what could not be undone has it tried again",
        "        state.compensations_failed.pop(index, None)\n        state.in_doubt.discard(index)",
        "        _try_again(state)\n        state.in_doubt.discard(index)",
        EXPLORED,
    ),
    Mutant(
        "who tries again has nothing undone",
        "    state.to_compensate.extend(reversed(state.compensations_failed))",
        "    pass",
        EXPLORED,
    ),
    Mutant(
        "past the pivot a step that asks has no end of attempts",
        "return self.on_error is not OnError.COMPENSATE or bool(self.fallback or self.units)",
        "return self.on_error is OnError.SKIP or bool(self.fallback or self.units)",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "the saga's own word comes before its steps'",
        "if policy not in policies and needed",
        "if needed",
        ASKING + " -k whose_word_counts",
    ),
    Mutant(
        "a person is asked where nobody could find the execution",
        "if store is None and (plan.receives or plan.asks is not None or",
        "if store is None and (plan.receives or",
        ASKING + " -k it_needs_a_store",
    ),
    Mutant(
        "the time until a person has decided is the saga's",
        "if type(event) in (SagaStuck, SagaRewound) and later is not None:",
        "if False:",
        ASKING + " -k the_time_until",
    ),
    # -- undo on request ----------------------------------------------------------------------------------------------
    Mutant(
        "an undo back to a step undoes all",
        "            state.kept = [index for index in everything if index not in after]\n"
        "            state.to_compensate = [index for index in everything if index in after]",
        "            state.kept = []",
        UNDO_ON_REQUEST + " -k back_to_a_step_and_goes_forward",
    ),
    Mutant(
        "what an undo has kept is forgotten",
        "    state.to_compensate, state.kept = state.kept, []",
        "    state.kept = []",
        UNDO_ON_REQUEST + " -k back_to_a_step_and_goes_forward",
    ),
    Mutant(
        "a whole undo leaves what one back to a step had kept",
        "        state.to_compensate[:0] = state.kept\n",
        "",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "what is undone is not executed again",
        "state.to_rerun.update(step.index for step in _entry_after(state, state.undone_to))",
        "pass",
        UNDO_ON_REQUEST + " -k back_to_a_step_and_goes_forward",
    ),
    Mutant(
        "what is executed again counts from one",
        "            if step.index in self.state.again:\n                self.execute_again(",
        "            if False:\n                self.execute_again(",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "branches that are begun again are merged already",
        "            state.branches_ended.pop(group.index, None)\n            state.merged.discard(group.index)",
        "            pass",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "branches that are begun again work on the merged view",
        "                self._merged.difference_update(group.scopes)",
        "                pass",
        UNDO_ON_REQUEST + " -k views_of_their_own_again",
    ),
    Mutant(
        "what is executed again has the key of what is undone",
        "        rounds.update((name, rounds.get(name, 1) + 1) for name in again)",
        "        pass",
        UNDO_ON_REQUEST + " -k a_key_of_its_own",
    ),
    Mutant(
        "the step after is given what came last",
        "        binding.previous = binding.results.get(to.name)\n",
        "",
        UNDO_ON_REQUEST + " -k what_follows_is_given",
    ),
    Mutant(
        "the result of what is undone is still there",
        "            binding.results.pop(step.name, None)\n",
        "",
        UNDO_ON_REQUEST + " -k what_follows_is_given",
    ),
    Mutant(
        "a branch is a place to go back to",
        "    elif step.branches:\n",
        "    elif False:\n",
        UNDO_ON_REQUEST + " -k what_does_not_fit",
    ),
    Mutant(
        "past the pivot it is undone on request",
        '        return "the execution is being undone already"\n    if standing.past_pivot:',
        '        return "the execution is being undone already"\n    if False:',
        UNDO_ON_REQUEST + " -k what_does_not_fit",
    ),
    Mutant(
        "it can be undone for ever",
        "if definition.undoable_for is not None and completed + definition.undoable_for < now:",
        "if False:",
        UNDO_ON_REQUEST + " -k after_its_time",
    ),
    Mutant(
        "nothing says who had it undone before it is",
        '    if unbegun or acted.action == "undo":',
        "    if unbegun:",
        UNDO_ON_REQUEST + " -k it_is_wholly_undone",
    ),
    Mutant(
        "a cancellation that comes before an undo keeps the execution",
        "            await in_thread(found.journal.give_back, struck.append)\n        raise struck[0]",
        "            pass\n        raise struck[0]",
        UNDO_ON_REQUEST + " -k a_cancellation_before",
    ),
    # -- what a compensation undoes for -------------------------------------------------------------------------------
    Mutant(
        "a compensation that a person asked for is told an exception",
        "    return state.cancelled or state.cause\n",
        "    return state.cause\n",
        CAUSE + " -k what_a_person_did",
    ),
    Mutant(
        "what a person did is a failure of the step that had failed",
        "    return state.failed.name if state.failed is not None and state.cancelled is None else None\n",
        "    return state.failed.name if state.failed is not None else step.name\n",
        CAUSE + " -k person",
    ),
    Mutant(
        "an attempt after a crash takes an older attempt's error for the one before",
        "            if begun:\n                return CrashError(",
        "            if False:\n                return CrashError(",
        CAUSE + " -k after_a_crash",
    ),
    Mutant(
        "what is done anew on request is told of an error of the time before",
        "        if begun and isinstance(event, well):\n            return None\n",
        "",
        CAUSE + " -k anew",
    ),
    Mutant(
        "another attempt with a view of its own is told of no error before it",
        "        if call.attempt > 1 or call.phase is COMPENSATE:\n",
        "        if call.phase is COMPENSATE:\n",
        CAUSE + " -k view_of_its_own",
    ),
    Mutant(
        "who tries again is why it is undone",
        "        if state.cause is None:\n            state.cancelled = event\n",
        "        state.cancelled = event\n",
        CAUSE + " -k who_tries_again",
    ),
    Mutant(
        "a compensation before a skip is told nothing",
        "return machine.log.last_failure(step.name).error if gave_up is None else gave_up.error",
        "return state.cause if gave_up is None else gave_up.error",
        CAUSE + " -k where_the_saga_goes_on",
    ),
    Mutant(
        "a call beside the loop is told nothing",
        "        twin.run, twin.rounds = self.run, self.rounds\n",
        "        twin.rounds = self.rounds\n",
        CAUSE + " -k what_the_saga_gave_up_for",
    ),
]
