"""A result in words: the headline, the table of steps, and every traceback once. No result is made here.

Names, ids and texts are users', so each is on one line and shows what there is: see :mod:`saga.plain`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from saga.errors import RecordedError, SagaExecutionException
from saga.events import (
    CompensationFailed,
    CompensationTimedOut,
    Effect,
    SagaCompleted,
    SagaRewound,
    Status,
    StepFailed,
    StepStatus,
    StepTimedOut,
    VerificationFailed,
)
from saga.machine import choices
from saga.plain import names_of, one_line, printed_name, shortened, text_of
from saga.recorded import recalled
from saga.result.history import StepRecord

if TYPE_CHECKING:
    from saga.result.snapshot import SagaResult

__all__ = [
    "NOTHING_STORED",
    "actions",
    "error_line",
    "headline",
    "report",
    "stuck_on",
    "summary",
    "told_besides",
    "tracebacks",
]

NOTHING_STORED: Final = "nothing is stored, so no program goes on from here"

_LONGEST: Final = 500  # characters of an error's text within a line
_ROWS: Final = 50  # of a summary's table; runs of steps that are alike are counted where it has more

_WORDS: Final = {
    Status.SUBMITTED: "is submitted, and nobody runs it yet",
    Status.RUNNING: "still runs",
    Status.PAUSED: "is paused",
    Status.COMPENSATING: "failed and is not wholly undone yet",
    Status.COMPLETED: "completed",
    Status.COMPENSATED: "failed and was undone",
    Status.STUCK: "is stuck",
}
_ON_REQUEST: Final = {Status.COMPENSATING: "is being undone", Status.COMPENSATED: "was undone"}


# -- errors in a line -------------------------------------------------------------------------------------------------


def error_line(error: Any) -> str:
    """Return an exception's class and the first line of its text. Of a saga's failure, what that says in a line."""
    if issubclass(type(error), RecordedError):
        name, text = error.type_name.rpartition(":")[2], text_of(error.text)
    else:
        name = names_of(type(error))[1]
        inner = _result_within(error)
        text = _headline(inner, _first_error(inner)) if inner is not None else text_of(error)
    first = shortened(one_line(text.strip().partition("\n")[0]), _LONGEST)
    name = one_line(name.rpartition(".")[2])
    return f"{name}: {first}" if first else name


def _result_within(error: Any) -> SagaResult | None:
    return error.result if issubclass(type(error), SagaExecutionException) else None


def _first_error(result: SagaResult) -> str | None:
    """Return the line of the error that all began with, and where that was, through any number of sagas in sagas."""
    where, stuck, error = "", "", result.error
    while (inner := _result_within(error)) is not None:
        step = f"step {inner.failed_step!r} of " if inner.failed_step is not None else ""
        where, error = f" (at {step}saga {inner.saga!r})", inner.error
        if inner.status is Status.STUCK:
            stuck = f"; saga {inner.saga!r} ({one_line(inner.saga_id)}) is stuck"
    return None if error is None else error_line(error) + where + stuck


# -- the headline -----------------------------------------------------------------------------------------------------


def headline(result: SagaResult) -> str:
    """Return in one line how the execution stands, and why."""
    return _headline(result, None if result.error is None else error_line(result.error))


def _headline(result: SagaResult, error: str | None) -> str:
    words = _ON_REQUEST if result.status in _ON_REQUEST and _had_completed(result) else _WORDS
    whose = f"saga {result.saga!r} ({one_line(result.saga_id)}) {words[result.status]}"
    if result.status is Status.STUCK:
        what = [told for _, told in stuck_on(result)] or [one_line(result.reason)]
        more = [f"and {len(what) - 3} more"] if len(what) > 3 else []
        return f"{whose}: {'; '.join([*what[:3], *more])}"
    if result.status is Status.PAUSED:
        return f"{whose}: {one_line(result.reason or '')}"
    where = f" at step {result.failed_step!r}" if result.failed_step is not None else ""
    return f"{whose}{where}" if error is None else f"{whose}{where}: {error}"


def _had_completed(result: SagaResult) -> bool:
    """Whether it completed before it was undone."""
    for event in reversed(result.events):
        if isinstance(event, SagaCompleted | SagaRewound):
            return isinstance(event, SagaCompleted)
    return False


def stuck_on(result: SagaResult) -> Iterator[tuple[str, str]]:
    """Yield each step that a person has to decide about, with how often it was tried and what came of that, in a line."""
    records = {record.name: record for record in result.history}
    standing = result._standing
    for name in standing.failed or ():
        record = records[name]
        why = f": {error_line(record.compensation_error)}" if record.compensation_error is not None else ""
        yield name, f"the compensation of step {name!r} failed{_tried(record.compensation_attempts)}{why}"
    for name in standing.asking or ():
        record = records[name]
        why = f": {error_line(record.error)}" if record.error is not None else ""
        stands = record.effect is Effect.STANDS
        known = "was done, and what came of it could not be stored" if stands else "failed"
        how = "is in doubt" if record.in_doubt else known
        yield name, f"step {name!r} {how}{_tried(record.attempts)}{why}"


def _tried(attempts: int) -> str:
    return f" ({_attempts(attempts)})"


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def actions(result: SagaResult) -> list[str]:
    """Return what a person can do, as calls of :class:`saga.operations.Operations`: nothing where nothing is stored."""
    if not result._stored:
        return []
    saga_id, skipped = result.saga_id, result._standing.undecided or ()
    calls = [f"{action}({saga_id!r}, why)" for action in choices(result._standing)]
    if skipped:
        calls.append(f"skip({saga_id!r}, {repr(skipped[0]) if len(skipped) == 1 else 'step'}, why)")
    return calls


def _choices(result: SagaResult) -> str:
    return f", with saga.operations.Operations: {', '.join(actions(result))}" if result._stored else f": {NOTHING_STORED}"


# -- the table of steps -----------------------------------------------------------------------------------------------


def summary(result: SagaResult, *, most: int = _ROWS) -> str:
    """Return the headline, what a person can do, and a line for each step."""
    lines = [headline(result)]
    if result.status is Status.STUCK:
        if result.error is not None and result.failed_step not in (result._standing.asking or ()):
            where = f" at step {result.failed_step!r}" if result.failed_step is not None else ""
            lines.append(f"it gave up{where}: {error_line(result.error)}")
        lines.append(f"a person must act{_choices(result)}")
    if result.status is Status.PAUSED:
        lines.append(f"it rests until a person lets it go on{_choices(result)}")
    if result.in_doubt:
        lines.append(f"in doubt: {', '.join(map(one_line, result.in_doubt))}")
    lines += ["steps:", *_table(result.history, most)]
    return "\n".join(lines)


def _table(history: Sequence[StepRecord], most: int) -> Iterator[str]:
    names = [one_line(record.name) for record in history]
    width = max(map(len, names), default=0)
    rows = [f"  {name:<{width}}  {_line(record)}" for name, record in zip(names, history, strict=True)]
    if len(rows) <= most:
        yield from rows
        return
    for alike, run in groupby(zip(history, rows, strict=True), key=lambda one: _kind(one[0])):
        of_run = [row for _, row in run]
        if alike is None or len(of_run) <= 3:
            yield from of_run
        else:
            yield from (of_run[0], f"  ... {len(of_run) - 2} more {alike} ...", of_run[-1])


def _kind(record: StepRecord) -> str | None:
    """Return what a step's row may be counted as; ``None`` where it has to be read."""
    errors = (record.error, record.verification_error, record.compensation_error)
    return None if record.in_doubt or any(error is not None for error in errors) else _status(record)


