"""``with transaction(...)`` and ``async with transaction(...)``: sagas written as blocks.

A block is written once, as a generator that yields what it wants to be executed; ``blocks`` runs it in either form.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from saga import (
    Context,
    Retry,
    Saga,
    SagaResult,
    Skip,
    Status,
    Task,
    Transaction,
    fallback,
    sequence,
    step,
    transaction,
)
from saga.errors import (
    SagaCompensationError,
    SagaDefinitionError,
    SagaExecutionException,
    StepTimeoutError,
)
from tests.kit import Odd, failures

SHORT = 0.02


class Do:
    """What a block yields to have a step executed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options = args, options


class Group(Do):
    """What it yields to have a group executed."""


Body = Callable[[Transaction], Generator[Do, Any, None]]


class Blocks:
    """Runs blocks.

    :ivar tx: the last one.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.log: list[str] = calls.log
        self.tx: Transaction

    def do(self, name: str, during: Any = None, during_undo: Any = None, **options: Any) -> Do:
        """Return a step that logs its calls."""
        return Do(self.calls.function(name, during), self.calls.function(f"-{name}", during_undo), name=name, **options)

    def run(self, body: Body, *args: Any, **options: Any) -> SagaResult:
        self.tx = transaction(*args, **options)
        if self.calls.in_loop:
            asyncio.run(self._arun(body))
        else:
            with self.tx as tx:
                self._drive(tx, body(tx))
        assert self.tx.result is not None
        return self.tx.result

    async def _arun(self, body: Body) -> None:
        async with self.tx as tx:
            steps = body(tx)
            answer, error = None, None
            while True:
                try:
                    wanted = steps.throw(error) if error is not None else steps.send(answer)
                except StopIteration:
                    return
                answer, error = None, None
                try:
                    call = tx.aparallel if isinstance(wanted, Group) else tx.astep
                    answer = await call(*wanted.args, **wanted.options)
                except BaseException as raised:
                    error = raised

    @staticmethod
    def _drive(tx: Transaction, steps: Generator[Do, Any, None]) -> None:
        answer, error = None, None
        while True:
            try:
                wanted = steps.throw(error) if error is not None else steps.send(answer)
            except StopIteration:
                return
            answer, error = None, None
            try:
                answer = (tx.parallel if isinstance(wanted, Group) else tx.step)(*wanted.args, **wanted.options)
            except BaseException as raised:
                error = raised


@pytest.fixture
def blocks(calls: Any) -> Blocks:
    return Blocks(calls)


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


# -- steps ------------------------------------------------------------------------------------------------------------


def test_names_are_numbered_where_they_are_taken(blocks: Blocks) -> None:
    def book() -> str:
        return "booked"

    def body(tx: Transaction) -> Any:
        for _ in range(3):
            assert (yield Do(book)) == "booked"
        yield Do(book, name="book#4")
        yield Do(book)

    assert list(blocks.run(body).results) == ["book", "book#2", "book#3", "book#4", "book#5"]


def test_a_name_that_is_given_twice_is_refused_and_the_block_goes_on(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        with pytest.raises(SagaDefinitionError, match="used twice"):
            yield blocks.do("a")
        yield blocks.do("b")

    assert blocks.run(body).ok
    assert blocks.log == ["a", "b"]


@pytest.mark.parametrize(
    "wrong", [Do(5), Do(lambda x, y, z: None), Do(lambda: 1, retries=3), Do(lambda: 1, timeout=-1), Do(Task)]
)
def test_a_step_that_is_wrong_is_refused_and_the_block_goes_on(blocks: Blocks, wrong: Do) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        with pytest.raises(SagaDefinitionError):
            yield wrong
        yield blocks.do("b")

    assert blocks.run(body).ok
    assert blocks.log == ["a", "b"]


def test_functions_get_their_arguments_the_context_and_the_result_before(blocks: Blocks) -> None:
    undone: list[Any] = []

    def book(flight: str, context: Context, *, seats: int) -> str:
        return f"{seats} x {flight} for {context.customer}"

    def unbook(booking: str, reason: str) -> None:
        undone.append((booking, reason))

    def pay(booking: str) -> str:
        return f"paid {booking}"

    def body(tx: Transaction) -> Any:
        options = {"args": ("LH1",), "kwargs": {"seats": 2}, "compensate_args": ("failed",)}
        assert (yield Do(book, unbook, **options)) == "2 x LH1 for ann"
        assert (yield Do(pay)) == "paid 2 x LH1 for ann"
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocks.run(body, "trip", {"customer": "ann"})
    assert undone == [("2 x LH1 for ann", "failed")]


@dataclass
class Trip(Context):
    customer: str = ""
    price: int = 0


class Book(Task[str]):
    def execute(self, context: Trip) -> str:
        context.price += 5
        return f"booked for {context.customer}"

    def compensate(self, context: Trip) -> None:
        context.price -= 5


@pytest.mark.parametrize("made", [Book, Book()])
def test_tasks_work_on_the_blocks_context(blocks: Blocks, made: Any) -> None:
    trip = Trip("ann")

    def body(tx: Transaction) -> Any:
        assert tx.context is trip
        assert (yield Do(made)) == "booked for ann"
        assert tx.context.price == 5
        assert tx.context.result_of(Book) == "booked for ann"
        tx.context.price = 7
        yield Do(made, name="again")
        assert tx.context.price == 12

    assert blocks.run(body, "trip", trip).context is trip


def test_a_block_has_an_empty_context_where_none_is_given(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        assert tx.context == {}
        yield blocks.do("a")

    assert blocks.run(body).context == {}


def test_a_returned_context_replaces_the_blocks(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        assert (yield Do(lambda: Context(new=1), name="a")) is None
        assert tx.context == {"new": 1}

    blocks.run(body, "s", {"old": 1})


# -- policies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("succeeds_at", [1, 3, 4])
def test_a_step_is_retried(blocks: Blocks, succeeds_at: int) -> None:
    def fail() -> None:
        if blocks.log.count("b") < succeeds_at:
            raise OSError

    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        yield blocks.do("b", fail, retry=Retry(3, 0.001))

    if succeeds_at > 3:
        with pytest.raises(SagaExecutionException):
            blocks.run(body)
    else:
        assert blocks.run(body).ok
    assert blocks.log.count("b") == min(succeeds_at, 3)


def test_a_skipped_step_returns_nothing_and_the_block_goes_on(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        assert (yield blocks.do("a", OSError(), on_error=Skip)) is None
        yield blocks.do("b")

    assert blocks.run(body).ok
    assert blocks.log == ["a", "b"]


def test_a_step_that_takes_too_long_fails_and_is_undone(blocks: Blocks) -> None:
    slow = (lambda: asyncio.sleep(60)) if blocks.calls.in_loop else (lambda: time.sleep(3 * SHORT))

    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        yield blocks.do("b", slow, timeout=SHORT)

    with pytest.raises(SagaExecutionException) as caught:
        blocks.run(body)
    assert isinstance(caught.value.__cause__, StepTimeoutError)
    assert blocks.tx.result is not None
    assert blocks.tx.result.join(20).status is Status.COMPENSATED
    assert sorted(blocks.log) == ["-a", "-b", "a", "b"]


def test_a_step_says_whether_it_is_undone_when_it_fails(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a", ValueError(), compensate_on_failure=True)

    with pytest.raises(SagaExecutionException):
        blocks.run(body)
    assert blocks.log == ["a", "-a"]


def test_an_undo_is_retried(blocks: Blocks) -> None:
    def fail() -> None:
        if blocks.log.count("-a") < 2:
            raise OSError

    def body(tx: Transaction) -> Any:
        yield blocks.do("a", None, fail, compensation_retry=Retry(2))
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocks.run(body)
    assert blocks.log == ["a", "-a", "-a"]


# -- groups -----------------------------------------------------------------------------------------------------------


def test_a_group_returns_the_last_result_of_each_branch(blocks: Blocks) -> None:
    make = blocks.calls.step

    def body(tx: Transaction) -> Any:
        assert (yield Group(make("a"), sequence(make("b"), make("c")))) == ("result of a", "result of c")
        assert (yield Do(lambda both: both, name="d")) == ("result of a", "result of c")
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocks.run(body)
    assert {"-a", "-b", "-c"} == set(blocks.log[-3:])


def test_a_group_with_a_failing_branch_is_undone_whole(blocks: Blocks) -> None:
    make = blocks.calls.step

    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        yield Group(make("b"), make("c", ValueError("no")))

    with pytest.raises(SagaExecutionException):
        blocks.run(body)
    assert blocks.log[-2:] == ["-b", "-a"]


def test_a_group_may_hold_fallbacks_and_sagas(blocks: Blocks) -> None:
    make = blocks.calls.step
    inner = Saga("inner").add_task(make("x")).add_task(make("y"))

    def body(tx: Transaction) -> Any:
        got = yield Group(fallback(make("p", OSError()), make("q")), inner)
        assert got == ("result of q", "result of y")

    assert "inner/x" in blocks.run(body).results


def test_a_group_that_is_wrong_is_refused_and_the_block_goes_on(blocks: Blocks) -> None:
    def body(tx: Transaction) -> Any:
        with pytest.raises(SagaDefinitionError, match="at least two"):
            yield Group(blocks.calls.step("a"))
        with pytest.raises(SagaDefinitionError, match="used twice"):
            yield Group(blocks.calls.step("a"), blocks.calls.step("a"))
        assert (yield Group(blocks.calls.step("a"), blocks.calls.step("b"))) == ("result of a", "result of b")

    assert blocks.run(body).ok


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
            thread.join(20)
    assert sorted(undone) == list(range(1, 40, 2))


def _quietly(function: Any, number: int) -> None:
    with suppress(KeyError):
        function(number)


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_a_cancellation_at_any_moment_undoes_the_block(plain: Any) -> None:
    async def act(name: str) -> None:
        plain.log.append(name)
        await asyncio.sleep(0)

    async def block() -> None:
        async with transaction() as tx:
            for name in "abc":
                await tx.astep(act, plain.function(f"-{name}"), name=name, args=(name,))
                await asyncio.sleep(0)

    async def cancelled_at(moment: int) -> bool:
        plain.log.clear()
        running = asyncio.create_task(block())
        for _ in range(moment):
            await asyncio.sleep(0)
        if plain.log[-1:] == ["c"] or not running.cancel():
            await running
            return True
        with pytest.raises(asyncio.CancelledError):
            await running
        done = [name for name in plain.log if not name.startswith("-")]
        assert plain.log == done + [f"-{name}" for name in reversed(done)], moment
        return False

    for moment in range(100):
        if asyncio.run(cancelled_at(moment)):
            assert moment > 4
            return
    raise AssertionError("the block never ended")


def test_a_limit_around_a_block_undoes_it(plain: Any) -> None:
    async def work() -> None:
        async with asyncio.timeout(SHORT), transaction() as tx:
            await tx.astep(plain.function("a"), plain.function("-a"), name="a")
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert plain.log == ["a", "-a"]


def test_the_loop_goes_on_while_a_block_runs_plain_functions() -> None:
    async def work() -> int:
        ticks = 0

        async def block() -> None:
            async with transaction() as tx:
                await tx.astep(time.sleep, args=(0.2,))

        running = asyncio.create_task(block())
        while not running.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    assert asyncio.run(work()) > 20


def test_groups_run_at_the_same_time(plain: Any) -> None:
    barrier = threading.Barrier(3)
    with transaction() as tx:
        results = tx.parallel(*(step(barrier.wait, name=name, args=(10,)) for name in "abc"))
    assert sorted(results) == [0, 1, 2]
