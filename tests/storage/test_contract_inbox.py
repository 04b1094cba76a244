"""What every store does: messages arrive once, in order, and leave with the entries that deal with them."""

from __future__ import annotations

import json

import pytest

from saga.errors import StorageError, UnknownExecutionError
from tests.storage.contract import at_once, ids


def test_messages_are_read_in_the_order_they_came(store, stored):
    stored.create(store, "x")
    stored.create(store, "y")
    for number in range(5):
        store.post("x", f'"{number} ü"')
        store.post("y", "{}")
    messages = store.inbox("x")
    assert [message.body for message in messages] == [f'"{n} ü"' for n in range(5)]
    assert {message.saga_id for message in messages} == {"x"}
    assert [message.id for message in messages] == sorted({message.id for message in messages})


def test_a_message_to_nobody_is_an_error(store):
    for saga_id in ("nobody", "a\0b", "\ud800"):
        with pytest.raises(UnknownExecutionError, match="no execution"):
            store.post(saga_id, "{}")
        assert store.inbox(saga_id) == []


def test_a_message_makes_an_execution_due_now(store, stored):
    store.release(stored.create(store, "x"), delay=60.0)
    assert store.claim("b", 60.0) == []
    store.post("x", "{}")
    assert ids(store.claim("b", 60.0)) == ["x"]


def test_a_message_leaves_a_live_lease_alone(store, stored):
    stored.create(store, "x")
    store.post("x", "{}")
    assert store.claim("b", 60.0) == []
    assert store.claim("b", 60.0, names=["order"]) == []


def test_taken_messages_leave_with_the_entries_that_deal_with_them(store, stored):
    lease = stored.create(store, "x")
    stored.create(store, "y")
    for body in ("1", "2", "3"):
        store.post("x", body)
    store.post("y", "4")
    first, second, third = store.inbox("x")
    [foreign] = store.inbox("y")
    store.append(lease, stored.entries(2), taken=[first.id, foreign.id, 10**9])
    assert store.inbox("x") == [second, third]
    assert store.inbox("y") == [foreign]
    store.append(lease, [], taken=[third.id])
    assert store.inbox("x") == [second]
    with pytest.raises(StorageError, match="already"):
        store.append(lease, stored.entries(2), taken=[second.id])
    assert store.inbox("x") == [second]
    store.append(lease, stored.entries(3, 4), taken=[second.id], status="completed", release=True)
    assert store.inbox("x") == []


def test_messages_of_many_threads_all_arrive(store, stored):
    stored.create(store, "x")
    at_once(8, lambda n: [store.post("x", f"[{n}, {m}]") for m in range(5)])
    bodies = [json.loads(message.body) for message in store.inbox("x")]
    assert sorted(bodies) == [[n, m] for n in range(8) for m in range(5)]
    for number in range(8):
        assert [m for n, m in bodies if n == number] == [0, 1, 2, 3, 4]


def test_several_executions_are_asked_for_mail_at_once(store, stored):
    ids = [f"x{number}" for number in range(600)]
    for saga_id in (*ids[:4], "other"):
        stored.create(store, saga_id)
    for saga_id in ("x1", "x1", "x3", "other"):
        store.post(saga_id, "hello")
    assert store.with_mail([*ids, "nobody", "", "\0", "\ud800"]) == {"x1", "x3"}
    assert store.with_mail(["x0", "x2"]) == store.with_mail([]) == set()
