"""What a diagram says in words: of a step's policies, of what became of it, of the whole. No drawing lives here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga.events import StepStatus
from saga.flow import Pause
from saga.machine import Each, PlannedStep
from saga.policy import InDoubt, OnError, Retry
from saga.result import error_line, told_besides

if TYPE_CHECKING:
    from saga.diagram.shape import Box, Picture

__all__ = ["attempts", "duration", "marked_certificate", "outcome", "policies", "summary", "waits"]


def policies(step: PlannedStep) -> list[str]:
    """Return what a step's policies say, as far as they are not the default."""
    phrases = []
    if step.pause is not None:
        phrases.append(waits(step.pause))
    if step.retry.max_attempts != 1:
        phrases.append(attempts(step.retry))
    if step.timeout is not None:
        phrases.append(f"timeout {duration(step.timeout)}")
    if step.on_error is OnError.SKIP:
        phrases.append("skipped if it fails")
    elif step.on_error is OnError.ASK:
        phrases.append("a person is asked if it fails")
    if step.pivot:
        phrases.append("pivot: nothing is undone after it")
    if step.transactional:
        phrases.append("one commit with the journal")
    if step.compensate_on_failure:
        phrases.append("undone if it fails itself, too")
    if step.compensation_retry.max_attempts != 1:
        phrases.append(f"undo: {attempts(step.compensation_retry)}")
    if step.compensation_timeout is not None:
        phrases.append(f"undo: timeout {duration(step.compensation_timeout)}")
    if step.requires:
        phrases.append(f"requires {', '.join(step.requires)}")
    if step.provides:
        phrases.append(f"provides {', '.join(step.provides)}")
    if step.ways is not None:  # which only looks
        return [*phrases, "decides how to go on"]
    if isinstance(step.then, Each):  # which only looks
        return [*phrases, "lists what is done next"]
    if step.in_doubt is not InDoubt.COMPENSATE:
        phrases.append("in doubt: run again" if step.in_doubt is InDoubt.RERUN else "in doubt: ask a person")
    if "unknown_on" in vars(step):
        phrases.append("in doubt: after errors of its own choice")
    if step.verifies:
        more = step.verification_retry
        phrases.append("in doubt: verified first" + (f", {attempts(more)}" if more.max_attempts != 1 else ""))
    return phrases


def attempts(retry: Retry) -> str:
    """Return how often and how long a call is attempted."""
    often = "attempts" if retry.max_attempts is None else f"up to {retry.max_attempts} attempts"
    limit = f" within {duration(retry.max_elapsed)}" if isinstance(retry.max_elapsed, int | float) else ""
    return f"{often}{limit}{', until its result is ready' if retry.retry_if is not None else ''}"


def waits(pause: Pause) -> str:
    """Return what a step waits for."""
    if pause.until is not None:
        return f"waits until {pause.until.isoformat(' ')}"
    if pause.asks:
        return "waits as the step before says"
    if not pause.signals:
        assert pause.seconds is not None
        return f"waits {duration(pause.seconds)}"
    limit = "" if pause.seconds is None else f", at most {duration(pause.seconds)}"
    return f"waits for {pause.awaited}{limit}"


_WORDS = {
    StepStatus.PENDING: "not reached",
    StepStatus.WAITING: "failed, to be tried again",
    StepStatus.COMPENSATED: "undone",
    StepStatus.COMPENSATING: "being undone",
    StepStatus.COMPENSATION_FAILED: "undo failed",
}


def outcome(box: Box) -> list[str]:
    """Return what became of a step: first how it stands, then its error, if it had one."""
    record = box.record
    assert record is not None
    status = record.status
    parts = [_WORDS.get(status, str(status).replace("_", " "))]
    parts += told_besides(record)
    if box.undone is not None and status is StepStatus.COMPENSATED:
        parts[0] += f" {_ordinal(box.undone)}"
    if box.fell_back and status is not StepStatus.SUCCEEDED:
        parts.append("fell back")
    if record.attempts > 1:
        parts.append(f"{record.attempts} attempts")
    if record.compensation_attempts > 1:
        parts.append(f"{record.compensation_attempts} undo attempts")
    if record.attempts and record.status not in (StepStatus.RUNNING, StepStatus.TIMED_OUT):
        parts.append(duration(record.elapsed))
    lines = [" · ".join(parts)]
    if record.verification_error is not None:
        lines.append(f"verification: {error_line(record.verification_error)}")
    if record.compensation_error is not None:
        lines.append(f"undo: {error_line(record.compensation_error)}")
    if record.error is not None:
        lines.append(error_line(record.error))
    return lines


def summary(picture: Picture) -> list[str]:
    """Return what is said of the whole."""
    definition, result = picture.definition, picture.result
    count = len(picture.plan.steps)
    if result is None:
        parts = [f"{count} step{'' if count == 1 else 's'}", f"version {definition.version}"]
        if definition.timeout is not None:
            parts.append(f"timeout {duration(definition.timeout)}")
        return [" · ".join(parts), *picture.caption]
    lines = [f"{result.status} · {duration(result.elapsed)} · {result.saga_id}"]
    if result.reason:
        lines.append(f"a person must act: {result.reason}")
    if result.error is not None:
        lines.append(error_line(result.error))
    return [*lines, *picture.caption]


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


_UNITS = ((86400, "day"), (3600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: ``90.0`` is ``1 min 30 s``."""
    if seconds < 0.0001:
        return "<0.1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts = []
    left = round(seconds)
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    if left:
        parts.append(f"{left} s")
    return " ".join(parts[:2])


def marked_certificate(box: Box) -> list[str]:
    """Return how a step's certificate stands, with a sign."""
    if box.certificate is None:
        return []
    return [f"{'✓' if box.certificate == 'certified' else '✗'} {box.certificate}"]
