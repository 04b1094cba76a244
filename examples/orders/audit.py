"""Compares all books with each other: ``python -m orders.audit bank.db mails.db``. It exits with 1 where they do not agree.

What is sold was charged once, and what is not sold was not, or was refunded; what is not on the shelf was sold; whoever has
bought something got one mail; and every order has come to its end.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import namedtuple_row

from orders.settings import DATABASE
from saga import Status
from saga.operations import Operations


class Books(NamedTuple):
    """What there is about orders, by their numbers, and about what is on the shelf.

    :ivar charges: cents that were charged, one for each charge; ``refunds``: that were refunded.
    :ivar mails: by number and subject, the Message-IDs of what was sent.
    """

    executions: dict[str, Any]
    unread: list[str]
    orders: dict[str, Any]
    points: dict[str, int]
    stock: list[Any]
    charges: dict[str, list[int]]
    refunds: dict[str, list[int]]
    mails: dict[str, dict[str, set[str]]]


def read(ledger: str, mails: str) -> Books:
    """Read all books."""
    operations = Operations(DATABASE, who="the auditor")
    executions = {row.saga_id: row for row in operations.all(name="place-order", limit=500)}
    unread = [number for number in executions if operations.store.inbox(number)]
    with psycopg.connect(DATABASE, row_factory=namedtuple_row) as connection:
        orders = {row.number: row for row in connection.execute("SELECT * FROM orders JOIN stock USING (product)").fetchall()}
        points = {row.number: row.points for row in connection.execute("SELECT * FROM points").fetchall()}
        stock = connection.execute("SELECT * FROM stock").fetchall()
    books = Books(executions, unread, orders, points, stock, {}, {}, {})
    with closing(sqlite3.connect(ledger)) as bank:
        for kind, number, cents in bank.execute("SELECT kind, order_number, cents FROM ledger WHERE order_number IS NOT NULL"):
            (books.charges if kind == "charge" else books.refunds).setdefault(number, []).append(abs(cents))
    with closing(sqlite3.connect(mails)) as box:
        for message_id, subject in box.execute("SELECT message_id, subject FROM mails"):
            _, number, _, about = subject.split()
            books.mails.setdefault(number, {}).setdefault(about, set()).add(message_id)
    return books


def faults_of(books: Books) -> Iterator[str]:
    """Yield what is wrong, a sentence each."""
    for about in Books._fields:
        found = getattr(books, about)
        if about not in ("stock", "unread", "orders"):
            yield from (f"{number}: is in {about}, and is no order" for number in found.keys() - books.orders.keys())
    yield from (f"{number}: a message was never read" for number in books.unread)
    for number, order in books.orders.items():
        yield from (f"{number}: {fault}" for fault in _faults_of_order(books, number, order))
    sold = Counter[str]()
    for order in books.orders.values():
        sold[order.product] += order.quantity if order.state == "sold" else 0
    for row in books.stock:
        if row.remaining + sold[row.product] != row.begun:
            yield f"{row.product}: {row.remaining} are left and {sold[row.product]} sold of {row.begun}"


def _faults_of_order(books: Books, number: str, order: Any) -> Iterator[str]:
    execution = books.executions.get(number)
    if execution is None:
        yield "nobody does anything about it"
        return
    if execution.status not in (Status.COMPLETED, Status.COMPENSATED) or execution.owner is not None:
        yield f"is {execution.status}, owned by {execution.owner}: {execution.reason}"
    stands = execution.status == Status.COMPLETED
    if (order.state == "sold") != stands:
        yield f"is {execution.status}, and in the shop's books {order.state}"
    cents = order.price_cents * order.quantity
    charges, refunds = books.charges.get(number, []), books.refunds.get(number, [])
    if stands and (charges, refunds, order.cents) != ([cents], [], cents):
        yield f"was sold for {order.cents} of {cents} cents; charged {charges}, refunded {refunds}"
    if not stands and (charges, refunds) not in (([], []), ([cents], [cents])):
        yield f"was not sold, and charged {charges}, refunded {refunds}"
    mails = books.mails.get(number, {})
    confirmed, cancelled = mails.get("confirmed", set()), mails.get("cancelled", set())
    if len(confirmed) > 1 or len(cancelled) > 1:
        yield f"has several mails about one thing: {sorted(confirmed | cancelled)}"
    if stands and (not confirmed or cancelled):
        yield f"was sold, and the customer has these mails: {sorted(mails)}"
    if not stands and confirmed and not cancelled:
        yield "was not sold, and the customer does not know"
    given = books.points.get(number)
    if given is not None and not (stands and given == cents // 100):
        yield f"has {given} points for {cents} cents"
    if given is None and stands and execution.version == "2":
        yield "has no points"


def main(ledger: str, mails: str) -> int:
    books = read(ledger, mails)
    faults = list(faults_of(books))
    for fault in faults:
        print(fault, file=sys.stderr)
    charged, refunded = (sum(map(sum, kind.values())) for kind in (books.charges, books.refunds))
    states = Counter(execution.status for execution in books.executions.values())
    print(f"{len(books.orders)} orders: {', '.join(f'{number} {state}' for state, number in states.most_common())}")
    print(f"{charged} cents charged - {refunded} refunded = {charged - refunded}")
    print(f"{len(faults)} faults" if faults else "every cent, every mug and every mail is accounted for")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
