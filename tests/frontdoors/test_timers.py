"""``timer``: how long, or until when, in every way in which that is said; and what survives of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Skip, Status, choose, fallback, parallel, sequence, timer, transaction
from saga.errors import SagaDefinitionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from saga.testing import Clock, with_stand_ins
from tests.kit import PATIENCE, saga_of, within

NOON = datetime(2030, 1, 14, 12, tzinfo=UTC)
KYIV = timezone(timedelta(hours=2))

MOMENTS: dict[str, tuple[Any, float]] = {
    "seconds": (90, 90.0),
    "a timedelta": (timedelta(hours=2), 7200.0),
    "a datetime": (NOON + timedelta(minutes=5), 300.0),
    "a datetime of another time zone": (datetime(2030, 1, 14, 14, 5, tzinfo=KYIV), 300.0),
    "a datetime that is past": (NOON - timedelta(days=1), 0.0),
}
"""What a timer, and a function of the context, may say; and the seconds that pass from noon on."""
SAID = {**MOMENTS, "no seconds": (0, 0.0), "seconds that are past": (-5.5, 0.0)}


@pytest.mark.parametrize("how", MOMENTS)
def test_time_passes_as_a_timer_says(calls: Any, how: str) -> None:
    wait, passes = MOMENTS[how]
    with Clock(NOON):
        result = calls.run(saga_of(calls.step("a"), timer(wait, name="t"), calls.step("b")))
    assert (result.ok, result.elapsed, result.results["t"]) == (True, passes, None)
    assert calls.log == ["a", "b"]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("how", SAID)
def test_time_passes_as_a_function_of_the_context_says(calls: Any, how: str, durable: bool) -> None:
    asked: list[Any] = []

    def when(context: Context) -> Any:
        asked.append(context.how)
        return SAID[context.how][0]

    async def when_in_loop(context: Context) -> Any:
        return when(context)

    function = when_in_loop if calls.in_loop else when
    with Clock(NOON):
        store = MemoryStore() if durable else None
        result = calls.run(saga_of(timer(function, name="t"), calls.step("b"), store=store), {"how": how})
    assert (result.ok, result.elapsed, asked) == (True, SAID[how][1], [how])


def test_timers_are_called_by_what_they_wait_for() -> None:
    def due(context: Context) -> float:
        return 1.0

    waits = (timer(90), timer(timedelta(minutes=1)), timer(NOON), timer(due), timer(due, name="rest"))
    assert saga_of(*waits).plan.names == (
        *("timer 90 s", "timer 60 s", "timer until 2030-01-14T12:00:00+00:00"),
        *("timer due: until", "timer due", "rest: until", "rest"),
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "NoneType None"),
        ("noon", "str 'noon'"),
        (True, "bool True"),
        (float("inf"), "float inf"),
        (datetime(2030, 1, 1), "a datetime of no time zone"),
    ],
)
def test_a_function_that_says_no_time_fails_the_saga(calls: Any, said: Any, told: str) -> None:
    result = calls.run(saga_of(calls.step("a"), timer(lambda context: said, name="t"), calls.step("b")))
    assert (result.status, calls.log) == (Status.COMPENSATED, ["a", "-a"])
    assert isinstance(result.error, SagaDefinitionError)
    assert f"timer 't': <lambda> returned {told}; return seconds, a timedelta, or a datetime" in str(result.error)


def counted(asked: list[str], said: Any) -> Callable[[Any], Any]:
    def when(context: Any) -> Any:
        asked.append("asked")
        return said

    return when


@pytest.mark.parametrize("said", [100.0, timedelta(seconds=100)])
def test_a_recovery_waits_for_what_is_left_and_asks_no_more(plain: Any, left: Any, said: Any) -> None:
    asked: list[str] = []
    saga = saga_of(plain.step("a"), timer(counted(asked, said), name="t"), plain.step("b"))
    store = left(saga, "t", age=40.0)
    within(PATIENCE, Recovery(store, [saga]).run_once)
    row = store.get("o-1")
    assert 55 < row.due - store.now() <= 60
    shown = Operations(store, "ann", sagas=[saga]).show("o-1")
    (waiting,) = [one for one in shown.steps if one.name == "t"]
    assert waiting.next_at == pytest.approx(row.due, abs=1)
    assert "step t waits for its time" in (shown.waits or "")
    assert asked == ["asked"]


@pytest.mark.parametrize("of", ["the timer", "a function"])
def test_a_recovery_waits_until_the_moment_that_was_said(plain: Any, left: Any, of: str) -> None:
    moment = datetime.now(UTC) + timedelta(hours=1)
    asked: list[str] = []
    saga = saga_of(timer(moment if of == "the timer" else counted(asked, moment), name="t"), plain.step("b"))
    store = left(saga, "t", age=3600.0)  # as seconds they would be over
    within(PATIENCE, Recovery(store, [saga]).run_once)
    assert store.get("o-1").due == pytest.approx(moment.timestamp(), abs=1)
    assert plain.log == []


def test_who_dies_while_asked_is_asked_again(plain: Any, left: Any) -> None:
    asked: list[str] = []
    saga = saga_of(plain.step("a", in_doubt=InDoubt.RERUN), timer(counted(asked, 0), name="t"), plain.step("b"))
    (result,) = Recovery(left(saga, "t: until"), [saga]).run_once()
    assert (result.ok, asked, plain.log) == (True, ["asked"], ["a", "b"])


def test_where_the_saga_goes_on_without_what_a_function_says_no_time_passes(calls: Any) -> None:
    def when(context: Context) -> float:
        raise ValueError

    saga = saga_of(calls.step("a"), timer(when, name="t"), calls.step("b"), on_error=Skip)
    with Clock():
        result = calls.run(saga)
    assert (result.ok, result.elapsed, calls.log) == (True, 0.0, ["a", "b"])


def after_an_hour(context: Context) -> timedelta:
    return timedelta(hours=1)


def declared(calls: Any) -> Saga:
    class Declared(Saga):
        flow = timer(after_an_hour, name="t"), calls.step("b")

    return Declared()


WITHIN: dict[str, Callable[[Any], Saga]] = {
    "a sequence": lambda calls: saga_of(sequence(timer(after_an_hour), calls.step("b"))),
    "a branch": lambda calls: saga_of(timer(after_an_hour) & timer(after_an_hour, name="t"), calls.step("b")),
    "a fallback": lambda calls: saga_of(
        fallback(calls.step("a", ValueError()), sequence(timer(after_an_hour), calls.step("b")))
    ),
    "a saga in another": lambda calls: saga_of(Saga("inner").add_task(timer(after_an_hour)), calls.step("b")),
    "a way that is chosen": lambda calls: saga_of(
        choose(lambda context: "slow", {"slow": timer(after_an_hour), "fast": calls.step("a")}), calls.step("b")
    ),
    "a declared saga": declared,
}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("where", WITHIN)
def test_a_function_tells_a_timer_wherever_it_stands(calls: Any, where: str, durable: bool) -> None:
    with Clock():
        saga = WITHIN[where](calls)
        result = calls.run(saga, store=MemoryStore() if durable else None)
    assert (result.ok, result.elapsed) == (True, 3600.0)
    assert calls.log[-1] == "b"


def test_a_function_tells_a_timer_in_a_block(plain: Any) -> None:
    with Clock(NOON) as clock, transaction("s") as tx:
        assert tx.parallel(timer(after_an_hour), plain.step("b")) == (None, "result of b")
        assert clock.now() == NOON.timestamp() + 3600


def test_nothing_stands_for_what_tells_a_timer() -> None:
    with pytest.raises(SagaDefinitionError, match="step 't: until' tells how long a timer waits"):
        with_stand_ins(saga_of(timer(lambda context: 1.0, name="t")), {"t: until": lambda: "a while"})


def test_wherever_the_process_dies_a_saga_with_told_timers_ends_whole(crashes: Any) -> None:
    def build(effects: Any) -> Any:
        past = datetime(2020, 1, 1, tzinfo=UTC)
        told = timer(lambda context: 0.001, name="t2")
        group = parallel(sequence(timer(past, name="t1"), effects.step("b", in_doubt=InDoubt.RERUN)), told)
        last = effects.step("c", in_doubt=InDoubt.RERUN)
        return saga_of(effects.step("a", in_doubt=InDoubt.RERUN), group, timer(lambda context: past, name="t3"), last)

    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert (crash.status, crash.effects) == ("completed", {"a", "b", "c"}), (crash, crash.kinds)
