"""What a store promises of the line: who has called for an execution, who keeps his place, and what is held."""

from __future__ import annotations

import pytest

from saga.errors import SagaHeldError
from saga.storage import Lease, Wanted
from tests.storage.contract import ids
from tests.storage.test_contract_submit import take

FITS = {
    "whatever": (),
    "a name": (Wanted("order"),),
    "a fingerprint": (Wanted("order", "1", "f"),),
    "a version": (Wanted("order", "2", "g", frozenset({"1"})),),
    "a limit": (Wanted("order", "1", "f", limit=9, rate=9.0),),
}


@pytest.mark.parametrize("fit", FITS)
def test_what_is_called_for_is_left_to_who_called_for_it_as_long_as_they_live(store, stored, fit):
    stored.submit(store, "dead", called=-1.0)
    stored.submit(store, "living", called=60.0)
    stored.submit(store, "submitted")
    wanted = FITS[fit]
    assert take(store, *wanted, submitted=False) == ["dead"]
    assert take(store, *wanted, submitted=False) == []
    assert take(store, *wanted) == ["submitted"]
    assert ids(store.claim("who called", 60.0, saga_id="living", wanted=[Wanted("order")])) == ["living"]
    store.release(Lease("living", "who called", 1))
    store.renew_call("living", -1.0)
    assert take(store, *wanted, submitted=False) == ["living"]


def test_a_call_is_renewed_as_long_as_nobody_has_begun_it(store, stored):
    stored.submit(store, "called", called=-1.0)
    stored.submit(store, "submitted")
    for saga_id in ("called", "submitted", "nobody", "\0"):
        store.renew_call(saga_id, 60.0)
    assert store.get("called").called_until == pytest.approx(store.now() + 60.0, abs=5)
    assert store.get("submitted").called_until is None
    assert take(store) == ["submitted"]
    (row,) = store.claim("who called", 60.0, saga_id="called")
    store.append(Lease("called", "who called", 1), [], status="running")
    store.renew_call("called", 120.0)
    assert store.get("called").called_until == row.called_until


BARRED = {
    "held": lambda store: store.hold("order", "", "ann", "why"),
    "drained": lambda store: store.hold("order", "1", "ann", "why"),
}


@pytest.mark.parametrize("bar", BARRED)
def test_what_dead_callers_left_waits_for_its_turn_and_others_do_not_wait_for_it(store, stored, bar):
    stored.submit(store, *(f"x{number}" for number in range(5)), called=-1.0, exclusive="k")
    lease = stored.create(store, "begun", fingerprint="f")
    store.release(lease)
    BARRED[bar](store)
    wanted = Wanted("order", "1", "f", rate=0.001)
    for some in ((wanted,), (wanted._replace(rate=None),)):
        assert ids(store.claim("w", -1.0, wanted=some, submitted=False, limit=9)) == ["begun"]
    store.let_go("order", "")
    store.let_go("order", "1")
    store.claim("w", 60.0, saga_id="begun")
    assert take(store, wanted._replace(rate=None), submitted=False) == ["x0"]
    assert take(store, wanted, submitted=False) == []


