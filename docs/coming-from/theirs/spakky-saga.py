import asyncio
from dataclasses import replace

from spakky.core.common.mutability import immutable
from spakky.saga import AbstractSaga, AbstractSagaData, Retry, Saga, SagaFlow, Skip, saga_step


@immutable
class TripData(AbstractSagaData):
    train: str
    seat: str | None = None


@Saga()
class BookTrip(AbstractSaga[TripData]):
    @saga_step
    async def reserve_seat(self, data: TripData) -> TripData:
        print("reserved a seat in", data.train)
        return replace(data, seat=f"{data.train}/12A")

    @saga_step
    async def release_seat(self, data: TripData) -> None:
        print("released", data.seat)

    @saga_step
    async def print_ticket(self, data: TripData) -> None:
        raise OSError("out of paper")

    @saga_step
    async def charge_card(self, data: TripData) -> None:
        print("charging")
        raise ConnectionRefusedError("the bank cannot be reached")

    def flow(self) -> SagaFlow[TripData]:
        return SagaFlow(
            items=(
                self.reserve_seat >> self.release_seat,
                self.print_ticket | Skip(),
                self.charge_card | Retry(max_attempts=2),
            )
        )


result = asyncio.run(BookTrip().execute(TripData(train="IC 5")))
print(result.status.name, result.failed_step, repr(result.error))
