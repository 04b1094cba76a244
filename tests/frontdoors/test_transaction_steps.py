"""The steps of a block: their names, what they get, their policies, and groups of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, Task, Transaction, fallback, sequence, step, transaction
from saga.errors import SagaDefinitionError, SagaExecutionException, StepTimeoutError
from saga.events import StepTimedOut
from tests.kit import PATIENCE, SHORT, Gate, on
from tests.kit.blocks import Blocks, Do, Group


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


def test_a_step_that_takes_too_long_fails_and_is_undone(blocks: Blocks, gate: Any) -> None:
    def body(tx: Transaction) -> Any:
        yield blocks.do("a")
        yield blocks.do("b", gate, timeout=SHORT)

    with pytest.raises(SagaExecutionException) as caught:
        blocks.run(body, logger=on(StepTimedOut, gate.open))
    assert isinstance(caught.value.__cause__, StepTimeoutError)
    assert blocks.tx.result is not None
    assert blocks.tx.result.join(PATIENCE).status is Status.COMPENSATED
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


def test_a_block_gives_up_where_a_person_must_decide_about_a_step_before_it_is_replaced() -> None:
    log: list[str] = []
    gate = Gate()

    def slow() -> None:
        gate.hold()
        raise TimeoutError("no answer")

    pair = fallback(step(slow, name="b", timeout=SHORT, in_doubt=InDoubt.ASK), step(lambda: log.append("c"), name="c"))
    tx = transaction(observers=[on(StepTimedOut, gate.open)])

    def block() -> None:
        with tx:
            tx.step(lambda: log.append("a"), lambda: log.append("-a"), name="a")
            tx.parallel(pair, step(lambda: log.append("d"), lambda: log.append("-d"), name="d"))

    with pytest.raises(SagaExecutionException):
        block()
    assert log == ["a", "d", "-d", "-a"]
    assert tx.result is not None
    assert (tx.result.status, tx.result.in_doubt) == (Status.STUCK, ("b",))
