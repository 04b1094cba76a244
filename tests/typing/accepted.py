"""User code that both type checkers must accept, mypy with ``--strict``, and that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import loguru
import structlog

from saga import (
    Backoff,
    ClosedContext,
    Compensate,
    Context,
    Done,
    ExecutionInfo,
    ExponentialBackoff,
    Finding,
    Flow,
    InDoubt,
    NotDone,
    Observer,
    OnError,
    Received,
    Retry,
    Saga,
    SagaResult,
    Skip,
    Status,
    StepInfo,
    StepRecord,
    StepStatus,
    Task,
    parallel,
    receive,
    receive_first,
    saga_step,
    sequence,
    step,
    timer,
    transaction,
)
from saga.blobs import Blobs, FolderBlobs, MemoryBlobs
from saga.durable.codec import Codec
from saga.errors import SagaCompensationError, SagaExecutionException
from saga.events import Event, OperatorActed, StepFailed, StepSucceeded
from saga.flow import Step
from saga.logging import SagaLogger
from saga.operations import Acted, Cause, Operations, StepView
from saga.result import CompensationError
from saga.storage import MemoryStore, Page, StoredExecution
from saga.testing import Clock, DyingStore, Events, call, with_stand_ins

# Tasks and the context


@dataclass
class OrderContext(Context):
    order_id: str
    total: int = 0


@dataclass(frozen=True)
class Receipt:
    id: str
    cents: int


class Reserve(Task[None]):
    def execute(self, context: OrderContext) -> None:
        context.total += 100
        assert_type(context.total, int)
        assert_type(context["total"], Any)


class Charge(Task[Receipt]):
    name = "charge"
    retry = Retry(3, backoff=ExponentialBackoff(0.0, jitter=True), retry_on=(ConnectionError, TimeoutError))
    timeout = 10
    on_error = Compensate
    compensation_retry = Retry(5, backoff=0.0)
    compensate_on_failure = True
    in_doubt = InDoubt.RERUN

    def __init__(self, currency: str = "EUR") -> None:
        self.currency = currency

    def execute(self, context: OrderContext) -> Receipt:
        assert_type(context.step, StepInfo)
        assert_type(context.step.idempotency_key, str)
        assert_type(context.step.attempt, int)
        assert_type(context.step.deadline, float | None)
        assert_type(context.step.cancelled, bool)
        return Receipt(context.step.idempotency_key, context.total)

    def compensate(self, context: OrderContext) -> None:
        receipt = context.result_of(Charge)
        assert_type(context.step.cause, BaseException | OperatorActed | None)
        assert_type(context.step.failed_step, str | None)
        assert_type(context.step.previous_error, BaseException | None)
        assert_type(context.step.round, int)
        assert_type(receipt, Receipt)
        assert_type(receipt.cents, int)


class Ship(Task[int]):
    requires = ("order_id",)
    provides = ()
    on_error = Retry(2, then=Skip)
    in_doubt = InDoubt.ASK

    def __init__(self, charge: Charge) -> None:
        self.charge = charge

    def execute(self, context: OrderContext) -> int:
        assert_type(context.result_of(self.charge), Receipt)
        assert_type(context.result_of(Charge), Receipt)
        assert_type(context.result_of("charge"), Any)
        return 1


class Untyped(Task[Any]):
    def execute(self, context: Context) -> Any:
        return context.anything


# Policies


class Fibonacci:
    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        return fraction * attempt


backoff: Backoff = Fibonacci()
policies: list[Retry] = [Retry(), Retry(2, 1), Retry(2, 0.5), Retry(2, backoff), Retry(retry_on=OSError, then=Compensate)]
policies += [Retry(None, 1.0, max_elapsed=timedelta(hours=1)), Retry(retry_on=(OSError, lambda error: bool(error.args)))]
policies += [Retry(max_elapsed=60, retry_if=lambda result: result is None), Retry(retry_on=lambda error: error.args == ())]
assert_type(policies[0].allows(1, OSError()), bool)
assert_type(policies[0].delay(1, 0.5, OSError()), float)
outcomes: list[OnError] = [Compensate, Skip]
doubts: list[InDoubt] = [InDoubt.COMPENSATE, InDoubt.RERUN, InDoubt.ASK]

# Functions and flows


def reserve(sku: str, context: OrderContext, *, count: int = 1) -> str:
    return f"{sku} x {count}"


def release(reservation: str) -> None: ...


one = step(reserve, release, name="reserve", args=("apple",), kwargs={"count": 2})
assert_type(one, Step)
two = step(Charge("USD"), name="charge-2", retry=None, timeout=None, on_error=Skip, in_doubt=InDoubt.ASK)
three = step(
    release, compensate=lambda: None, compensate_args=(), compensate_kwargs={}, on_error=Retry(2), compensate_on_failure=True
)
flows: list[Flow] = [one, two, three, sequence(one, Charge), parallel(Reserve(), Charge, sequence(two, three))]
four = step(release, name="four", requires=["order_id"], provides={"total"})
inner = Saga("inner").add_task(Reserve).add_task(Charge())
nested = sequence(inner, parallel(inner, Reserve))

# The saga


class PlaceOrder(Saga):
    pass


class DeclaredOrder(Saga):
    name = "place-order"
    version = "2"
    flow = step(lambda: 1)
    store = "orders.db"
    timeout = 60.0
    lease = 5
    logger = SagaLogger()
    observers = (SagaLogger(),)
    compatible_with = "1", "2"
    unknown_on = ValueError
    stop_on_compensation_failure = True

    def on_compensation_failure(self, context: Context, name: str, error: BaseException) -> None: ...


def on_failure(context: Context, name: str, error: BaseException) -> None: ...


charge = Charge()
place_order = (
    PlaceOrder(timeout=30, stop_on_compensation_failure=True, on_compensation_failure=on_failure)
    .add_task(Reserve)
    .add_task(charge)
    .add_task(Ship(charge))
)
assert_type(place_order, PlaceOrder)
assert_type(place_order.name, str)
assert_type(place_order.check(), list[Finding])
assert_type(place_order.check(given=["order_id"]) + place_order.check(OrderContext("A1")), list[Finding])
assert_type(
    [(one.step, one.key, one.what, one.why, one.wrong) for one in place_order.check()], list[tuple[str, str, str, str, bool]]
)

# Observers and logging


def observe(event: Event, info: ExecutionInfo) -> None:
    assert_type(info.saga_id, str)
    match event:
        case StepSucceeded():
            assert_type(event.elapsed, float)
        case StepFailed():
            assert_type(event.error, BaseException)


class Alarm(SagaLogger):
    def step_failed(self, event: StepFailed, info: ExecutionInfo) -> None:
        self.write(logging.ERROR, info, "call somebody", step=event.step, exc_info=event.error)

    def write(
        self, level: int, info: ExecutionInfo, message: str, *, exc_info: BaseException | None = None, **pairs: Any
    ) -> None:
        super().write(level, info, message.upper(), exc_info=exc_info, **pairs)


observer: Observer = observe
loggers: list[Observer] = [
    observer,
    SagaLogger(),
    SagaLogger(logging.getLogger("shop"), show=["order_id", "card"], mask={"card"}),
]
Saga("a", logger=observe)
Saga("b", logger=Alarm("shop"))
watched = Saga("c", logger=[*loggers, Alarm()]).add_task(Reserve).add_task(Charge)
assert_type(Alarm().listening(), bool)
Saga("d", logger="shop")
Saga("e", logger=logging.getLogger("shop"))
Saga("f", logger=logging.LoggerAdapter(logging.getLogger("shop"), {"tenant": "t-1"}))
Saga("g", logger=["shop", logging.getLogger("shop"), observe])
Saga("h", logger=structlog.stdlib.get_logger())
Saga("i", logger=loguru.logger)
SagaLogger(loguru.logger)
SagaLogger(structlog.get_logger(), show=["result.charge.id"])


def last(event: Event, info: ExecutionInfo) -> None:
    assert_type(info.events, Sequence[Event])


# Running it, and what comes back


def run() -> Iterator[StepRecord]:
    result = place_order.execute(OrderContext("A1"), saga_id="a1")
    assert_type(result, SagaResult[OrderContext])
    assert_type(result.ok, bool)
    assert_type(result.status, Status)
    assert_type(result.context, OrderContext)
    assert_type(result.context.total, int)
    assert_type(result.history, tuple[StepRecord, ...])
    assert_type(result.history[0].status, StepStatus)
    assert_type(result.error, BaseException | None)
    assert_type(result.failed_task, Task[Any] | None)
    assert_type(result.compensation_errors, tuple[CompensationError, ...])
    assert_type(result.in_doubt, tuple[str, ...])
    assert_type(result.join(timeout=1), SagaResult[OrderContext])
    assert_type(result.report(), str)
    assert_type(place_order.try_execute({"order_id": "A2", "total": 0}), SagaResult)
    assert_type(place_order.try_execute(), SagaResult[Context])
    try:
        Saga("empty-handed").add_task(Untyped).execute()
    except SagaCompensationError as error:
        raise AssertionError from error
    except SagaExecutionException as error:
        assert_type(error.result, SagaResult | None)
        assert_type(error.cause, BaseException | None)
        assert_type(error.failed_task, Task[Any] | None)
    with closing(place_order.stream(OrderContext(order_id="A3"))) as records:
        yield from records


names = [record.name for record in run()]
assert names == ["Reserve", "charge", "Ship"], names

# A saga of one class of contexts


@dataclass
class ParcelContext(ClosedContext):
    weight: float
    label: str = ""


class Weigh(Task[float]):
    def execute(self, context: ParcelContext) -> float:
        context.label = f"{context.weight} kg"
        context["label"] = context.label.upper()
        assert_type(context.weight, float)
        return context.weight


def tell(result: SagaResult) -> None:
    assert_type(result.context, Context)


def finish(sagas: Iterable[Saga[Any]]) -> None: ...


class SendParcel(Saga[ParcelContext]):
    flow = Weigh


weigh = Saga[ParcelContext]("weigh").add_task(Weigh)
assert_type(weigh, Saga[ParcelContext])
assert_type(weigh.execute(ParcelContext(1.5)).context, ParcelContext)
assert_type(SendParcel().execute(ParcelContext(1.5), saga_id="p-1").context.label, str)
assert_type(Saga("any").add_task(Weigh).try_execute(ParcelContext(1.5)).context, ParcelContext)
assert_type(Saga("any"), Saga[Context])
assert_type(Saga("by keyword", context=ParcelContext), Saga[ParcelContext])
assert_type(Saga("by keyword", context=ParcelContext).add_task(Weigh).execute(ParcelContext(1.5)).context, ParcelContext)
annotated: Saga[ParcelContext] = Saga("annotated")
assert_type(annotated.add_task(Weigh).execute(ParcelContext(2.0)).context, ParcelContext)
tell(weigh.execute(ParcelContext(1.5)))
finish([weigh, place_order, SendParcel()])
Saga("outer").add_task(weigh).add_task(SendParcel())

# Async tasks


class ReserveStock(Task[str]):
    async def execute(self, context: Context) -> str:
        return f"3 x {context.sku}"

    async def verify(self, context: Context) -> Done[str] | NotDone | None:
        return Done("3")

    async def compensate(self, context: Context) -> None:
        assert_type(context.result_of(ReserveStock), str)


class Mixed(Task[int]):
    def execute(self, context: Context) -> int:
        return 1

    def verify(self, context: Context) -> Done[int]:
        return Done(1)

    async def compensate(self, context: Context) -> None:
        pass


async def areserve(sku: str) -> str:
    return sku


async def arun() -> None:
    found = Saga("stock").add_task(ReserveStock).add_task(Mixed)
    assert_type((await found.aexecute(Context(sku="apple"))).context, Context)
    assert_type((await weigh.atry_execute(ParcelContext(1.5))).context, ParcelContext)
    async with aclosing(found.astream(Context(sku="apple"))) as records:
        async for record in records:
            assert_type(record, StepRecord)
    async with transaction("t", Context(sku="apple")) as tx:
        assert_type(await tx.astep(areserve, args=("a",)), str)
        assert_type(await tx.astep(ReserveStock), str)
        assert_type(await tx.astep(Mixed()), int)
        both = asyncio.create_task(tx.astep(areserve, args=("a",), name="beside"))  # a coroutine, as create_task wants one
        assert_type(await both, str)


asyncio.run(arun())


async def operate(operations: Operations, stored: Saga[OrderContext]) -> None:
    assert_type(await operations.alist(status="stuck", limit=5), Page)
    assert_type((await operations.ashow("A1")).timeline(), str)
    assert_type(await operations.apurge(older_than=60.0), int)
    view = await operations.ashow("A1")
    assert_type(view.steps, tuple[StepView, ...])
    assert_type([offer.does for offer in view.offers], list[str])
    assert_type(view.refused["retry"], str)
    assert_type(view.waits, str | None)
    assert_type(await operations.acauses(), list[Cause])
    assert_type(operations.find("A1")[0].tags["order"], str)
    assert_type([acted.error for acted in operations.each("skip", "so", step="Charge", name="s")], list[str | None])
    async for acted in operations.aeach("retry", "so", limit=5, cause="OSError"):
        assert_type(acted, Acted)
    await operations.askip("A1", step="Charge", why="seen to")
    await asyncio.create_task(operations.acancel("A1", "too late"))
    async for execution in operations.aall(name="place-order"):
        assert_type(execution, StoredExecution)
    assert_type((await stored.aload("A1", store="orders.db")).context, OrderContext)
    assert_type((await stored.handle("A1", store="orders.db").aresult()).context, OrderContext)
    assert_type((await stored.aundo("A1", "so", "charge")).context, OrderContext)
    assert_type(stored.undo("A1", why="so", who="ann").context, OrderContext)
    await stored.asignal("A1", "paid", 7)
    assert_type((await stored.asignal_or_start("A1", "paid", 7, OrderContext("A1"))).new, bool)
    assert_type(stored.signal_or_start("A1", "paid", tags={"of": "ann"}).result().context, OrderContext)


def due(context: OrderContext) -> timedelta:
    return timedelta(days=len(context.order_id))


async def due_later(context: OrderContext) -> datetime:
    return datetime.now(UTC)


waits = Saga("waits").add_task(receive("paid", accept=int | str)).add_task(receive_first("a", "b", accept={"a": Receipt}))
waits.add_task(timer(due)).add_task(timer(due_later, name="later")).add_task(timer(timedelta(hours=1)))
assert_type(Received("paid", 7).name, str)


# Steps of a block


with transaction("block", OrderContext("A1")) as block:
    assert_type(block.step(reserve, release, args=("apple",)), str)
    assert_type(block.step(Charge(), name="in-a-block"), Receipt)

# Methods as steps


class Trip(Saga):
    @saga_step
    def train(self, context: Context) -> str:
        return "IC 5"

    @saga_step(name="a seat", retry=Retry(2))
    def seat(self, train: str, *, window: bool = True) -> tuple[str, bool]:
        return train, window

    @train.compensation
    def cancel(self, train: str) -> None: ...

    flow = train, seat


assert_type(Trip().train(Context()), str)
assert_type(Trip().seat("IC 5", window=False), tuple[str, bool])
Trip().cancel("IC 5")
assert Trip().execute().ok

# What tests are written with


with Clock(datetime(2026, 1, 14, tzinfo=UTC)) as moved:
    assert_type(moved.now(), float)
    moved.move(timedelta(hours=1))
    told = Events()
    dies = DyingStore(after="StepStarted Charge").left(before=9)
    assert_type(dies, DyingStore)
    with_fakes = with_stand_ins(Trip(logger=told), {"train": lambda: "IC 7", Trip.seat: step(reserve, args=("apple",))})
    assert_type(with_fakes, Trip)
    assert_type(with_fakes.execute(store=dies).ok, bool)
    assert_type(told.of(StepSucceeded, "train")[0].step, str)
    assert_type(told.undone, list[str])
    paid: Receipt = call(Charge, OrderContext("A1"), attempt=2, results={Reserve: None}, phase="execute")
    call(Trip().train, phase="compensate", results={"train": "IC 5"}, cause=ValueError("full"))

# Large values


places: list[Blobs] = [FolderBlobs("blobs"), MemoryBlobs()]
reports = Saga("reports", codec=Codec(blobs=places[1], larger_than=10_000)).add_task(Charge())
assert_type(Operations(MemoryStore(), "ann", sagas=[reports]).sweep(older_than=timedelta(days=1)), int)
assert_type(Operations(MemoryStore(), "ann", blobs=places[0]).purge(older_than=timedelta(days=30)), int)
