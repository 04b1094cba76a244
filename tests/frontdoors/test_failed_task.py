"""``failed_task`` and a failed compensation's ``task`` are what the user added, whatever is around it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saga import Context, Done, Saga, Skip, Task, fallback, parallel, sequence, step, transaction
from saga.errors import SagaExecutionException
from tests.kit import saga_of


class Charge(Task[None]):
    """Fails, as does its undo."""

    compensate_on_failure = True

    def execute(self, context: Context) -> None:
        raise ValueError("no")

    def compensate(self, context: Context) -> None:
        raise OSError("gone")

    def verify(self, context: Context) -> Done[None] | None:
        return None


class AsyncCharge(Charge):
    async def execute(self, context: Context) -> None:  # type: ignore[override]
        raise ValueError("no")


class Breaker:
    def calling(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def guarded(task: Task[Any] | type[Task[Any]]) -> Any:
    return fallback(task, step(str, name="instead"), on=KeyError, breaker=Breaker())


def in_a_block(task: Task[Any]) -> Any:
    found: Any = None
    try:
        with transaction("block") as tx:
            tx.step(task)
    except SagaExecutionException as error:
        found = error.result
    return found


DOORS: dict[str, Callable[[Task[Any]], Any]] = {
    "as it is": lambda task: saga_of(task).try_execute(),
    "a breaker": lambda task: saga_of(guarded(task)).try_execute(),
    "a branch": lambda task: saga_of(parallel(task, step(str, name="b"))).try_execute(),
    "a breaker in a branch": lambda task: saga_of(parallel(guarded(task), step(str, name="b"))).try_execute(),
    "a saga as a step": lambda task: Saga("s").add_task(saga_of(task)).try_execute(),
    "a sequence": lambda task: saga_of(sequence(step(str, name="a"), task)).try_execute(),
    "a step with policies": lambda task: saga_of(step(task, name="other", compensate_on_failure=True)).try_execute(),
    "declared": lambda task: type("Declared", (Saga,), {"flow": (task,)})().try_execute(),
    "a block": in_a_block,
    "a timeout": lambda task: saga_of(task, timeout=60.0).try_execute(),
    "behind a skip": lambda task: saga_of(
        step(Charge, on_error=Skip, name="x", compensate_on_failure=False), task
    ).try_execute(),
}


@pytest.mark.parametrize("name", DOORS)
def test_it_is_the_object_that_was_added(name: str) -> None:
    task = Charge()
    result = DOORS[name](task)
    assert result.failed_task is task
    assert [one.task for one in result.compensation_errors] == [task]


@pytest.mark.parametrize("kind", [Charge, AsyncCharge])
@pytest.mark.parametrize("around", ["class", "scope", "breaker", "branch"])
def test_of_a_class_it_is_the_object_that_was_made_of_it(kind: type[Task[Any]], around: str) -> None:
    made: list[Task[Any]] = []

    @contextlib.contextmanager
    def scope(cls: type[Task[Any]]) -> Iterator[Task[Any]]:
        made.append(cls())
        yield made[-1]

    flow: Any = kind
    if around == "breaker":
        flow = guarded(kind)
    elif around == "branch":
        flow = parallel(kind, step(str, name="b"))
    saga = Saga("s", resolver=None if around == "class" else scope).add_task(flow)
    result = asyncio.run(saga.atry_execute())
    assert type(result.failed_task) is kind
    if around != "class":
        assert result.failed_task is made[-1]
    assert [one.task for one in result.compensation_errors] == [result.failed_task]


def test_executions_at_once_have_each_their_own() -> None:
    saga = Saga("s", resolver=lambda cls: cls()).add_task(Charge)
    first, second = saga.try_execute(), saga.try_execute()
    assert isinstance(first.failed_task, Charge)
    assert isinstance(second.failed_task, Charge)
    assert first.failed_task is not second.failed_task
