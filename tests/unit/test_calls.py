"""Around a user's call: how it is made in either colour, and the series of those that nobody hears of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Status, step, transaction
from saga.clocks import clock
from saga.drivers.calls import Made, Surroundings, make, make_async
from saga.drivers.views import bind
from saga.machine import Call, Plan, PlannedStep
from saga.machine.log import Log
from tests.kit import saga_of

# -- a call -------------------------------------------------------------------------------------------------------------


class Maker:
    """Makes calls in one colour."""

    def __init__(self, asynchronous: bool) -> None:
        self.asynchronous = asynchronous

    def step(self, name: str, does: Any = None, undo: Any = None) -> Any:
        """Return a step that returns what ``does`` returns of the context, or its name."""

        def execute(context: Context) -> Any:
            return name if does is None else does(context)

        def compensate(context: Context) -> Any:
            return None if undo is None else undo(context)

        async def aexecute(context: Context) -> Any:
            return execute(context)

        async def acompensate(context: Context) -> Any:
            return compensate(context)

        return step(*((aexecute, acompensate) if self.asynchronous else (execute, compensate)), name=name)

    def make(self, call: Call, view: Context, series: Any = (), surroundings: Surroundings | None = None) -> Made:
        if self.asynchronous:
            return asyncio.run(make_async(call, view, surroundings, int, 0, *series))
        return make(call, view, surroundings, *series)


@pytest.fixture(params=["plain", "async"])
def maker(request: pytest.FixtureRequest) -> Maker:
    return Maker(request.param == "async")


def bound(*flows: Any) -> tuple[Plan, Context]:
    plan, context = saga_of(*flows).plan, Context()
    bind(context, plan, "s", "id")
    return plan, context


def test_a_call_is_told_with_what_it_returned_and_how_long_it_took(maker: Maker) -> None:
    plan, view = bound(maker.step("a"))
    (planned,) = plan.steps
    started = clock()
    call, returned, value, elapsed = maker.make(planned.first, view)
    assert (call, returned, value) == (planned.first, True, "a")
    assert 0 <= elapsed <= clock() - started


def test_a_call_is_told_with_what_it_raised(maker: Maker) -> None:
    def fail(context: Context) -> None:
        raise KeyboardInterrupt

    plan, view = bound(maker.step("a", fail))
    call, returned, error, elapsed = maker.make(plan.steps[0].first, view)
    assert (call, returned, type(error)) == (plan.steps[0].first, False, KeyboardInterrupt)
    assert elapsed >= 0


def test_a_compensation_is_called_by_a_call_of_one(maker: Maker) -> None:
    log: list[str] = []
    plan, view = bound(maker.step("a", lambda context: log.append("a"), lambda context: log.append("-a")))
    maker.make(plan.steps[0].first_compensation, view)
    assert log == ["-a"]


def test_a_call_knows_itself(maker: Maker) -> None:
    plan, view = bound(maker.step("a", lambda context: (context.step.name, context.step.attempt)))
    assert maker.make(Call(plan.steps[0], 3), view)[2] == ("a", 3)


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_executes_another_saga_with_its_context_leaves_it_as_it_was(maker: Maker, fails: bool) -> None:
    def other(context: Context) -> None:
        bind(context, saga_of(step(str, name="other")).plan, "s", "other")
        if fails:
            raise ValueError

    plan, view = bound(maker.step("a", other))
    binding = view.__binding__
    assert maker.make(plan.steps[0].first, view)[1] is not fails
    assert view.__binding__ is binding


# -- a series -----------------------------------------------------------------------------------------------------------


def noted(plan: Plan) -> tuple[Log, Callable[[], list[tuple[Any, ...]]]]:
    """Return a log, and what tells what is noted in it: the steps, and a result."""
    log = Log(plan)

    def told() -> list[tuple[Any, ...]]:
        return [(note[0].name, note[1] and note[1].step.name, *note[4:]) for note in log.entries]  # type: ignore[index, union-attr]

    return log, told


def executes(plan: Plan, log: Log, epoch: float = 0.0) -> tuple[Any, Any]:
    """Return the series that the first call begins."""
    log.begin_series(epoch, True)
    return plan.calls_after(plan.steps[0].first), log.note


def compensations(log: Log, *steps: PlannedStep) -> tuple[Any, Any]:
    """Return the series that these steps follow in."""
    log.begin_series(0.0, True)
    return iter([*(step.first_compensation for step in steps), None]), log.note


def test_executes_follow_one_another_to_the_end(maker: Maker) -> None:
    plan, view = bound(*(maker.step(name) for name in "abc"))
    log, told = noted(plan)
    call, returned, value, _ = maker.make(plan.steps[0].first, view, executes(plan, log, 7.0))
    assert (call.step.name, returned, value) == ("c", True, "c")
    assert told() == [("a", "b", "a"), ("b", "c", "b"), ("c", None, "c")]
    assert view.__binding__.results == {"a": "a", "b": "b", "c": "c"}
    assert view.__binding__.previous == "c"
    assert (log.noted, log.epoch, log.end) == (True, 7.0, Status.COMPLETED)
    times = [time for note in log.entries for time in note[2:4]]  # type: ignore[index]
    assert times == sorted(times)
    assert times[1::2][:-1] == times[2::2], "each begins when the one before has ended"


def test_an_execute_that_raises_ends_the_series_after_what_was_noted(maker: Maker) -> None:
    def fail(context: Context) -> None:
        raise ValueError

    plan, view = bound(maker.step("a"), maker.step("b", fail), maker.step("c"))
    log, told = noted(plan)
    call, returned, error, _ = maker.make(plan.steps[0].first, view, executes(plan, log, 0.0))
    assert (call.step.name, returned, type(error)) == ("b", False, ValueError)
    assert told() == [("a", "b", "a")]
    assert log.end is None


async def coroutine() -> None: ...


@pytest.mark.parametrize("odd", [Context, coroutine], ids=["a context", "a coroutine"])
def test_what_the_machine_must_hear_of_ends_the_series(maker: Maker, odd: Any) -> None:
    made: list[Any] = []

    def give(context: Context) -> Any:
        made.append(odd())
        return made[0]

    plan, view = bound(maker.step("a"), maker.step("b", give), maker.step("c"))
    log, told = noted(plan)
    call, returned, value, _ = maker.make(plan.steps[0].first, view, executes(plan, log, 0.0))
    if odd is coroutine and maker.asynchronous:  # it has been awaited
        assert told() == [("a", "b", "a"), ("b", "c", None), ("c", None, "c")]
        return
    assert (call.step.name, returned, value is made[0]) == ("b", True, True)
    assert told() == [("a", "b", "a")]
    if odd is coroutine:
        value.close()


def test_in_an_event_loop_there_are_series_where_all_is_awaited() -> None:
    maker = Maker(True)
    mixed, awaited = bound(maker.step("a"), step(lambda: "plain", name="c"))[0], bound(maker.step("a"), maker.step("b"))[0]
    assert [plan.awaits_executes for plan in (mixed, awaited)] == [False, True]
    mixed = bound(maker.step("a"), step(str, lambda: None, name="c"), step(str, name="d"))[0]
    assert [plan.awaits_compensations for plan in (mixed, awaited)] == [False, True]


def test_nobody_knows_what_follows_in_a_plan_that_grows() -> None:
    plan = transaction("s")._plan
    plan.extend(step(lambda: 1, name="a"))
    assert plan.calls_after(plan.steps[0].first) is None


def test_compensations_follow_one_another_last_first(maker: Maker) -> None:
    undone: list[str] = []
    plan, view = bound(*(maker.step(name, None, lambda context: undone.append(context.step.name)) for name in "abc"))
    a, b, c = plan.steps
    log, told = noted(plan)
    call, *_ = maker.make(c.first_compensation, view, compensations(log, b, a))
    assert undone == ["c", "b", "a"]
    assert call.step is a
    assert told() == [("c", "b"), ("b", "a"), ("a", None)]
    assert log.end is Status.COMPENSATED


def test_a_compensation_that_raises_ends_the_series(maker: Maker) -> None:
    def fail(context: Context) -> None:
        raise ValueError

    plan, view = bound(maker.step("a"), maker.step("b", None, fail), maker.step("c"))
    a, b, c = plan.steps
    log, told = noted(plan)
    call, returned, *_ = maker.make(c.first_compensation, view, compensations(log, b, a))
    assert (call.step, returned, told()) == (b, False, [("c", "b")])


def test_a_compensation_that_returned_a_coroutine_ends_the_series(maker: Maker) -> None:
    never = coroutine()
    plan, view = bound(maker.step("a"), maker.step("b", None, lambda context: never))
    a, b = plan.steps
    log, told = noted(plan)
    call, returned, value, _ = maker.make(b.first_compensation, view, compensations(log, a))
    if maker.asynchronous:  # it has been awaited
        assert told() == [("b", "a"), ("a", None)]
        return
    assert (call.step, returned, value, told()) == (b, True, never, [])
    never.close()
