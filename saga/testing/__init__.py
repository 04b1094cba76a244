"""Prove your own saga: try its tasks one by one, and what becomes of it under every failure, lost answer and death.

Nothing here is needed where sagas run. Each name is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "Again",
    "AnswerLostError",
    "Certificate",
    "Certificates",
    "Clock",
    "DiedError",
    "DyingStore",
    "EffectRefusedError",
    "Events",
    "Exploration",
    "Fault",
    "History",
    "InjectedError",
    "Kind",
    "LawBrokenError",
    "Moment",
    "call",
    "certify",
    "debug",
    "explore",
    "replay",
    "with_stand_ins",
]

if TYPE_CHECKING:
    from saga.testing.again import Again
    from saga.testing.calling import call
    from saga.testing.certificates import Certificate, Certificates
    from saga.testing.certifying import certify
    from saga.testing.clock import Clock
    from saga.testing.debugging import Moment, debug
    from saga.testing.dying import DiedError, DyingStore
    from saga.testing.effects import EffectRefusedError
    from saga.testing.events import Events
    from saga.testing.exploring import Exploration, explore, replay
    from saga.testing.faults import AnswerLostError, Fault, InjectedError, Kind
    from saga.testing.histories import History
    from saga.testing.laws import LawBrokenError
    from saga.testing.stand_ins import with_stand_ins
else:  # a type checker is to find every other name missing

    def __getattr__(name: str) -> object:
        if name in _ROOM_OF:
            found = globals()[name] = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


_ROOM_OF = {
    "Again": "again",
    "AnswerLostError": "faults",
    "Certificate": "certificates",
    "Certificates": "certificates",
    "Clock": "clock",
    "DiedError": "dying",
    "DyingStore": "dying",
    "EffectRefusedError": "effects",
    "Events": "events",
    "Exploration": "exploring",
    "Fault": "faults",
    "History": "histories",
    "InjectedError": "faults",
    "Kind": "faults",
    "LawBrokenError": "laws",
    "Moment": "debugging",
    "call": "calling",
    "certify": "certifying",
    "debug": "debugging",
    "explore": "exploring",
    "replay": "exploring",
    "with_stand_ins": "stand_ins",
}
"""Which module each name is in."""
