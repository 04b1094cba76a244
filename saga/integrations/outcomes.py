"""How a call ended, by the event that tells of it: in the words that traces and metrics share. No library is known here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from saga import events as e

__all__ = ["OUTCOMES", "Outcome", "still_runs"]

Outcome = tuple[str, Callable[[Any], str]]

OUTCOMES: Final[dict[type, Outcome]] = {
    e.StepSucceeded: ("execute", lambda event: "done"),
    e.StepFailed: ("execute", lambda event: "unknown" if event.in_doubt else "done" if event.executed else "not_done"),
    e.StepTimedOut: ("execute", lambda event: "unknown"),
    e.StepVerified: ("verify", lambda event: "done" if event.done else "not_done"),
    e.VerificationFailed: ("verify", lambda event: "unknown"),
    e.CompensationSucceeded: ("compensate", lambda event: "done"),
    e.CompensationFailed: ("compensate", lambda event: "unknown"),
    e.CompensationTimedOut: ("compensate", lambda event: "unknown"),
}
"""For each kind of event that tells how a call ended: which call, and what says its outcome: done, not done or unknown."""


def still_runs(event: Any) -> bool:
    """Whether a call has outlived its timeout and still runs: another event tells how it has ended."""
    return isinstance(event, e.CompensationTimedOut) or (isinstance(event, e.StepTimedOut) and event.running)
