"""What every store does: executions are listed page by page, and ended ones are purged."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest

from saga.events import Status
from saga.storage import Lease, Store
from tests.storage.contract import flat, ids

# --- list


def pages(store: Store, **filters) -> list[list[str]]:
    found = []
    after = None
    while True:
        page = store.list(after=after, **filters)
        found.append(ids(page.executions))
        if page.next is None:
            return found
        after = page.next


def test_executions_are_listed_newest_first(store, stored):
    for number in range(5):
        stored.create(store, f"x{number}")
        time.sleep(0.002)
    assert pages(store) == [["x4", "x3", "x2", "x1", "x0"]]
    assert pages(store, limit=2) == [["x4", "x3"], ["x2", "x1"], ["x0"]]
    assert pages(store, limit=5) == [["x4", "x3", "x2", "x1", "x0"]]
    assert store.list().executions[0] == store.get("x4")


def test_listing_an_empty_store_gives_an_empty_page(store):
    assert pages(store) == [[]]


def test_a_listing_is_filtered_by_status_name_and_time(store, stored):
    kinds = ["running", "completed", "stuck"]
    for number in range(12):
        stored.create(store, f"x{number:02}", name=["order", "refund"][number % 2], status=kinds[number % 3])
        time.sleep(0.002)
    everything = [f"x{number:02}" for number in reversed(range(12))]
    for limit in (1, 2, 5, 50):
        assert flat(pages(store, limit=limit)) == everything
        assert flat(pages(store, limit=limit, status=["stuck"])) == ["x11", "x08", "x05", "x02"]
        assert flat(pages(store, limit=limit, status={"stuck", "running"}, name="order")) == ["x08", "x06", "x02", "x00"]
        assert flat(pages(store, limit=limit, name="refund")) == everything[::2]
        created = store.get("x05").created
        assert flat(pages(store, limit=limit, created_before=created)) == everything[7:]
        assert flat(pages(store, limit=limit, created_after=created)) == everything[:7]
    between = {"created_after": store.get("x03").created, "created_before": store.get("x06").created}
    assert flat(pages(store, limit=2, **between)) == ["x05", "x04", "x03"]
    assert flat(pages(store, status=[Status.STUCK])) == ["x11", "x08", "x05", "x02"]
    assert pages(store, status=[]) == [[]]
    assert pages(store, name="none") == [[]]
    with pytest.raises(ValueError, match="'lost'"):
        store.list(status=["lost"])
    with pytest.raises(ValueError, match="limit"):
        store.list(limit=0)


def test_pages_are_complete_while_executions_are_added(store, stored):
    old = [f"old{number}" for number in range(10)]
    for saga_id in old:
        stored.create(store, saga_id)
    time.sleep(0.002)
    seen: list[str] = []
    after = None
    for number in range(20):
        page = store.list(limit=3, after=after)
        seen += ids(page.executions)
        if page.next is None:
            break
        after = page.next
        stored.create(store, f"new{number}")
    assert sorted(seen) == old


# The last two are right but for the "/" and "+" of an alphabet that is not a cursor's.
BAD_CURSORS = [b"{}", b"[]", b'["a", "b"]', b'[1.0, ""]', b'[NaN, "x"]', b"[", b"\xff", b'[1.0, "x?x"]', b'[1.0, "x~"]']


@pytest.mark.parametrize("cursor", ["", "nonsense", "é", *(b64encode(text).decode() for text in BAD_CURSORS)])
def test_a_cursor_from_elsewhere_is_refused(store, cursor):
    with pytest.raises(ValueError, match="cursor"):
        store.list(after=cursor)


# --- purge


def test_purging_deletes_old_terminal_executions_with_all_they_have(store, stored):
    for saga_id, status in [("a", "completed"), ("b", "compensated"), ("c", "stuck"), ("d", "running")]:
        stored.create(store, saga_id, entries=3)
        if status in ("stuck", "running"):  # others end with no message unread
            store.post(saga_id, "{}")
        if status != "running":
            store.append(Lease(saga_id, "a", 1), [], status=status, release=True)
    later = store.now() + 1
    assert store.purge(updated_before=store.get("a").updated, status=["completed"]) == 0
    assert store.purge(updated_before=later, status=[]) == 0
    assert store.purge(updated_before=later, status=["completed", "compensated"]) == 2
    assert sorted(ids(store.list().executions)) == ["c", "d"]
    for saga_id in "ab":
        assert (store.get(saga_id), store.journal(saga_id), store.inbox(saga_id)) == (None, [], [])
    for saga_id in "cd":
        assert (len(store.journal(saga_id)), len(store.inbox(saga_id))) == (3, 1)
    assert store.purge(updated_before=later, status=["stuck"]) == 1
    assert store.inbox("c") == []
    stored.create(store, "a", entries=1)
    assert len(store.journal("a")) == 1
    assert store.inbox("a") == []


@pytest.mark.parametrize("status", ["running", "compensating", "lost"])
def test_only_terminal_executions_are_purged(store, stored, status):
    stored.create(store, "x")
    with pytest.raises(ValueError, match=status):
        store.purge(updated_before=store.now() + 1, status=["completed", status])
    assert store.get("x")


def test_a_purge_deletes_no_more_than_its_limit(store, stored):
    for number in range(5):
        stored.create(store, f"x{number}", status=["completed", "stuck"][number % 2])
    later = store.now() + 1
    assert [store.purge(updated_before=later, status=["completed", "stuck"], limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_an_execution_that_somebody_holds_is_not_purged(store, stored):
    stored.create(store, "x", status="stuck")
    store.claim("operator", 60.0, saga_id="x")
    assert store.purge(updated_before=store.now() + 1, status=["stuck"]) == 0
    assert store.get("x")
