"""What a store promises of rows: what they tell without a journal being read, and how they are found and counted by it."""

from __future__ import annotations

import pytest

from saga.storage import Append, Lease, MemoryStore, Place, Told
from tests.kit import until
from tests.storage.contract import ids


def test_a_row_tells_where_an_execution_stands(store, stored):
    lease = stored.create(store, "x", step="reserve", tags={"order": "A1", "tenant": "acme"})
    row = store.get("x")
    assert (row.step, row.reason, row.cause, dict(row.tags)) == ("reserve", None, None, {"order": "A1", "tenant": "acme"})
    assert row.progressed == pytest.approx(store.now(), abs=5)
    assert row.started == pytest.approx(store.now(), abs=5)
    told = Told("charge", "the bank said no", "Declined")
    store.append(lease, stored.entries(2), status="compensating", told=told)
    row = store.get("x")
    assert (row.status, row.step, row.reason, row.cause) == ("compensating", *told[:3])
    store.append(lease, stored.entries(3))
    assert store.get("x")[13:16] == told[:3]
    store.append(lease, stored.entries(4), status="compensated", release=True, told=Told("charge", keep=3600.0))
    row = store.get("x")
    assert (row.step, row.reason, row.cause) == ("charge", None, None)
    assert row.keep_until == pytest.approx(store.now() + 3600.0, abs=5)


def test_it_says_of_which_version_its_tables_are(store):
    version = store.schema_version
    assert version is None if isinstance(store, MemoryStore) else version >= 1


def test_appends_together_tell_it_too(store, stored):
    leases = [stored.create(store, f"x{n}") for n in range(3)]
    told = Told("charge", "why", "Declined", 60.0)
    appends = [Append(lease, stored.entries(2), "completed", True, told=told) for lease in leases]
    if all(store.append_each(appends)):
        for number in range(3):
            row = store.get(f"x{number}")
            assert (row.status, row.step, row.reason, row.cause) == ("completed", "charge", "why", "Declined")
            assert row.keep_until > store.now() + 50
    else:  # it did not do it together
        pytest.fail("they were not stored together")


def test_what_is_told_alone_is_told(store, stored):
    lease = stored.create(store, "x", step="a")
    store.append(lease, stored.entries(2), told=Told("b"))
    assert store.get("x").step == "b"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("definition", [None, ("2", "another print")])
def test_it_may_tell_that_another_definition_goes_on_with_it(store, stored, together, definition):
    lease = stored.create(store, "x")
    before = store.get("x")
    told = Told("b", keep=3600.0, definition=definition)
    if together:
        assert store.append_each([Append(one, stored.entries(2), "running", told=told) for one in (lease,)]) == [True]
    else:
        store.append(lease, stored.entries(2), status="running", told=told)
    store.append(lease, stored.entries(3), status="completed", told=Told("b"))
    row = store.get("x")
    assert (row.version, row.fingerprint) == (definition or (before.version, before.fingerprint))
    assert [row.step, row.keep_until > store.now()] == ["b", True]


def test_a_heartbeat_tells_where_it_is(store, stored):
    leases = [stored.create(store, one, step="a") for one in ("x", "y")]
    store.renew("a", leases, 60.0, {"x": Place("b", 30.0), "gone": Place("c", 0.0)})
    row = store.get("x")
    assert row.step == "b"
    assert row.progressed == pytest.approx(store.now() - 30.0, abs=5)
    assert store.get("y").step == "a"


def test_who_waits_tells_where(store, stored):
    lease = stored.create(store, "x", step="a")
    store.release(lease, delay=60.0, got_on=True, step="approval")
    assert store.get("x").step == "approval"
    store.release(stored.create(store, "y", step="a"))
    assert store.get("y").step == "a"


def test_executions_are_found_by_all_that_rows_tell(store, stored):
    for number, (name, version, cause, step) in enumerate(
        [("order", "1", "Declined", "charge"), ("order", "2", "Declined", "ship"), ("refund", "1", "Timeout", "charge")]
    ):
        lease = stored.create(store, f"x{number}", name=name, version=version, tags={"tenant": "acme", "order": str(number)})
        store.append(lease, [], status="stuck", release=True, told=Told(step, "why", cause))
    stored.create(store, "plain", tags={"tenant": "other"})

    def found(**filters) -> list[str]:
        return sorted(ids(store.list(**filters).executions))

    assert found(cause="Declined") == ["x0", "x1"]
    assert found(cause="Declined", step="ship", status=["stuck"]) == ["x1"]
    assert found(version="1", status=["stuck"]) == ["x0", "x2"]
    assert found(version="1", name="refund") == ["x2"]
    assert found(tags={"tenant": "acme"}) == ["x0", "x1", "x2"]
    assert found(tags={"tenant": "acme", "order": "1"}) == ["x1"]
    assert found(tags={"tenant": "acme"}, name="order", step="ship") == ["x1"]
    assert found(tags={"order": "x"}) == []
    assert found(tags={"tenant": "ACME"}) == []
    assert found(step="Charge") == []


