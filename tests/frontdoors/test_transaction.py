"""``with transaction(...)`` and ``async with transaction(...)``: sagas written as blocks.

A block is written once, as a generator that yields what it wants to be executed; ``blocks`` runs it in either form.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from saga import Retry, Skip, Status, Transaction, step, transaction
from saga.errors import SagaCompensationError, SagaDefinitionError, SagaExecutionException
from saga.events import StepSucceeded
from tests.kit import PATIENCE, SHORT, Odd, failures, saga_of
from tests.kit.blocks import Blocks

# -- how blocks end ---------------------------------------------------------------------------------------------------


def test_a_block_that_ends_well_is_a_completed_saga(blocks: Blocks) -> None:
    got: list[Any] = []

    def body(tx: Transaction) -> Any:
        assert tx.result is None
        got.append((yield blocks.do("a")))
        got.append((yield blocks.do("b")))

    result = blocks.run(body, "order", saga_id="o-1")
    assert got == ["result of a", "result of b"]
    assert (result.saga, result.saga_id, result.status) == ("order", "o-1", Status.COMPLETED)
    assert result.results == {"a": "result of a", "b": "result of b"}
    assert blocks.log == ["a", "b"]


def test_a_block_without_steps_completes(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        yield from ()

    assert blocks.run(body).ok


@pytest.mark.parametrize(("failing", "bad"), failures(4))
def test_a_step_that_fails_undoes_those_before_it_and_leaves_the_block(
    blocks: Blocks, failing: int, bad: tuple[int, ...]
) -> None:
    def body(tx: Transaction) -> Any:
        for i in range(4):
            yield blocks.do(str(i), ValueError(i) if i == failing else None, OSError(i) if i in bad else None)

    with pytest.raises(SagaExecutionException) as caught:
        blocks.run(body)
    assert type(caught.value) is (SagaCompensationError if bad else SagaExecutionException)
    assert isinstance(caught.value.__cause__, ValueError)
    assert blocks.log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing))]
    assert blocks.tx.result is not None
    assert blocks.tx.result.status is (Status.STUCK if bad else Status.COMPENSATED)
    assert blocks.tx.result.failed_step == str(failing)
    assert [error.step for error in caught.value.compensation_errors] == [str(i) for i in reversed(bad)]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, Odd, asyncio.CancelledError])
@pytest.mark.parametrize("after", range(4))
def test_an_exception_between_steps_undoes_them_and_goes_on_as_it_is(
    blocks: Blocks, kind: type[BaseException], after: int
) -> None:
    if kind is SystemExit and blocks.calls.in_loop:
        pytest.skip("asyncio treats it in its own way")
    error = kind("stop")

    def body(tx: Transaction) -> Any:
        for i in range(after):
            yield blocks.do(str(i))
        raise error

    with pytest.raises(kind) as caught:
        blocks.run(body)
    assert caught.value is error or isinstance(caught.value, asyncio.CancelledError)
    assert blocks.log == [str(i) for i in range(after)] + [f"-{i}" for i in reversed(range(after))]
    assert "failed and was undone" in error.__notes__[0]
    assert blocks.tx.result is not None
    assert blocks.tx.result.status is Status.COMPENSATED


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Odd])
@pytest.mark.parametrize("failing", range(3))
def test_an_interrupt_in_a_step_undoes_that_too_and_goes_on_as_it_is(
    blocks: Blocks, kind: type[BaseException], failing: int
) -> None:
    error = kind("stop")

    def body(tx: Transaction) -> Any:
        for i in range(3):
            yield blocks.do(str(i), error if i == failing else None)

    with pytest.raises(kind) as caught:
        blocks.run(body)
    assert caught.value is error
    assert blocks.log == [str(i) for i in range(failing + 1)] + [f"-{i}" for i in reversed(range(failing + 1))]


def test_an_exception_between_steps_that_cannot_be_undone_is_the_cause(blocks: Blocks) -> None:
    error = ValueError("stop")

    def body(tx: Transaction) -> Any:
        yield blocks.do("a", None, OSError("gone"))
        raise error

    with pytest.raises(SagaCompensationError, match="gone") as caught:
        blocks.run(body)
    assert caught.value.__cause__ is error
    assert blocks.tx.result is not None
    assert blocks.tx.result.status is Status.STUCK


def test_swallowing_a_failure_within_the_block_does_not_save_it(blocks: Blocks) -> None:
    refused: list[str] = []

    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        try:
            yield blocks.do("b", ValueError("no"))
        except SagaExecutionException:
            assert blocks.log == ["a", "b", "-a"]
        try:
            yield blocks.do("c")
        except SagaDefinitionError as error:
            refused.append(str(error))

    with pytest.raises(SagaExecutionException) as caught:
        blocks.run(body)
    assert isinstance(caught.value.__cause__, ValueError)
    assert refused == ["transaction 'transaction' has failed: no step can follow"]
    assert blocks.log == ["a", "b", "-a"]


def test_an_exception_after_a_swallowed_failure_goes_on_as_it_is(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        try:
            yield blocks.do("b", ValueError("no"))
        except SagaExecutionException:
            raise KeyError("another") from None

    with pytest.raises(KeyError, match="another"):
        blocks.run(body)


def test_swallowing_what_is_raised_between_steps_keeps_the_block_going(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        try:
            raise ValueError
        except ValueError:
            yield blocks.do("b")

    assert blocks.run(body).ok
    assert blocks.log == ["a", "b"]


def test_a_foreign_saga_failure_does_not_hide_a_blocks_own_failed_undo(plain: Any) -> None:
    inner = saga_of(plain.step("x", ValueError("inner")))

    def block() -> None:
        with transaction("outer") as tx:
            tx.step(lambda: 1, lambda: 1 / 0, name="a")
            inner.execute()

    with pytest.raises(SagaCompensationError, match="ZeroDivisionError"):
        block()


def test_nor_does_that_of_an_inner_block() -> None:
    def block() -> None:
        with transaction("outer") as outer:
            outer.step(lambda: 1, lambda: 1 / 0, name="a")
            with transaction("inner") as inner:
                inner.step(lambda: 1 / 0, name="b")

    with pytest.raises(SagaCompensationError):
        block()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interrupt_of_a_block_stays_what_it_is_where_the_undo_fails(kind: type[BaseException]) -> None:
    def block() -> None:
        with transaction() as tx:
            tx.step(lambda: 1, lambda: 1 / 0, name="a")
            raise kind

    with pytest.raises(kind):
        block()


def test_an_interrupt_in_the_undo_of_a_block_is_raised() -> None:
    def undo() -> None:
        raise KeyboardInterrupt

    def block() -> None:
        with transaction() as tx:
            tx.step(lambda: 1, undo, name="a")
            raise ValueError

    with pytest.raises(KeyboardInterrupt):
        block()


def test_a_block_that_ends_well_beside_a_skipped_straggler_does_not_raise(gate: Any) -> None:
    with transaction() as tx:
        tx.step(gate.hold, name="a", timeout=SHORT, on_error=Skip)
        tx.step(lambda: 1, name="b")
    gate.open()
    assert tx.result is not None
    assert tx.result.join(PATIENCE).ok


# -- around the block -------------------------------------------------------------------------------------------------


def test_a_block_is_entered_once(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a")

    blocks.run(body)
    with pytest.raises(SagaDefinitionError, match="entered once"), blocks.tx:
        raise AssertionError
    assert blocks.log == ["a"]


def test_steps_outside_the_block_are_refused(plain: Any) -> None:
    tx = transaction()
    with pytest.raises(SagaDefinitionError, match=r"within its `with` block"):
        tx.step(plain.function("early"))
    with tx:
        tx.step(plain.function("a"))
    with pytest.raises(SagaDefinitionError, match=r"within its `with` block"):
        tx.step(plain.function("late"))
    assert plain.log == ["a"]


def test_each_form_of_block_has_its_own_steps() -> None:
    async def coroutine() -> int:
        return 1

    with transaction() as tx:
        with pytest.raises(SagaDefinitionError, match="async with"):
            tx.step(coroutine)
        with pytest.raises(SagaDefinitionError, match=r"use `tx\.step"):
            asyncio.run(tx.astep(lambda: 1))  # type: ignore[arg-type]
        assert tx.step(lambda: 2, name="two") == 2

    async def work() -> None:
        async with transaction() as tx:
            with pytest.raises(SagaDefinitionError, match=r"await tx\.astep"):
                tx.step(lambda: 1)
            with pytest.raises(SagaDefinitionError, match=r"await tx\.astep"):
                tx.parallel(step(coroutine), step(lambda: 1, name="one"))
            assert await tx.astep(coroutine) == 1
            assert await tx.astep(lambda: 2, name="two") == 2

    asyncio.run(work())


def test_observers_are_told_as_it_happens(blocks: Blocks) -> None:
    told: list[str] = []

    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        assert told[-2:] == ["StepStarted", "StepSucceeded"]
        told.clear()
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocks.run(body, logger=lambda event, info: told.append(type(event).__name__))
    assert told == ["SagaCompensating", "CompensationStarted", "CompensationSucceeded", "SagaCompensated"]


def test_observers_know_the_steps_of_a_block_as_they_come(blocks: Blocks) -> None:
    known: list[tuple[str, ...]] = []
    retries: dict[str, Any] = {}

    def observe(event: Any, info: Any) -> None:
        known.append(info.plan.names)
        if isinstance(event, StepSucceeded):
            retries[event.step] = info.step(event.step).retry.max_attempts

    def body(tx: Transaction) -> Any:
        yield blocks.do("a", retry=Retry(3))
        yield blocks.do("b")

    blocks.run(body, logger=observe)
    assert list(dict.fromkeys(known)) == [("a",), ("a", "b")]
    assert retries == {"a": 3, "b": 1}


def test_a_block_tells_that_it_started() -> None:
    told: list[str] = []
    with transaction(logger=lambda event, info: told.append(type(event).__name__)) as tx:
        tx.step(lambda: 1, name="a")
    assert told == ["SagaStarted", "StepStarted", "StepSucceeded", "SagaCompleted"]


def test_blocks_within_blocks_are_undone_one_by_one(plain: Any) -> None:
    inner_fails = False
    results = []

    def work() -> None:
        with transaction("outer") as outer:
            results.append(outer)
            outer.step(plain.function("a"), plain.function("-a"), name="a")
            with transaction("inner") as inner:
                inner.step(plain.function("b"), plain.function("-b"), name="b")
                if inner_fails:
                    inner.step(plain.function("c", ValueError()), name="c")
            raise KeyError("x")

    with pytest.raises(KeyError):
        work()
    assert plain.log == ["a", "b", "-a"]  # the inner one had ended well
    plain.log.clear()
    inner_fails = True
    with pytest.raises(SagaExecutionException):
        work()
    assert plain.log == ["a", "b", "c", "-b", "-a"]
    assert [outer.result.status for outer in results] == [Status.COMPENSATED] * 2


def test_many_blocks_at_once_share_nothing(calls: Any) -> None:
    undone: list[int] = []

    def undo(number: int) -> None:
        undone.append(number)

    def sync(number: int) -> None:
        with transaction("s", {"number": number}) as tx:
            assert tx.step(lambda context: context.number, undo, name="a") == number
            if number % 2:
                raise KeyError(number)

    async def work(number: int) -> None:
        async with transaction("s", {"number": number}) as tx:
            assert await tx.astep(lambda context: context.number, undo, name="a") == number
            if number % 2:
                raise KeyError(number)

    if calls.in_loop:

        async def everything() -> list[Any]:
            return await asyncio.gather(*map(work, range(40)), return_exceptions=True)

        asyncio.run(everything())
    else:
        threads = [threading.Thread(target=_quietly, args=(sync, number)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(undone) == list(range(1, 40, 2))


def _quietly(function: Any, number: int) -> None:
    with suppress(KeyError):
        function(number)