def _status(record: StepRecord) -> str:
    return str(record.status).replace("_", " ")


def _line(record: StepRecord) -> str:
    text = ", ".join([_status(record), *told_besides(record)])
    undone = record.compensation_attempts
    apart = record.status is StepStatus.COMPENSATION_FAILED or (undone > 1 and record.status is StepStatus.COMPENSATED)
    if apart:  # two calls were made: each is told of by itself
        text += f" after {_attempts(undone)}"
    if record.attempts:
        text += f" ({'execute: ' if apart else ''}{_attempts(record.attempts)}, {round(record.elapsed, 6) * 1000:.1f} ms)"
    if record.error is not None:
        text += f"  {error_line(record.error)}"
    if record.verification_error is not None:
        text += f"  verification: {error_line(record.verification_error)}"
    if record.compensation_error is not None:
        text += f"  compensation: {error_line(record.compensation_error)}"
    return text


def told_besides(record: StepRecord) -> list[str]:
    """Return what a step's status does not tell: that it is in doubt, was verified, was undone before it was skipped, or was
    skipped by a person.
    """
    told = []
    if record.in_doubt and record.status not in (StepStatus.IN_DOUBT, StepStatus.TIMED_OUT):
        told.append("in doubt")
    if record.status is StepStatus.SKIPPED and record.effect is Effect.UNDONE:
        told.append("undone")
    if record.effect is Effect.SETTLED:
        told.append("settled by a person")
    if record.verified is not None:
        told.append("verified: done" if record.verified else "verified: not done")
    return told


