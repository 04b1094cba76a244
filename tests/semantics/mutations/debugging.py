"""Debugging broken: what was known, what a call is kept from, what is said to follow, where it stops."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_DEBUGGING"]

PAST, AGAIN = "tests/testing/test_debugging", "tests/testing/test_calls_made_again"
EFFECTS, STEPPING = "tests/testing/test_effects", "tests/testing/test_stepping"

OF_DEBUGGING = [
    # -- what was known -----------------------------------------------------------------------------------------------
    Mutant(
        "a call has seen what came after it",
        "self.row._replace(status=str(RUNNING)), self.entries[:seq])",
        "self.row._replace(status=str(RUNNING)), self.entries)",
        PAST + " -k each_call_is_made_again",
    ),
    Mutant(
        "a call in doubt is not looked at first",
        "            [] if over else unknown,\n",
        "",
        PAST + " -k wherever_it_died",
    ),
    Mutant(
        "a compensation that failed is looked at before one in doubt",
        "(*state.asking, *state.compensations_failed)} if over else set[str]()",
        "(*state.asking, *state.compensations_failed)}",
        PAST + " -k wherever_it_died",
    ),
    Mutant(
        "what loggers mask is shown of a context",
        "return self._past.masks.of(values)",
        "return values",
        PAST + " -k what_loggers_mask",
    ),
    # -- what it is kept from -----------------------------------------------------------------------------------------
    Mutant(
        "observers hear of a call that is debugged",
        "replace(past.definition, observers=(), on_compensation_failure=None)",
        "past.definition",
        AGAIN + " -k tells_nobody",
    ),
    Mutant(
        "a transactional call that is debugged is committed",
        "                    lent.end()  # which rolls back",
        "                    lent.commit()\n                    lent.end()",
        AGAIN + " -k a_transactional_call",
    ),
    Mutant(
        "threads that ran before are kept from their effects",
        "if _active is not self or threading.get_ident() in self._free:",
        "if _active is not self:",
        EFFECTS + " -k who_ran_before",
    ),
    Mutant(
        "stores are written to", "(*_store_methods(), *_connects())", "(*_connects(),)", EFFECTS + " -k an_effect_is_refused"
    ),
    Mutant(
        "clients in C connect",
        "(*_store_methods(), *_connects())",
        "(*_store_methods(),)",
        EFFECTS + " -k an_effect_is_refused",
    ),
    Mutant("what is imported is kept compiled", "sys.dont_write_bytecode, True", "sys.dont_write_bytecode, False", EFFECTS),
    Mutant("effects are refused ever after", "        _active = None\n        self._undo", "        self._undo", EFFECTS),
    # -- what follows -------------------------------------------------------------------------------------------------
    Mutant(
        "what a call without its effects leads to is told",
        "return made_again if refused else self._followed(made_again, outcome)",
        "return self._followed(made_again, outcome)",
        EFFECTS + " -k would_have_led_to",
    ),
    Mutant(
        "an action is foreseen as if the call ended well",
        "found.known, end = None, replace(known, attempt=command.attempt, at=at)",
        "found.known, end = None, None",
        PAST + " -k what_follows_with_the_code",
    ),
    Mutant(
        "what runs beside a call is forgotten in what follows",
        "    for end in others:\n        found.ending",
        "    for end in others[:0]:\n        found.ending",
        PAST + " -k what_follows_with_the_code",
    ),
    Mutant(
        "what waits beside a call is forgotten in what follows",
        "    for scheduled in waiting:  # nothing",
        "    for scheduled in waiting[:0]:  # nothing",
        PAST + " -k what_waited_beside",
    ),
    Mutant(
        "an action is offered where somebody else makes the call",
        "standing.status in (SUBMITTED, RUNNING, COMPENSATING):",
        "standing.status is SUBMITTED:",
        PAST + " -k wherever_it_died",
    ),
    # -- where it stops -----------------------------------------------------------------------------------------------
    Mutant("callers are read about", "        debugger.botframe = frame\n", "", STEPPING + " -k callers_are_nobodys"),
    Mutant(
        "a Ctrl-C after a call belongs to pdb",
        "        if handler is not None:\n",
        "        if False:\n",
        STEPPING + " -k first_line",
    ),
    Mutant("a resolver is stepped into", "if name not in (None, frame.f_code.co_name) or", "if", STEPPING + " -k first_line"),
]
