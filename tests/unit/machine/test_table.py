"""What the machine decides, case by case: a row is what happened so far, a fact, and what follows.

The rows are in the modules beside this that are no tests. Each is tried twice: on a machine that has folded what happened so
far, as a journal is read, and on one to which it has happened, which has to have decided the same by itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from saga.errors import ActionRefusedError
from tests.unit.machine.asked import ASKED
from tests.unit.machine.back import BACK, STOPPED
from tests.unit.machine.doubt import DOUBT
from tests.unit.machine.forward import FORWARD
from tests.unit.machine.held import HELD, PAUSE_REFUSED
from tests.unit.machine.late_undo import LATE_UNDO
from tests.unit.machine.late_undo import STOPPED as STOPPED_LATE
from tests.unit.machine.notation import NOW, STOP, clauses, commanded, folded, happen, lived, plan_of, told
from tests.unit.machine.others import OTHERS, REASONS
from tests.unit.machine.others import REFUSED as REFUSED_OTHERWISE
from tests.unit.machine.retried import RETRIED
from tests.unit.machine.undone import REFUSED as REFUSED_UNDO
from tests.unit.machine.undone import UNDONE
from tests.unit.machine.units import UNITS

ROWS = [
    *((*row, {}) for row in (*FORWARD, *BACK, *OTHERS, *DOUBT, *HELD, *ASKED, *UNDONE, *LATE_UNDO, *RETRIED, *UNITS)),
    *((*row, STOP) for row in (*STOPPED, *STOPPED_LATE)),
]


def table(rows: list[Any]) -> Any:
    """Try each row, under its name."""
    assert len({row[0] for row in rows}) == len(rows)
    return pytest.mark.parametrize("row", [pytest.param(row[1:], id=row[0]) for row in rows])


def begun(so_far: str, fact: str) -> str:
    """Return what happened so far, with its beginning."""
    return so_far if fact == "begin" else f"begins, {so_far}"


@table(ROWS)
def test_what_follows(row: Any) -> None:
    flow, so_far, facts, follows, commands, options = row
    plan, happened = plan_of(flow), begun(so_far, facts)
    machines = [folded(plan, happened, **options)]
    if "recovered" not in facts:  # who died may have stored no more of what it had decided
        machines.append(lived(plan, happened, **options))
    for machine in machines:
        before = len(machine.events)
        taken = [happen(machine, fact) for fact in clauses(facts)]
        new = [event for event in machine.events[before:] if not any(event is one for one in taken)]
        assert (told(new), commanded(machine.commands)) == (follows, commands)
        assert {event.at for event in new} <= {NOW}


@table([*REFUSED_OTHERWISE, *REFUSED_UNDO, *PAUSE_REFUSED])
def test_what_a_person_may_not_do(row: Any) -> None:
    flow, so_far, action, text = row
    for make in folded, lived:
        machine = make(plan_of(flow), begun(so_far, action))
        before = list(machine.events)
        with pytest.raises(ActionRefusedError) as caught:
            happen(machine, action)
        assert (str(caught.value), machine.events, machine.commands) == (text, before, [])


@table(REASONS)
def test_why_a_person_must_act(row: Any) -> None:
    flow, so_far, facts, reason, *options = row
    machine = folded(plan_of(flow), begun(so_far, facts), **dict(*options))
    for fact in clauses(facts):
        happen(machine, fact)
    assert machine.events[-1].reason == reason  # type: ignore[union-attr]
