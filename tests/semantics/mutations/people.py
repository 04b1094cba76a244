"""What a person is asked, and what follows from what they say, broken."""

from __future__ import annotations

from . import FRONT_DOORS, Mutant

__all__ = ["OF_PEOPLE"]

ASKING = FRONT_DOORS + "asking"
TABLE = "tests/unit/machine/test_table"

OF_PEOPLE = [
    # -- on_error=Ask -------------------------------------------------------------------------------------------------
    Mutant(
        "a step that failed for good asks nobody",
        "    return step.on_error is Ask and not",
        "    return False and not",
        ASKING + " -k a_person_decides",
    ),
    Mutant(
        "a person is asked before a fallback is tried",
        "return step.on_error is Ask and not (step.fallback and is_a(error, step.fallback_on))",
        "return step.on_error is Ask",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "a straggler asks before it has ended",
        "(_may_retry(machine, step, event) or _asks(step, event.error))",
        "_may_retry(machine, step, event)",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "a saga that gave up still asks about a step that failed",
        "    state.asking -= state.exhausted  # there is",
        "    # there is",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "a step that failed and that a person resumes is in doubt",
        "state.in_doubt |= again - state.exhausted",
        "state.in_doubt |= again",
        "tests/unit/machine/test_state -k what_an_event_changes",
    ),
    Mutant(
        "what a person skipped is undone all the same",
        "        if index in state.asking:\n            _withdraw(state, index)",
        "        state.asking.discard(index)",
        TABLE + " -k what_follows",
    ),
    Mutant(
        "past the pivot a step that asks has no end of attempts",
        'fails: it says Skip or Ask, or has a fallback."""\n        return self.on_error is not OnError.COMPENSATE',
        'fails: it says Skip or Ask, or has a fallback."""\n        return self.on_error is OnError.SKIP',
        TABLE + " -k what_follows",
    ),
    Mutant(
        "the saga's own word comes before its steps'",
        '        policies.setdefault("on_error", on_error)',
        '        policies["on_error"] = on_error',
        ASKING + " -k whose_word_counts",
    ),
    Mutant(
        "a person is asked where nobody could find the execution",
        "if store is None and (definition.plan.receives or definition.plan.asks is not None):",
        "if store is None and definition.plan.receives:",
        ASKING + " -k it_needs_a_store",
    ),
    Mutant(
        "the time until a person has decided is the saga's",
        "if type(event) in (SagaStuck, SagaRewound) and later is not None:",
        "if False:",
        ASKING + " -k the_time_until",
    ),
]
