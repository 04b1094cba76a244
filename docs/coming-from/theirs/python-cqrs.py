import asyncio
import dataclasses

import di
from cqrs.bootstrap import saga as saga_bootstrap
from cqrs.handlers.saga import SagaStepHandler, SagaStepResult
from cqrs.saga.fallback import Fallback
from cqrs.saga.models import SagaContext
from cqrs.saga.saga import Saga
from cqrs.saga.storage.memory import MemorySagaStorage


@dataclasses.dataclass
class Trip(SagaContext):
    train: str
    seat: str | None = None


class ReserveSeat(SagaStepHandler[Trip, None]):
    async def act(self, context: Trip) -> SagaStepResult[Trip, None]:
        raise ConnectionRefusedError("the railway cannot be reached")

    async def compensate(self, context: Trip) -> None:
        print("released", context.seat)


class ReserveByPhone(SagaStepHandler[Trip, None]):
    async def act(self, context: Trip) -> SagaStepResult[Trip, None]:
        context.seat = f"{context.train}/12A"
        print("reserved", context.seat, "by phone")
        return self._generate_step_result(None)

    async def compensate(self, context: Trip) -> None:
        print("released", context.seat, "by phone")


class ChargeCard(SagaStepHandler[Trip, None]):
    async def act(self, context: Trip) -> SagaStepResult[Trip, None]:
        raise ValueError("the card was declined")

    async def compensate(self, context: Trip) -> None:
        print("refunded the card")


class BookTrip(Saga[Trip]):
    steps = [Fallback(step=ReserveSeat, fallback=ReserveByPhone), ChargeCard]


async def main() -> None:
    mediator = saga_bootstrap.bootstrap(
        di_container=di.Container(),
        sagas_mapper=lambda sagas: sagas.bind(Trip, BookTrip),
        saga_storage=MemorySagaStorage(),
    )
    try:
        async for result in mediator.execute(Trip(train="IC 5")):
            print("done:", result.step_type.__name__)
    except ValueError as error:
        print("failed:", error)


asyncio.run(main())
