"""Where an execution stands: the words of its status. What leads from one to another is the machine's."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Status"]


class Status(StrEnum):
    """Where an execution stands."""

    SUBMITTED = "submitted"
    """Stored, and nobody runs it yet."""
    RUNNING = "running"
    PAUSED = "paused"
    """A person stopped it, who may let it go on."""
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    """Failed, or was to be undone, and every undo ran to its end."""
    STUCK = "stuck"
    """A person must act."""

    terminal: bool
    """Whether nothing more happens by itself."""


for _status in Status:  # an attribute, not a property: it is asked for many times in every execution
    _status.terminal = _status not in (Status.SUBMITTED, Status.RUNNING, Status.COMPENSATING)
del _status
