"""A call under pdb stops at the first line of the user's own code, and goes on as the one at the terminal says."""

from __future__ import annotations

import asyncio
import functools
import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from saga import Context, Saga, Task, saga_step, step
from saga.storage import MemoryStore
from saga.testing import Again, debug


class Adds(Task[int]):
    def execute(self, context: Context) -> int:
        total = context.first + 1
        return total


class Awaits(Task[int]):
    async def execute(self, context: Context) -> int:
        total = context.first
        await asyncio.sleep(0)
        total += 1
        return total  # type: ignore[no-any-return]


def adds(context: Context) -> int:
    total = context.first + 1
    return total


async def awaits(context: Context) -> int:
    total = context.first
    await asyncio.sleep(0)
    return total + 1  # type: ignore[no-any-return]


def wrapped(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


@contextmanager
def in_a_scope(kind: type[Any]) -> Iterator[Any]:
    made = kind()
    yield made


class Declared(Saga[Any]):
    @saga_step
    def weigh(self, context: Context) -> int:
        total = context.first + 1
        return total

    def flow(self) -> Any:
        return (self.weigh,)


SAGAS: dict[str, tuple[Callable[[], Saga[Any]], str]] = {
    "a task": (lambda: Saga("s").add_task(Adds), "total = context.first + 1"),
    "a function": (lambda: Saga("s").add_task(step(adds)), "total = context.first + 1"),
    "a method": (Declared, "total = context.first + 1"),
    "a coroutine function": (lambda: Saga("s").add_task(step(awaits)), "total = context.first"),
    "a task's coroutine function": (lambda: Saga("s").add_task(Awaits), "total = context.first"),
    "a decorated function": (lambda: Saga("s").add_task(step(wrapped(adds), name="a")), "return function(*args)"),
    "what a resolver makes": (lambda: Saga("s", resolver=in_a_scope).add_task(Adds), "total = context.first + 1"),
}


def stepped(monkeypatch: pytest.MonkeyPatch, saga: Saga[Any], *lines: str) -> tuple[Again, str]:
    """Return what came of the call of an execution, with these lines said to pdb, and what was to be seen."""
    store = MemoryStore()
    saga.execute({"first": 1}, saga_id="x", store=store)
    seen = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "stdout", seen)
    before = sys.gettrace(), signal.getsignal(signal.SIGINT)
    again = debug("x", saga, store=store).call(pdb=True)
    assert (sys.gettrace(), signal.getsignal(signal.SIGINT)) == before, "a Ctrl-C later belongs to the program again"
    return again, seen.getvalue()


def stops(seen: str) -> list[str]:
    return re.findall(r"^-> (.*)$", seen, re.MULTILINE)


@pytest.mark.parametrize(("build", "first"), SAGAS.values(), ids=SAGAS.keys())
def test_it_stops_at_the_users_first_line(build: Callable[[], Saga[Any]], first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    again, seen = stepped(monkeypatch, build(), "c")
    assert stops(seen) == [first]
    assert (again.result, again.left) == (2, False)


@pytest.mark.parametrize(("build", "first"), SAGAS.values(), ids=SAGAS.keys())
def test_it_steps_to_the_end_and_shows_no_line_but_the_users(
    build: Callable[[], Saga[Any]], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, seen = stepped(monkeypatch, build(), *["n"] * 12)
    assert stops(seen)[0] == first
    assert any(line.startswith("return") for line in stops(seen))
    assert set(re.findall(r"^> .*?([\w.]+)\(\d+\)", seen, re.MULTILINE)) == {"test_stepping.py"}
    assert (again.result, again.left) == (2, False)


def test_callers_are_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for saga in (Saga("s").add_task(step(adds)), Saga("s").add_task(step(awaits))):
        _, seen = stepped(monkeypatch, saga, "w", "up", "c")
        assert re.findall(r"(\w+\.py)\(\d+\)", seen) == ["test_stepping.py"] * 2
        assert "Oldest frame" in seen


def test_who_leaves_it_is_told_nothing_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for saga in (Saga("s").add_task(step(adds)), Saga("s").add_task(step(awaits))):
        again, _ = stepped(monkeypatch, saga, "n", "q")
        assert (again.left, again.returned, again.error, again.follows) == (True, False, None, None)


def test_at_the_prompt_effects_are_refused_and_values_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    again, seen = stepped(
        monkeypatch, Saga("s").add_task(step(adds)), "p context.step.name", "open('new', 'w')", "n", "total = 7", "c"
    )
    assert "'adds'" in seen
    assert "EffectRefusedError: writing to new is refused" in seen
    assert (again.result, again.refused) == (7, ("writing to new",))
