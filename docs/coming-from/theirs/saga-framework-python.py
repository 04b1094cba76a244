from saga import Context, Saga, Task
from saga.errors import SagaExecutionException
from saga.logging import SagaLogger


class ReserveSeat(Task):
    def execute(self, context: Context):
        print("reserved the seat")

    def compensate(self, context: Context):
        print("released the seat")


class ChargeCard(Task):
    def execute(self, context: Context):
        raise SagaExecutionException("the card was declined")

    def compensate(self, context: Context):
        print("refunded the card")


logger = SagaLogger()
saga = Saga(logger=logger)
saga.add_task(ReserveSeat())
saga.add_task(ChargeCard())

try:
    saga.execute()
except SagaExecutionException as error:
    print(f"failed: {error}")
