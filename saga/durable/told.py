"""What an execution's row tells of it without its journal being read. Nothing is stored here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from saga import events as e
from saga.machine import Machine
from saga.plain import names_of, one_line, text_of
from saga.storage.records import StoredExecution, Told

__all__ = ["told_by", "told_of"]

_FAILED = (e.StepFailed, e.StepTimedOut, e.CompensationFailed, e.VerificationFailed)
_LONGEST = 500
"""Characters of a reason; the journal has all of it."""


def told_of(
    machine: Machine,
    keep: float | None = None,
    definition: tuple[str, str] | None = None,
    text: Callable[[BaseException], str] = text_of,
) -> Told:
    """Return what a row tells of an execution whose status has changed.

    :param keep: seconds for which a completed one is kept.
    :param definition: see :class:`~saga.storage.Told`.
    :param text: returns what is told of an error besides its class.
    """
    status, events = machine.status, machine.events
    if status is e.Status.COMPLETED:
        return Told(keep=keep or 0.0, definition=definition)
    error, failed = machine.log.cause()
    step = _step_of(events) if failed is None else failed.name
    cause = None if error is None else _name(error)
    if status is e.Status.STUCK:
        step, cause, reason = _asked_about(machine, step, cause, text)
    elif status is e.Status.PAUSED:
        reason = next((event.reason for event in reversed(events) if isinstance(event, e.SagaPaused | e.SagaRewound)), None)
    else:
        reason = None if error is None else text(error)
    return Told(step, None if reason is None else _cut(one_line(reason)), cause, definition=definition)


def told_by(row: StoredExecution, events: Sequence[Any]) -> Told:
    """Return what a row tells after something was decided about an execution that nobody runs."""
    last = events[-1]
    if isinstance(last, e.SagaPaused | e.SagaStuck):
        return Told(row.step, _cut(one_line(last.reason)), row.cause)
    given_up = next((event for event in events if isinstance(event, e.SagaCompensating)), None)
    if given_up is not None:
        return Told(row.step, _cut(one_line(text_of(given_up.error))), _name(given_up.error))
    return Told(row.step, None, row.cause)  # whoever goes on tells more


def _asked_about(
    machine: Machine, step: str | None, cause: str | None, text: Callable[[BaseException], str]
) -> tuple[str | None, str | None, str | None]:
    """Return a step that a person is asked about, the class of the error that it failed with last, and why it is stuck.

    :param step: what is told where a person is asked about none;
    :param cause: so is this.
    """
    state, steps = machine.log.state(), machine.plan.steps
    reason = next((event.reason for event in reversed(machine.events) if isinstance(event, e.SagaStuck)), None)
    about = [steps[index].name for index in (*sorted(state.asking), *state.compensations_failed)]
    for event in reversed(machine.events):
        if isinstance(event, _FAILED) and event.step in about:
            of = [event.step] if len(about) > 1 else []
            said = ": ".join([*of, *filter(None, (_name(event.error), text(event.error)))])
            return event.step, _name(event.error), f"{reason} ({said})"
    return (about[0], None, reason) if about else (step, cause, reason)  # a dead process's call, which told nothing


def _step_of(events: Sequence[Any]) -> str | None:
    """Return the step that was begun last, or whose compensation was."""
    begun = (event for event in reversed(events) if isinstance(event, e.StepStarted | e.CompensationStarted))
    last = next(begun, None)
    return None if last is None else last.step


def _name(error: BaseException) -> str:
    return one_line(names_of(type(error))[1].rpartition(".")[2])[:200]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
