"""What strikes a history: where it can, where faults have it strike, and where it did. What it does there lives elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from saga.context import Context
from saga.machine import Call
from saga.testing.faults import AWAIT, PERSISTENT, Fault, Kind
from saga.testing.records import Point, Setting
from saga.testing.simulated import kinds_here

if TYPE_CHECKING:
    from saga.drivers.beside import CallBeside
    from saga.testing.simulated import Process

__all__ = ["Struck"]


class Struck:
    """What a history is built on.

    :ivar faults: what was put into it.
    :ivar setting: what it has in common with the others.
    :ivar points: where something can go wrong;
    :ivar open_from: the first of them after the last fault.
    """

    def __init__(self, faults: Sequence[Fault], setting: Setting) -> None:
        self.faults = tuple(faults)
        self.setting = setting
        self.points: list[Point] = []
        self.open_from = 0
        self._planned = {fault.place: Kind(fault.kind) for fault in self.faults}
        self._counts: dict[tuple[str, str], int] = {}
        self._lasting: dict[tuple[str, str], Kind] = {}

    def at(self, step: str, place: str, kinds: tuple[Kind, ...]) -> Kind | None:
        """Return what goes wrong at a place that the history has come to, if anything does."""
        key = (step, place)
        lasting = self._lasting.get(key)
        if lasting is not None:
            return lasting
        call = self._counts[key] = self._counts.get(key, 0) + 1
        if kinds:
            self.points.append(Point(step, place, call, kinds))
        kind = self._planned.get((step, place, call)) if self._planned else None
        if kind is None or kind not in kinds:
            return None
        del self._planned[step, place, call]
        self.open_from = len(self.points)
        if kind in PERSISTENT:
            self._lasting[key] = kind
        return kind

    def at_call(self, process: Process, call: Call, view: Context) -> Kind | None:
        """Return what strikes a call, if anything does."""
        kinds = kinds_here(process, call, view, self.setting.kinds)
        if process.machine.state.past_pivot and not call.step.gives_way:  # it is attempted until it succeeds
            kinds = tuple(kind for kind in kinds if kind is not Kind.FAILS_FOR_GOOD)
        return self.at(call.step.name, call.phase, kinds)

    def orders(self, first: CallBeside, other: CallBeside) -> tuple[Kind, ...]:
        """Return whether it is to be tried that another of two calls ends first: unless they change different things."""
        if Kind.GOES_FIRST not in self.setting.kinds:
            return ()
        seen = self.setting.footprints
        one, two = seen.get(first.call.step.name), seen.get(other.call.step.name)
        if one is not None and two is not None and one.isdisjoint(two):
            return ()
        return (Kind.GOES_FIRST,)

    @property
    def unstruck(self) -> list[Fault]:
        """The faults that the history never came to, or that cannot strike where they were put."""
        return [fault for fault in self.faults if fault.place in self._planned]

    @property
    def awaits(self) -> int:
        """How often it has waited in coroutine functions, as far as that is looked at."""
        return sum(count for (_, place), count in self._counts.items() if place == AWAIT)
