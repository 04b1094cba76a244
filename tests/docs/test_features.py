"""Each feature on the features page is shown by a test that exists; those here are shown nowhere else as plainly."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saga import Context, Saga, Task, fallback, step

PROJECT = Path(__file__).parents[2]
NODES = re.findall(r"``(tests/[^`]+)``", (PROJECT / "docs" / "features.rst").read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", sorted(set(NODES)))
def test_the_test_that_shows_a_feature_exists(node: str) -> None:
    path, _, name = node.partition("::")
    name, _, parameter = name.partition("[")
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    if parameter:  # a page of the documentation
        assert (PROJECT / parameter.removesuffix("]")).is_file()


def test_every_row_names_a_test() -> None:
    page = (PROJECT / "docs" / "features.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - (?!library$)", page, re.MULTILINE)
    assert len(rows) == len(NODES)


def test_a_breaker_that_is_open_keeps_its_step_from_being_called() -> None:
    calls = []

    class Breaker:
        open = False

        @contextmanager
        def calling(self) -> Iterator[None]:
            if self.open:
                raise ConnectionError("the circuit is open")
            try:
                yield
            except ConnectionError:
                self.open = True
                raise

    def express() -> str:
        calls.append("express")
        raise ConnectionError("the courier does not answer")

    saga = Saga("ship").add_task(fallback(step(express), step(lambda: "by post", name="post"), breaker=Breaker()))
    assert [saga.execute().results, saga.execute().results] == [{"post": "by post"}] * 2
    assert calls == ["express"]


def test_a_resolver_makes_a_task_for_each_call() -> None:
    made: list[str] = []

    class Save(Task[None]):
        def __init__(self, connection: str) -> None:
            made.append(connection)

        def execute(self, context: Context) -> None:
            pass

    saga = Saga("save", resolver=lambda kind: kind(f"connection {len(made) + 1}")).add_task(Save)
    assert saga.execute().ok
    assert saga.execute().ok
    assert made == ["connection 1", "connection 2"]
