"""Doubt broken: what leaves it, what settles it, what verify is asked and believed, and what a recovery makes of it."""

from __future__ import annotations

from . import ACROSS, DOUBT, DURABLE, FRONT_DOORS, PROPERTIES, SEMANTICS, Mutant

__all__ = ["OF_DOUBT"]

OF_DOUBT = [
    Mutant(
        "what a person has seen to counts as undone",
        "                record.effect = Effect.SETTLED",
        "                record.effect = Effect.UNDONE",
        DURABLE + "shown -k seen_to",
    ),
    # -- what settles it, and what is asked first ---------------------------------------------------------------------
    Mutant(
        "a lost answer is a failure as any other",
        "lost = interrupt or _leaves_doubt(step, error)",
        "lost = interrupt",
        SEMANTICS + "failures -k a_lost_answer",
    ),
    Mutant(
        "an attempt that did nothing settles what the one before left in doubt",
        "elif event.in_doubt or index in state.in_doubt:",
        "elif event.in_doubt:",
        SEMANTICS + "doubt -k a_later_attempt_that_does_not_succeed",
    ),
    Mutant(
        "another attempt settles the doubt by beginning",
        "        withdraw(state, index)  # this attempt decides",
        "        state.in_doubt.discard(index)\n        withdraw(state, index)  # this attempt decides",
        SEMANTICS + "doubt -k a_later_attempt_that_does_not_succeed",
    ),
    Mutant(
        "what an attempt left in doubt is undone though a later one succeeded",
        "        withdraw(state, index)  # this attempt decides",
        "        pass  # this attempt decides",
        SEMANTICS + "doubt -k a_later_attempt_that_succeeds",
    ),
    Mutant(
        "success settles nothing",
        "    index = step.index\n    state.in_doubt.discard(index)\n    if step.compensates:",
        "    index = step.index\n    if step.compensates:",
        SEMANTICS + "doubt -k a_later_attempt_that_succeeds",
    ),
    Mutant(
        "an undo settles nothing",
        "    state.compensation_stragglers.discard(index)\n    state.in_doubt.discard(index)",
        "    state.compensation_stragglers.discard(index)",
        SEMANTICS + "doubt -k what_is_in_doubt_is_undone",
    ),
    Mutant(
        "a person's skip settles nothing",
        "        state.compensations_failed.pop(index, None)\n        state.in_doubt.discard(index)",
        "        state.compensations_failed.pop(index, None)",
        SEMANTICS + "doubt -k what_a_person_skips",
    ),
    Mutant(
        "a step in doubt is skipped and never undone",
        "        if step.index in state.to_compensate:\n            machine.compensate(step, at)\n"
        "        else:\n            _skip(",
        "        if False:\n            machine.compensate(step, at)\n        else:\n            _skip(",
        SEMANTICS + "doubt -k what_is_in_doubt_is_undone",
    ),
    Mutant(
        "a fallback begins beside what is in doubt",
        "    elif index in state.to_compensate:\n        machine.compensate(step, at)\n    else:\n"
        "        machine.follow(step.fallback",
        "    elif False:\n        machine.compensate(step, at)\n    else:\n        machine.follow(step.fallback",
        SEMANTICS + "doubt -k what_is_in_doubt_is_undone",
    ),
    Mutant(
        "an interrupt of a skipped step's undo is passed over",
        "    elif not is_exception(error):  # which ends",
        "    elif False:  # which ends",
        SEMANTICS + "doubt -k an_interrupt_of_the_undo",
    ),
    Mutant(
        "verify is never asked",
        "    if step.verifies:\n        state.to_verify.add(step.index)\n    else:",
        "    if False:\n        state.to_verify.add(step.index)\n    else:",
        SEMANTICS + "doubt -k verify_is_asked_before_anything",
    ),
    Mutant(
        "verify is not asked of what an interrupt left in doubt",
        "if state.to_verify and state.status is COMPENSATING:",
        "if False:",
        SEMANTICS + "doubt -k nothing_is_undone_while",
    ),
    Mutant(
        "what verify found done is owed no undo",
        "    if event.done:\n        _done(state, step, event.result)\n        return",
        "    if False:\n        return",
        SEMANTICS + "doubt -k verify_decides_what_is_undone",
    ),
    Mutant(
        "what verify found done is attempted again",
        "    if not event.done:\n        decide(",
        "    if True:\n        decide(",
        SEMANTICS + "doubt -k verify_is_asked_before_anything",
    ),
    Mutant(
        "what verify found not done stays in doubt",
        "    state.verifying.discard(index)\n    state.in_doubt.discard(index)\n",
        "    state.verifying.discard(index)\n    if event.done:\n        state.in_doubt.discard(index)\n",
        SEMANTICS + "doubt -k verify_is_asked_before_anything",
    ),
    Mutant(
        "what verify found not done is undone where it did not know at first",
        "    withdraw(state, index)\n    if event.done:",
        "    if event.done:\n        withdraw(state, index)\n    if event.done:",
        SEMANTICS + "doubt -k verify_is_asked_as_often",
    ),
    Mutant(
        "a verification is not attempted again",
        "elif _allows(step, step.verification_retry, event.attempt, event.error):",
        "elif False:",
        SEMANTICS + "doubt -k verify_is_asked_as_often",
    ),
    Mutant(
        "what verify does not know is taken for not done",
        "    state.verifying.discard(step.index)\n    decide_doubt(state, step)",
        "    state.verifying.discard(step.index)",
        SEMANTICS + "doubt -k verify_is_asked_before_anything",
    ),
    Mutant(
        "the undo goes on while verify is asked",
        "        if state.verifying:  # what that tells decides what is undone\n            return\n",
        "",
        SEMANTICS + "doubt -k nothing_is_undone_while",
    ),
    Mutant(
        "a verification that was cut off is not asked again",
        "    for index in asked:\n",
        "    for index in asked[:0]:\n",
        SEMANTICS + "doubt -k verify_is_asked_again_where_the_process_died",
    ),
    Mutant(
        "verify is not asked again when a person says resume",
        "            state.to_verify.update(index for index in again",
        "            set().update(index for index in again",
        SEMANTICS + "doubt -k verify_is_asked_again_when_a_person_says_resume",
    ),
    Mutant(
        "verify is not asked again when a person says compensate",
        "            state.to_verify.add(index)\n        if not step.compensates:",
        "            pass\n        if not step.compensates:",
        SEMANTICS + "doubt -k verify_is_asked_again_when_a_person_says_compensate",
    ),
    Mutant(
        "what a person resumes and was found not done is not executed",
        "    if asked_for:\n        state.to_rerun.add(index)\n",
        "",
        SEMANTICS + "doubt -k verify_is_asked_again_when_a_person_says_resume",
    ),
    Mutant(
        "RERUN has one attempt too many",
        "else _lasts(machine, step, step.retry, failure.attempt, failure.at)",
        "else _lasts(machine, step, step.retry, failure.attempt - 1, failure.at)",
        "tests/unit/machine/test_table -k what_follows",
    ),
    Mutant(
        "RERUN is executed again without a retry while the process lives",
        "return _cut_off(failure) if step.retry is ONCE else",
        "return failure.attempt < 2 if step.retry is ONCE else",
        SEMANTICS + "doubt -k rerun_has_as_many",
    ),
    Mutant(
        "RERUN goes by what the retry is for",
        "return step.retry if _may_rerun(machine, step, failure) else None",
        "return None",
        SEMANTICS + "doubt -k rerun_has_as_many",
    ),
    Mutant(
        "RERUN is not for what an attempt that did nothing left in doubt",
        " or failure.in_doubt or step.index in machine.state.in_doubt",
        " or failure.in_doubt",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "what a person said to undo is asked about again",
        " or index in state.left_in_doubt",
        "",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "what was done past the pivot is forgotten when a person has it executed again",
        "            state.in_doubt |= again - state.exhausted  # done",
        "            # done",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "a fallback begins past the pivot though the undo of its step failed",
        "    elif failed is not None or index in state.asking:",
        "    elif index in state.asking:",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "what a dead block had under way past its pivot is executed again",
        "step.pause is not None or _of_a_dead_block(machine, failure)",
        "step.pause is not None",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "an undo that failed leaves the effect as it was",
        "                record.effect = Effect.UNKNOWN  # until one ends well",
        "                pass  # until one ends well",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "nobody tells an execute that its execution is left to a recovery",
        "            call.cancelled.set()",
        "            pass",
        PROPERTIES + "doubt_again",
    ),
    Mutant(
        "ASK is attempted again",
        "elif index in state.asking or executed or",
        "elif executed or",
        SEMANTICS + "doubt -k ask_has_no_further",
    ),
    Mutant(
        "ASK gives up where the saga could go on without the step",
        "(state.past_pivot or step.gives_way or _cut_off(failure))",
        "(state.past_pivot or _cut_off(failure))",
        SEMANTICS + "doubt -k ask_has_no_further",
    ),
    Mutant(
        "past the pivot nobody is asked",
        "    if step.in_doubt is InDoubt.ASK:\n        state.asking",
        "    if step.in_doubt is InDoubt.ASK and not state.past_pivot:\n        state.asking",
        SEMANTICS + "doubt -k ask_past_the_pivot",
    ),
    Mutant(
        "past the pivot what nobody knows of gives up",
        "if _must_go_on(machine, step) or (machine.state.past_pivot and _cut_off(failure)):",
        "if False:",
        SEMANTICS + "doubt -k past_the_pivot_verify",
    ),
    # -- what a recovery makes of it ---------------------------------------------------------------------------------
    Mutant(
        "attempts begin anew after a crash",
        "elif _cut_off(failure):\n        machine.execute_again(step, failure.attempt + 1, at)",
        "elif _cut_off(failure):\n        machine.execute_again(step, 1, at)",
        DOUBT + " -k a_crash_uses_up_an_attempt",
    ),
    Mutant(
        "compensations begin anew after a crash",
        "machine.compensate_again(steps[index], attempt + 1, at)",
        "machine.compensate_again(steps[index], 1, at)",
        ACROSS + " -k a_run_that_died_anywhere_is_undone",
    ),
    Mutant(
        "execute again what a person is to be asked about",
        "for index in sorted(state.to_rerun - state.verifying):",
        "for index in sorted((state.to_rerun | state.asking) - state.verifying):",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "go on beside what is to be compensated",
        "failures.sort(key=lambda one: not ends_the_way_forward(machine, *one))",
        "failures.sort(key=lambda one: ends_the_way_forward(machine, *one))",
        DOUBT + " -k branches_in_doubt",
    ),
    Mutant(
        "go forward once the undo has begun",
        "    elif not state.goes_forward(step):\n        machine.progress(at)\n    elif index in state.to_rerun and",
        "    elif index in state.to_rerun and",
        SEMANTICS + "stragglers -k a_straggler_with_attempts_left_is_not_retried",
    ),
    Mutant(
        "a block goes on after its process died",
        "    return machine.plan.open and _cut_off(failure)",
        "    return False",
        FRONT_DOORS + "transaction_stored -k a_dead_blocks_step_in_doubt",
    ),
    Mutant(
        "a crash in a step leaves no doubt",
        "StepFailed(step.name, attempt, at, 0.0, error, True)",
        "StepFailed(step.name, attempt, at, 0.0, error)",
        ACROSS + " -k a_run_that_died_anywhere_is_undone",
    ),
    Mutant(
        "a waiting compensation is made at once after a crash",
        "sorted(state.compensating - state.compensation_retries.keys() | ",
        "sorted(state.compensating | ",
        DOUBT + " -k a_compensation_waits_for_what_is_left",
        file="saga/machine/resume.py",
    ),
    Mutant(
        "the wait before another attempt begins anew after a crash",
        "left = left_of(scheduled.delay, scheduled.at, at)",
        "left = scheduled.delay",
        DOUBT + " -k a_wait_that_is_over_is_not_begun_again",
        file="saga/machine/failures.py",
    ),
    Mutant(
        "a join is lost in a crash",
        "if ended and group.index not in state.merged and state.goes_forward(group)",
        "if False",
        DOUBT + " -k a_join_that_was_not_recorded",
    ),
]
