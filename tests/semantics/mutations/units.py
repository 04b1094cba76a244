"""Broken units: what is undone when one gives up, what follows, and what goes on beside it."""

from __future__ import annotations

from . import FRONT_DOORS, Mutant

TABLE = "tests/unit/machine/test_table -k what_follows"
STATE = "tests/unit/machine/test_state -k an_event_changes"
UNITS = FRONT_DOORS + "units"

OF_UNITS = [
    Mutant(
        "a unit is no better than its saga",
        "    if state.status is RUNNING and says and is_exception(error):",
        "    if False:",
        TABLE,
    ),
    Mutant("an interrupt is the unit's", " and says and is_exception(error):", " and says:", TABLE),
    Mutant(
        "a unit that says nothing of what follows is undone by itself",
        "        if state.past_pivot or unit.retry is not ONCE or unit.on_error is not Compensate or unit.fallback\n",
        "",
        TABLE,
    ),
    Mutant("the outermost unit gives up", "_turn_unit_back(machine, says[-1]", "_turn_unit_back(machine, says[0]", TABLE),
    Mutant("what waits in a unit waits on", "    _end_waits(machine, inside, error, at)\n", "", TABLE),
    Mutant("a unit is undone while something runs of it", "    if state.executing & inside:\n        return\n", "", TABLE),
    Mutant(
        "a unit has failed while its straggler runs",
        "    if (state.compensating | state.stragglers | state.compensation_stragglers) & inside:",
        "    if (state.compensating | state.compensation_stragglers) & inside:",
        TABLE,
    ),
    Mutant("what a unit left is mixed with what follows", "    if failed and not state.past_pivot:", "    if False:", TABLE),
    Mutant("all of the saga is undone with a unit", "next_to_compensate(state, inside)", "next_to_compensate(state)", UNITS),
    Mutant(
        "a unit that gave up goes forward",
        "return self.status is RUNNING and not (self.undoing and self.is_undoing(one))",
        "return self.status is RUNNING",
        TABLE,
    ),
    Mutant(
        "an attempt that was due is made in a unit that gave up",
        "    for index in inside & state.retries.keys():\n        del state.retries[index]\n",
        "",
        STATE,
    ),
    Mutant("a unit within one that gave up goes on", "    state.units -= inside\n", "", STATE),
    Mutant(
        "a step's attempts are not counted anew",
        "return attempt - self.tries_before.get(index, 0) if self.tries_before else attempt",
        "return attempt",
        TABLE,
    ),
    Mutant(
        "what was skipped before stays skipped",
        "for decided in (state.skipped, state.to_skip,",
        "for decided in (state.to_skip,",
        UNITS,
    ),
    Mutant(
        "the groups around a unit are forgotten",
        "for group, _ in step.branches[around:]:",
        "for group, _ in step.branches:",
        "tests/unit/machine/test_histories",
    ),
    Mutant("who takes it up does not end a unit", "        if index in state.units_ended:\n", "        if False:\n", TABLE),
    Mutant(
        "who takes it up forgets a unit's time",
        "        elif unit.timeout is not None:\n            left",
        "        elif False:\n            left",
        UNITS,
    ),
    Mutant(
        "a unit's time is looked at when its steps have ended",
        "machine.commands.insert(0, Wait(unit,",
        "machine.commands.append(Wait(unit,",
        UNITS,
    ),
    Mutant(
        "a unit's time begins its next attempt",
        "if scheduled is not None and scheduled.attempt == wait.attempt:",
        "if scheduled is not None:",
        TABLE,
    ),
    Mutant(
        "nobody looks at a unit's time",
        "limited = step.timeout is not None or any(unit.timeout is not None for unit in step.units)",
        "limited = step.timeout is not None",
        UNITS,
    ),
    Mutant(
        "the undo of a unit is told the step's own error",
        "return machine.log.last_failure(step.name).error if gave_up is None else gave_up.error",
        "return machine.log.last_failure(step.name).error",
        UNITS,
    ),
    Mutant(
        "what a unit changed is lost",
        "        take_back(view, self._scope(scope))\n        self._merged.add(scope)",
        "        self._merged.add(scope)",
        UNITS,
    ),
    Mutant("what a unit changed stays", "        for scope in inside:\n            self._scopes.pop(scope, None)\n", "", UNITS),
    Mutant(
        "what is executed again has the key of what was undone",
        "        self._begin_round(again)\n\n    def _begin_round",
        "\n    def _begin_round",
        UNITS,
    ),
    Mutant(
        "another list than before is not done",
        "        if known is listed:",
        "        if True:",
        UNITS,
    ),
    Mutant(
        "the step of another list is another step",
        "        if then.index in state.tries_before:\n            _know_again(state, group)\n",
        "",
        UNITS,
    ),
    Mutant(
        "what is skipped with its unit stops who takes it up",
        "if not any(unit.name in passed for unit in plan.by_name[name].units)]",
        "]",
        UNITS,
    ),
    Mutant(
        "somebody undoes back to a step within a unit",
        "    elif step.units:\n        why",
        "    elif False:\n        why",
        UNITS,
    ),
    Mutant(
        "a pivot stands in a unit",
        '        elif self.units:\n            wrong = (\n                f"a pivot',
        '        elif False:\n            wrong = (\n                f"a pivot',
        UNITS,
    ),
]
