"""What every store does: messages arrive once, in order, and leave with the entries that deal with them."""

from __future__ import annotations

import json

import pytest

from saga.errors import ActionRefusedError, LeaseLostError, StorageError, UnknownExecutionError, UnreadMessagesError
from saga.storage import Append, Wanted
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


def test_a_message_is_taken_where_the_execution_has_a_status_that_it_is_meant_for(store, stored):
    lease = stored.create(store, "x")
    for number, (status, taken) in enumerate(
        [(["running", "paused"], True), (["submitted", "paused"], False), ([], False), (["running", "completed"], True)]
    ):
        if taken:
            store.post("x", f"{number}", status=status)
        else:
            with pytest.raises(ActionRefusedError, match=r"'x' is running by now"):
                store.post("x", f"{number}", status=status)
    assert [message.body for message in store.inbox("x")] == ["0", "3"]
    store.append(lease, [], taken=[message.id for message in store.inbox("x")])
    store.append(lease, stored.entries(2), status="compensating")
    with pytest.raises(ActionRefusedError, match=r"'x' is compensating by now"):
        store.post("x", "late", status=["running"])
    with pytest.raises(UnknownExecutionError):
        store.post("nobody", "{}", status=["running"])
    with pytest.raises(ValueError, match="no status"):
        store.post("x", "{}", status=["asleep"])
    store.append(lease, stored.entries(3), status="completed", release=True)
    with pytest.raises(ActionRefusedError, match="has ended"):  # whatever it is meant for
        store.post("x", "{}", status=["completed"])


def test_a_message_makes_an_execution_due_now(store, stored):
    store.release(stored.create(store, "x"), delay=60.0)
    assert store.claim("b", 60.0) == []
    store.post("x", "{}")
    assert ids(store.claim("b", 60.0)) == ["x"]


def test_a_message_leaves_a_live_lease_alone(store, stored):
    stored.create(store, "x")
    store.post("x", "{}")
    assert store.claim("b", 60.0) == []
    assert store.claim("b", 60.0, wanted=[Wanted("order")]) == []


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


# -- what nobody reads any more -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "compensated"])
def test_a_message_to_what_has_ended_is_refused(store, stored, status):
    lease = stored.create(store, "x")
    store.append(lease, stored.entries(2), status=status, release=True)
    before = store.get("x")
    with pytest.raises(ActionRefusedError, match=rf"execution 'x' has ended \({status}\): nobody reads"):
        store.post("x", "{}")
    assert store.inbox("x") == []
    assert store.get("x") == before


def test_a_message_to_what_is_stuck_waits(store, stored):
    lease = stored.create(store, "x")
    store.append(lease, stored.entries(2), status="stuck", release=True)
    store.post("x", "{}")
    assert len(store.inbox("x")) == 1


@pytest.mark.parametrize("status", ["completed", "compensated", "paused"])
def test_what_has_unread_messages_does_not_end(store, stored, status):
    lease = stored.create(store, "x")
    for body in ("1", "2"):
        store.post("x", body)
    first, second = store.inbox("x")
    before = store.get("x")
    for taken in ([], [first.id]):
        with pytest.raises(UnreadMessagesError, match="execution 'x' has messages that it has not read; nothing was stored"):
            store.append(lease, stored.entries(2), status=status, release=True, taken=taken)
        assert store.append_each([Append(lease, stored.entries(2), status, True, taken)]) == [False]
    assert (store.get("x"), len(store.inbox("x")), len(store.journal("x"))) == (before, 2, len(stored.entries(1)))
    store.append(lease, stored.entries(2), status="compensating")  # which is no end
    store.append(lease, stored.entries(3), status=status, release=True, taken=[first.id, second.id])
    assert store.get("x").status == status
    assert store.inbox("x") == []


def test_an_end_without_its_lease_is_no_matter_of_messages(store, stored):
    lease = stored.create(store, "x")
    store.post("x", "1")
    with pytest.raises(LeaseLostError):
        store.append(lease._replace(epoch=7), stored.entries(2), status="completed", release=True)


def test_one_with_messages_ends_beside_others_that_have_none(store, stored):
    leases = [stored.create(store, name) for name in "xyz"]
    store.post("y", "1")
    ends = [Append(lease, stored.entries(2), "completed", True) for lease in leases]
    stored_ = store.append_each(ends)
    assert not stored_[1]
    for one, is_stored in zip(ends, stored_, strict=True):
        if not is_stored and one.lease.saga_id != "y":
            store.append(one.lease, one.entries, status=one.status, release=one.release)
    assert [store.get(name).status for name in "xyz"] == ["completed", "running", "completed"]


def test_who_waits_is_due_now_where_a_message_came_first(store, stored):
    """Whatever the order of the two is: a message that came while it was given back is no reason to wait."""
    quiet, told = stored.create(store, "quiet"), stored.create(store, "told")
    store.post("told", "{}")
    for lease in (quiet, told):
        store.release(lease, delay=60.0, got_on=True)
    assert ids(store.claim("b", 60.0)) == ["told"]


def test_a_delay_after_a_failure_is_kept_whatever_came(store, stored):
    lease = stored.create(store, "x")
    store.post("x", "{}")
    store.release(lease, delay=60.0)
    assert store.claim("b", 60.0) == []


def test_of_messages_and_an_end_at_once_each_is_read_or_refused(store, stored):
    lease = stored.create(store, "x")
    accepted, refused, ended = [], [], []

    def post(number):
        try:
            store.post("x", str(number))
            accepted.append(number)
        except ActionRefusedError:
            refused.append(number)

    def end():
        for _ in range(1000):
            taken = [message.id for message in store.inbox("x")]
            try:
                store.append(lease, stored.entries(2), status="completed", release=True, taken=taken)
                ended.append(len(taken))
                return
            except UnreadMessagesError:
                pass

    at_once(7, lambda number: post(number) if number else end())
    assert ended == [len(accepted)]
    assert len(accepted) + len(refused) == 6
    assert store.inbox("x") == []
