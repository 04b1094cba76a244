"""Why nothing happens with an execution is said in a sentence: for each reason that there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from saga import Retry, Saga, Status, receive, step, timer
from saga.operations import Operations
from saga.storage import Lease, MemoryStore, NewWorker, Told, Wanted
from saga.worker import Worker
from tests.kit import background, until
from tests.kit.tasks import failing_times

WHEN: Final = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


class Place:
    """A store whose clock is set by hand, a saga, and who looks.

    :ivar late: seconds by which the store's clock is ahead.
    """

    def __init__(self) -> None:
        self.late = 0.0
        self.plain = MemoryStore()
        self.store = MemoryStore(clock=lambda: self.plain.now() + self.late)
        self.saga = self.made()

    def made(self, **options: Any) -> Saga:
        self.saga = Saga("order", **options).add_task(step(lambda: 1, name="a"))
        return self.saga

    def submit(self, saga_id: str = "x", **options: Any) -> None:
        self.saga.submit(saga_id=saga_id, store=self.store, **options)

    def worker(self, stopping: bool = False) -> None:
        plan = self.saga.plan
        self.store.announce(NewWorker("w", "host", 1, [("order", "1", plan.fingerprint)], 0, stopping), 60.0)

    def claim(self, saga_id: str, status: str | None = None, seconds: float = 60.0) -> Lease:
        """Let somebody run an execution."""
        (row,) = self.store.claim("pid-7", seconds, saga_id=saga_id)
        lease = Lease(saga_id, "pid-7", row.epoch)
        if status is not None:
            self.store.append(lease, [], status=status)
        return lease

    def waits(self, saga_id: str = "x") -> str | None:
        return Operations(self.store, "ann", sagas=[self.saga]).show(saga_id).waits


def not_open(place: Place) -> None:
    place.submit(at=place.store.now() + 3600)


def held(place: Place) -> None:
    place.submit()
    Operations(place.store, "bob").hold("order", "the depot is full")


def drained(place: Place) -> None:
    place.submit()
    place.store.hold("order", "2", "bob", "another version")
    place.store.hold("order", "1", "bob", "a new one comes")


def with_a_key(place: Place) -> None:
    place.made(exclusive=lambda context: "A1")
    place.submit("first")
    place.submit()


def behind_one_that_has_the_key(place: Place) -> None:
    with_a_key(place)
    place.worker()
    (row,) = place.store.claim("pid-7", 60.0, saga_id="first", wanted=None)
    place.store.release(Lease("first", "pid-7", row.epoch))
    (row,) = place.store.claim("pid-7", 60.0, saga_id="first", wanted=[Wanted("order")])
    place.store.append(Lease("first", "pid-7", row.epoch), [], status="stuck", release=True)


def behind_one_that_is_held(place: Place) -> None:
    with_a_key(place)
    place.store.hold("order", "1", "bob", "why")
    place.saga = Saga("other", exclusive=lambda context: "A1").add_task(step(lambda: 1, name="a"))
    place.submit("y")


def at_its_limit(place: Place) -> None:
    place.made(limit=1)
    place.submit("first")
    place.submit()
    place.claim("first", "running")


def limited_and_free(place: Place) -> None:
    at_its_limit(place)
    place.late = 120.0
    place.worker()


def called_for(place: Place) -> None:
    place.submit()
    row = place.store.get("x")
    assert row is not None
    place.store._executions["x"] = row._replace(called_until=place.store.now() + 30.0)


def submitted(place: Place) -> None:
    place.submit()


def submitted_where_workers_stop(place: Place) -> None:
    place.submit()
    place.worker(stopping=True)


def due(place: Place) -> None:
    place.submit()
    place.worker()


def at_a_rate(place: Place) -> None:
    place.made(rate=0.5)
    place.submit()
    place.worker()


def died(place: Place) -> None:
    place.submit()
    place.claim("x", "running")
    place.late = 120.0


def died_and_there_is_a_worker(place: Place) -> None:
    died(place)
    place.worker()


def given_back(place: Place) -> None:
    place.submit()
    place.store.release(place.claim("x", "running"), delay=300.0)


def given_back_for_others(place: Place) -> None:
    place.submit()
    place.worker()
    place.store.release(place.claim("x", "running"))


def stuck(place: Place) -> None:
    place.submit()
    lease = place.claim("x")
    place.store.append(lease, [], status="stuck", release=True, told=Told("a", "compensation failed: a\nx"))


def paused(place: Place) -> None:
    place.submit()
    Operations(place.store, "bob").pause("x", "look first")


def completed(place: Place) -> None:
    place.submit()
    place.store.append(place.claim("x"), [], status="completed", release=True)


def left_waiting(place: Place, *steps: Any) -> None:
    """Leave an execution of these steps to a worker, which finds that it waits, and puts it back."""
    place.saga = Saga("order")
    for one in steps:
        place.saga.add_task(one)
    place.submit()
    Worker(place.store, [place.saga]).run_once()


def waiting_for_a_signal(place: Place) -> None:
    left_waiting(place, receive("paid"))


def waiting_for_a_signal_that_must_come(place: Place) -> None:
    left_waiting(place, receive("paid", timeout=3600.0))


def waiting_for_its_time(place: Place) -> None:
    left_waiting(place, timer(3600.0, name="rest"))


def waiting_for_another_attempt(place: Place) -> None:
    retried = step(failing_times(9), name="b", retry=Retry(3, 3600.0))
    left_waiting(place, step(lambda: 1, name="a"), retried)


CASES: Final[dict[Callable[[Place], None], str | None]] = {
    not_open: f"it is not to be begun before {WHEN}",
    held: "saga order is held by bob: the depot is full",
    drained: "version 1 of saga order is held by bob: a new one comes",
    with_a_key: "execution first of saga order comes before it, with the same key A1",
    behind_one_that_has_the_key: "execution first of saga order, which is stuck, has its key A1 until it ends",
    at_its_limit: "at most 1 of saga order may run at once, and 1 do",
    limited_and_free: "it is due: a worker has yet to take it up",
    called_for: f"it is left to whoever called for it, who waits for it and has said so until {WHEN}",
    submitted: "no worker that lives has version 1 of saga order",
    submitted_where_workers_stop: "the workers that have version 1 of saga order are stopping, and begin nothing new",
    due: "it is due: a worker has yet to take it up",
    at_a_rate: "it is due: at most 0.5 of saga order are begun in a second",
    died: rf"its lease ran out at {WHEN}: whoever ran it \(pid-7\) died, or is cut off; no worker that lives has .*",
    died_and_there_is_a_worker: f"its lease ran out at {WHEN}: .*; a worker or a recovery is to take it over",
    given_back: f"it is tried again at {WHEN}",
    given_back_for_others: "it is due: a worker or a recovery is to take it up",
    stuck: r"a person must act: compensation failed: a\\nx",
    paused: "it is paused until a person resumes it: by bob: look first",
    completed: None,
    waiting_for_a_signal: "step paid waits for signal 'paid'",
    waiting_for_a_signal_that_must_come: f"step paid waits for signal 'paid', at most until {WHEN}",
    waiting_for_its_time: f"step rest waits for its time: {WHEN}",
    waiting_for_another_attempt: f"attempt 2 to execute b is made at {WHEN}",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_is_said_why_nothing_happens(case: Callable[[Place], None]) -> None:
    place = Place()
    case(place)
    waits, expected = place.waits(), CASES[case]
    assert (waits is None) is (expected is None), waits
    assert expected is None or re.fullmatch(expected, str(waits)), waits


def test_what_is_held_keeps_nobody_back_who_is_not() -> None:
    place = Place()
    behind_one_that_is_held(place)
    place.store.announce(NewWorker("w", "host", 1, [("other", "1", place.saga.plan.fingerprint)], 0, False), 60.0)
    assert place.waits("y") == "it is due: a worker has yet to take it up"


def test_it_is_said_what_a_process_that_lives_waits_for() -> None:
    place = Place()
    place.saga = Saga("order", store=place.store).add_task(receive("paid"))
    ended = background(lambda: place.saga.execute(saga_id="x"))
    until(lambda: place.store.get("x") is not None)
    assert place.waits() == "step paid waits for signal 'paid'"
    place.saga.signal("x", "paid")
    assert ended().status is Status.COMPLETED


def test_of_what_runs_nothing_is_said() -> None:
    place = Place()
    said: list[Any] = []
    saga = Saga("order", store=place.store).add_task(step(lambda: said.append(place.waits()), name="a"))
    assert saga.execute(saga_id="x").status is Status.COMPLETED
    assert said == [None]
