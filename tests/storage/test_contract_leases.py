"""What every store does: a lease has one holder, who got it by a claim and keeps it by a heartbeat."""

from __future__ import annotations

import time

import pytest

from saga.storage import Beat, Lease, Told, Wanted
from tests.storage.contract import at_once, flat, ids

# --- claim


def test_an_execution_is_claimed_once_its_lease_has_run_out(store, stored):
    stored.create(store, "live", lease=60.0)
    stored.create(store, "dead", lease=-1.0)
    [claimed] = store.claim("b", 30.0, limit=10)
    assert (claimed.saga_id, claimed.owner, claimed.epoch, claimed.recoveries) == ("dead", "b", 2, 1)
    assert claimed.lease_until == pytest.approx(store.now() + 30, abs=1)
    assert claimed == store.get("dead")
    store.append(Lease("dead", "b", 2), stored.entries(2))
    assert store.claim("c", 30.0, limit=10) == []


@pytest.mark.parametrize("status", ["completed", "compensated", "stuck"])
def test_a_terminal_execution_is_claimed_by_its_id_only(store, stored, status):
    stored.create(store, "x", status=status)
    assert store.claim("b", 30.0, limit=10) == []
    assert store.claim("b", 30.0, limit=10, wanted=[Wanted("order")]) == []
    [claimed] = store.claim("b", 30.0, saga_id="x")
    assert (claimed.status, claimed.owner, claimed.epoch, claimed.recoveries) == (status, "b", 2, 0)


def test_what_another_definition_went_on_with_is_found_by_that_one(store, stored):
    """Though its status has stayed what it was, and no other execution is of that definition."""
    lease = stored.create(store, "x", lease=0.0, version="1", fingerprint="old")
    store.append(lease, stored.entries(2), status="running", told=Told(definition=("2", "new")))
    assert [one.values for one in store.count(("version", "status"))] == [("2", "running")]
    assert store.claim("b", 30.0, limit=10, wanted=[Wanted("order", "1", "old")]) == []
    assert ids(store.claim("b", 30.0, limit=10, wanted=[Wanted("order", "2", "new")])) == ["x"]


def test_a_compensating_execution_is_claimed(store, stored):
    lease = stored.create(store, "x", lease=0.0)
    store.append(lease, [], status="compensating")
    assert ids(store.claim("b", 30.0)) == ["x"]


def test_an_execution_that_is_not_due_is_claimed_by_its_id_only(store, stored):
    lease = stored.create(store, "x")
    store.release(lease, delay=60.0)
    assert store.get("x").due == pytest.approx(store.now() + 60, abs=1)
    assert store.claim("b", 30.0, limit=10) == []
    assert store.claim("b", 30.0, limit=10, wanted=[Wanted("order")]) == []
    [claimed] = store.claim("b", 30.0, saga_id="x")
    assert (claimed.epoch, claimed.recoveries) == (2, 0)


def test_a_live_lease_is_respected_by_a_claim_of_its_id(store, stored):
    stored.create(store, "x", lease=60.0)
    assert store.claim("b", 30.0, saga_id="x") == []
    assert store.get("x").owner == "a"


def test_a_live_lease_is_respected_though_a_message_makes_it_due(store, stored):
    stored.create(store, "x", name="order", lease=60.0)
    store.post("x", "{}")
    assert store.claim("b", 30.0) == []
    assert store.claim("b", 30.0, wanted=[Wanted("order")]) == []


@pytest.mark.parametrize("wanted", [None, [Wanted("order")], [Wanted("order", limit=9)]], ids=["all", "one", "limited"])
def test_what_its_owner_says_that_it_runs_is_left_as_it_is(store, stored, wanted):
    for saga_id in ("mine", "other"):
        stored.create(store, saga_id, name="order", lease=-1.0)
    assert ids(store.claim("a", 30.0, limit=10, wanted=wanted, but=lambda: {"mine"})) == ["other"]
    assert store.claim("a", 30.0, saga_id="mine", wanted=wanted, but=lambda: {"mine"}) == []
    assert store.get("mine").epoch == 1
    assert ids(store.claim("b", 30.0, limit=10, wanted=wanted)) == ["mine"]


def test_the_oldest_due_are_claimed_first(store, stored):
    for saga_id, delay in [("c", -10.0), ("a", -30.0), ("b", -20.0), ("d", -5.0)]:
        store.release(stored.create(store, saga_id, name=f"saga-{saga_id}"), delay=delay)
    assert ids(store.claim("w", 60.0, limit=2)) == ["a", "b"]
    assert ids(store.claim("w", 60.0, limit=2, wanted=[Wanted(f"saga-{c}") for c in "abcd"])) == ["c", "d"]


