"""Place a day's orders across three databases that share no transaction, then audit every unit and cent.

Run it by path::

    python examples/shop/shop.py [--orders FILE] [--data DIR] [--fresh] [--workers N]

About a quarter of the orders fail on purpose: out of stock, card limit, an address the carrier does not serve, a
carrier that never answers.

Kill it, at any moment and in any way, and run it again: it finishes what the dead run left under way and goes on with
the rest. Whatever is in the folder already is not done twice, and in the end the books balance.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH keeps Python from doing so

from audit import AuditError, Totals, audit
from databases import open_databases
from orders import Order, load_orders
from outcomes import Outcome, read_outcomes
from tasks import OrderContext, place_order

from saga import Effect, Saga, Status
from saga.errors import LeaseLostError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import SqliteStore, Store

ORDERS = Path(__file__).with_name("orders.jsonl")
FILES = ("sagas.db", "inventory.db", "payments.db", "shipping.db", "shop.log")
UNDER_WAY = (Status.RUNNING, Status.COMPENSATING)


def main(arguments: list[str] | None = None) -> int:
    """Run the example.

    :param arguments: the command line, without the program's name.
    :return: the exit code: 0, or 1 where the audit found something.
    """
    options = _parse(arguments)
    orders = load_orders(options.orders)
    data: Path = options.data
    data.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        _clear(data)
    print(f"data     {data} ({', '.join(FILES)})")
    with _log_to(data / "shop.log"), open_databases(data) as databases, SqliteStore(data / "sagas.db") as store:
        saga = place_order(databases, store, options.lease)
        started = time.perf_counter()
        known = [row.status for row in Operations(store, "the shop").all()]
        unfinished = finish_earlier(saga, store)
        place_all(orders, saga, options.workers)
        seconds = time.perf_counter() - started
        outcomes = read_outcomes(saga, store)
        print(f"orders   {len(outcomes) - len(known)} placed, {len(known) - unfinished} had ended in an earlier run")
        if unfinished:
            print(f"         {unfinished} that it left under way were finished")
        print(f"time     {seconds:.2f} s with {options.workers} workers")
        _print_outcomes(outcomes.values())
        try:
            _print_totals(audit(databases, outcomes))
        except AuditError as error:
            print(f"audit    FAILED, {error}", file=sys.stderr)
            return 1
    return 0


def finish_earlier(saga: Saga, store: Store) -> int:
    """Finish what an earlier run left under way, once its leases have run out. Return how many orders that were."""
    left = waiting = [row.saga_id for row in Operations(store, "the shop").all(status=UNDER_WAY)]
    recovery = Recovery(store, [saga])
    while waiting := [order_id for order_id in waiting if (row := store.get(order_id)) and row.status in UNDER_WAY]:
        if not recovery.run_once():
            time.sleep(0.05)
    return len(left)


def place_all(orders: Iterable[Order], saga: Saga, workers: int) -> None:
    """Place orders concurrently, all through one saga object, and wait until each has ended."""

    def place(order: Order) -> None:
        # The order's id is the execution's: however often it is placed, it is executed once.
        try:
            saga.try_execute(OrderContext(order=order), saga_id=order.order_id)
        except LeaseLostError:  # this process was halted for so long that another took the order over: wait for that one
            saga.try_execute(OrderContext(order=order), saga_id=order.order_id)

    with ThreadPoolExecutor(workers, thread_name_prefix="shop") as pool:
        futures = [pool.submit(place, order) for order in orders]
        try:
            for future in futures:
                future.result()
        except BaseException:
            # Orders under way end; those not begun are left for the next run.
            pool.shutdown(cancel_futures=True)
            raise


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Place orders across three databases with a saga, then audit them.")
    parser.add_argument("--orders", type=Path, default=ORDERS, metavar="FILE", help="orders, one JSON object a line")
    parser.add_argument(
        "--data", type=Path, default=Path("shop-data"), metavar="DIR", help="where the databases live (default: ./shop-data)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what is there and begin anew")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="orders placed at once (default: 4)")
    parser.add_argument(
        "--lease", type=float, default=2.0, metavar="SECONDS", help="how long a dead run's orders are left alone (default: 2)"
    )
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; give 1 or more")
    if not options.lease > 0:
        parser.error(f"--lease is {options.lease}; give seconds above 0")
    return options


def _clear(data: Path) -> None:
    """Delete what the shop keeps in its folder, and nothing else that may be there."""
    for name in FILES:
        for suffix in ("-shm", "-wal", ""):  # those of SQLite first: without its database a log must not be left
            (data / f"{name}{suffix}").unlink(missing_ok=True)


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
    effects = totals.effects
    never, unknown = effects[Effect.NONE], effects[Effect.UNKNOWN]
    print(f"effects  {effects[Effect.STANDS]} stand, {effects[Effect.UNDONE]} undone, {never} never were, {unknown} unknown")
    print(f"audit    passed: {totals.orders} orders, every unit, cent and shipment is accounted for")


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d} EUR"


if __name__ == "__main__":
    sys.exit(main())
