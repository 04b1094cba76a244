"""What a store promises of workers, which say that they live, and of waiting for something to claim."""

from __future__ import annotations

import threading

import pytest

from saga.errors import StorageError
from saga.storage import NewWorker

DEFINITIONS = (("order", "1", "f1"), ("refund", "2", "f2"))


def test_a_worker_is_known_until_it_says_that_it_is_gone(store):
    store.announce(NewWorker("b", "host", 7, DEFINITIONS), 60.0)
    store.announce(NewWorker("a", "host", 8, ()), 60.0)
    first = store.workers()[1]
    assert (first.id, first.host, first.pid, first.definitions) == ("b", "host", 7, DEFINITIONS)
    assert (first.in_hand, first.stopping) == (0, False)
    assert first.until == pytest.approx(store.now() + 60.0, abs=5)
    store.announce(NewWorker("b", "host", 7, DEFINITIONS[:1], 3, True), 90.0)
    second = store.workers()[1]
    assert (second.definitions, second.in_hand, second.stopping) == (DEFINITIONS[:1], 3, True)
    assert second.started == first.started
    assert second.seen >= first.seen
    assert second.until > first.until
    store.withdraw("b")
    store.withdraw("none")
    assert [one.id for one in store.workers() if one.until > store.now()] == ["a"]
    gone = store.workers()[1]
    assert (gone.id, gone.definitions) == ("b", DEFINITIONS[:1])
    assert gone.until <= store.now()


def test_one_that_died_is_listed_as_dead_for_a_day(store):
    store.announce(NewWorker("dead", "host", 7, DEFINITIONS), -1.0)
    store.announce(NewWorker("forgotten", "host", 7, DEFINITIONS), -25 * 3600.0)
    (dead,) = store.workers()
    assert dead.id == "dead"
    assert dead.until < store.now()


@pytest.mark.parametrize(("worker", "seconds"), [(NewWorker("", "h", 1, ()), 1.0), (NewWorker("a", "h\0", 1, ()), 1.0)])
def test_a_worker_that_cannot_be_stored_is_refused(store, worker, seconds):
    with pytest.raises(StorageError, match="a worker's"):
        store.announce(worker, seconds)
    assert store.workers() == []


def test_seconds_are_finite(store):
    with pytest.raises(ValueError, match="seconds"):
        store.announce(NewWorker("a", "h", 1, ()), float("nan"))


def test_who_watches_is_woken_by_what_this_process_stores(store, stored):
    watch = store.watch()
    try:
        watch.wait(0.0)
        assert watch.wait(0.0) is False
        stored.submit(store, "x")
        assert watch.wait(60.0) is True
        assert store.claim("w", 60.0)
        watch.wait(0.0)
        store.post("x", "{}")
        assert watch.wait(60.0) is True
    finally:
        watch.close()


def test_who_watches_is_woken_by_others(opener, stored):
    if not opener.again:
        pytest.skip("nothing outlives this store's process")
    mine, others = opener(), opener()
    watch = mine.watch()
    try:
        watch.wait(0.0)
        if not watch.hears_others:
            return
        timer = threading.Timer(0.05, lambda: stored.submit(others, "x"))
        timer.start()
        assert watch.wait(60.0) is True
        timer.join()
    finally:
        watch.close()


def test_a_watch_can_be_woken_from_anywhere_and_closed(store):
    watch = store.watch()
    watch.wake()
    assert watch.wait(60.0) is True
    watch.close()
    watch.wake()
