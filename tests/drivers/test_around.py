"""Observers that surround calls: whatever they do, the call is made, and its outcome is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from saga import Retry, SagaResult, Status
from tests.kit import Calls, failing_times


class Around:
    """An observer that surrounds each call with what ``make`` returns, and listens to nothing else."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.make = make

    def __call__(self, event: Any, info: Any) -> None: ...

    def around(self, info: Any, step: Any, attempt: int, phase: str) -> AbstractContextManager[Any] | None:
        made: AbstractContextManager[Any] | None = self.make(f"{step.name} {attempt} {phase}")
        return made


def run(calls: Calls, make: Callable[[str], Any], limited: bool) -> SagaResult:
    """Run a step that needs two attempts, one whose undo needs two, and one that fails; beside the loop where ``limited``."""
    more: dict[str, Any] = {"timeout": 60} if limited else {}
    saga = calls.saga(
        calls.step("a", failing_times(1), retry=Retry(2), **more),
        calls.step("b", None, failing_times(1), compensation_retry=Retry(2), **more),
        calls.step("c", OSError("c"), **more),
        observers=[Around(make)],
    )
    return calls.run(saga)


def check(calls: Calls, result: SagaResult) -> None:
    assert calls.log == ["a", "a", "b", "c", "-b", "-b", "-a"]
    assert result.status is Status.COMPENSATED
    assert [record.status for record in result.history] == ["compensated", "compensated", "failed"]
    assert (result.failed_step, str(result.error)) == ("c", "c")


@pytest.mark.parametrize("limited", [False, True])
def test_each_attempt_of_each_call_is_surrounded(calls: Calls, limited: bool) -> None:
    seen: list[str] = []

    @contextmanager
    def note(call: str) -> Iterator[None]:
        try:
            yield
        except OSError:
            seen.append(f"{call} failed")
            raise
        seen.append(f"{call} returned")

    check(calls, run(calls, note, limited))
    assert seen == [
        "a 1 execute failed",
        "a 2 execute returned",
        "b 1 execute returned",
        "c 1 execute failed",
        "b 1 compensate failed",
        "b 2 compensate returned",
        "a 1 compensate returned",
    ]


@pytest.mark.parametrize("listens", [False, True])
def test_one_that_does_not_listen_surrounds_no_call(calls: Calls, listens: bool) -> None:
    class Quiet(Around):
        def listening(self) -> bool:
            return listens

    seen: list[str] = []
    calls.run(calls.saga(calls.step("a"), observers=[Quiet(seen.append)]))
    assert seen == ["a 1 execute"] * listens


@pytest.mark.parametrize("limited", [False, True])
def test_one_that_swallows_what_the_call_raises_makes_no_success_of_it(calls: Calls, limited: bool) -> None:
    class Swallows(AbstractContextManager[None]):
        def __exit__(self, *raised: object) -> bool:
            return True

    check(calls, run(calls, lambda call: Swallows(), limited))


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("where", ["asked", "entered", "left"])
def test_one_that_raises_is_logged_and_changes_nothing(
    calls: Calls, where: str, limited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Raises(AbstractContextManager[None]):
        def __enter__(self) -> None:
            if where == "entered":
                raise LookupError(where)

        def __exit__(self, *raised: object) -> None:
            raise LookupError(where)

    one = Raises()

    def make(call: str) -> Raises:
        if where == "asked":
            raise LookupError(where)
        return one

    check(calls, run(calls, make, limited))
    assert [record.message.partition(" raised around a call")[1] for record in caplog.records] == [" raised around a call"]
