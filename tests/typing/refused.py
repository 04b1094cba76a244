"""User code that must not type-check: each ignore is an error expected there, and mypy reports an ignore nothing needs."""

from __future__ import annotations

from dataclasses import dataclass

from saga import (
    ClosedContext,
    Context,
    ExecutionInfo,
    ExponentialBackoff,
    Retry,
    Saga,
    Status,
    Task,
    parallel,
    saga_step,
    sequence,
    step,
    transaction,
)
from saga.events import Event, StepFailed, StepSucceeded
from saga.logging import SagaLogger
from saga.operations import Operations

# Tasks and the context


@dataclass
class OrderContext(Context):
    order_id: str


class Charge(Task[int]):
    def execute(self, context: OrderContext) -> int:
        context.order_id = 3  # type: ignore[assignment]
        return len(context.order_id)

    def compensate(self, context: OrderContext) -> None:
        receipt: str = context.result_of(Charge)  # type: ignore[assignment]
        context.result_of(Charge).refund()  # type: ignore[attr-defined]
        other: str = context.result_of(Charge())  # type: ignore[assignment]
        context.result_of(3)  # type: ignore[call-overload]
        context.result_of(OrderContext)  # type: ignore[arg-type]
        context.step.name.missing()  # type: ignore[attr-defined]
        context.step.cancelled = True  # type: ignore[misc]
        print(receipt, other)


class WrongResult(Task[int]):
    def execute(self, context: Context) -> str:  # type: ignore[override]
        return ""


class NoContext(Task[int]):
    def execute(self) -> int:  # type: ignore[override]
        return 1


class WrongCompensation(Task[int]):
    def compensate(self, context: Context) -> str:  # type: ignore[override]
        return ""


class WrongPolicies(Task[int]):
    name = 3  # type: ignore[assignment]
    retry = 3  # type: ignore[assignment]
    timeout = "10"  # type: ignore[assignment]
    on_error = "skip"  # type: ignore[assignment]
    compensation_retry = Exception  # type: ignore[assignment]
    compensate_on_failure = "yes"  # type: ignore[assignment]
    in_doubt = "rerun"  # type: ignore[assignment]


OrderContext(order_id=3)  # type: ignore[arg-type]
OrderContext()  # type: ignore[call-arg]

# Policies


class NoDelay:
    pass


class WrongDelay:
    def delay(self, attempt: int) -> float:
        return 0.0


Retry(max_attempts="3")  # type: ignore[arg-type]
Retry(attempts=3)  # type: ignore[call-arg]
Retry(3, backoff="1 s")  # type: ignore[arg-type]
Retry(3, backoff=NoDelay())  # type: ignore[arg-type]
Retry(3, backoff=WrongDelay())  # type: ignore[arg-type]
Retry(3, retry_on=(KeyboardInterrupt,))  # type: ignore[arg-type]
Retry(3, retry_on=lambda: True)  # type: ignore[arg-type, misc]
Retry(3, max_elapsed="1 h")  # type: ignore[arg-type]
Retry(3, retry_if=True)  # type: ignore[arg-type]
Saga("typed", retry=3)  # type: ignore[arg-type]
transaction("typed", step_timeout="1 s")  # type: ignore[arg-type]
Retry(3, retry_on="OSError")  # type: ignore[arg-type]
Retry(3, then=Retry(3))  # type: ignore[arg-type]
Retry(3).max_attempts = 4  # type: ignore[misc]
ExponentialBackoff(jitter=0.5)  # type: ignore[arg-type]

# Functions and flows


def plain() -> None: ...


step(3)  # type: ignore[arg-type]
step(plain, compensate=3)  # type: ignore[arg-type]
step(plain, name=3)  # type: ignore[arg-type]
step(plain, args=3)  # type: ignore[arg-type]
step(plain, requires=3)  # type: ignore[arg-type]
Saga().check(given=3)  # type: ignore[arg-type]
step(plain, kwargs=["a"])  # type: ignore[arg-type]
step(plain, retries=3)  # type: ignore[call-arg]
step(plain, retry=3)  # type: ignore[arg-type]
step(plain, timeout="10")  # type: ignore[arg-type]
step(plain, on_error="skip")  # type: ignore[arg-type]
step(plain, compensation_retry=3)  # type: ignore[arg-type]
step(plain, compensate_on_failure=None)  # type: ignore[arg-type]
step(plain, in_doubt="ask")  # type: ignore[arg-type]
step(plain).name = "other"  # type: ignore[misc]
sequence(plain)  # type: ignore[arg-type]
parallel(Charge, 3)  # type: ignore[arg-type]

