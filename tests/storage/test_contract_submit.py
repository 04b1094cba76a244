"""What a store promises of executions that nobody has begun: storing many at once, and whose turn it is."""

from __future__ import annotations

import pytest

from saga import Saga, receive
from saga.errors import ActionRefusedError, StorageError
from saga.storage import Lease, NewExecution, Wanted
from saga.worker import Worker
from tests.storage.contract import at_once, flat, ids


def take(store, *wanted: Wanted, **more) -> list[str]:
    """Claim up to ten, by what fits these, or by whatever is there."""
    return ids(store.claim("w", 60.0, limit=10, wanted=wanted or None, **more))


def end(store, saga_id: str, status: str = "completed") -> None:
    row = store.get(saga_id)
    store.append(Lease(saga_id, row.owner, row.epoch), [], status=status, release=True)


def test_many_are_stored_at_once_and_taken_once_each(store, stored):
    stored.submit(store, *(f"x{n}" for n in range(300)))
    row = store.get("x7")
    assert (row.status, row.owner, row.epoch, row.started, row.recoveries) == ("submitted", None, 0, None, 0)
    assert [entry.seq for entry in store.journal("x299")] == [1]
    taken = flat([ids(store.claim("w", 60.0, limit=64)) for _ in range(6)])
    assert sorted(taken) == sorted(f"x{n}" for n in range(300))
    row = store.get("x7")
    assert (row.status, row.owner, row.epoch, row.recoveries) == ("submitted", "w", 1, 1)
    assert row.started is not None


def test_of_ids_that_are_taken_the_execution_that_has_them_is_returned(store, stored):
    stored.create(store, "old")
    new = [(stored.new(one, status="submitted", digest=one), stored.entries(1)) for one in ("a", "old", "b")]
    known = store.submit(new)
    assert [one and (one.saga_id, one.status) for one in known] == [None, ("old", "running"), None]
    assert store.get("old").digest == "d"
    assert len(store.journal("old")) == 1
    again = store.submit([*new, new[0]])
    assert ids(again) == ["a", "old", "b", "a"]


def test_the_same_id_twice_is_stored_once(store, stored):
    new = (stored.new("x", status="submitted"), stored.entries(1))
    first, second = store.submit([new, new])
    assert first is None
    assert second.saga_id == "x"
    assert len(store.journal("x")) == 1
    assert store.submit([]) == []


def test_all_first_entries_of_what_is_submitted_are_there(store, stored):
    new = [(stored.new(one, status="submitted"), stored.entries(1, 2)) for one in ("a", "b")]
    assert store.submit(new) == [None, None]
    assert [entry.seq for entry in store.journal("b")] == [1, 2]


def test_of_many_signals_at_once_one_starts_what_they_are_sent_to(opener):
    """As Temporal's signal-with-start: none of the signals is lost, whoever comes first."""
    stores = [opener() for _ in range(4)] if opener.again else [opener()] * 4
    saga = Saga("cart")
    for number in range(8):
        saga.add_task(receive("item", name=f"item {number}", accept=int))
    started = at_once(8, lambda n: saga.signal_or_start("x", "item", n, {"by": n}, store=stores[n % 4]).new)
    assert sorted(started) == [False] * 7 + [True]
    (result,) = Worker(stores[0], [saga]).run_once()
    assert sorted(result.results.values()) == list(range(8))
    with pytest.raises(ActionRefusedError, match="has ended"):
        saga.signal_or_start("x", "item", 9, store=stores[1])


def test_two_that_submit_the_same_ids_store_each_once(opener, stored):
    stores = [opener() for _ in range(4)] if opener.again else [opener()] * 4
    new = [(stored.new(f"x{n}", status="submitted"), stored.entries(1)) for n in range(40)]

    def work(number: int) -> list[str]:
        mine = new[number * 10 :] + new[: number * 10]
        return [one.saga_id for (one, _), known in zip(mine, stores[number].submit(mine), strict=True) if known is None]

    assert sorted(flat(at_once(4, work))) == sorted(f"x{n}" for n in range(40))


