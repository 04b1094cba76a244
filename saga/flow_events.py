"""The facts of how an execution goes on: a retry, a skip, a question, a fallback, a way, the end of a group or a unit.

With the others, and what all of them have, in :mod:`saga.events`.
"""

from __future__ import annotations

from saga.facts import fact

__all__ = ["FallbackChosen", "GroupMerged", "PersonAsked", "RetryScheduled", "StepSkipped", "UnitCompensating", "WayChosen"]


@fact
class StepSkipped:
    """The step failed for good and the saga goes on without it."""

    step: str
    at: float


@fact
class PersonAsked:
    """The step failed for good and a person is to say how the saga goes on: its ``on_error`` is ``Ask``."""

    step: str
    at: float


@fact
class RetryScheduled:
    """Attempt number ``attempt`` of a call will be made ``delay`` seconds after ``at``.

    ``phase``: which call: ``"execute"``, ``"verify"`` or ``"compensate"``.
    """

    step: str
    attempt: int
    at: float
    delay: float
    phase: str = "execute"


@fact
class FallbackChosen:
    """The step failed for good and its fallback is to be executed instead, once the step has ended and is undone."""

    step: str
    at: float


@fact
class UnitCompensating:
    """A unit gave up: what was done of it is undone, and when it is, it has failed, or else the execution gives up.

    ``failed_step`` is the step that failed, or ``None`` where none did (a conflict between branches). ``again``: the steps that
    are executed again where the unit is.
    """

    step: str
    failed_step: str | None
    error: BaseException
    again: list[str]
    at: float


@fact
class WayChosen:
    """A step that decides how the saga goes on has returned, and this way is taken: as it is shown, or ``otherwise``."""

    step: str
    way: str
    at: float


@fact
class GroupMerged:
    """Every branch of a parallel group ended well and their changes were merged."""

    group: int
    at: float
