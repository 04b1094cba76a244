"""Steps that decide how the saga goes on: the way that is taken. Nobody is asked here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga.errors import NoWayError
from saga.events import StepSucceeded, WayChosen
from saga.machine import back
from saga.machine.plan import PlannedStep, Ways

if TYPE_CHECKING:
    from saga.machine.decide import Machine

__all__ = ["choose"]


def choose(machine: Machine, step: PlannedStep, ways: Ways, event: StepSucceeded) -> None:
    """Go on as a step has decided."""
    way = ways.way_of(event.result)
    if way not in ways.entries:  # it was decided by another version
        back.give_up(machine, step, NoWayError(f"step {step.name!r}: no way is for what was decided"), event.at)
        return
    machine.record(WayChosen(step.name, way, event.at))
    machine.advance(ways.entries[way] or step.then, event.at)
