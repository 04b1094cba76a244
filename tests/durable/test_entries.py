"""Entries: every event as text and back, each error stored once, and what a version of this package reads of another's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from saga import Context, Saga, Status, step
from saga import events as e
from saga.durable import entries
from saga.durable.codec import Codec
from saga.durable.entries import (
    FORMAT,
    changes_text,
    made_progress,
    read_entries,
    start_text,
    write_entries,
)
from saga.durable.messages import action_message, read_message, signal_message
from saga.durable.shown import details_of
from saga.errors import EncodingError, RecordedError
from saga.storage import Entry, MemoryStore

CODEC = Codec()
NAME = 'a "quoted"/näme\n'
ERROR = RecordedError("builtins:ValueError", 'no "stock"', "Traceback ...\n")
ERROR.add_note("a note")

EVENTS: list[e.Event] = [
    e.SagaSubmitted("place-order", "id\n1", 1.25),
    e.SagaStarted("place-order", "id\n1", 1.25),
    e.StepStarted(NAME, 1, 2.0),
    e.StepStarted(NAME, 7, 2.0),
    e.StepSucceeded(NAME, 1, 3.0, 0.25, {"total": Decimal("1.10"), "items": (1, {2})}),
    e.StepSucceeded(NAME, 2, 3.0, 0.0, None),
    e.StepFailed(NAME, 1, 4.0, 0.5, ERROR),
    e.StepFailed(NAME, 1, 4.0, 0.5, ERROR, in_doubt=True),
    e.StepFailed(NAME, 1, 4.0, 0.5, ERROR, executed=True),
    e.StepTimedOut(NAME, 1, 5.0, 0.5, ERROR),
    e.StepTimedOut(NAME, 1, 5.0, 0.5, ERROR, running=False),
    e.StepSkipped(NAME, 6.0),
    e.PersonAsked(NAME, 6.0),
    e.SagaRewound(NAME, [NAME, "b"], "undone", 6.0),
    e.RetryScheduled(NAME, 2, 7.0, 1.5),
    e.RetryScheduled(NAME, 2, 7.0, 0.0, phase="compensate"),
    e.RetryScheduled(NAME, 2, 7.0, 0.5, phase="verify"),
    e.VerificationStarted(NAME, 2, 7.5),
    e.StepVerified(NAME, 2, 7.5, 0.25, True, {"total": Decimal("1.10")}),
    e.StepVerified(NAME, 1, 7.5, 0.25, False),
    e.VerificationFailed(NAME, 1, 7.5, 0.25, ERROR),
    e.FallbackChosen(NAME, 8.0),
    e.WayChosen(NAME, NAME, 8.0),
    e.SignalReceived(NAME, [Decimal(1), "x"], 9.0),
    e.SignalReceived("go", None, 9.0),
    e.SignalReceived("go", None, 9.0, who='A "nn"', why="because"),
    e.GroupMerged(0, 10.0),
    e.GroupMerged(3, 10.0),
    e.UnitCompensating(NAME, "b", ERROR, [NAME, "b"], 10.5),
    e.UnitCompensating(NAME, None, ERROR, [], 10.5),
    e.SagaCompensating(NAME, ERROR, 11.0),
    e.SagaCompensating(None, ERROR, 11.0),
    e.CompensationStarted(NAME, 1, 12.0),
    e.CompensationStarted(NAME, 2, 12.0),
    e.CompensationSucceeded(NAME, 2, 13.0, 0.125),
    e.CompensationFailed(NAME, 2, 14.0, 0.125, ERROR),
    e.CompensationTimedOut(NAME, 1, 11.0, 0.5, ERROR),
    e.SagaCompleted(15.0),
    e.SagaCompensated(16.0),
    e.SagaStuck('compensation failed: "a"', 17.0),
    e.SagaHeld(17.0),
    e.SagaPaused('by "ann"', 17.0),
    e.SagaRecovered("host:1:ab", 2, 18.0),
    e.OperatorActed("skip", NAME, "Ann", "done by hand", 19.0),
    e.OperatorActed("cancel", None, "Ann", "", 19.0),
    e.MessageRefused('{"signal":"\u2028', "it cannot be read", 20.0),
]


def write(events: Sequence[e.Event], written: int = 0, errors: Any = None) -> list[Entry]:
    return write_entries(events, written, {} if errors is None else errors, CODEC)


def with_result(event: Any) -> e.Event:
    """Return the event with what a journal encodes beside it: a result is there and nowhere else."""
    if isinstance(event, e.StepSucceeded | e.StepVerified) and getattr(event, "done", True):
        event.encoded = f',"result":{CODEC.encode(event.result)}'  # type: ignore[misc]
    return event  # type: ignore[no-any-return]


def told(event: Any) -> tuple[Any, ...]:
    """Return an event's fields, with errors by what is kept of them."""
    fields = [getattr(event, name) for name in event.__match_args__]
    kept = ("type_name", "text", "traceback_text", "__notes__")
    return type(event), *(
        [getattr(one, name, None) for name in kept] if isinstance(one, RecordedError) else one for one in fields
    )