# -- tracebacks -------------------------------------------------------------------------------------------------------


def report(result: SagaResult) -> str:
    """Return the summary with every step, and then every traceback once."""
    told: dict[int, BaseException] = {}
    sections: dict[str, list[str]] = {}  # by its text: the same traceback may be that of several attempts, and steps
    for title, error in _failures(result):
        if id(error) not in told:
            titles = sections.setdefault("\n".join(f"  {line}" for line in _story(error, told)), [])
            if title not in titles:
                titles.append(title)
    parts = [f"{'; '.join(titles)}:\n{text}" for text, titles in sections.items()]
    return "\n\n".join([summary(result, most=len(result.history)), *parts])


def tracebacks(error: BaseException) -> str:
    """Return an exception's traceback, those of its causes, and of a saga's failure all that failed there; each once."""
    return "\n".join(_story(error, {})) + "\n"


def _failures(result: SagaResult) -> Iterator[tuple[str, BaseException]]:
    """Yield every error of an execution, what it gave up for first, with what it is told under."""
    if result.error is not None:
        yield f"failure at step {result.failed_step!r}" if result.failed_step is not None else "failure", result.error
    for event in result.events:
        if isinstance(event, StepFailed | StepTimedOut):
            title = "failure at step" if event.step == result.failed_step else "step"
            yield f"{title} {event.step!r}{'' if event.step == result.failed_step else ' failed'}", event.error
        elif isinstance(event, VerificationFailed):
            yield f"verification of step {event.step!r} failed", event.error
        elif isinstance(event, CompensationFailed):
            yield f"compensation of step {event.step!r} failed", event.error
        elif isinstance(event, CompensationTimedOut):
            yield f"compensation of step {event.step!r} timed out", event.error


def _story(error: BaseException, told: dict[int, BaseException]) -> list[str]:
    """Return the lines that tell of an exception and its causes, the first cause first; what is told already is named."""
    chain: list[BaseException] = []
    links: list[str] = []  # between each and the one before it in the chain
    lines: list[str] = []
    following: BaseException | None = error
    while following is not None:
        if id(following) in told:
            lines = [f"{error_line(following)} (told above)"]
            break
        told[id(following)] = following
        chain.append(following)
        following, link = _cause_of(following)
        links.append(link)
    for one in reversed(chain):
        link = links.pop()
        if lines:
            lines += ["", link, ""]
        lines += _lines_of(one)
        inner = _result_within(one)
        if inner is not None:
            for title, failure in _failures(inner):
                if id(failure) not in told:
                    lines += ["", f"{title}, in saga {inner.saga!r} ({one_line(inner.saga_id)}):"]
                    lines += _story(failure, told)
    return lines


def _cause_of(error: BaseException) -> tuple[BaseException | None, str]:
    """Return what an exception is told after, and Python's own words for that."""
    try:
        if recalled(error) or isinstance(error, BaseExceptionGroup):  # told with them
            return None, ""
        if error.__cause__ is not None:
            return error.__cause__, "The above exception was the direct cause of the following exception:"
        if error.__context__ is not None and not error.__suppress_context__:
            return error.__context__, "During handling of the above exception, another exception occurred:"
    except Exception:  # it does not tell
        pass
    return None, ""


def _lines_of(error: BaseException) -> list[str]:
    try:
        text = recalled(error)
        if text is None:
            text = "".join(traceback.format_exception(error, chain=isinstance(error, BaseExceptionGroup)))
    except Exception as failure:  # what it is made of is a user's
        text = f"<no traceback: formatting it raised {printed_name(type(failure))}>"
    return [one_line(line) for line in text.rstrip().split("\n")] if text.strip() else [error_line(error)]