def test_a_claim_takes_only_the_names_it_is_told(store, stored):
    for number in range(6):
        stored.create(store, f"x{number}", name=["order", "refund", "Order"][number % 3], lease=-1.0)
    assert store.claim("w", 60.0, wanted=[], limit=10) == []
    assert store.claim("w", 60.0, wanted=[Wanted("none")], limit=10) == []
    assert store.claim("w", 60.0, wanted=[Wanted("order")], saga_id="x1") == []
    assert sorted(ids(store.claim("w", 60.0, wanted=[Wanted("order"), Wanted("order")], limit=10))) == ["x0", "x3"]
    assert ids(store.claim("w", 60.0, wanted=[Wanted("refund")], saga_id="x1")) == ["x1"]
    assert sorted(ids(store.claim("w", 60.0, wanted={Wanted("refund"), Wanted("Order")}, limit=10))) == ["x2", "x4", "x5"]


def test_a_claim_takes_no_more_than_its_limit(store, stored):
    for number in range(5):
        stored.create(store, f"x{number}", lease=-1.0)
    assert [len(store.claim("w", 60.0, limit=2)) for _ in range(4)] == [2, 2, 1, 0]
    with pytest.raises(ValueError, match="limit"):
        store.claim("w", 60.0, limit=0)


@pytest.mark.parametrize("claimers", [2, 8])
@pytest.mark.parametrize("names", [None, [Wanted("order"), Wanted("refund")]])
def test_claimers_never_share_and_leave_nothing(opener, stored, claimers, names):
    stores = [opener() for _ in range(claimers)] if opener.again else [opener()] * claimers
    everything = {f"x{n}" for n in range(60)}
    for number, saga_id in enumerate(sorted(everything)):
        stored.create(stores[0], saga_id, lease=-1.0, name=["order", "refund"][number % 2])

    def work(number: int) -> list[str]:
        mine: list[str] = []
        empty = 0
        # One that finds nothing may have met rows that another was just looking at.
        while empty < 3:
            claimed = stores[number].claim(f"w{number}", 60.0, limit=3, wanted=names)
            empty = 0 if claimed else empty + 1
            time.sleep(0 if claimed else 0.05)
            mine += ids(claimed)
        return mine

    claimed = flat(at_once(claimers, work))
    assert len(claimed) == len(everything)
    assert set(claimed) == everything


# --- renew, release


def test_renewing_returns_those_leases_that_still_hold(store, stored):
    held, lost, freed = (stored.create(store, saga_id, lease=0.0) for saga_id in ("held", "lost", "freed"))
    store.claim("b", 60.0, saga_id="lost")
    store.release(freed)
    store.post("held", "{}")
    stored.create(store, "quiet")
    leases = [held, lost, freed, Lease("quiet", "a", 1), Lease("gone", "a", 1), Lease("held", "a", 2)]
    beats = store.renew("a", leases, 120.0)
    assert sorted(beats, key=lambda beat: beat.saga_id) == [Beat("held", True), Beat("quiet", False)]
    assert store.get("held").lease_until == pytest.approx(store.now() + 120, abs=1)
    assert store.claim("b", 60.0, wanted=[Wanted("order")], saga_id="held") == []
    assert store.renew("b", leases, 120.0) == []
    assert store.renew("a", [], 120.0) == []


def test_a_released_execution_is_claimed_when_it_is_due(store, stored):
    lease = stored.create(store, "x")
    store.release(lease, delay=0.15)
    row = store.get("x")
    assert (row.owner, row.epoch, row.status) == (None, 1, "running")
    assert store.claim("b", 60.0) == []
    deadline = time.monotonic() + 5
    while not (claimed := store.claim("b", 60.0)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ids(claimed) == ["x"]
    assert claimed[0].epoch == 2


def test_recoveries_count_until_the_execution_gets_on(store, stored):
    lease = stored.create(store, "x")
    for count in (1, 2, 3):
        store.release(lease)
        [row] = store.claim("b", 60.0)
        assert row.recoveries == count
        lease = Lease("x", "b", row.epoch)
    store.release(lease, got_on=True)
    assert store.get("x").recoveries == 0


def test_releasing_a_lost_lease_does_nothing(store, stored):
    lease = stored.create(store, "x", lease=0.0)
    store.claim("b", 60.0, saga_id="x")
    row = store.get("x")
    store.release(lease, delay=5.0, got_on=True)
    store.release(Lease("nobody", "a", 1))
    assert store.get("x") == row


def test_a_claim_with_which_nothing_was_tried_does_not_count(store, stored):
    stored.create(store, "x", lease=0.0)
    for untried in (False, True, True):
        [row] = store.claim("a", 60.0)
        assert row.recoveries == 2 - (not untried)
        store.release(Lease("x", "a", row.epoch), untried=untried)
    assert store.get("x").recoveries == 1
    store.release(Lease("x", "a", 1), untried=True)  # lost long ago
    assert store.get("x").recoveries == 1
