"""``parallel(..., limit=n)``: at most so many branches at a time, in threads that are used again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga, Status, parallel, sequence, step
from saga.errors import SagaExecutionException
from saga.events import StepStarted, StepSucceeded
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, saga_of
from tests.kit.blocks import Blocks, Do, Group
from tests.kit.stores import Watched


class Counted:
    """What is done in branches, a bit later than at once: how many do it at a time at the most, and in which threads."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.threads: set[threading.Thread] = set()
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.current_thread())

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def during(self, in_loop: bool) -> Callable[[], Any]:
        def work() -> None:
            self.enter()
            threading.Event().wait(0.002)
            self.leave()

        async def awork() -> None:
            self.enter()
            await asyncio.sleep(0.002)
            self.leave()

        return awork if in_loop else work


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_branches_than_the_limit_are_under_way(calls: Any, limit: int) -> None:
    counted = Counted()
    branches = [calls.step(f"b{number}", counted.during(calls.in_loop)) for number in range(12)]
    result = calls.run(saga_of(parallel(*branches, limit=limit), calls.step("after")))
    assert result.status is Status.COMPLETED
    assert counted.most == limit
    assert sorted(calls.log) == sorted([*(f"b{number}" for number in range(12)), "after"])


def test_a_branch_ends_before_the_next_begins_whatever_it_is_made_of(calls: Any) -> None:
    one = sequence(calls.step("a"), parallel(calls.step("b"), calls.step("c")), calls.step("d"))
    calls.run(saga_of(parallel(one, calls.step("e"), sequence(calls.step("f"), calls.step("g")), limit=1)))
    assert [calls.log[0], *calls.log[3:]] == ["a", *"defg"]


def test_results_and_changes_are_those_of_all_branches_in_the_order_declared() -> None:
    def put(number: int) -> Any:
        def work(context: Any) -> int:
            context[f"key{number}"] = number
            return number

        return step(work, name=f"b{number}")

    got: list[Any] = []
    saga = saga_of(parallel(*map(put, range(5)), limit=2), step(got.append, name="last"))
    assert dict(saga.execute().context) == {f"key{number}": number for number in range(5)}
    assert got == [(0, 1, 2, 3, 4)]


def test_when_a_branch_fails_those_that_wait_never_begin_and_the_others_are_undone_last_first(calls: Any) -> None:
    names = ("a", "b", "bad", "never")
    branches = [calls.step(name, ValueError() if name == "bad" else None) for name in names]
    result = calls.run(saga_of(parallel(*branches, limit=1)))
    assert result.status is Status.COMPENSATED
    assert calls.log == ["a", "b", "bad", "-b", "-a"]
    assert [str(record.status) for record in result.history] == ["compensated", "compensated", "failed", "pending"]


def test_many_branches_have_no_more_threads_than_are_under_way_and_leave_none(plain: Any) -> None:
    counted = Counted()
    branches = [plain.step(f"b{number}", counted.during(False)) for number in range(60)]
    assert plain.run(saga_of(parallel(*branches, limit=4))).ok
    assert len(counted.threads) <= 4
    for thread in counted.threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_thread_that_is_free_is_used_again_in_the_next_group(plain: Any) -> None:
    counted = Counted()
    groups = [parallel(*(plain.step(f"b{group}{number}", counted.during(False)) for number in "12")) for group in range(6)]
    assert plain.run(saga_of(*groups)).ok
    assert len(counted.threads) <= 2


def test_what_begins_together_is_stored_together_and_what_ended_with_what_begins_then() -> None:
    store = Watched(MemoryStore())
    branches = [step(lambda: None, name=name) for name in "abc"]
    saga_of(parallel(*branches, limit=2), store=store).execute()
    commits = [[(entry.kind, entry.step) for entry in write.entries] for write in store.writes]
    begun = [commit for commit in commits if (StepStarted.__name__, "a") in commit]
    assert [(StepStarted.__name__, name) in begun[0] for name in "abc"] == [True, True, False]
    (third,) = [commit for commit in commits if (StepStarted.__name__, "c") in commit]
    assert StepSucceeded.__name__ in {kind for kind, _ in third}


@pytest.mark.parametrize("limit", [1, 3])
def test_a_block_has_no_more_branches_under_way_either(calls: Any, limit: int) -> None:
    counted = Counted()

    def body(tx: Any) -> Any:
        group = [calls.step(f"b{number}", counted.during(calls.in_loop)) for number in range(6)]
        assert len((yield Group(*group, limit=limit))) == len(group)
        yield Do(calls.function("after"))
        yield Group(calls.step("c"), calls.step("d"), limit=1)

    assert Blocks(calls).run(body).ok
    assert counted.most == limit
    assert [*sorted(calls.log[:6]), *calls.log[6:]] == [*(f"b{number}" for number in range(6)), "after", "c", "d"]


def test_in_a_block_too_those_that_wait_never_begin_when_a_branch_fails(calls: Any) -> None:
    names = ("a", "b", "bad", "never")

    def body(tx: Any) -> Any:
        yield Group(*(calls.step(name, ValueError() if name == "bad" else None) for name in names), limit=1)

    with pytest.raises(SagaExecutionException):
        Blocks(calls).run(body)
    assert calls.log == ["a", "b", "bad", "-b", "-a"]


def test_wherever_the_process_dies_no_effect_is_left_and_none_is_made_twice(crashes: Any) -> None:
    def build(effects: Any) -> Saga:
        branches = [sequence(effects.step("b1"), effects.step("b2")), effects.step("c"), effects.step("d")]
        return saga_of(effects.step("a"), parallel(*branches, limit=2), effects.step("e", ValueError()))

    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status == "compensated", (crash, crash.kinds)
        assert crash.effects == set(), (crash, crash.kinds)