def test_all_or_none_are_stored(store, stored):
    new = [(stored.new(one, status="submitted"), stored.entries(1)) for one in ("a", "")]
    with pytest.raises(StorageError, match="saga_id must not be empty"):
        store.submit(new)
    for priority in (1.5, -1, True, 2**31):
        with pytest.raises(ValueError, match="priority"):
            store.submit([new[0], (stored.new("b", priority=priority), [])])
    with pytest.raises(StorageError, match="tag 'order'"):
        store.submit([new[0], (stored.new("b", tags={"order": 7}), [])])
    with pytest.raises(StorageError, match="exclusive"):
        store.submit([new[0], (stored.new("b", exclusive=""), [])])
    assert store.list().executions == ()


def test_who_only_recovers_leaves_alone_what_nobody_has_begun(store, stored):
    stored.submit(store, "x")
    stored.create(store, "orphan", lease=-1.0)
    assert take(store, submitted=False) == ["orphan"]
    assert take(store, submitted=False, saga_id="x") == []
    assert take(store) == ["x"]


def test_a_worker_takes_what_its_definitions_fit(store, stored):
    stored.submit(store, "a", version="1", fingerprint="f1")
    stored.submit(store, "b", version="2", fingerprint="f2")
    stored.submit(store, "c", version="3", fingerprint="f3")
    stored.submit(store, "d", version="9", fingerprint="f1", name="refund")
    assert take(store, Wanted("order", "1", "f9")) == []
    assert take(store, Wanted("order", "3", "f3"), saga_id="a") == []
    assert take(store, Wanted("order", "3", "f3", frozenset({"2", "7"}))) == ["b", "c"]
    assert take(store, Wanted("order", "8", "f1"), Wanted("refund")) == ["a", "d"]


def test_priority_is_worth_waiting_and_time_outweighs_it(store, stored):
    now = store.now()
    stored.submit(store, "old", at=now - 150.0)
    stored.submit(store, "older", at=now - 250.0)
    stored.submit(store, "urgent", priority=3)
    stored.submit(store, "last")
    assert take(store) == ["older", "urgent", "old", "last"]


def test_what_is_for_later_is_not_begun_before_its_time(store, stored):
    stored.submit(store, "later", at=store.now() + 3600.0, priority=1000)
    assert take(store) == []
    assert take(store, Wanted("order"), saga_id="later") == []
    assert take(store, saga_id="later") == ["later"]  # to act on it


@pytest.mark.parametrize("wanted", [(), (Wanted("order"),)])
def test_what_is_given_up_before_its_time_does_not_wait_for_it(store, stored, wanted):
    stored.submit(store, "later", "sooner", at=store.now() + 3600.0)
    for one in ("later", "sooner"):
        assert take(store, saga_id=one) == [one]
        end(store, one, "compensating")
    assert take(store, Wanted("order"), saga_id="later") == ["later"]
    assert take(store, *wanted) == ["sooner"]


def test_no_more_are_in_hand_than_their_saga_says(store, stored):
    stored.submit(store, *(f"x{n}" for n in range(9)))
    stored.submit(store, "other", name="refund")
    wanted = Wanted("order", limit=4)
    assert len(take(store, wanted)) == 4
    assert take(store, wanted, Wanted("refund")) == ["other"]
    row = store.list(name="order", status=["submitted"]).executions[-1]
    end(store, row.saga_id)
    assert len(take(store, wanted)) == 1
    assert take(store, wanted, saga_id=next(ids(store.list(status=["submitted"]).executions).__iter__())) == []


def test_what_waits_or_has_lost_its_owner_is_not_in_hand(store, stored):
    stored.create(store, "dead", lease=-1.0)
    held = stored.create(store, "waits")
    store.release(held, delay=3600.0, got_on=True)
    stored.submit(store, "new")
    assert len(take(store, Wanted("order", limit=1))) == 1


@pytest.mark.parametrize(("rate", "begun"), [(3.0, 3), (2.9, 2), (0.01, 1)])
def test_no_more_are_begun_than_the_rate_allows(store, stored, rate, begun):
    stored.submit(store, *(f"x{n}" for n in range(9)))
    stored.create(store, "orphan", lease=-1.0)
    wanted = Wanted("order", rate=rate)
    taken = take(store, wanted)
    assert "orphan" in taken  # which counts as begun: it was, just now
    assert len(taken) == begun


