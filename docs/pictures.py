"""The pictures of the diagrams page: ``python docs/pictures.py`` draws them again. A test says whether they are up to date."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from saga import Retry, Saga, SagaResult, Skip, fallback, parallel, sequence, step


def place_order(error: Exception | None = None) -> Saga:
    """Return the saga on the pictures. ``error``: what charging the card raises."""

    def nothing() -> None:
        pass

    def charge() -> None:
        if error is not None:
            raise error

    printed = threading.Event()  # the courier comes after it, so that the order of the undo is always the same

    def print_label() -> None:
        printed.set()
        raise OSError("out of paper")

    def book() -> None:
        printed.wait()
        raise TimeoutError("the courier does not answer")

    parcel = sequence(step(nothing, nothing, name="PackParcel"), step(print_label, name="PrintLabel", on_error=Skip))
    courier = fallback(step(book, nothing, name="BookCourier", timeout=5), step(nothing, nothing, name="BookPost"))
    return (
        Saga("place-order", timeout=60)
        .add_task(step(nothing, nothing, name="ReserveStock"))
        .add_task(parallel(parcel, courier))
        .add_task(Saga("payment").add_task(step(charge, name="ChargeCard", retry=Retry(3))))
        .add_task(step(nothing, name="ConfirmOrder"))
    )


def with_steady_times(result: SagaResult) -> SagaResult:
    """Make a result's times the same whenever this runs."""
    for number, record in enumerate(result.history):
        record.elapsed = 0.012 * (number + 1) if record.attempts else 0.0
    result.events[-1].at = result.events[0].at + 0.25  # type: ignore[misc]
    return result


def draw(folder: Path) -> None:
    """Draw all pictures into a folder."""
    saga = place_order(ConnectionError("the bank does not answer"))
    result = with_steady_times(saga.try_execute(saga_id="A1"))
    (folder / "place-order.svg").write_text(saga.diagram().svg() + "\n", encoding="utf-8")
    (folder / "place-order-failed.svg").write_text(saga.diagram(result).svg() + "\n", encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "_static")
