"""What every store does, and all of them pass: executions are created, and are there when the store is opened again."""

from __future__ import annotations

import time

import pytest

from saga.errors import StorageError
from saga.storage import Beat, Wanted
from tests.storage.contract import at_once, ids

# --- create


def test_a_created_execution_is_read_back_as_it_was_given(store, stored):
    before = store.now()
    new = stored.new("order-1", name="place-order", version="2.1", fingerprint="abc", digest="xyz")
    assert store.create(new, stored.entries(1, 2), "host:1", 30.0) is None
    row = store.get("order-1")
    assert (row.saga_id, row.name, row.version, row.fingerprint, row.digest) == ("order-1", "place-order", "2.1", "abc", "xyz")
    assert (row.status, row.owner, row.epoch, row.recoveries) == ("running", "host:1", 1, 0)
    assert before - 0.01 <= row.created <= store.now() + 0.01
    assert row.updated == row.created
    assert row.lease_until == pytest.approx(row.created + 30, abs=0.1)
    assert store.journal("order-1") == stored.entries(1, 2)


def test_an_unknown_execution_has_no_row_no_journal_and_no_inbox(store):
    for saga_id in ("nobody", "", "a\0b", "\ud800", "x" * 201):
        assert store.get(saga_id) is None
        assert store.journal(saga_id) == []
        assert store.inbox(saga_id) == []
        assert store.claim("me", 1.0, saga_id=saga_id) == []


def test_a_taken_id_returns_the_execution_that_has_it_and_stores_nothing(store, stored):
    stored.create(store, "x", owner="first", entries=2)
    existing = store.create(stored.new("x", name="other"), stored.entries(1, 2, 3), "second", 60.0)
    assert existing == store.get("x")
    assert (existing.name, existing.owner) == ("order", "first")
    assert len(store.journal("x")) == 2


def test_of_many_that_create_the_same_id_exactly_one_does(store, stored):
    outcomes = at_once(16, lambda n: store.create(stored.new("same", digest=f"d{n}"), stored.entries(1), f"owner-{n}", 60.0))
    assert outcomes.count(None) == 1
    winner = store.get("same")
    assert winner.owner == f"owner-{outcomes.index(None)}"
    assert all(outcome is None or outcome.digest == winner.digest for outcome in outcomes)
    assert len(store.journal("same")) == 1


def test_ids_differ_by_case_accents_and_trailing_spaces(store, stored):
    keys = ["a", "A", "a ", "ä", "á", "日本", "😀"]
    for key in keys:
        stored.create(store, key)
    assert all(store.get(key).saga_id == key for key in keys)
    assert sorted(ids(store.list().executions)) == sorted(keys)
    assert ids(store.list(name="order ").executions) == []
    assert ids(store.list(name="Order").executions) == []


def test_an_id_may_have_200_characters(store, stored):
    longest = "ü" * 200
    lease = stored.create(store, longest)
    store.append(lease, stored.entries(2))
    assert len(store.journal(longest)) == 2


@pytest.mark.parametrize("saga_id", ["", "a\0b", "x" * 201, "\ud800", 7])
def test_an_id_that_no_database_keeps_is_refused(store, stored, saga_id):
    with pytest.raises(StorageError, match="saga_id must"):
        store.create(stored.new(saga_id), [], "me", 60.0)
    assert store.list().executions == ()


def test_names_and_owners_are_checked_like_ids(store, stored):
    with pytest.raises(StorageError, match="name must not be empty"):
        store.create(stored.new("x", name=""), [], "me", 60.0)
    with pytest.raises(StorageError, match="owner must not contain NUL"):
        store.create(stored.new("x"), [], "m\0e", 60.0)
    with pytest.raises(StorageError, match="owner must not be empty"):
        store.claim("", 60.0)
    with pytest.raises(ValueError, match="'asleep'"):
        store.create(stored.new("x", status="asleep"), [], "me", 60.0)
    store.create(stored.new("x", version="", fingerprint="", digest=""), [], "me", 60.0)


def test_entries_that_collide_among_themselves_leave_nothing_created(store, stored):
    with pytest.raises(StorageError):
        store.create(stored.new("x"), stored.entries(1, 1), "me", 60.0)
    assert store.get("x") is None
    assert store.journal("x") == []


# --- close, open again


def test_a_closed_store_says_so(store, stored):
    lease = stored.create(store, "x")
    with store as same:
        assert same is store
    for use in (
        lambda: store.get("x"),
        lambda: store.journal("x"),
        lambda: store.inbox("x"),
        lambda: store.list(),
        lambda: store.append(lease, stored.entries(2)),
        lambda: store.create(stored.new("y"), [], "a", 1.0),
        lambda: store.claim("b", 1.0),
        lambda: store.claim("b", 1.0, wanted=[Wanted("order")]),
        lambda: store.renew("a", [lease], 1.0),
        lambda: store.release(lease),
        lambda: store.post("x", "{}"),
        lambda: store.purge(updated_before=0.0, status=["stuck"]),
    ):
        with pytest.raises(StorageError, match="closed"):
            use()
    store.close()


def test_a_store_opened_again_has_everything(opener, stored):
    if not opener.again:
        pytest.skip("what is in memory ends with it")
    with opener() as first:
        lease = stored.create(first, "x", entries=2)
        first.post("x", '"hello"')
        first.append(lease, stored.entries(3), status="compensating")
        row, inbox = first.get("x"), first.inbox("x")
    second = opener()
    assert second.get("x") == row
    assert second.journal("x") == stored.entries(1, 2, 3)
    assert second.inbox("x") == inbox
    assert second.list().executions == (row,)
    second.append(lease, stored.entries(4), taken=[inbox[0].id])


def test_two_that_have_the_same_store_open_see_each_other(opener, stored):
    if not opener.again:
        pytest.skip("memory belongs to one object")
    one, two = opener(), opener()
    lease = stored.create(one, "x")
    two.append(lease, stored.entries(2))
    two.post("x", "{}")
    assert one.journal("x") == stored.entries(1, 2)
    assert one.renew("a", [lease], 60.0) == [Beat("x", True)]


def test_the_clock_goes_on(store):
    first = store.now()
    time.sleep(0.01)
    assert first < store.now() < first + 60
    assert abs(first - time.time()) < 60
