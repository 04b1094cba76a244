"""Journals that a later version of the package wrote: they are not guessed at, and left to that version."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from saga import Saga, step
from saga.durable.entries import FORMAT
from saga.errors import EncodingError
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, Store
from tests.kit import Watched, expired


def of_a_later_version(first: Entry) -> Entry:
    payload = json.loads(first.payload)
    assert payload["format"] == FORMAT
    return first._replace(payload=json.dumps({**payload, "format": FORMAT + 1}))


def of_an_unknown_kind(first: Entry) -> Entry:
    return first._replace(kind="SagaDreamt")


def left(store: Store, change: Callable[[Entry], Entry] = lambda first: first) -> Saga:
    """Leave an execution in the store whose first entry is changed."""
    saga = Saga("s").add_task(step(lambda: 1, name="a"))
    watched = Watched(MemoryStore())
    saga.execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    begun = watched.writes[0]
    expired(store, [replace(begun, entries=(change(begun.entries[0]), *begun.entries[1:]))])
    return saga


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of_a_later_version, "entry 1 says that a later version of this package wrote the journal"),
        (of_an_unknown_kind, "entry 1 is a 'SagaDreamt', which this version does not know"),
    ],
)
def test_what_a_later_version_wrote_is_not_read(store: Store, change: Callable[[Entry], Entry], told: str) -> None:
    saga = left(store, change)
    with pytest.raises(EncodingError, match=told):
        saga.load("x", store=store)


def test_what_a_later_version_began_is_left_to_it(store: Store) -> None:
    saga = left(store, of_a_later_version)
    journal = store.journal("x")
    assert Recovery(store, [saga], backoff=3600.0).run_once() == []
    row = store.get("x")
    assert row is not None
    assert (row.status, row.owner, store.journal("x")) == ("running", None, journal)
    assert Recovery(store, [saga]).run_once() == []  # not yet


def test_what_this_version_began_is_read(store: Store) -> None:
    assert left(store).load("x", store=store).status == "running"
