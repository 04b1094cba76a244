from simple_saga import SyncSaga


def reserve_seat(train: str) -> str:
    print("reserved a seat in", train)
    return f"{train}/12A"


def release_seat(seat: str) -> None:
    print("released", seat)


def charge_card(cents: int) -> str:
    raise ConnectionRefusedError("the bank cannot be reached")


def refund_card(receipt: str) -> None:
    print("refunded", receipt)


try:
    with SyncSaga() as saga:
        seat = saga.step(action=lambda: reserve_seat("IC 5"), compensation=lambda seat: release_seat(seat))
        receipt = saga.step(action=charge_card, action_args=(4200,), compensation=refund_card)
except ConnectionError as error:
    print("failed:", error)
