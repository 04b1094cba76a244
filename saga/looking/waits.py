"""Why nothing happens with an execution at present, in a sentence, where that can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from saga.definition import Definition
from saga.events import COMPENSATING, PAUSED, RUNNING, STUCK, SUBMITTED, RetryScheduled, StepStarted, StepSucceeded
from saga.looking.reading import Reading
from saga.looking.shown import moment
from saga.machine import PlannedStep
from saga.machine.waits import ends_at
from saga.plain import one_line
from saga.storage.claims import holds_back, is_had
from saga.storage.pages import each_of
from saga.storage.protocol import Store
from saga.storage.records import ANY, StoredExecution

__all__ = ["over_at", "why", "why_it_waits"]

_LOOKED_AT: Final = 100
"""Executions of one key: one of the first keeps the others back, unless all of them are held."""


def why(row: StoredExecution, now: float) -> str | None:
    """Return why an execution stands so, as far as its row tells, but for the class of the error."""
    left = row.status in (RUNNING, COMPENSATING) and row.owner is not None and row.lease_until <= now
    return "its process is gone" if left and row.reason is None else row.reason


def why_it_waits(store: Store, reading: Reading, definition: Definition | None, now: float) -> str | None:
    """Return why nothing happens with an execution at present.

    :param definition: the one that it goes on by, where that is known.
    """
    row = reading.row
    if row.status == SUBMITTED:
        return next(_before_it_begins(store, row, definition, now), None)
    if row.status in (RUNNING, COMPENSATING):
        return next(_while_it_runs(store, reading, now), None)
    if row.status == PAUSED:
        return f"it is paused until a person resumes it{_because(row)}"
    if row.status == STUCK:
        return f"a person must act{_because(row)}"
    return None


def _because(row: StoredExecution) -> str:
    return "" if row.reason is None else f": {one_line(row.reason)}"


def _before_it_begins(store: Store, row: StoredExecution, definition: Definition | None, now: float) -> Iterator[str]:
    if row.opens > now:
        yield f"it is not to be begun before {moment(row.opens)}"
    holds = store.holds()
    for hold in holds:
        if hold.name == row.name and hold.version in (ANY, row.version):
            version = "" if hold.version == ANY else f"version {one_line(hold.version)} of "
            yield f"{version}saga {one_line(hold.name)} is held by {one_line(hold.who)}: {one_line(hold.why)}"
    if row.exclusive is not None:
        yield from _before_it_in_line(store, row, row.exclusive, {(hold.name, hold.version) for hold in holds}, now)
    if definition is not None and definition.limit is not None:
        running = _in_hand(store, row.name, definition.limit, now)
        if running >= definition.limit:
            yield f"at most {definition.limit} of saga {one_line(row.name)} may run at once, and {running} do"
    if row.called_until is not None and row.called_until > now:
        yield f"it is left to whoever called for it, who waits for it and has said so until {moment(row.called_until)}"
    yield from _without_a_worker(store, row, now)
    if definition is not None and definition.rate is not None:
        yield f"it is due: at most {definition.rate:g} of saga {one_line(row.name)} are begun in a second"
    yield "it is due: a worker has yet to take it up"


def _before_it_in_line(store: Store, row: StoredExecution, key: str, held: set[tuple[str, str]], now: float) -> Iterator[str]:
    for other in store.in_line(key, _LOOKED_AT):
        if other.saga_id == row.saga_id:
            return
        who = f"execution {one_line(other.saga_id)} of saga {one_line(other.name)}"
        if other.status != SUBMITTED:
            yield f"{who}, which is {one_line(other.status)}, has its key {one_line(key)} until it ends"
        elif other.opens <= now and not holds_back(held, other.name, other.version):
            yield f"{who} comes before it, with the same key {one_line(key)}"


def _in_hand(store: Store, name: str, most: int, now: float) -> int:
    """Return how many executions of a saga somebody runs, as far as ``most``."""
    running = 0
    for row in each_of(store.list, status=(str(RUNNING), str(COMPENSATING)), name=name, limit=200):
        running += row.owner is not None and row.lease_until > now
        if running == most:
            break
    return running


def _without_a_worker(store: Store, row: StoredExecution, now: float) -> Iterator[str]:
    having = [one for one in store.workers() if one.until > now and is_had(one.definitions, row)]
    what = f"version {one_line(row.version)} of saga {one_line(row.name)}"
    if row.version == "block":
        what = f"blocks of the name {one_line(row.name)}"
    if not having:
        yield f"no worker that lives has {what}"
    elif all(one.stopping for one in having):
        yield f"the workers that have {what} are stopping, and begin nothing new"


def _while_it_runs(store: Store, reading: Reading, now: float) -> Iterator[str | None]:
    row = reading.row
    if row.owner is not None and row.lease_until > now:
        yield _what_it_waits_for(reading)
        return
    if row.owner is not None:
        who = one_line(row.owner)
        follows = next(_without_a_worker(store, row, now), "a worker or a recovery is to take it over")
        yield f"its lease ran out at {moment(row.lease_until)}: whoever ran it ({who}) died, or is cut off; {follows}"
        return
    waits = _what_it_waits_for(reading)
    if row.due > now:
        yield waits or f"it is tried again at {moment(row.due)}"
    yield from _without_a_worker(store, row, now)
    yield "it is due: a worker or a recovery is to take it up"


def _what_it_waits_for(reading: Reading) -> str | None:
    """Return what an execution waits for of which no call runs."""
    state, steps = reading.history.state, reading.plan.steps
    calls = [index for index in state.executing if steps[index].pause is None]
    asked = state.verifying - state.verification_retries.keys()
    late = state.stragglers or state.compensation_stragglers
    if calls or late or asked or state.compensating - state.compensation_retries.keys():
        return None
    waiting: list[tuple[float, str]] = []
    for scheduled in (*state.retries.values(), *state.verification_retries.values(), *state.compensation_retries.values()):
        waiting.append((scheduled.at + scheduled.delay, _next_attempt(scheduled)))
    begun = {event.step: event.at for event in reading.events if isinstance(event, StepStarted)}
    results = {event.step: event.result for event in reading.events if isinstance(event, StepSucceeded)}
    for index in state.executing:
        step, pause = steps[index], steps[index].pause
        until = None if pause is None else over_at(step, begun[step.name], results)
        if pause is not None and until is not None:
            what = f"{pause.awaited}, at most until" if pause.signals else "its time:"
            waiting.append((until, f"step {one_line(step.name)} waits for {what} {moment(until)}"))
        elif pause is not None:
            what = pause.awaited if pause.signals else "its time"
            waiting.append((float("inf"), f"step {one_line(step.name)} waits for {what}"))
    return min(waiting)[1] if waiting else None


def over_at(step: PlannedStep, since: float, results: Mapping[str, Any]) -> float | None:
    """Return when the time of a step is over that waits since then; ``None``: it has none, or that cannot be read.

    :param results: of the steps before it, as they are stored.
    """
    try:
        return ends_at(step, since, None if step.told_by is None else results.get(step.told_by.name))
    except (TypeError, ValueError):
        return None


def _next_attempt(scheduled: RetryScheduled) -> str:
    at = moment(scheduled.at + scheduled.delay)
    return f"attempt {scheduled.attempt} to {scheduled.phase} {one_line(scheduled.step)} is made at {at}"
