"""A coroutine that a plain function returns is awaited by nobody, so it is no success."""

from __future__ import annotations

from typing import Any

from saga import Context, Status, step
from saga.storage import MemoryStore
from tests.kit import saga_of


def test_a_coroutine_nobody_awaits_is_no_success(log: list[str]) -> None:
    async def work() -> None:
        log.append("worked")

    result = saga_of(step(lambda: work(), name="a")).try_execute()
    assert (result.status, log) == (Status.COMPENSATED, [])
    assert "make the function that calls it an `async def`" in str(result.error)


def test_a_compensation_that_nobody_awaits_has_failed(log: list[str], plain: Any) -> None:
    async def undo() -> None:
        log.append("-a")

    for work in (
        saga_of(step(lambda: 1, lambda own: undo(), name="a"), plain.step("b", ValueError())),
        saga_of(step(lambda: 1, lambda own: undo(), name="a"), plain.step("b", ValueError()), timeout=9),
    ):
        log.clear()
        result = work.try_execute()
        assert (result.status, log) == (Status.STUCK, ["b"])
        assert "nobody awaits" in str(result.compensation_errors[0].error)


def test_what_a_function_did_before_it_returned_a_coroutine_is_undone(log: list[str]) -> None:
    async def work() -> None: ...

    def do(context: Context) -> Any:
        log.append("a")
        return work()

    for options in ({}, {"timeout": 9.0}, {"store": MemoryStore()}):
        log.clear()
        assert saga_of(step(do, lambda own: log.append("-a"), name="a"), **options).try_execute().status is Status.COMPENSATED
        assert log == ["a", "-a"]