# The saga and its observers


def one_argument(event: Event) -> None: ...


def wrong_event(event: StepFailed, info: ExecutionInfo) -> None: ...


class WrongLogger(SagaLogger):
    def step_failed(self, event: StepSucceeded, info: ExecutionInfo) -> None:  # type: ignore[override]
        pass

    def step_succeeded(self, event: StepSucceeded) -> None:  # type: ignore[override]
        pass


Saga(3)  # type: ignore[arg-type]
Saga("a", timeout="1 min")  # type: ignore[arg-type]
Saga("a", logger=one_argument)  # type: ignore[arg-type]
Saga("a", logger=[one_argument])  # type: ignore[list-item]
Saga("a", logger=wrong_event)  # type: ignore[arg-type]
Saga("a", on_compensation_failure=one_argument)  # type: ignore[arg-type]
Saga("a", retries=3)  # type: ignore[call-arg]
SagaLogger(3)  # type: ignore[arg-type]
SagaLogger(show=3)  # type: ignore[arg-type]


def observe(event: Event, info: ExecutionInfo) -> None:
    event.at = 0.0  # type: ignore[misc]
    info.saga_id = "other"  # type: ignore[misc]
    event.attempt  # type: ignore[union-attr]  # noqa: B018


# What comes back

result = Saga("a").add_task(Charge).try_execute({"order_id": "A1"})
result.ok = True  # type: ignore[misc]
result.join(timeout="1")  # type: ignore[arg-type]
status: int = result.status  # type: ignore[assignment]
failed: Charge = result.failed_task  # type: ignore[assignment]
result.error.args  # type: ignore[union-attr]  # noqa: B018
Status("running").terminal()  # type: ignore[operator]
Saga("a").execute(3)  # type: ignore[call-overload]
Saga("a").execute(saga_id=3)  # type: ignore[call-overload]

# A saga of one class of contexts


@dataclass
class ParcelContext(ClosedContext):
    weight: float


class Weigh(Task[float]):
    def execute(self, context: ParcelContext) -> float:
        context.wieght = 3.0  # type: ignore[attr-defined]
        return context.wieght  # type: ignore[attr-defined, no-any-return]


weigh = Saga[ParcelContext]("weigh").add_task(Weigh)
weigh.execute(OrderContext("A1"))  # type: ignore[arg-type]
weigh.execute()  # type: ignore[call-arg]
weigh.execute({"weight": 3.0})  # type: ignore[arg-type]
weigh.execute(ParcelContext(3.0), id="p-1")  # type: ignore[call-arg]
weigh.execute(ParcelContext(3.0)).context.wieght  # type: ignore[attr-defined]  # noqa: B018
Saga("any").execute(ParcelContext(3.0)).context.wieght  # type: ignore[attr-defined]  # noqa: B018
Saga[int]("numbers")  # type: ignore[type-var]

# Async tasks and blocks


class Reserve(Task[str]):
    async def execute(self, context: Context) -> int:  # type: ignore[override]
        return 1

    async def compensate(self, context: Context) -> int:  # type: ignore[override]
        return 1


async def reserve(sku: str) -> str:
    return sku


async def run() -> None:
    async with transaction("t") as tx:
        tx.astep(reserve, args=("a",))  # type: ignore[unused-coroutine]
        number: int = await tx.astep(reserve, args=("a",))  # type: ignore[arg-type]
        print(number)
    async with transaction("t") as tx:
        other: int = await tx.astep(Reserve)  # type: ignore[arg-type]
        print(other)


async def operate(operations: Operations, stored: Saga) -> None:
    operations.acancel("A1", "too late")  # type: ignore[unused-coroutine]
    await operations.acancel("A1")  # type: ignore[call-arg]
    await operations.alist(state="stuck")  # type: ignore[call-arg]
    await operations.askip("A1", 3, "why")  # type: ignore[arg-type]
    await stored.aload(7)  # type: ignore[arg-type]


with transaction("t") as block:
    text: str = block.step(Charge)  # type: ignore[assignment]

# Methods as steps


class Trip(Saga):
    @saga_step
    def train(self, context: Context) -> str:
        return "IC 5"

    @saga_step  # type: ignore[arg-type]
    def nothing() -> str:
        return ""


Trip().train()  # type: ignore[call-arg]
minutes: int = Trip().train(Context())  # type: ignore[assignment]
