"""What is shown of any history at all is what records of results say: with the definition, and without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from saga import Status, StepRecord, StepStatus
from saga import events as e
from saga.definition import Definition
from saga.durable.codec import Codec
from saga.durable.entries import write_entries
from saga.durable.shown import details_of
from saga.looking import JournalLine
from saga.looking.offers import _PLAINLY, known_standing, offers_of
from saga.looking.reading import Reading
from saga.looking.steps import errors_of, steps_of
from saga.machine import Machine, Plan
from saga.result import error_line, fold_history
from saga.storage import Entry, StoredExecution
from tests.unit.machine.test_histories import Life, plans


def stored(events: Sequence[Any]) -> list[Entry]:
    """Return the journal of events, with results."""
    with_results = [
        replace(event, encoded=f',"result":{json.dumps(event.result)}')
        if isinstance(event, e.StepSucceeded | e.StepVerified)
        else event
        for event in events
    ]
    return write_entries(with_results, 0, {}, Codec())


def row_of(status: Status) -> StoredExecution:
    return StoredExecution("o-1", "order", "1", "", "", str(status), None, 1, 0.0, 0.0, 0, 0.0, 0.0)


def lines_of(entries: Sequence[Entry]) -> list[JournalLine]:
    shown = zip(entries, details_of(entries), strict=True)
    return [JournalLine(entry.seq, entry.at, entry.kind, entry.step, details) for entry, details in shown]


def said(error: BaseException | None) -> str | None:
    return None if error is None else error_line(error)


def recorded(record: StepRecord) -> dict[str, Any]:
    """Return what a record says that is shown, too."""
    names = ("name", "status", "effect", "in_doubt", "attempts", "compensation_attempts", "elapsed", "verified")
    errors = {"error": said(record.error), "compensation_error": said(record.compensation_error)}
    return {name: getattr(record, name) for name in names} | errors


def lived(plan: Plan, data: Any) -> Machine:
    """Return the machine of some life, at some moment of it."""
    life = Life(Machine(plan, "order", "o-1"), data)
    life.live()
    events = life.machine.events
    return life.machine.replayed(events[: data.draw(st.integers(1, len(events)), label="moment")])


@given(plans(), st.data())
def test_steps_are_shown_as_records_of_results_tell_them(plan: Plan, data: Any) -> None:
    machine = lived(plan, data)
    entries = stored(machine.events)
    reading = Reading(row_of(machine.status), entries, Definition(name="order", plan=plan))
    lines = lines_of(entries)
    records = fold_history(plan, machine.events)
    shown = steps_of(reading, lines)
    assert [step.name for step in shown] == list(plan.names)
    for step in shown:
        told = recorded(records[step.name])
        assert {name: getattr(step, name) for name in told} == told
        assert (step.began is None) is (step.attempts == 0)
        under_way = step.status in (StepStatus.PENDING, StepStatus.RUNNING, StepStatus.WAITING)
        assert not (under_way and step.ended is not None)
        of_unit = plan.by_name[step.name].content is not None  # which ends with its saga, or with a unit around it
        assert under_way or step.ended is not None or machine.state.stragglers or of_unit
        assert step.status is not StepStatus.WAITING or step.next_at is not None or machine.ended
        assert step.asks is (step.name in (known_standing(reading).undecided or ()))
    errors = {event.error for event in machine.events if hasattr(event, "error")}
    assert len(errors_of(reading, lines)) == len(set(map(id, errors)))


@given(plans(), st.data())
def test_what_an_action_would_do_can_be_told_wherever_it_fits(plan: Plan, data: Any) -> None:
    machine = lived(plan, data)
    reading = Reading(row_of(machine.status), stored(machine.events), Definition(name="order", plan=plan))
    for live in (False, True):
        offers, refused = offers_of(reading, known_standing(reading), live, {})
        assert {offer.action for offer in offers} | refused.keys() >= {"retry", "resume", "skip", "pause", "cancel"}
        for offer in offers:
            assert offer.does
            assert offer.does not in _PLAINLY.values(), offer


@given(plans(), st.data())
def test_without_its_definition_what_the_journal_cannot_tell_is_left_open(plan: Plan, data: Any) -> None:
    machine = lived(plan, data)
    entries = stored(machine.events)
    reading = Reading(row_of(machine.status), entries, None)
    records = fold_history(plan, machine.events)
    for step in steps_of(reading, lines_of(entries)):
        told, planned = recorded(records[step.name]), plan.by_name[step.name]
        if planned.content or planned.units or planned.ways:  # which nothing tells
            del told["status"], told["error"]
        if planned.pause or planned.ways or planned.content or planned.compensate_on_failure:
            del told["effect"], told["in_doubt"]
        assert {name: getattr(step, name) for name in told} == told
    offers, _ = offers_of(reading, known_standing(reading), False, {})
    assert all(offer.does for offer in offers)