def test_claimers_together_keep_to_limit_and_rate(opener, stored):
    stores = [opener() for _ in range(4)] if opener.again else [opener()] * 4
    stored.submit(stores[0], *(f"x{n}" for n in range(40)))

    def work(number: int) -> list[str]:
        found: list[str] = []
        for _ in range(5):
            found += ids(stores[number].claim(f"w{number}", 60.0, limit=3, wanted=[Wanted("order", limit=7)]))
        return found

    taken = flat(at_once(4, work))
    assert len(taken) == len(set(taken)) == 7


def test_one_goes_on_at_a_time_of_those_with_the_same_key_first_come_first_served(store, stored):
    for saga_id in ("a", "b", "c"):
        stored.submit(store, saga_id, exclusive="account-1")
    stored.submit(store, "d", exclusive="account-2")
    stored.submit(store, "e", name="refund", exclusive="account-2")
    assert take(store) == ["a", "d"]
    assert take(store, Wanted("order"), saga_id="b") == []
    for status, following in [("completed", "b"), ("compensated", "c")]:
        before = "a" if following == "b" else "b"
        end(store, before, status)
        assert take(store) == [following]
    end(store, "c", "stuck")
    stored.submit(store, "f", exclusive="account-1")
    assert take(store) == []  # a person is still to decide about c


def test_the_key_stays_with_who_waits_or_has_died(store, stored):
    stored.submit(store, "a", "b", exclusive="k")
    (row,) = store.claim("w", -1.0)  # dead at once
    assert row.saga_id == "a"
    assert take(store) == ["a"]
    row = store.get("a")
    store.append(Lease("a", row.owner, row.epoch), [], status="running")
    store.release(Lease("a", row.owner, row.epoch), delay=3600.0, got_on=True)
    assert take(store) == []


def test_to_act_on_one_it_need_not_be_its_turn(store, stored):
    stored.submit(store, "a", "b", exclusive="k")
    assert take(store) == ["a"]
    (row,) = store.claim("person", 60.0, saga_id="b")
    store.append(Lease("b", "person", row.epoch), [], status="completed", release=True)
    end(store, "a")
    assert take(store) == []


def test_claimers_together_never_have_the_same_key(opener, stored):
    stores = [opener() for _ in range(4)] if opener.again else [opener()] * 4
    for number in range(40):
        stored.submit(stores[0], f"x{number}", exclusive=f"k{number % 2}")

    def work(number: int) -> list[str]:
        found: list[str] = []
        for _ in range(5):
            found += ids(stores[number].claim(f"w{number}", 60.0, limit=5))
        return found

    assert sorted(flat(at_once(4, work))) == ["x0", "x1"]


def test_nothing_of_what_is_held_is_begun(store, stored):
    stored.submit(store, "a", version="1", fingerprint="f1")
    stored.create(store, "begun", version="1", fingerprint="f1", lease=-1.0)
    store.hold("order", "1", "ann", "draining")
    first, second = Wanted("order", "1", "f1"), Wanted("order", "2", "f2", frozenset({"1"}))
    assert take(store, first, saga_id="a") == []
    assert take(store, first) == ["begun"]
    assert take(store, second) == ["a"]  # version 2 begins what version 1 left
    stored.submit(store, "b", version="2", fingerprint="f2")
    store.hold("order", "", "ann", "closed for today")
    assert take(store, first, second) == []
    assert [(one.name, one.version, one.who, one.why) for one in store.holds()] == [
        ("order", "", "ann", "closed for today"),
        ("order", "1", "ann", "draining"),
    ]
    assert store.let_go("order", "") is True
    assert store.let_go("order", "") is False
    assert take(store, first, second) == ["b"]


def test_a_second_hold_replaces_the_first(store):
    store.hold("order", "", "ann", "one")
    store.hold("order", "", "bob", "two")
    assert [(one.who, one.why) for one in store.holds()] == [("bob", "two")]
    with pytest.raises(StorageError, match="who must not be empty"):
        store.hold("order", "", "", "why")


def test_a_transaction_of_another_database_is_refused(store, stored):
    with pytest.raises(ValueError, match="connection"):
        store.submit([(stored.new("x", status="submitted"), [])], connection=object())
    assert store.get("x") is None


def test_new_executions_need_nothing_but_their_keys():
    new = NewExecution("x", "order", "1", "f", "d", "submitted")
    assert (new.priority, new.exclusive, new.at, dict(new.tags), new.step) == (0, None, None, {}, None)