# -- there and back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_an_event_is_read_as_it_was_written(event: e.Event) -> None:
    written = write([with_result(event)])
    assert [(one.seq, one.kind, one.step, one.at) for one in written] == [
        (1, type(event).__name__, getattr(event, "step", None), event.at)
    ]
    (recorded,), _ = read_entries(written, CODEC)
    assert told(recorded.event) == told(event)
    assert (recorded.changes, list(recorded.removed), recorded.more) == ({}, [], {})


def test_every_kind_of_event_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(e.Event.__args__)


def test_a_journal_is_read_in_order_and_numbered_on() -> None:
    written = write([with_result(event) for event in EVENTS], 5)
    assert [entry.seq for entry in written] == list(range(6, 6 + len(EVENTS)))
    assert all(isinstance(json.loads(entry.payload), dict) for entry in written)


def test_elapsed_seconds_are_kept_to_the_microsecond() -> None:
    events = [e.CompensationSucceeded("a", 1, 0.0, 1 / 3), with_result(e.StepSucceeded("a", 1, 0.0, 2 / 3, None))]
    recorded, _ = read_entries(write(events), CODEC)
    assert [one.event.elapsed for one in recorded] == [0.333333, 0.666667]  # type: ignore[union-attr]


# -- what is encoded beside an event ------------------------------------------------------------------------------------

CHANGES = changes_text({'odd "key"': CODEC.encode((1, 2)), "$set": CODEC.encode("x")}, ["gone", 'g"one'])


