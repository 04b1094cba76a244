"""Entries of a journal: each error is stored once, and a journal that a later version wrote is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from saga import Saga, SagaResult, Status, step
from saga.definition import Definition
from saga.durable.codec import Codec
from saga.durable.entries import FORMAT, Errors, read_entries, write_entries
from saga.durable.rebuild import rebuild
from saga.errors import EncodingError
from saga.events import SagaCompensating, SagaStuck, StepFailed
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, Store
from tests.kit import Watched, expired, told

ERRORS = [("StepFailed b", "error"), ("SagaCompensating b", "error_at"), ("CompensationFailed a", "error")]


def failing() -> Saga:
    """A saga of a step whose undo fails, and one that fails."""

    def fail() -> None:
        raise ValueError("no stock")

    def stay() -> None:
        raise KeyError("no way back")

    return Saga("s").add_task(step(lambda: 1, stay, name="a")).add_task(step(fail, name="b"))


def where_errors_are(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return the entries that have an error, and how."""
    payloads = [(told(entry), json.loads(entry.payload)) for entry in entries]
    return [(name, key) for name, payload in payloads for key in ("error", "error_at") if key in payload]


def test_an_error_is_stored_once_and_others_say_where(store: Store) -> None:
    failing().try_execute(saga_id="x", store=store)
    entries = store.journal("x")
    assert where_errors_are(entries) == ERRORS
    failed, gave_up = (next(e for e in entries if told(e) == name) for name, _ in ERRORS[:2])
    assert json.loads(gave_up.payload)["error_at"] == failed.seq


def test_an_error_is_stored_once_though_its_entries_are_written_one_by_one() -> None:
    error, codec = ValueError("no stock"), Codec()
    events = [StepFailed("a", 1, 1.0, 0.5, error), SagaCompensating("a", error, 1.0), SagaCompensating("a", error, 2.0)]
    errors: Errors = {}
    entries = [entry for number, event in enumerate(events) for entry in write_entries([event], number, errors, codec)]
    assert [json.loads(entry.payload).get("error_at") for entry in entries] == [None, 1, 1]


def test_an_error_is_stored_once_though_another_process_has_read_it() -> None:
    codec = Codec()
    entries = write_entries([StepFailed("a", 1, 1.0, 0.5, ValueError("no stock"))], 0, {}, codec)
    (read,), errors = read_entries(entries, codec)
    (entry,) = write_entries([SagaCompensating("a", read.event.error, 2.0)], 1, errors, codec)  # type: ignore[union-attr]
    assert json.loads(entry.payload)["error_at"] == 1
    (_, again), _ = read_entries([*entries, entry], codec)
    assert str(again.event.error) == "ValueError: no stock"  # type: ignore[union-attr]


def test_an_error_is_stored_once_and_read_as_one(store: Store) -> None:
    saga = failing()
    saga.try_execute(saga_id="x", store=store)
    result = saga.load("x", store=store)
    assert result.error is result.history[1].error
    assert str(result.error) == "ValueError: no stock"


def test_an_error_is_shown_wherever_it_matters(store: Store) -> None:
    failing().try_execute(saga_id="x", store=store)
    shown = {f"{line.kind} {line.step}": line.details for line in Operations(store, "ann").show("x").journal}
    assert [shown[name]["error"]["text"] for name, _ in ERRORS] == ["no stock", "no stock", "'no way back'"]
    assert "error_at" not in shown["SagaCompensating b"]


# -- what this version cannot read ------------------------------------------------------------------------------------


def later(entry: Entry) -> Entry:
    """Return the first entry as a later version would write it."""
    payload = json.loads(entry.payload)
    assert payload["format"] == FORMAT
    return entry._replace(payload=json.dumps({**payload, "format": FORMAT + 1}))


def rebuilt(definition: Definition, store: Store, change: Callable[[Entry], Entry]) -> SagaResult:
    first, *rest = store.journal("x")
    row = store.get("x")
    assert row is not None
    return rebuild(definition, row, [change(first), *rest]).result()


def test_a_journal_of_a_later_version_is_not_read(store: Store) -> None:
    saga = failing()
    saga.try_execute(saga_id="x", store=store)
    assert rebuilt(saga.definition, store, lambda first: first).status is Status.STUCK
    with pytest.raises(EncodingError, match="entry 1 says that a later version of this package wrote the journal"):
        rebuilt(saga.definition, store, later)


def test_an_entry_of_a_later_version_is_not_read(store: Store) -> None:
    saga = failing()
    saga.try_execute(saga_id="x", store=store)
    with pytest.raises(EncodingError, match="entry 1 is a 'SagaDreamt', which this version does not know"):
        rebuilt(saga.definition, store, lambda first: first._replace(kind="SagaDreamt"))


def test_an_execution_that_a_later_version_began_is_left_to_it(store: Store) -> None:
    watched = Watched(MemoryStore())
    saga = failing()
    saga.try_execute(saga_id="x", store=watched)
    first = watched.writes[0]
    expired(store, [replace(first, entries=(later(first.entries[0]), *first.entries[1:]))])
    assert Recovery(store, [saga], backoff=3600.0).run_once() == []
    assert len(store.journal("x")) == len(first.entries)
    row = store.get("x")
    assert row is not None
    assert row.status == "running"
    assert all(entry.kind != SagaStuck.__name__ for entry in store.journal("x"))
