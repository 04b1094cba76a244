"""``parallel(..., compensate_together=True)``: branches that are undone at the same time, each in reverse order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from saga import Retry, Saga, Status, parallel, sequence, step
from saga.events import StepSucceeded
from saga.recovery import Recovery
from tests.kit import PATIENCE, SHORT, Gate, on, saga_of


def meeting(count: int, in_loop: bool) -> Callable[[], Any]:
    """Return what ends only once ``count`` calls are in it at the same time."""
    barrier = threading.Barrier(count)
    if not in_loop:
        return lambda: barrier.wait(PATIENCE)
    here = 0

    async def meet() -> None:
        nonlocal here
        here += 1
        async with asyncio.timeout(PATIENCE):
            while here < count:
                await asyncio.sleep(0.001)

    return meet


def before(log: list[str], *names: str) -> bool:
    places = [log.index(name) for name in names]
    return places == sorted(places)


def test_branches_are_undone_at_the_same_time(calls: Any) -> None:
    meet = meeting(3, calls.in_loop)
    group = parallel(*(calls.step(name, None, meet) for name in "bcd"), compensate_together=True)
    result = calls.run(saga_of(calls.step("a"), group, calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    assert calls.log[-1] == "-a"


def test_by_default_one_step_is_undone_after_the_other(calls: Any) -> None:
    under_way, most = 0, 0

    def undo() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        threading.Event().wait(0.005)
        under_way -= 1

    group = parallel(*(calls.step(name, None, undo) for name in "bcd"))
    assert calls.run(saga_of(group, calls.step("e", ValueError()))).status is Status.COMPENSATED
    assert most == 1


def test_within_a_branch_the_undo_is_last_first(calls: Any) -> None:
    meet = meeting(2, calls.in_loop)
    one = sequence(calls.step("b1"), calls.step("b2", None, meet))
    two = sequence(calls.step("c1"), calls.step("c2"), calls.step("c3", None, meet))
    result = calls.run(saga_of(calls.step("a"), parallel(one, two, compensate_together=True), calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    assert before(calls.log, "e", "-b2", "-b1", "-a")
    assert before(calls.log, "e", "-c3", "-c2", "-c1", "-a")


def test_steps_after_the_group_are_undone_before_it(calls: Any) -> None:
    group = parallel(calls.step("b"), calls.step("c"), compensate_together=True)
    calls.run(saga_of(group, calls.step("d"), calls.step("e"), calls.step("f", ValueError())))
    assert before(calls.log, "f", "-e", "-d", "-b")
    assert before(calls.log, "f", "-e", "-d", "-c")


def test_a_failing_branch_undoes_the_others_together(calls: Any) -> None:
    meet, undo = meeting(3, calls.in_loop), meeting(2, calls.in_loop)
    if calls.in_loop:

        async def fail() -> None:
            await meet()
            raise ValueError
    else:

        def fail() -> None:  # type: ignore[misc]
            meet()
            raise ValueError

    group = parallel(calls.step("b", meet, undo), calls.step("c", meet, undo), calls.step("d", fail), compensate_together=True)
    result = calls.run(saga_of(calls.step("a"), group))
    assert result.status is Status.COMPENSATED
    assert sorted(calls.log[-3:-1]) == ["-b", "-c"]


@pytest.mark.parametrize("inner_together", [False, True])
def test_a_group_in_a_group_follows_its_own_rule(calls: Any, inner_together: bool) -> None:
    meet = meeting(3 if inner_together else 2, calls.in_loop)
    inner = parallel(
        calls.step("c", None, meet if inner_together else None),
        calls.step("d", None, meet if inner_together else None),
        compensate_together=inner_together,
    )
    outer = parallel(
        sequence(calls.step("b"), inner), calls.step("x", None, meet if inner_together else None), compensate_together=True
    )
    result = calls.run(saga_of(outer, calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    assert before(calls.log, "-c", "-b")
    assert before(calls.log, "-d", "-b")


def held(calls: Any, gate: Gate) -> Callable[[], Any]:
    return gate.ahold if calls.in_loop else gate.hold


def test_an_inner_group_alone_may_be_undone_together(calls: Any, gate: Gate) -> None:
    meet = meeting(2, calls.in_loop)
    inner = parallel(calls.step("c", None, meet), calls.step("d", None, meet), compensate_together=True)
    outer = parallel(sequence(calls.step("b", held(calls, gate)), inner), calls.step("x"))
    first = on(StepSucceeded, gate.open, "x")
    result = calls.run(saga_of(outer, calls.step("e", ValueError()), observers=first))
    assert result.status is Status.COMPENSATED
    assert before(calls.log, "-c", "-b")


def test_what_was_done_between_two_that_are_undone_together_is_undone_between_them(calls: Any, gates: Any) -> None:
    c_done, x_done = gates(), gates()
    inner = parallel(calls.step("c"), calls.step("d", held(calls, x_done)), compensate_together=True)
    outer = parallel(inner, calls.step("x", held(calls, c_done)))
    observers = [on(StepSucceeded, c_done.open, "c"), on(StepSucceeded, x_done.open, "x")]
    result = calls.run(saga_of(outer, calls.step("e", ValueError()), observers=observers))
    assert result.status is Status.COMPENSATED
    assert calls.log[-3:] == ["-d", "-x", "-c"]


def test_an_undo_that_fails_does_not_hold_up_the_other_branches_or_its_own(calls: Any) -> None:
    one = sequence(calls.step("b1"), calls.step("b2", None, OSError("b2")))
    two = sequence(calls.step("c1"), calls.step("c2"))
    result = calls.run(saga_of(calls.step("a"), parallel(one, two, compensate_together=True), calls.step("e", ValueError())))
    assert result.status is Status.STUCK
    assert [error.step for error in result.compensation_errors] == ["b2"]
    assert {"-b1", "-b2", "-c1", "-c2"} <= set(calls.log)
    assert calls.log[-1] == "-a"


def test_both_branches_may_fail_to_be_undone(calls: Any) -> None:
    group = parallel(calls.step("b", None, OSError()), calls.step("c", None, OSError()), compensate_together=True)
    result = calls.run(saga_of(calls.step("a"), group, calls.step("e", ValueError())))
    assert sorted(error.step for error in result.compensation_errors) == ["b", "c"]
    assert calls.log[-1] == "-a"


def test_an_undo_is_retried_while_the_other_branch_goes_on(calls: Any) -> None:
    tries: list[int] = []

    def once() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError

    one = calls.step("b", None, once, compensation_retry=Retry(2, 0.02))
    two = sequence(calls.step("c1"), calls.step("c2"))
    result = calls.run(saga_of(calls.step("a"), parallel(one, two, compensate_together=True), calls.step("e", ValueError())))
    assert result.status is Status.COMPENSATED
    assert calls.log[-2:] == ["-b", "-a"]
    assert before(calls.log, "-c2", "-c1", "-a")


def test_stopping_at_a_failed_undo_lets_those_under_way_end(plain: Any) -> None:
    meet = meeting(2, False)

    def fail() -> None:
        meet()
        raise OSError

    group = parallel(
        sequence(plain.step("b1"), plain.step("b2", None, fail)),
        sequence(plain.step("c1"), plain.step("c2", None, meet)),
        compensate_together=True,
    )
    saga = saga_of(plain.step("a"), group, plain.step("e", ValueError()), stop_on_compensation_failure=True)
    result = plain.run(saga)
    assert result.status is Status.STUCK
    assert "-c2" in plain.log
    assert "-b1" not in plain.log
    assert "-a" not in plain.log


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_one_undo_does_not_stop_the_others(calls: Any, kind: type[BaseException]) -> None:
    group = parallel(calls.step("b", None, kind("stop")), calls.step("c"), compensate_together=True)
    with pytest.raises(kind, match="stop"):
        calls.run(saga_of(calls.step("a"), group, calls.step("e", ValueError())))
    assert {"-b", "-c"} <= set(calls.log)
    assert calls.log[-1] == "-a"


def test_the_undo_of_a_straggler_waits_for_it_alone(plain: Any) -> None:
    go = threading.Event()
    group = parallel(plain.step("b", lambda: go.wait(PATIENCE), timeout=SHORT), plain.step("c"), compensate_together=True)
    result = plain.run_to_end(saga_of(plain.step("a"), group), lambda first: go.set())
    assert result.status is Status.COMPENSATED
    assert plain.log[-3:] == ["-c", "-a", "-b"]


def test_the_rule_belongs_to_the_definition() -> None:
    def plan(together: bool) -> str:
        pair = [step(lambda: None, lambda: None, name=name) for name in "bc"]
        return saga_of(parallel(*pair, compensate_together=together)).plan.fingerprint

    assert plan(True) == plan(True)


def test_wherever_the_process_dies_recovery_undoes_everything(crashes: Any) -> None:
    def build(effects: Any) -> Saga:
        group = parallel(
            sequence(effects.step("b1"), effects.step("b2")),
            sequence(effects.step("c1"), effects.step("c2")),
            compensate_together=True,
        )
        return saga_of(effects.step("a"), group, effects.step("e", ValueError()))

    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.status == "compensated", (crash, crash.kinds)
        assert crash.effects == set(), (crash, crash.kinds)
