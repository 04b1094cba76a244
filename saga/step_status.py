"""Where a step stands, and what is left of its work: words that records, reports and diagrams share."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Effect", "StepStatus"]


class StepStatus(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    """Failed, and waiting for its next attempt."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMED_OUT = "timed_out"
    """Exceeded its timeout and still runs, or was cut off: in doubt."""
    IN_DOUBT = "in_doubt"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"


class Effect(StrEnum):
    """What is left of a step's work."""

    NONE = "none"
    """It was never done."""
    STANDS = "stands"
    """It was done, and is not undone."""
    UNDONE = "undone"
    """Its compensation ran to its end."""
    SETTLED = "settled"
    """A person has seen to it (``skip``), whatever was left of it; who and why is in the journal."""
    UNKNOWN = "unknown"
    """It runs, is in doubt, is being compensated, or its compensation failed."""
