"""What became of each step, and each error: as they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saga.events import (
    CompensationFailed,
    CompensationTimedOut,
    Effect,
    Event,
    OperatorActed,
    RetryScheduled,
    SignalReceived,
    StepFailed,
    StepStarted,
    StepStatus,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    UnitCompensating,
    VerificationFailed,
)
from saga.looking.reading import Reading
from saga.looking.shown import Decision, ErrorView, JournalLine, StepView
from saga.looking.waits import over_at
from saga.machine import PlannedStep, following
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.plain import one_line, shortened
from saga.result import error_line
from saga.shown_keys import HIDDEN

__all__ = ["decisions_of", "errors_of", "steps_of"]

_LONGEST: Final = 200
"""Characters of a result; the journal has all of it."""
_PHASES: Final = {
    StepFailed.__name__: EXECUTE,
    StepTimedOut.__name__: EXECUTE,
    UnitCompensating.__name__: EXECUTE,
    CompensationFailed.__name__: COMPENSATE,
    CompensationTimedOut.__name__: COMPENSATE,
    VerificationFailed.__name__: VERIFY,
}
"""By the kind of an entry that has an error: which call raised it."""


@dataclass(slots=True)
class _Times:
    began: float | None = None
    ended: float | None = None
    next_at: float | None = None

    def take(self, event: Event, step: PlannedStep, results: Mapping[str, Any]) -> None:
        match event:
            case StepStarted():
                self.began, self.ended, self.next_at = event.at if self.began is None else self.began, None, None
                if step.pause is not None:
                    self.next_at = over_at(step, event.at, results)
            case StepSucceeded() | StepFailed() | StepTimedOut(running=False) | StepVerified(done=True):
                self.ended, self.next_at = event.at, None
            case RetryScheduled():
                self.next_at = event.at + event.delay
            case _:
                self.next_at = None


def steps_of(reading: Reading, journal: Sequence[JournalLine]) -> tuple[StepView, ...]:
    """Return what became of each step.

    :param journal: as it is shown, so that what is hidden there is hidden here.
    """
    times = {name: _Times() for name in reading.plan.names}
    returned: dict[str, Any] = {}
    for event in reading.events:
        name = getattr(event, "step", None)
        if name is not None:
            times[name].take(event, reading.plan.by_name[name], returned)
        if isinstance(event, StepSucceeded):
            returned[event.step] = event.result
    results = {line.step: line.details["result"] for line in journal if "result" in line.details}
    paths = dict(_paths(reading))
    settled = {one.step: f"by {one.who}: {one.why}" for one in decisions_of(reading) if one.action == "skip"}
    return tuple(
        _view(reading, step, times[step.name], results.get(step.name), paths[step.name], settled.get(step.name))
        for step in reading.plan.in_order()
    )


def _view(
    reading: Reading, step: PlannedStep, times: _Times, result: Any, path: tuple[str, ...], settled: str | None
) -> StepView:
    record, state = reading.records[step.name], reading.history.state
    waits = record.status in (StepStatus.WAITING, StepStatus.RUNNING, StepStatus.IN_DOUBT, StepStatus.COMPENSATING)
    return StepView(
        name=record.name,
        status=record.status,
        effect=record.effect,
        in_doubt=record.in_doubt,
        attempts=record.attempts,
        compensation_attempts=record.compensation_attempts,
        began=times.began,
        ended=None if record.status in (StepStatus.RUNNING, StepStatus.WAITING) else times.ended,
        elapsed=record.elapsed,
        error=None if record.error is None else error_line(record.error),
        compensation_error=None if record.compensation_error is None else error_line(record.compensation_error),
        verified=record.verified,
        next_at=times.next_at if waits and not state.status.terminal else None,
        result=None if result in (None, HIDDEN) else shortened(one_line(_text(result)), _LONGEST),
        path=path,
        asks=step.index in state.asking or step.index in state.compensations_failed,
        settled=settled if record.effect is Effect.SETTLED else None,
        waits_for=_waits_for(step) if step.index in state.executing else None,
    )


def _waits_for(step: PlannedStep) -> str | None:
    if step.pause is None:
        return None
    return one_line(step.pause.awaited) if step.pause.signals else "its time"


def _text(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=repr)


def _paths(reading: Reading) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each step's name, and what it stands in."""
    within: dict[int, str] = {}
    for step in reading.plan.steps:
        if step.fallback:
            after = {later.index for later in following(step.then)}
            within |= _told(following(step.fallback), after, f"instead of {step.name}")
        if step.ways is not None:
            after = {later.index for later in following(step.then)}
            for way, entry in step.ways.entries.items():
                within |= _told(following(entry), after, f"{step.name}: {way}")
    for step in reading.plan.steps:
        groups = tuple(
            f"parallel {group.index + 1}, branch {branch + 1}" if group.each is None else f"for each: {group.names[branch]}"
            for group, branch in step.branches
        ) + tuple(f"unit {unit.name}" for unit in step.units)
        yield step.name, (*groups, within[step.index]) if step.index in within else groups


def _told(steps: Iterable[PlannedStep], after: set[int], what: str) -> dict[int, str]:
    return {step.index: what for step in steps if step.index not in after}


def decisions_of(reading: Reading) -> tuple[Decision, ...]:
    """Return what persons decided."""
    return tuple(_decisions(reading.events))


def _decisions(events: Iterable[Event]) -> Iterator[Decision]:
    for one in events:
        if isinstance(one, OperatorActed):
            step = None if one.step is None else one_line(one.step)
            yield Decision(one_line(one.action), step, one_line(one.who), one_line(one.why), one.at)
        elif isinstance(one, SignalReceived) and one.who is not None:
            yield Decision("signal", None, one_line(one.who), one_line(one.why or ""), one.at, one_line(one.name))


def errors_of(reading: Reading, journal: Sequence[JournalLine]) -> tuple[ErrorView, ...]:
    """Return each error once, where it was raised first."""
    return tuple(
        _error(line)
        for entry, line in zip(reading.entries, journal, strict=True)
        if isinstance(line.details.get("error"), dict) and "error_at" not in json.loads(entry.payload)
    )


def _error(line: JournalLine) -> ErrorView:
    error, attempt = line.details["error"], line.details.get("attempt")
    trace = str(error.get("traceback") or "")
    phase = _PHASES.get(line.kind)
    return ErrorView(
        type=one_line(str(error.get("type", "?")).rpartition(":")[2].rpartition(".")[2]),
        text=one_line(error.get("text", "")),
        traceback="\n".join(map(one_line, trace.splitlines())) or None,
        step=line.step,
        phase=phase,
        attempt=attempt if phase is not None and isinstance(attempt, int) else None,
        at=line.at,
    )
