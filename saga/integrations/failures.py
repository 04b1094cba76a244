"""What an execution has failed for, as integrations tell it: which error, and by which name. Nothing is told here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from saga import events as e
from saga.errors import RecordedError, SagaCancelledError
from saga.plain import printed_name

__all__ = ["failed_for", "type_of"]

_OF: Final[dict[e.Status, Any]] = {
    e.Status.COMPENSATED: e.SagaCompensating,
    e.Status.STUCK: (e.StepFailed, e.StepTimedOut, e.VerificationFailed, e.SagaCompensating, e.CompensationFailed),
}


def failed_for(status: e.Status, events: Iterable[e.Event]) -> BaseException | None:
    """Return what an execution has failed for, where it has. What a person had undone has not."""
    failures = [event for event in events if isinstance(event, _OF.get(status, ()))]
    last: BaseException | None = getattr(failures[-1], "error", None) if failures else None
    return None if isinstance(last, SagaCancelledError) else last


def type_of(error: BaseException) -> str:
    """Return the name of an error's class; of one of another process, that of its class there."""
    return error.type_name.replace(":", ".") if isinstance(error, RecordedError) else printed_name(type(error))