@pytest.mark.parametrize(
    "event",
    [
        e.StepSucceeded("a", 1, 0.0, 0.0, None, f',"result":null{CHANGES}'),
        e.StepFailed("a", 1, 0.0, 0.0, ERROR, encoded=CHANGES),
        e.StepTimedOut("a", 1, 0.0, 0.0, ERROR, running=False, encoded=CHANGES),
        e.CompensationSucceeded("a", 1, 0.0, 0.0, CHANGES),
        e.CompensationFailed("a", 1, 0.0, 0.0, ERROR, CHANGES),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_a_call_changed_is_read_with_its_event(event: e.Event) -> None:
    (recorded,), _ = read_entries(write([event]), CODEC)
    assert recorded.changes == {'odd "key"': (1, 2), "$set": "x"}
    assert list(recorded.removed) == ["gone", 'g"one']
    view = Context({"gone": 1, "kept": 2, "$set": 3})
    recorded.apply(view)
    assert dict(view) == {"kept": 2, "$set": "x", 'odd "key"': (1, 2)}


def test_nothing_changed_is_no_text() -> None:
    assert changes_text({}, []) == ""
    assert changes_text({}, ["a"]) == ',"removed":["a"]'
    assert changes_text({"a": "1"}, []) == ',"changes":[["a",1]]'


def test_the_first_event_has_the_version_the_contexts_class_and_the_input() -> None:
    encoded = start_text("app:Order", changes_text({"total": "7"}, ()), '2 "beta"')
    (recorded,), _ = read_entries(write([e.SagaStarted("s", "id", 0.0, encoded)]), CODEC)
    assert recorded.more == {"version": '2 "beta"', "context": "app:Order"}
    assert recorded.changes == {"total": 7}


def test_a_step_of_a_block_says_what_it_calls() -> None:
    (recorded,), _ = read_entries(write([e.StepStarted("a", 1, 0.0, ',"task":{"function":"app:pay"}')]), CODEC)
    assert recorded.more == {"task": {"function": "app:pay"}}
    assert recorded.event == e.StepStarted("a", 1, 0.0)


# -- errors -------------------------------------------------------------------------------------------------------------


def test_an_error_is_stored_once_and_read_as_one() -> None:
    error, other = ValueError("no stock"), ValueError("no stock")
    events = [
        e.StepFailed("a", 1, 0.0, 0.0, error),
        e.SagaCompensating("a", error, 0.0),
        e.CompensationFailed("b", 1, 0.0, 0.0, other),
        e.StepTimedOut("c", 1, 0.0, 0.0, error),
    ]
    written = write(events)
    payloads = [json.loads(entry.payload) for entry in written]
    assert [payload.get("error_at") for payload in payloads] == [None, 1, None, 1]
    assert ["error" in payload for payload in payloads] == [True, False, True, False]
    recorded, errors = read_entries(written, CODEC)
    read = [one.event.error for one in recorded]  # type: ignore[union-attr]
    assert read[0] is read[1] is read[3]
    assert read[2] is not read[0]
    assert errors == {id(read[0]): (read[0], 1), id(read[2]): (read[2], 3)}


def test_an_execution_that_fails_stores_its_error_once() -> None:
    def fail() -> None:
        raise ConnectionError("bank")

    store = MemoryStore()
    saga = Saga("s", store=store).add_task(step(str, lambda: None, name="a")).add_task(step(fail))
    assert saga.try_execute(saga_id="x").status is Status.COMPENSATED
    assert sum("bank" in entry.payload for entry in store.journal("x")) == 1
    found = {entry.kind: details for entry, details in zip(store.journal("x"), details_of(store.journal("x")), strict=True)}
    assert found["SagaCompensating"]["error"] == found["StepFailed"]["error"]


def test_what_is_encoded_with_an_event_that_is_never_stored_is_never_stored() -> None:
    for kind in (e.CompensationFailed, e.StepFailed, e.StepTimedOut):
        lost = e.StepSucceeded("a", 1, 0.0, 0.1, None, ',"result":null,"changes":[["paid",true]]')
        lost = kind("b", 1, 0.0, 0.1, ValueError())  # type: ignore[assignment]  # which may well have its address
        assert "paid" not in write([lost])[0].payload


def test_an_error_that_an_earlier_commit_has_is_not_stored_again() -> None:
    error, errors = ValueError(), {}  # type: ignore[var-annotated]
    write([e.StepFailed("a", 1, 0.0, 0.0, error)], 4, errors)
    (entry,) = write([e.SagaCompensating("a", error, 0.0)], 5, errors)
    assert json.loads(entry.payload) == {"error_at": 5}
    assert errors == {id(error): (error, 5)}


def test_who_goes_on_with_a_journal_stores_none_of_its_errors_again() -> None:
    written = write([e.SagaCompleted(0.0), e.StepFailed("a", 1, 0.0, 0.0, ValueError())])
    recorded, errors = read_entries(written, CODEC)
    (entry,) = write([e.SagaCompensating("a", recorded[1].event.error, 0.0)], 2, errors)  # type: ignore[union-attr]
    assert json.loads(entry.payload) == {"error_at": 2}
    again, _ = read_entries([*written, entry], CODEC)
    assert again[2].event.error is again[1].event.error  # type: ignore[union-attr]


# -- other versions -----------------------------------------------------------------------------------------------------


def test_the_first_entry_says_the_format() -> None:
    written = write([e.SagaStarted("s", "id", 0.0), e.StepStarted("a", 1, 0.0)])
    assert [json.loads(entry.payload).get("format") for entry in written] == [FORMAT, None]


def test_a_later_format_is_refused_by_number() -> None:
    (entry,) = write([e.SagaStarted("s", "id", 0.0)])
    later = entry._replace(payload=entry.payload.replace(f'"format":{FORMAT}', f'"format":{FORMAT + 1}'))
    assert later != entry
    with pytest.raises(
        EncodingError, match=r"^entry 1 says that a later version of this package wrote the journal; upgrade it$"
    ):
        read_entries([later], CODEC)


def test_a_journal_without_a_format_is_read() -> None:
    (recorded,), _ = read_entries([Entry(1, "SagaStarted", None, '{"saga":"s","saga_id":"id"}', 0.0)], CODEC)
    assert recorded.event == e.SagaStarted("s", "id", 0.0)


def test_an_earlier_format_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    written = write([e.SagaStarted("s", "id", 0.0)])
    monkeypatch.setattr(entries, "FORMAT", FORMAT + 1)
    (recorded,), _ = read_entries(written, CODEC)
    assert recorded.event == e.SagaStarted("s", "id", 0.0)
    assert recorded.more == {}


def test_a_journal_with_a_gap_is_refused_by_the_number_that_is_missing() -> None:
    first, second, third = write([e.SagaStarted("s", "x", 0.0), e.StepStarted("a", 1, 1.0), e.SagaCompleted(2.0)])
    assert len(read_entries([first, second, third], CODEC)[0]) == 3
    with pytest.raises(EncodingError, match=r"^entry 2 of the journal is missing$"):
        read_entries([first, third], CODEC)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(
        EncodingError, match=r"^entry 1 is a 'StepDreamt', which this version does not know; upgrade the package$"
    ):
        read_entries([Entry(1, "StepDreamt", "a", "{}", 0.0)], CODEC)


# -- to look at ---------------------------------------------------------------------------------------------------------


def test_details_show_values_as_they_are_stored_and_each_error_where_it_matters() -> None:
    error = ValueError("no stock")
    written = write(
        [
            e.StepSucceeded("a", 1, 0.0, 0.5, None, f',"result":{CODEC.encode((1,))},"changes":[["k",1]],"removed":["l"]'),
            e.StepFailed("b", 1, 0.0, 0.0, error),
            e.SagaCompensating("b", error, 0.0),
        ]
    )
    first, second, third = details_of(written)
    assert first == {"attempt": 1, "elapsed": 0.5, "result": {"$tuple": [1]}, "changes": {"k": 1}, "removed": ["l"]}
    assert third == {"error": second["error"]}
    assert second["error"]["text"] == "no stock"


A = ("a", 1, 0.0)
RECOVERED = e.SagaRecovered("me", 2, 0.0)
LOST = e.StepFailed(*A, 0.0, ERROR, in_doubt=True)


@pytest.mark.parametrize(
    ("events", "recoveries", "progress"),
    [
        ([], 1, False),
        ([e.SagaStarted("s", "id", 0.0), e.StepStarted(*A)], 1, False),
        ([e.StepSucceeded(*A, 0.0, None), RECOVERED], 1, False),
        ([e.StepSucceeded(*A, 0.0, None), RECOVERED], 2, True),
        ([RECOVERED, e.StepSucceeded(*A, 0.0, None)], 1, True),
        ([e.StepSucceeded(*A, 0.0, None), RECOVERED, LOST, RECOVERED, LOST], 2, False),
        ([e.StepSucceeded(*A, 0.0, None), RECOVERED, LOST, RECOVERED, LOST], 3, True),
        ([RECOVERED, e.StepFailed(*A, 0.0, ERROR)], 1, True),
        ([RECOVERED, LOST], 1, False),
        ([RECOVERED, e.StepTimedOut(*A, 0.0, ERROR)], 1, False),
        ([RECOVERED, e.StepSkipped("a", 0.0)], 1, True),
        ([RECOVERED, e.CompensationSucceeded(*A, 0.0)], 1, True),
        ([RECOVERED, e.CompensationFailed(*A, 0.0, ERROR)], 1, True),
        ([RECOVERED, e.CompensationTimedOut(*A, 0.0, ERROR)], 1, False),
        ([RECOVERED, e.CompensationStarted(*A)], 1, False),
        ([RECOVERED, e.SagaCompensating("a", ERROR, 0.0)], 1, False),
        ([RECOVERED, e.OperatorActed("resume", None, "me", "", 0.0)], 1, True),
    ],
    ids=str,
)
def test_progress_is_an_outcome_since_so_many_recoveries(events: list[e.Event], recoveries: int, progress: bool) -> None:
    assert made_progress(write([with_result(event) for event in events]), recoveries) is progress


# -- messages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [NAME, None])
def test_an_action_is_read_as_it_was_posted(step: str | None) -> None:
    message = read_message(action_message("skip", step, 'A "nn"', "because"), CODEC, NAME)
    assert message(7.0) == e.OperatorActed("skip", step, 'A "nn"', "because", 7.0)


@pytest.mark.parametrize("value", [None, "x", (1, Decimal("1.10")), {"signal": 1}], ids=repr)
def test_a_signal_is_read_as_it_was_posted(value: Any) -> None:
    message = read_message(signal_message(NAME, value, CODEC, MemoryStore(), NAME), CODEC, NAME)
    assert message(7.0) == e.SignalReceived(NAME, value, 7.0)
    said = read_message(signal_message(NAME, value, CODEC, MemoryStore(), NAME, None, 'A "nn"', "because"), CODEC, NAME)
    assert said(7.0) == e.SignalReceived(NAME, value, 7.0, None, 'A "nn"', "because")


@pytest.mark.parametrize("said", [{"who": 7}, {"who": "ann", "why": ["x"]}])
def test_a_signal_of_nobody_that_can_be_told_is_refused(said: dict[str, Any]) -> None:
    body = json.dumps(json.loads(signal_message(NAME, 1, CODEC, MemoryStore(), NAME)) | said)
    assert isinstance(read_message(body, CODEC, NAME)(7.0), e.MessageRefused)


def test_a_signal_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(EncodingError, match="the value of signal 'go'"):
        signal_message("go", object(), CODEC, MemoryStore(), NAME)
