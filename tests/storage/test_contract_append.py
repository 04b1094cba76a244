"""What every store does: a journal grows by whole appends, and only for who holds the lease."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from contextlib import suppress

import pytest

from saga.errors import LeaseLostError, StorageError
from saga.events import Status
from saga.storage import Append, Entry, Lease
from tests.storage.contract import at_once


def test_entries_are_read_in_the_order_of_their_seq(store, stored):
    lease = stored.create(store, "x", entries=0)
    store.append(lease, stored.entries(1))
    store.append(lease, stored.entries(2, 3))
    store.append(lease, stored.entries(*range(4, 13)))
    assert store.journal("x") == stored.entries(*range(1, 13))


def test_an_entry_is_read_back_as_it_was_given(store, stored):
    text = json.dumps({"ü": "日本 😀 \u2028 ' \" \\ %s ? :a", "nul": "\0"}, ensure_ascii=False).replace("\0", "")
    entries = [
        Entry(1, "SagaStarted", None, "{}", 0.1 + 0.2),
        Entry(2, "StepFailed", "naïve 'step'", text, 1700000000.123456),
        Entry(3, "StepFailed", "", '"\\u0000"', math.pi * 1e9),
    ]
    lease = stored.create(store, "x", entries=0)
    store.append(lease, entries)
    assert store.journal("x") == entries


def test_a_payload_may_have_megabytes(store, stored):
    large = json.dumps("ü" * 1_000_000, ensure_ascii=False)
    lease = stored.create(store, "x", entries=0)
    store.append(lease, [stored.entry(1, payload=large), stored.entry(2)])
    store.append(lease, [stored.entry(3, payload=large)])
    assert [entry.payload == large for entry in store.journal("x")] == [True, False, True]


@pytest.mark.parametrize("count", [1, 2])
def test_a_seq_that_is_stored_already_is_refused_with_its_whole_batch(store, stored, count):
    lease = stored.create(store, "x", entries=2)
    with pytest.raises(StorageError, match="already") as caught:
        store.append(lease, [stored.entry(3 - n, kind="Other") for n in range(count)] + [stored.entry(2)], status="stuck")
    assert not isinstance(caught.value, LeaseLostError)
    assert store.journal("x") == stored.entries(1, 2)
    assert store.get("x").status == "running"
    store.append(lease, stored.entries(3))


def test_a_single_entry_with_a_stored_seq_is_refused(store, stored):
    lease = stored.create(store, "x", entries=2)
    with pytest.raises(StorageError, match="already"):
        store.append(lease, stored.entries(2))


def test_each_of_several_executions_is_appended_to(store, stored):
    a, b, c = (stored.create(store, saga_id) for saga_id in "abc")
    store.post("c", "1")
    [message] = store.inbox("c")
    appends = [
        Append(a, stored.entries(2, 3), "completed", True),
        Append(b, stored.entries(2)),
        Append(c, stored.entries(2), "compensating", taken=[message.id]),
    ]
    for one, done in zip(appends, store.append_each(appends), strict=True):
        if not done:  # not together with others, then
            store.append(one.lease, one.entries, status=one.status, release=one.release, taken=one.taken)
    assert [store.journal(saga_id) for saga_id in "abc"] == [stored.entries(1, 2, 3), *[stored.entries(1, 2)] * 2]
    rows = [store.get(saga_id) for saga_id in "abc"]
    assert [(row.status, row.owner) for row in rows] == [("completed", None), ("running", "a"), ("compensating", "a")]
    assert rows[0].lease_until == 0.0
    assert store.inbox("c") == []


def test_of_several_appends_those_that_cannot_be_stored_hurt_no_other(store, stored):
    a, b, c = (stored.create(store, saga_id, lease=0.0) for saga_id in "abc")
    STALE["another owner"](store, b)
    before = store.get("b"), store.journal("b")
    appends = [Append(a, stored.entries(2, 3), "completed", True), Append(b, stored.entries(2), "stuck", True)]
    appends.append(Append(c, stored.entries(2)))
    for one, done in zip(appends, store.append_each(appends), strict=True):
        if not done:
            with suppress(LeaseLostError):
                store.append(one.lease, one.entries, status=one.status, release=one.release)
                assert one.lease is not b
    assert (store.get("b"), store.journal("b")) == before
    assert [len(store.journal(saga_id)) for saga_id in "ac"] == [3, 2]
    assert store.get("a").status == "completed"


def test_of_several_appends_one_with_a_stored_seq_is_not_stored(store, stored):
    a, b = (stored.create(store, saga_id) for saga_id in "ab")
    stored_well = store.append_each([Append(a, stored.entries(2), "stuck", True), Append(b, stored.entries(2, 1), "stuck")])
    assert not stored_well[1]
    assert store.journal("b") == stored.entries(1)
    assert store.get("b").status == "running"
    assert len(store.journal("a")) == (2 if stored_well[0] else 1)


def test_several_appends_with_a_status_that_does_not_exist_store_nothing(store, stored):
    a, b = (stored.create(store, saga_id) for saga_id in "ab")
    with pytest.raises(ValueError, match="fine"):
        store.append_each([Append(b, stored.entries(2), "fine"), Append(a, stored.entries(2))])
    assert store.journal("a") == store.journal("b") == stored.entries(1)


def test_the_journals_of_several_executions_are_read_at_once(store, stored):
    ids = [f"x{number}" for number in range(600)]
    for number, saga_id in enumerate(ids[:5]):
        stored.create(store, saga_id, entries=number)
    stored.create(store, "other", entries=3)
    wanted = [*ids[::-1], "nobody", "", "\0", "\ud800", "x" * 300]
    found = store.journals([*wanted, "x4"])
    assert set(found) == set(wanted)
    assert {saga_id: len(entries) for saga_id, entries in found.items() if entries} == {"x1": 1, "x2": 2, "x3": 3, "x4": 4}
    assert found["x4"] == store.journal("x4") == stored.entries(1, 2, 3, 4)
    assert store.journals([]) == {}


STALE = {
    "an earlier epoch": lambda store, lease: store.claim("a", 60.0, saga_id=lease.saga_id),
    "another owner": lambda store, lease: store.claim("b", 60.0, saga_id=lease.saga_id),
    "a lease given back": lambda store, lease: store.release(lease),
    "a lease given back with an append": lambda store, lease: store.append(lease, [], release=True),
    "a purged execution": lambda store, lease: (
        store.append(lease, [], status="stuck", release=True),
        store.purge(updated_before=store.now() + 1, status=["stuck"]),
    ),
}


@pytest.mark.parametrize("why", STALE)
def test_who_lost_the_lease_stores_nothing(store, stored, why):
    lease = stored.create(store, "x", lease=0.0)
    store.post("x", "1")
    [message] = store.inbox("x")
    STALE[why](store, lease)
    row, journal, inbox = store.get("x"), store.journal("x"), store.inbox("x")
    for entries in ([], stored.entries(2), stored.entries(2, 3)):
        for more in ({}, {"status": "completed"}, {"status": "stuck", "release": True}, {"taken": [message.id]}):
            with pytest.raises(LeaseLostError, match="no longer held"):
                store.append(lease, entries, **more)
    assert store.get("x") == row
    assert store.journal("x") == journal
    assert store.inbox("x") == inbox


def test_a_lease_of_an_execution_that_never_was_is_lost(store, stored):
    with pytest.raises(LeaseLostError):
        store.append(Lease("nobody", "a", 1), stored.entries(1))
    assert store.journal("nobody") == []


def test_a_lease_that_ran_out_but_was_not_taken_still_holds(store, stored):
    lease = stored.create(store, "x", lease=-5.0)
    store.append(lease, stored.entries(2))
    assert len(store.journal("x")) == 2


def test_the_status_changes_with_the_entries_or_without(store, stored):
    lease = stored.create(store, "x")
    before = store.get("x").updated
    time.sleep(0.005)
    store.append(lease, stored.entries(2), status="compensating")
    row = store.get("x")
    assert (row.status, row.owner, row.epoch) == ("compensating", "a", 1)
    assert row.updated > before
    store.append(lease, [], status="stuck")
    assert store.get("x").status == "stuck"
    store.append(lease, [], status=Status.RUNNING)
    assert type(store.get("x").status) is str
    with pytest.raises(ValueError, match="'lost'"):
        store.append(lease, stored.entries(3), status="lost")
    assert len(store.journal("x")) == 2


def test_the_last_append_gives_the_lease_back(store, stored):
    lease = stored.create(store, "x")
    store.append(lease, stored.entries(2, 3), status="completed", release=True)
    row = store.get("x")
    assert (row.status, row.owner, row.epoch) == ("completed", None, 1)
    assert row.lease_until <= store.now()
    assert len(store.journal("x")) == 3


def test_an_append_may_only_check_the_lease(store, stored):
    lease = stored.create(store, "x")
    row = store.get("x")
    store.append(lease, [])
    assert store.get("x") == row


def test_threads_append_to_their_own_executions_at_once(store, stored):
    leases = [stored.create(store, f"x{n}", entries=0) for n in range(64)]

    def work(number: int) -> None:
        for seq in range(1, 11, 2):
            store.append(leases[number], stored.entries(seq))
            store.append(leases[number], stored.entries(seq + 1), status="compensating" if seq == 5 else None)

    at_once(64, work)
    for lease in leases:
        assert store.journal(lease.saga_id) == stored.entries(*range(1, 11))
        assert store.get(lease.saga_id).status == "compensating"


def test_of_many_that_append_the_same_seq_exactly_one_does(store, stored):
    lease = stored.create(store, "x", entries=0)

    def work(number: int) -> bool | None:
        try:
            store.append(lease, [stored.entry(1, kind=f"Kind{number}")])
        except LeaseLostError:
            return None
        except StorageError:
            return False
        return True

    outcomes = at_once(16, work)
    assert (outcomes.count(True), outcomes.count(False)) == (1, 15)
    assert [entry.kind for entry in store.journal("x")] == [f"Kind{outcomes.index(True)}"]


def test_an_owner_and_the_one_that_takes_over_never_both_write(store, stored):
    lease = stored.create(store, "x", lease=0.0, entries=0)
    lost, over = threading.Event(), threading.Event()
    written = []

    def owner() -> None:
        try:
            for seq in itertools.count(1):
                store.append(lease, stored.entries(seq))
                written.append(seq)
                if over.is_set():
                    return
        except LeaseLostError:
            lost.set()

    def successor() -> list[Entry]:
        try:
            while len(written) < 5:
                time.sleep(0.001)
            # A claim passes over an execution that is being written to at that moment.
            deadline = time.monotonic() + 10
            while not store.claim("b", 60.0):
                assert time.monotonic() < deadline
            journal = store.journal("x")
            assert lost.wait(10)
            return journal
        finally:
            over.set()

    _, seen = at_once(2, lambda n: successor() if n else owner())
    assert store.journal("x") == seen
    assert len(written) == len(seen)
