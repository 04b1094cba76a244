"""Failures of executions in Sentry: one event for each, grouped by saga, step and class of error. Nothing is sent here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

try:
    import sentry_sdk
    from sentry_sdk.scope import add_global_event_processor
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"reports need {error.name}: pip install 'saga-tasks[sentry]'", name=error.name) from error

from saga import events as e
from saga.errors import SagaCancelledError, SagaExecutionException, is_exception
from saga.integrations.failures import type_of

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

    from saga.definition import ExecutionInfo

__all__ = ["Sentry"]


class Sentry:
    """An observer that reports failures: ``Saga("place-order", observers=[Sentry()])``.

    * That a saga gave up is an event of level ``error``, with what it gave up for. A failed attempt that is made again is none.
    * That a person must act is one of level ``fatal``, for each compensation that failed for good and each step that a person
      is asked about.

    An event's group is its saga, step and class of error; its tags are ``saga.name``, ``saga.id``, ``saga.step`` and
    ``saga.phase``. What a person had undone, and an interrupt, is no failure.

    No failure is reported twice: of sagas that have this observer, Sentry's logging integration takes no lines that a
    :class:`~saga.logging.SagaLogger` wrote, and the :class:`~saga.errors.SagaExecutionException` that an execution raises is no
    event of its own, whoever captures it.
    """

    def __init__(self) -> None:
        _drop_what_is_reported()

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        """Do nothing: each stint has an observer of its own."""

    def stint(self, info: ExecutionInfo) -> _Failures:
        """Return what reports failures of an execution that begins here, or goes on here."""
        _remember(info.saga)
        return _Failures(info)


class _Failures:
    """Reports what fails in one stint. What failed before was reported by others."""

    def __init__(self, info: ExecutionInfo) -> None:
        self._before = len(info.events)
        self._any = False

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        _remember(info.saga)  # many others may have begun meanwhile
        if isinstance(event, e.SagaCompensating):
            if is_exception(event.error) and not isinstance(event.error, SagaCancelledError):
                self._report(info, event.step, "execute", event.error, "error")
        elif isinstance(event, e.SagaStuck):
            for step, phase, error in _stuck_for(info.events[self._before :]):
                self._report(info, step, phase, error, "fatal")
            if not self._any:
                self._report(info, None, "", event.reason, "fatal")

    def _report(self, info: ExecutionInfo, step: str | None, phase: str, error: BaseException | str, level: Any) -> None:
        self._any = True
        kind = "stuck" if isinstance(error, str) else type_of(error)
        with sentry_sdk.new_scope() as scope:
            scope.fingerprint = ["saga", info.saga, step or "", kind]
            scope.set_level(level)
            tags = {"saga.name": info.saga, "saga.id": info.saga_id, "saga.step": step, "saga.phase": phase}
            scope.set_tags({name: text for name, text in tags.items() if text})
            if isinstance(error, str):
                scope.capture_message(f"saga {info.saga} is stuck: {error}")
            else:
                scope.capture_exception(error)


def _stuck_for(events: Any) -> Iterator[tuple[str, str, BaseException]]:
    """Yield the steps for which a person must act, of what has happened, with the call that failed and its error."""
    failed: dict[str, BaseException] = {}
    undone: dict[str, BaseException] = {}
    for event in events:
        if isinstance(event, e.StepFailed | e.StepTimedOut | e.VerificationFailed):
            failed[event.step] = event.error
        elif isinstance(event, e.CompensationFailed):
            undone[event.step] = event.error
        elif isinstance(event, e.CompensationSucceeded):
            undone.pop(event.step, None)
        elif isinstance(event, e.PersonAsked) and event.step in failed:
            yield event.step, "execute", failed[event.step]
    yield from ((step, "compensate", error) for step, error in undone.items())


# -- what is reported here, and nowhere else --------------------------------------------------------------------------

_REPORTED: Final[dict[str, None]] = {}
"""The names of sagas whose failures this observer reports, the one that was last used last: blocks may have any names."""
_MOST_NAMES: Final = 10_000
_once, _remembering = threading.Lock(), threading.Lock()


def _remember(saga: str) -> None:
    with _remembering:
        _REPORTED.pop(saga, None)
        _REPORTED[saga] = None
        if len(_REPORTED) > _MOST_NAMES:
            del _REPORTED[next(iter(_REPORTED))]


def _drop_what_is_reported() -> None:
    """See to it, once for this process, that other integrations do not report what this one does."""
    if _once.acquire(blocking=False):
        # Before other processors: the one that drops what was seen already is not to take the logger's line for the first.
        sentry_sdk.get_global_scope().add_error_processor(_unless_raised_again)
        add_global_event_processor(_unless_logged)


def _unless_raised_again(event: Event, exc_info: Any) -> Event | None:
    error = exc_info[1]
    if isinstance(error, SagaExecutionException) and error.result is not None and error.result.saga in _REPORTED:
        return None
    return _unless_logged(event, {})


def _unless_logged(event: Event, hint: Hint) -> Event | None:
    told = event.get("extra", {})
    name = told.get("saga") if "saga_event" in told else None
    record = hint.get("log_record")
    if record is not None and record.msg == _LEFT_TO_A_PERSON:
        name = str(record.args[0])
    return None if "logger" in event and name in _REPORTED else event


_LEFT_TO_A_PERSON: Final = "saga %s (%s) is stuck: %s"
"""What a worker says itself of what it gives up, and tells observers too."""
