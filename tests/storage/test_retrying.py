"""What is tried again after a fault, for how long, and what is taken for committed."""

from __future__ import annotations

import pytest

from saga.storage import MemoryStore, retrying
from saga.storage.retrying import Patience, has_entries, is_as_appended, is_as_created


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def pauses(monkeypatch):
    """The seconds waited between attempts, on a clock that goes on by nothing else."""
    waited: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", waited.append)
    monkeypatch.setattr(retrying, "clock", lambda: 1000.0 + sum(waited))
    return waited


def test_attempts_follow_at_growing_intervals_until_patience_ends(pauses):
    patience = Patience(3.0)
    while not patience.ends():
        patience.wait()
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5, 0.5]
    assert sum(pauses) <= 3.0 < sum(pauses) + 0.5


def test_without_patience_nothing_is_tried_again(pauses):
    assert Patience(0.0).ends()


def test_patience_counts_from_the_first_fault(pauses):
    patience = Patience(0.1)
    pauses.append(60.0)  # the first attempt took this long
    assert not patience.ends()
    pauses.append(0.09)
    assert patience.ends()


@pytest.mark.parametrize(
    ("changes", "same"), [({}, True), ({"owner": "b"}, False), ({"epoch": 2}, False), ({"digest": "other"}, False)]
)
def test_an_execution_is_taken_for_the_one_that_was_created(stored, store, changes, same):
    stored.create(store, "x")
    row = store.get("x")._replace(**changes)
    assert is_as_created(row, stored.new("x"), "a") is same


@pytest.mark.parametrize(
    ("status", "release", "changes", "same"),
    [
        (None, False, {}, True),
        ("running", False, {}, True),
        ("stuck", False, {}, False),
        ("stuck", False, {"status": "stuck"}, True),
        (None, True, {}, False),
        (None, True, {"owner": None}, True),
        (None, False, {"owner": None}, False),
        (None, False, {"owner": "b"}, False),
        (None, False, {"epoch": 2}, False),
    ],
)
def test_a_row_is_taken_for_what_an_append_left(stored, store, status, release, changes, same):
    lease = stored.create(store, "x")
    assert is_as_appended(store.get("x")._replace(**changes), lease, status, release) is same


def test_what_was_purged_is_not_as_it_was_appended(stored, store):
    assert not is_as_appended(None, stored.create(store, "x"), None, False)


def test_a_journal_has_the_very_entries_that_were_appended(stored):
    journal = stored.entries(1, 2, 3)
    assert has_entries(journal, stored.entries(3, 2))
    assert has_entries(journal, [])
    assert not has_entries(journal, stored.entries(3, 4))
    assert not has_entries(journal, [stored.entry(2, kind="Other")])