def test_pages_by_tag_go_on_where_the_last_one_ended(store, stored):
    for number in range(7):
        stored.create(store, f"x{number}", tags={"tenant": "acme"})
    seen, after = [], None
    while True:
        page = store.list(tags={"tenant": "acme"}, limit=3, after=after)
        seen += ids(page.executions)
        after = page.next
        if after is None:
            break
    assert sorted(seen) == [f"x{n}" for n in range(7)]
    assert len(seen) == 7


def test_what_has_not_got_on_is_found(store, stored):
    leases = [stored.create(store, one) for one in ("slow", "fast")]
    store.renew("a", leases, 60.0, {"slow": Place("a", 100.0), "fast": Place("a", 1.0)})
    assert ids(store.list(progressed_before=store.now() - 50.0, status=["running"]).executions) == ["slow"]
    with pytest.raises(ValueError, match="progressed_before"):
        store.list(progressed_before=float("nan"))


def test_what_ended_got_on_when_it_ended(store, stored):
    first, second, third = [stored.create(store, one) for one in ("first", "second", "third")]
    store.append(first, stored.entries(2), status="completed", release=True)
    ended = store.get("first").progressed
    until(lambda: store.now() > ended)
    store.append(second, stored.entries(2), status="compensated", release=True)
    store.append(third, stored.entries(2), status="completed", release=True)
    last = max(store.get(one).progressed for one in ("second", "third"))
    for before, found in ((ended, []), (ended + 1e-5, ["first"]), (last + 1e-3, ["first", "second", "third"])):
        assert sorted(ids(store.list(progressed_before=before).executions)) == found


def test_executions_are_counted(store, stored):
    for number in range(5):
        lease = stored.create(store, f"x{number}", version=str(number % 2))
        if number < 3:
            store.append(lease, [], status="stuck", release=True, told=Told("charge", "why", "Declined"))
    stored.submit(store, "new", name="refund")

    def counted(*by, **filters) -> dict:
        return {one.values: one.executions for one in store.count(by, **filters)}

    assert counted("name", "status") == {("order", "running"): 2, ("order", "stuck"): 3, ("refund", "submitted"): 1}
    assert counted("status", "version", "cause", status=["stuck"]) == {
        ("stuck", "0", "Declined"): 2,
        ("stuck", "1", "Declined"): 1,
    }
    assert counted("step", name="order", status=["stuck"]) == {("charge",): 3}
    assert counted("cause", name="refund") == {(None,): 1}
    assert counted("reason", status=["stuck"]) == {("why",): 3}
    assert counted("name", name="none") == {}
    assert [one.values for one in store.count()] == [("order", "running"), ("order", "stuck"), ("refund", "submitted")]
    with pytest.raises(ValueError, match="'owner'"):
        store.count(["owner"])
    with pytest.raises(ValueError, match="'asleep'"):
        store.count(["name"], status=["asleep"])


@pytest.mark.parametrize("status", ["compensated", "stuck"])
def test_what_was_undone_is_not_kept_as_it_was_to_be_before(store, stored, status):
    lease = stored.create(store, "x")
    store.append(lease, [], status="completed", told=Told(keep=3600.0))
    store.append(lease, [], status="compensating", told=Told())
    store.append(lease, [], status=status, release=True, told=Told())
    assert store.purge(updated_before=store.now() + 60.0, status=["completed", status]) == 1


def test_what_is_to_be_kept_is_not_purged_before(store, stored):
    for saga_id, keep in [("kept", 3600.0), ("gone", 0.0)]:
        lease = stored.create(store, saga_id, tags={"order": saga_id})
        store.append(lease, [], status="completed", release=True, told=Told(keep=keep))
    assert store.purge(updated_before=store.now() + 60.0, status=["completed"]) == 1
    assert ids(store.list().executions) == ["kept"]
    assert store.list(tags={"order": "gone"}).executions == ()


def test_a_lease_that_is_lost_tells_nothing(store, stored):
    from saga.errors import LeaseLostError

    lease = stored.create(store, "x", step="a")
    with pytest.raises(LeaseLostError):
        store.append(Lease("x", "other", 1), [], told=Told("b"))
    store.release(Lease("x", lease.owner, 7), step="b")
    assert store.get("x").step == "a"
