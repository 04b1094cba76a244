"""What a store promises whoever looks after it: what there is, in numbers, and that somebody is told of what is stuck."""

from __future__ import annotations

import pytest

from saga.storage import Count, Lease, NewWorker, Place, Told
from saga.storage.figures import OPEN, figures_of_rows
from saga.storage.rules import CLAIMABLE
from tests.storage.contract import at_once, ids

HOUR = 3600.0


def stick(store, stored, saga_id, *, cause="BankDown"):
    """Let an execution be stuck."""
    lease = stored.create(store, saga_id)
    store.append(lease, [], status="stuck", release=True, told=Told("pay", "no money", cause))


def test_figures_are_those_of_the_rows(store, stored):
    """Whatever there is: they are what a store in memory would say of the same rows."""
    stored.submit(store, "new-1", "new-2", name="refund", version="2", fingerprint="g")
    stored.submit(store, "later", at=store.now() + HOUR)
    stored.submit(store, "called", called=HOUR, name="rare")
    stored.create(store, "in hand", name="rarer")
    stored.create(store, "left", lease=-5.0)
    waiting = stored.create(store, "waiting")
    store.release(waiting, delay=HOUR, got_on=True)
    for status in ("completed", "compensated", "paused"):
        stored.create(store, status, status=status)
    stick(store, stored, "stuck-1")
    stick(store, stored, "stuck-2", cause=None)
    store.renew("a", [Lease("in hand", "a", 1)], 60.0, {"in hand": Place("pay", HOUR)})
    store.announce(NewWorker("w", "h", 1, (("order", "1", "f"), ("order", "0", ""))), 60.0)
    store.announce(NewWorker("dead", "h", 1, (("order", "1", "f"),)), -5.0)
    found = store.figures()
    rows = store.list(limit=100).executions
    assert found == figures_of_rows(rows, store.workers(), found.now)
    assert Count(("order", "stuck", "BankDown"), 1) in found.executions
    assert Count(("order", "stuck", None), 1) in found.executions
    assert found.free == [("order", "1", "f"), ("refund", "2", "g")]
    assert found.created.keys() == found.progressed.keys() == set(OPEN) - {"compensating"}
    assert found.progressed["running"] == pytest.approx(found.now - HOUR, abs=60)
    assert found.due.keys() == {"submitted", "running"}
    assert found.workers == [(("order", "1", "f"), ("order", "0", ""))]


def test_there_is_nothing_in_an_empty_store(store):
    found = store.figures()
    assert (found.executions, found.free, found.workers) == ([], [], [])
    assert found.created == found.progressed == found.due == {}


def test_what_is_due_is_so_since_somebody_could_have_gone_on_with_it(store, stored):
    since = {}
    stored.submit(store, "urgent", priority=100)
    since["submitted"] = store.get("urgent").created
    stored.create(store, "left", lease=-HOUR)
    since["running"] = store.get("left").updated
    undone = stored.create(store, "undone")
    store.append(undone, [], status="compensating")
    store.release(undone, delay=-5.0)
    since["compensating"] = store.get("undone").updated
    assert since.keys() == set(CLAIMABLE)
    assert store.figures().due == pytest.approx(since)


def test_of_what_is_stuck_somebody_is_told_once(store, stored):
    assert store.next_alert(60.0) is None
    stick(store, stored, "x")
    stick(store, stored, "y")
    first, second = store.next_alert(60.0), store.next_alert(60.0)
    assert (first.saga_id, second.saga_id) == ("x", "y")
    assert (first.status, first.reason, first.cause, first.step) == ("stuck", "no money", "BankDown", "pay")
    assert store.next_alert(60.0) is None
    store.alerted("x", first.epoch)
    store.alerted("y", second.epoch, again=-1.0)
    assert store.next_alert(-5.0).saga_id == "y"
    assert store.next_alert(-5.0).saga_id == "y"  # whoever had it did not say in time that somebody was told
    store.alerted("y", second.epoch)
    assert store.next_alert(60.0) is None
    assert store.get("x").status == "stuck"


def test_nobody_is_told_of_what_is_not_stuck(store, stored):
    stored.submit(store, "new")
    stored.create(store, "left", lease=-5.0)
    for status in ("completed", "compensated", "paused"):
        stored.create(store, status, status=status)
    assert store.next_alert(60.0) is None


def test_somebody_is_told_again_where_it_is_stuck_again(store, stored):
    stick(store, stored, "x")
    first = store.next_alert(60.0)
    (taken,) = store.claim("b", 60.0, saga_id="x")
    lease = Lease("x", "b", taken.epoch)
    assert store.next_alert(60.0) is None  # somebody acts on it
    store.append(lease, [], status="compensating")
    store.append(lease, [], status="stuck", release=True)
    store.alerted("x", first.epoch)  # of what was
    again = store.next_alert(60.0)
    assert (again.saga_id, again.epoch) == ("x", taken.epoch)


def test_a_message_does_not_have_somebody_told_again(store, stored):
    stick(store, stored, "x")
    store.alerted("x", store.next_alert(60.0).epoch)
    store.post("x", "{}")
    assert store.next_alert(60.0) is None


def test_what_was_told_changes_no_other_time(store, stored):
    stick(store, stored, "x")
    before = store.get("x")
    store.alerted("x", store.next_alert(60.0).epoch)
    after = store.get("x")
    assert after._replace(due=before.due) == before
    assert store.purge(updated_before=store.now() + 60, status=["stuck"]) == 1
    store.alerted("x", before.epoch)
    store.alerted("no such \0 id", 1)


def test_many_who_ask_at_once_get_each_one_once(store, stored):
    for number in range(12):
        stick(store, stored, f"x{number:02}")

    def ask(number: int) -> list:
        found = []
        for _ in range(6):
            row = store.next_alert(60.0)
            if row is not None:
                found.append(row)
                store.alerted(row.saga_id, row.epoch)
        return ids(found)

    found = [one for some in at_once(4, ask) for one in some]
    assert len(found) == len(set(found))
    while row := store.next_alert(60.0):
        found.append(row.saga_id)
    assert sorted(found) == [f"x{number:02}" for number in range(12)]