@pytest.mark.parametrize("got_on", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_who_is_given_back_without_delay_has_the_place_it_had(store, stored, begun, got_on):
    if begun:
        lease = stored.create(store, "first")
    else:
        stored.submit(store, "first")
        (row,) = store.claim("a", 60.0)
        lease = Lease("first", "a", row.epoch)
    stored.submit(store, "second")
    stored.submit(store, "urgent", priority=1)
    store.release(lease, got_on=got_on)
    assert ids(store.claim("w", 60.0, limit=1)) == ["urgent"]
    store.release(Lease("urgent", "w", 1))
    assert take(store) == ["urgent", "first", "second"]


def test_who_is_given_back_for_later_waits_whatever_its_priority(store, stored):
    stored.submit(store, "urgent", priority=9)
    (row,) = store.claim("a", 60.0)
    store.release(Lease("urgent", "a", row.epoch), delay=60.0)
    assert take(store) == []


HOLDS = {"all of it": ("", "ann holds saga 'order': the bank"), "a version": ("1", "ann holds version '1' of saga 'order'")}


@pytest.mark.parametrize("hold", HOLDS)
def test_nothing_is_begun_here_and_now_of_what_is_held(store, stored, hold):
    version, says = HOLDS[hold]
    stored.create(store, "before")
    store.hold("refund", "", "bob", "another")
    store.hold("order", "2", "bob", "another")
    store.hold("order", version, "ann", "the bank is closed")
    with pytest.raises(SagaHeldError, match=says):
        store.create(stored.new("x"), stored.entries(1), "a", 60.0)
    assert store.get("x") is None
    assert store.journal("x") == []
    assert store.create(stored.new("before"), stored.entries(1), "a", 60.0).saga_id == "before"
    stored.submit(store, "later")
    store.let_go("order", version)
    stored.create(store, "x")


ALIKE = [Wanted("order", "1", "f"), Wanted("order", "2", "f"), Wanted("order", "3", "g", frozenset({"1", "7", "9"}))]
"""Several may fit the same executions."""


@pytest.mark.parametrize("limit", [None, 9])
@pytest.mark.parametrize("held", ["1", "2", "3"])
@pytest.mark.parametrize("reverse", [False, True])
def test_of_definitions_that_are_alike_each_one_s_hold_is_its_own(store, stored, held, reverse, limit):
    """Each execution is its own definition's, where that is there; and what is nobody's own the first's that it fits."""
    wanted = [one._replace(limit=limit) for one in (ALIKE[::-1] if reverse else ALIKE)]
    whose = {f"{version}-{number}": version for version in "123" for number in range(3)}
    whose |= {"1-h": "3", "7-g": "3", "9-f": "3" if reverse else "1"}
    for saga_id in whose:
        version, fingerprint = saga_id.split("-")
        if fingerprint in "012":
            fingerprint = "g" if version == "3" else "f"
        stored.submit(store, saga_id, version=version, fingerprint=fingerprint)
    store.hold("order", held, "ann", "draining")
    taken = [one for _ in range(13) for one in ids(store.claim("w", 60.0, wanted=wanted))]
    assert sorted(taken) == sorted(saga_id for saga_id, version in whose.items() if version != held)


def held(store, saga_id: str) -> None:
    store.hold("refund", "", "ann", "closed")


def drained(store, saga_id: str) -> None:
    store.hold("refund", "1", "ann", "draining")


def resting(status: str):
    """What a person paused, or a worker parked, before anybody began it."""

    def rest(store, saga_id: str) -> None:
        (row,) = store.claim("person", 60.0, saga_id=saga_id)
        store.append(Lease(saga_id, "person", row.epoch), [], status=status, release=True)

    return rest


NOT_TO_BEGIN = {"held": held, "drained": drained, "paused": resting("paused"), "parked": resting("stuck")}


@pytest.mark.parametrize("limit", [None, 9])
@pytest.mark.parametrize("why", NOT_TO_BEGIN)
def test_what_has_not_begun_and_is_not_to_keeps_nobody_from_its_key(store, stored, why, limit):
    wanted = Wanted("order", "1", "f", limit=limit), Wanted("refund", "1", "f")
    stored.submit(store, "waits", name="refund", exclusive="k")
    stored.submit(store, "first", "second", exclusive="k")
    NOT_TO_BEGIN[why](store, "waits")
    assert take(store, *wanted) == ["first"]
    row = store.get("first")
    store.append(Lease("first", "w", row.epoch), [], status="completed", release=True)
    assert take(store, Wanted("order"), saga_id="second") == ["second"]
    store.let_go("refund", "")
    store.let_go("refund", "1")
    assert take(store) == []  # somebody has its key


def test_what_was_held_has_kept_its_place(store, stored):
    stored.submit(store, "held", name="refund", exclusive="k")
    stored.submit(store, "other", exclusive="k")
    store.hold("refund", "", "ann", "closed")
    store.let_go("refund", "")
    assert take(store) == ["held"]


@pytest.mark.parametrize("limit", [None, 9])
def test_of_those_with_one_key_that_a_version_may_begin_for_another_one_is_begun(store, stored, limit):
    """Version 2 goes on with what version 1 left, which is drained."""
    stored.submit(store, "a", exclusive="k", version="1", fingerprint="f1")
    stored.submit(store, "b", exclusive="k", version="1", fingerprint="f1", priority=1)
    stored.submit(store, "c", "d", exclusive="k", version="2", fingerprint="f2")
    store.hold("order", "1", "ann", "draining")
    wanted = Wanted("order", "2", "f2", frozenset({"1"}), limit=limit)
    begun = []
    while taken := take(store, wanted):
        assert len(taken) == 1
        begun += taken
        row = store.get(taken[0])
        store.append(Lease(taken[0], "w", row.epoch), [], status="completed", release=True)
    assert begun == ["a", "b", "c", "d"]


def test_an_undo_does_not_wait_for_what_is_held(store, stored):
    stored.submit(store, "held", "undone", exclusive="k")
    store.hold("order", "", "ann", "closed")
    (row,) = store.claim("person", 60.0, saga_id="undone")
    store.append(Lease("undone", "person", row.epoch), [], status="compensating", release=True)
    assert take(store) == ["undone"]


def test_what_is_given_up_before_its_time_waits_for_nobody_whose_time_is_not_there_either(store, stored):
    now = store.now()
    stored.submit(store, "sooner", at=now + 1800.0, exclusive="k")
    stored.submit(store, "later", at=now + 3600.0, exclusive="k")
    (row,) = store.claim("person", 60.0, saga_id="later")
    store.append(Lease("later", "person", row.epoch), [], status="compensating", release=True)
    assert take(store) == ["later"]
