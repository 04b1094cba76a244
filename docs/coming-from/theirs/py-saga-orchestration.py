import asyncio

from saga import OrchestrationBuilder, SagaError


async def reserve_seat():
    print("reserved a seat")
    return "IC 5/12A"


async def release_seat(seat):
    print("released", seat)


async def charge_card(seat, cents):
    print("charging", cents, "for", seat)
    raise RuntimeError("the bank does not answer")


builder = (
    OrchestrationBuilder()
    .add_step(reserve_seat, lambda seat: release_seat(seat))
    .add_step(lambda seat, cents=4200: charge_card(seat, cents), lambda: None)
)

try:
    asyncio.run(builder.execute())
except SagaError as error:
    print(str(error).splitlines()[0])
