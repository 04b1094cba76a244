"""The order service, through a whole day: kills, cancels, a new version; and in the end every cent is where it belongs."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

for library in ("fastapi", "uvicorn", "httpx", "aiosmtpd", "psycopg"):
    pytest.importorskip(library, reason=f"{library} is not installed")

import psycopg  # noqa: E402

from tests.examples.order_day import Day  # noqa: E402
from tests.storage import servers  # noqa: E402

SEEDS: Final = range(12) if os.environ.get("SAGA_CRASH") == "full" else range(1)
ORDERS: Final = 300


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the day's own: its connections are counted."""
    with servers.postgres() as url:
        yield url


@pytest.mark.parametrize("seed", SEEDS)
def test_a_day_of_kills_cancels_and_a_new_version_ends_with_books_that_agree(tmp_path: Path, url: str, seed: int) -> None:
    with Day(tmp_path, url, seed) as day:
        old = [day.start_worker("1"), day.start_worker("1")]
        day.start_web("1")
        day.start_web("1")

        def new_version_beside_the_old_one() -> None:
            day.start_worker("2")
            day.start_web("2")

        def old_version_ends() -> None:
            day.operations.drain("place-order", "1", "version 2 is there")
            day.start_worker("2")
            day.start_web("2")
            day.stop_workers(*old)

        day.serve(ORDERS, [(0.3, new_version_beside_the_old_one), (0.5, old_version_ends)], kills_every=0.3)
        day.until_all_ended()
        assert day.kills

        # What is stuck is what the bank cannot refund. A person sees to that.
        stuck = list(day.operations.all(status="stuck"))
        for row in stuck:
            what = day.accepted[row.saga_id]["card"], str(row.reason).partition(" (")[0]
            assert what == ("closed", "compensation failed: ChargeCard"), str(day.operations.show(row.saga_id))
            assert day.state(row.saga_id) == "needs a person"
        day.open_bank_accounts()
        for row in stuck:
            day.operations.retry(row.saga_id, "the bank has opened the account")
        day.until_all_ended()

        states = {number: day.state(number) for number in day.accepted}
        assert len(states) == ORDERS
        assert set(states.values()) == {"done", "cancelled", "undone"}
        assert {states[number] for number in day.given_up} == {"cancelled", "undone"}
        assert not [one for one in day.operations.versions() if one.executions]
        day.close_shop()
        assert day.audit() == []
        assert day.living().isdisjoint(day.stopped)
        assert day.connections() == 0
        assert_the_audit_sees(day, [number for number, state in states.items() if state == "done"])


#: What is wrong with an order that stands: in which book, by which statement, and what the audit says.
WRONG: Final = [
    (
        "bank",
        "INSERT INTO ledger SELECT key || '!', kind, order_number, card, charge, cents FROM ledger WHERE order_number = '{}'",
        r"charged \[(\d+), \1\]",
    ),
    ("bank", "UPDATE ledger SET cents = cents + 1 WHERE order_number = '{}'", r"sold for (\d+) of \1 cents; charged"),
    ("bank", "INSERT INTO ledger VALUES ('{0}', 'refund', '{0}', '4242', NULL, -1)", r"refunded \[1\]"),
    ("bank", "DELETE FROM ledger WHERE order_number = '{}'", r"charged \[\], refunded \[\]"),
    ("mails", "INSERT INTO mails VALUES ('<{0}>', 'x', 'Order {0} is confirmed')", "several mails about one thing"),
    ("mails", "DELETE FROM mails WHERE subject = 'Order {} is confirmed'", r"the customer has these mails: \[\]"),
    ("shop", "UPDATE orders SET state = 'placed' WHERE number = '{}'", "in the shop's books placed"),
    ("shop", "DELETE FROM points WHERE number = '{0}'; DELETE FROM orders WHERE number = '{0}'", "and is no order"),
    ("shop", "INSERT INTO points VALUES ('{}', 1) ON CONFLICT (number) DO UPDATE SET points = 1", "has 1 points for"),
    ("shop", "DELETE FROM saga WHERE id = '{}'", "nobody does anything about it"),
    ("shop", "UPDATE saga SET status = 'stuck' WHERE id = '{}'", "is stuck"),
]


def assert_the_audit_sees(day: Day, standing: list[str]) -> None:
    """Falsify the books, each time about another order: an audit that says nothing of it is none."""
    wrong = dict(zip(standing, WRONG, strict=False))
    assert len(wrong) == len(WRONG)
    for number, (book, statement, _) in wrong.items():
        if book == "shop":
            with psycopg.connect(day.url) as shop:
                shop.execute(statement.format(number).encode())
        else:
            with closing(sqlite3.connect(day.books[book])) as books, books:
                books.execute(statement.format(number))
    said = day.audit()
    for number, (_, _, text) in wrong.items():
        assert [one for one in said if re.search(rf"^{number}: .*{text}", one)], (number, text, said)
    assert any(" are left and " in one for one in said)  # of what the order that is gone, and the one that is not sold, took


FORGETFUL: Final = """
import runpy, uuid
from orders.bank import Bank
charge = Bank.charge
Bank.charge = lambda bank, key, *about: charge(bank, uuid.uuid4().hex, *about)
runpy.run_module("orders.worker", run_name="__main__")
"""


def test_a_card_that_is_charged_under_a_new_key_each_time_is_found_out(tmp_path: Path, url: str) -> None:
    with Day(tmp_path, url, 0, worker=("-c", FORGETFUL), faults=0.3) as day:
        day.start_worker("2")
        day.start_web("2")
        day.serve(60)
        day.until_all_ended()
        order = day.accepted["A1"]
        other = order | {"quantity": 4 - order["quantity"] + 1}
        asked = [("POST", "/orders", order), ("POST", "/orders", other), ("POST", "/orders", other | {"product": "cup"})]
        answers = [day.ask(method, path, json=body)["code"] for method, path, body in asked]
        assert [*answers, day.ask("GET", "/orders/A99")["code"]] == [202, 409, 422, 404]
        day.close_shop()
        assert [one for one in day.audit() if "charged" in one]
