"""Place a day's orders across three databases that share no transaction, then audit every unit and cent.

Run it by path::

    python examples/shop/shop.py [--orders FILE] [--data DIR] [--workers N]

About a quarter of the orders fail on purpose: out of stock, card limit, an address the carrier does not serve, a
carrier that never answers. Running it again with the same ``--data`` places no order twice.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from audit import AuditError, Totals, audit
from databases import open_databases
from orders import Order, OrderBook, Outcome, load_orders, open_order_book
from tasks import OrderContext, OrderRejected, place_order

from saga import Saga

ORDERS = Path(__file__).with_name("orders.jsonl")


def main(arguments: list[str] | None = None) -> int:
    """Run the example.

    :param arguments: the command line, without the program's name.
    :return: the exit code: 0, or 1 where the audit found something.
    """
    options = _parse(arguments)
    orders = load_orders(options.orders)
    data = options.data or Path(tempfile.mkdtemp(prefix="saga-shop-"))
    data.mkdir(parents=True, exist_ok=True)
    print(f"data     {data} (databases, outcomes.jsonl, shop.log)")
    with (
        _log_to(data / "shop.log"),
        open_databases(data) as databases,
        open_order_book(data / "outcomes.jsonl") as book,
    ):
        new = [order for order in orders if order.order_id not in book.outcomes]
        started = time.perf_counter()
        place_all(new, place_order(databases), book, options.workers)
        seconds = time.perf_counter() - started
        print(f"orders   {len(new)} placed, {len(orders) - len(new)} skipped because they ended in an earlier run")
        print(f"time     {seconds:.2f} s with {options.workers} workers")
        _print_outcomes(book.outcomes.values())
        try:
            _print_totals(audit(databases, book.outcomes))
        except AuditError as error:
            print(f"audit    FAILED, {error}", file=sys.stderr)
            return 1
    return 0


def place_all(orders: Iterable[Order], saga: Saga, book: OrderBook, workers: int) -> None:
    """Place orders concurrently, all through one saga object, and record how each ended."""

    def place(order: Order) -> None:
        # The order's id is the execution's too, so that a log line says which order it is about.
        result = saga.try_execute(OrderContext(order=order), saga_id=order.order_id)
        book.record(Outcome(order, str(result.status), None if result.ok else reason_for(result.error)))

    with ThreadPoolExecutor(workers, thread_name_prefix="shop") as pool:
        futures = [pool.submit(place, order) for order in orders]
        try:
            for future in futures:
                future.result()
        except BaseException:
            # Orders under way end, and are recorded; those not begun are left for the next run.
            pool.shutdown(cancel_futures=True)
            raise


def reason_for(error: BaseException | None) -> str:
    """Say in the shop's words why an order failed."""
    if isinstance(error, OrderRejected):
        return error.reason
    if isinstance(error, ConnectionError):
        return "carrier unavailable"
    return f"unexpected {type(error).__name__}: {error}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Place orders across three databases with a saga, then audit them.")
    parser.add_argument("--orders", type=Path, default=ORDERS, metavar="FILE", help="orders, one JSON object a line")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the databases live (default: a new folder)")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="orders placed at once (default: 4)")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    return options


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Write what the saga logs to a file: a quarter of the orders fail, and their reports would bury the summary."""
    logger, handler = logging.getLogger("saga"), logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def _print_outcomes(outcomes: Iterable[Outcome]) -> None:
    counts = Counter((outcome.status, outcome.reason or "") for outcome in outcomes)
    statuses = Counter[str]()
    for (status, _), number in counts.items():
        statuses[status] += number
    for status, number in statuses.most_common():
        print(f"  {status:<33}{number:>5}")
        for (of, reason), failed in counts.most_common():
            if of == status and reason:
                print(f"    {reason:<31}{failed:>5}")


def _print_totals(totals: Totals) -> None:
    kept = totals.charged_cents - totals.refunded_cents
    print(f"money    {_euros(totals.charged_cents)} charged - {_euros(totals.refunded_cents)} refunded = {_euros(kept)}")
    left = totals.initial_units - totals.reserved_units
    print(f"stock    {left} units on hand + {totals.reserved_units} in completed orders = {totals.initial_units}")
    print(f"shipping {totals.shipments} live shipments, one for each completed order")
    print(f"audit    passed: {totals.orders} orders, every unit, cent and shipment is accounted for")


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d} EUR"


if __name__ == "__main__":
    sys.exit(main())
