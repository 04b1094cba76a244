"""A step that waits for an execution which waits for the step's own: it is refused at once, and nothing is stored of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Saga, Status, step
from saga.drivers.within import outer_executions
from saga.errors import SagaDefinitionError
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, Gate, within

Act = Callable[[Saga, str], Any]
"""Calls one of a saga's methods, or the one for event loops, where what stands before its name is ``a``."""

KEY = {"exclusive": lambda context: "K"}
HAS_KEY = "'outer' of saga 's' has the key 'K' until it ends, and would wait for it"
ITSELF: dict[str, tuple[Act, dict[str, Any], str]] = {
    "itself": (lambda saga, a: getattr(saga, a + "execute")({"n": 0}, saga_id="outer"), {}, "in one of its own steps"),
    "its limit": (lambda saga, a: getattr(saga, a + "execute")({"n": 1}), {"limit": 1}, "only 1 may run at once, and 'outer'"),
    "its key": (lambda saga, a: getattr(saga, a + "execute")({"n": 1}), KEY, HAS_KEY),
    "its key, in an undo": (lambda saga, a: getattr(saga, a + "undo")("done", "why"), KEY, HAS_KEY),
    "one that is in line": (lambda saga, a: getattr(saga, a + "execute")({"n": 2}, saga_id="later"), KEY, HAS_KEY),
    "its own end": (lambda saga, a: getattr(saga.submit({"n": 0}, saga_id="outer"), a + "result")(), {}, "of its own steps"),
}


def here(saga: Saga, act: Act, **policies: Any) -> Any:
    return step(lambda context: act(saga, "") if context.n == 0 else None, name="act", **policies)


def beside(saga: Saga, act: Act) -> Any:
    return here(saga, act, timeout=3600.0)


def awaited(saga: Saga, act: Act) -> Any:
    async def call(context: Context) -> Any:
        return await act(saga, "a") if context.n == 0 else None

    return step(call, name="act")


def to_thread(saga: Saga, act: Act) -> Any:
    async def call(context: Context) -> Any:
        return await asyncio.to_thread(act, saga, "") if context.n == 0 else None

    return step(call, name="act")


@pytest.mark.parametrize("made", [here, beside, awaited, to_thread])
@pytest.mark.parametrize(("act", "options", "says"), ITSELF.values(), ids=ITSELF)
def test_it_is_refused_and_nothing_is_stored(made: Any, act: Act, options: Any, says: str) -> None:
    store = MemoryStore()
    saga = Saga("s", store=store, **options)
    saga.add_task(step(lambda context: context.n == 0 and saga.submit({"n": 2}, saga_id="later").new, name="submit"))
    saga.add_task(made(saga, act))
    saga.execute({"n": 1}, saga_id="done")
    result = within(PATIENCE, lambda: saga.try_execute({"n": 0}, saga_id="outer"))
    assert (result.status, type(result.error)) == (Status.COMPENSATED, SagaDefinitionError)
    assert says in str(result.error)
    assert {row.saga_id for row in store.list()[0]} == {"done", "later", "outer"}
    assert saga.load("done").status is Status.COMPLETED


def needs_its_key(store: MemoryStore, during: Callable[[Context], Any], **policies: Any) -> Saga:
    """Return a saga that has a key, and whose compensation executes it again."""
    saga = Saga("s", store=store, **KEY)
    return saga.add_task(step(during, lambda: saga.execute({"n": 1}), name="a", **policies))


def check_stuck(result: Any) -> None:
    (told,) = result.compensation_errors
    assert (result.status, told.step) == (Status.STUCK, "a")
    assert HAS_KEY in str(told.error)


@pytest.mark.parametrize("in_loop", [False, True])
def test_so_it_is_in_the_undo_of_what_outlived_its_timeout(gate: Gate, in_loop: bool) -> None:
    saga = needs_its_key(MemoryStore(), lambda context: gate.hold(), timeout=SHORT)

    async def main() -> Any:
        result = await saga.atry_execute({"n": 0}, saga_id="outer")
        gate.open()
        return await result.ajoin(PATIENCE)

    def run() -> Any:
        result = saga.try_execute({"n": 0}, saga_id="outer")
        gate.open()
        return result.join(PATIENCE)

    check_stuck(within(PATIENCE, lambda: asyncio.run(main()) if in_loop else run()))


def test_what_there_is_room_for_is_executed_within_a_step() -> None:
    saga = Saga("s", store=MemoryStore(), limit=2, exclusive=lambda context: str(context.n))
    saga.add_task(step(lambda context: saga.execute({"n": 1}).status if context.n == 0 else None, name="a"))
    assert within(PATIENCE, lambda: saga.execute({"n": 0})).results["a"] is Status.COMPLETED


def test_what_a_step_has_begun_may_wait_when_its_execution_has_ended() -> None:
    contexts: list[contextvars.Context] = []
    kept: list[Any] = []
    saga = Saga("s", store=MemoryStore(), limit=1)
    saga.add_task(step(lambda: contexts.append(contextvars.copy_context()), name="a"))
    saga.add_task(step(lambda: kept.extend(outer_executions()), name="keep"))
    first = saga.execute(saga_id="x")
    assert within(PATIENCE, lambda: contexts[0].run(saga.execute, saga_id="x")).status is first.status
    assert within(PATIENCE, lambda: contexts[0].run(saga.execute)).status is Status.COMPLETED
