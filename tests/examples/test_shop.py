"""The example shop: three databases, and books that balance whatever happens to an order."""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SHOP = Path(__file__).parents[2] / "examples" / "shop"
MODULES = ("audit", "databases", "make_orders", "orders", "shop", "tasks")
DATABASES = {
    "inventory.db": ("stock", "reservations"),
    "payments.db": ("cards", "ledger"),
    "shipping.db": ("shipments",),
}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The example's modules, imported afresh as running it by path does."""
    monkeypatch.syspath_prepend(str(SHOP))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    for name in MODULES:
        sys.modules.pop(name, None)


def rows(data: Path, database: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / database)) as connection:
        return connection.execute(query).fetchall()


def everything(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: rows(data, database, f"SELECT * FROM {table} ORDER BY rowid")
        for database, tables in DATABASES.items()
        for table in tables
    }


def outcomes(data: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (data / "outcomes.jsonl").read_text().splitlines()]


def run(example: SimpleNamespace, data: Path, *more: str) -> int:
    code: int = example.shop.main(["--data", str(data), *more])
    return code


@pytest.mark.parametrize("workers", ["1", "4", "16"])
def test_a_run_of_all_orders_audits_clean_and_meets_every_reason_to_fail(
    example: SimpleNamespace, tmp_path: Path, workers: str
) -> None:
    assert run(example, tmp_path, "--workers", workers) == 0
    ended = outcomes(tmp_path)
    assert Counter(outcome["order"]["order_id"] for outcome in ended) == Counter(
        order.order_id for order in example.orders.load_orders(SHOP / "orders.jsonl")
    )
    reasons = Counter(outcome["reason"] for outcome in ended)
    assert set(reasons) == {None, "out of stock", "card limit", "undeliverable address", "carrier unavailable"}
    assert 0.15 < 1 - reasons[None] / len(ended) < 0.35
    assert {outcome["status"] for outcome in ended if outcome["reason"]} == {"compensated"}


def test_money_charged_less_money_refunded_is_the_price_of_completed_orders_to_the_cent(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    run(example, tmp_path)
    prices = {sku: price for sku, price, _ in example.databases.CATALOGUE}
    expected = sum(
        prices[item["sku"]] * item["quantity"]
        for outcome in outcomes(tmp_path)
        if outcome["status"] == "completed"
        for item in outcome["order"]["items"]
    )
    ledger = dict(rows(tmp_path, "payments.db", "SELECT kind, SUM(amount_cents) FROM ledger GROUP BY kind"))
    assert ledger["refund"] > 0
    assert ledger["charge"] - ledger["refund"] == expected
    assert rows(tmp_path, "payments.db", "SELECT SUM(balance_cents) FROM cards") == [(expected,)]


def test_a_second_run_on_the_same_data_places_nothing_again(
    example: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(example, tmp_path)
    before, ended = everything(tmp_path), outcomes(tmp_path)
    capsys.readouterr()
    assert run(example, tmp_path) == 0
    assert "0 placed, 300 skipped" in capsys.readouterr().out
    assert everything(tmp_path) == before
    assert outcomes(tmp_path) == ended


def test_orders_whose_outcome_was_never_written_are_placed_again_without_doubling_anything(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    run(example, tmp_path)
    book = tmp_path / "outcomes.jsonl"
    lines = book.read_text().splitlines(keepends=True)
    book.write_text("".join(lines[:200]) + lines[200][:40])  # as a killed process leaves it
    assert run(example, tmp_path) == 0
    assert len(outcomes(tmp_path)) == 300


def test_an_order_a_dead_process_left_half_done_is_completed_once(example: SimpleNamespace, tmp_path: Path) -> None:
    order = next(
        order
        for order in example.orders.load_orders(SHOP / "orders.jsonl")
        if example.tasks.unanswered_calls(order.order_id) == 0 and order.address.postcode == "10245"
    )
    with example.databases.open_databases(tmp_path) as databases:
        example.tasks.ReserveStock(databases.inventory).execute(example.tasks.OrderContext(order=order))
    assert run(example, tmp_path, "--workers", "1") == 0
    held = rows(tmp_path, "inventory.db", f"SELECT SUM(quantity) FROM reservations WHERE order_id = '{order.order_id}'")
    assert held == [(sum(item.quantity for item in order.items),)]


def test_orders_the_carrier_leaves_unanswered_once_or_twice_complete_with_one_shipment(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    run(example, tmp_path)
    recovered = [
        outcome["order"]["order_id"]
        for outcome in outcomes(tmp_path)
        if outcome["status"] == "completed" and example.tasks.unanswered_calls(outcome["order"]["order_id"])
    ]
    assert {example.tasks.unanswered_calls(order_id) for order_id in recovered} == {1, 2}
    shipments = Counter(order_id for (order_id,) in rows(tmp_path, "shipping.db", "SELECT order_id FROM shipments"))
    assert {shipments[order_id] for order_id in recovered} == {1}


def test_a_shipment_whose_confirmation_never_arrived_is_cancelled(example: SimpleNamespace, tmp_path: Path) -> None:
    run(example, tmp_path)
    cancelled = {key for (key,) in rows(tmp_path, "shipping.db", "SELECT order_id FROM shipments WHERE state <> 'booked'")}
    unavailable = {outcome["order"]["order_id"] for outcome in outcomes(tmp_path) if outcome["reason"] == "carrier unavailable"}
    assert cancelled
    assert cancelled <= unavailable


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("ReserveStock", ["stock MUG-BLUE: ", " on hand + ", "reservation of order 2024-", "should hold {}"]),
        (
            "ChargeCard",
            ["money: ", " cents charged - 0 refunded", "payment of order 2024-", "should be 0", "card tok_"],
        ),
        ("BookShipment", ["shipment of order 2024-", ": 1 live, should be 0"]),
    ],
)
def test_a_compensation_that_does_nothing_fails_the_audit_and_the_discrepancies_are_named(
    example: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    found: list[str],
) -> None:
    monkeypatch.setattr(getattr(example.tasks, task), "compensate", lambda self, context: None)
    assert run(example, tmp_path) == 1
    printed = capsys.readouterr()
    assert "audit    FAILED" in printed.err
    assert "passed" not in printed.out
    assert [part for part in found if part not in printed.err] == []


def test_the_audit_error_lists_every_discrepancy(example: SimpleNamespace, tmp_path: Path) -> None:
    with (
        example.databases.open_databases(tmp_path) as databases,
        example.orders.open_order_book(tmp_path / "outcomes.jsonl") as book,
    ):
        orders = example.orders.load_orders(SHOP / "orders.jsonl")[:20]
        example.shop.place_all(orders, example.tasks.place_order(databases), book, workers=2)
        example.audit.audit(databases, book.outcomes)
        card = orders[0].card
        with databases.inventory.transaction() as db:
            db.execute("UPDATE stock SET on_hand = on_hand - 1 WHERE sku = 'FILTER-100'")
        with databases.payments.transaction() as db:
            db.execute("UPDATE cards SET balance_cents = balance_cents + 1 WHERE card = ?", (card,))
        with databases.shipping.transaction() as db:
            db.execute("INSERT INTO shipments (order_id, destination, state) VALUES ('unheard-of', 'x', 'booked')")
        with pytest.raises(example.audit.AuditError) as caught:
            example.audit.audit(databases, book.outcomes)
    stock, balance, shipment = caught.value.discrepancies
    assert stock.startswith("stock FILTER-100: ")
    assert balance.startswith(f"card {card}: ")
    assert shipment == "shipment of order unheard-of: 1 live, should be 0"


def test_an_order_whose_undo_raises_is_stuck_and_the_audit_asks_for_a_person(
    example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: object, context: object) -> None:
        raise OSError("the bank is on fire")

    monkeypatch.setattr(example.tasks.ChargeCard, "compensate", broken)
    assert run(example, tmp_path) == 1
    printed = capsys.readouterr()
    assert "  stuck " in printed.out
    assert "ended stuck (undeliverable address); a person must act" in printed.err
    # The undo of the other steps was not held up by the broken one.
    held = {key for (key,) in rows(tmp_path, "inventory.db", "SELECT order_id FROM reservations")}
    assert held == {outcome["order"]["order_id"] for outcome in outcomes(tmp_path) if outcome["status"] == "completed"}


def test_compensating_what_was_never_done_or_twice_changes_nothing(example: SimpleNamespace, tmp_path: Path) -> None:
    order, completed = example.orders.load_orders(SHOP / "orders.jsonl")[:2]
    with (
        example.databases.open_databases(tmp_path) as databases,
        example.orders.open_order_book(tmp_path / "outcomes.jsonl") as book,
    ):
        example.shop.place_all([completed], example.tasks.place_order(databases), book, workers=1)
        before = everything(tmp_path)
        context = example.tasks.OrderContext(order=order)
        tasks = (
            example.tasks.BookShipment(databases.shipping),
            example.tasks.ChargeCard(databases.payments),
            example.tasks.ReserveStock(databases.inventory),
        )
        for task in tasks:
            task.compensate(context)
        assert everything(tmp_path) == before
        context = example.tasks.OrderContext(order=completed)
        for task in tasks:
            task.compensate(context)
        undone = everything(tmp_path)
        for task in tasks:
            task.compensate(context)
        assert everything(tmp_path) == undone != before
        example.audit.audit(databases, {})


def test_the_committed_orders_are_what_their_generator_makes(example: SimpleNamespace, tmp_path: Path) -> None:
    example.make_orders.main(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == (SHOP / "orders.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"items": [{"sku": "MUG-BLUE", "quantity": -1}]}, "quantity is -1"),
        ({"items": []}, "no items"),
        ({"order_id": "2024-10001"}, "there already"),
        ({"coupon": "FREE"}, "coupon"),
    ],
)
def test_orders_that_make_no_sense_are_refused_before_anything_is_placed(
    example: SimpleNamespace, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    lines = (SHOP / "orders.jsonl").read_text(encoding="utf-8").splitlines()[:2]
    lines[1] = json.dumps({**json.loads(lines[1]), **change})
    (tmp_path / "orders.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"line 2.*{complaint}"):
        run(example, tmp_path / "data", "--orders", str(tmp_path / "orders.jsonl"))
    assert not (tmp_path / "data").exists()


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Run by path, as a reader does: the script's folder has to be on sys.path, which PYTHONSAFEPATH would prevent.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    line = [sys.executable, "-W", "error", str(SHOP / "shop.py"), *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_a_summary_and_exits_with_0(tmp_path: Path) -> None:
    done = command("--data", str(tmp_path / "data"), "--workers", "3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (str(tmp_path / "data"), "300 placed, 0 skipped", "3 workers", "completed", "out of stock", "passed"):
        assert part in done.stdout


def test_the_command_says_where_it_made_a_folder_for_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = command(cwd=tmp_path)
    folder = Path(done.stdout.split()[1])
    assert (done.returncode, folder.parent) == (0, tmp_path)
    assert {path.name for path in folder.glob("*.db")} == set(DATABASES)


def test_the_command_refuses_to_run_without_workers(tmp_path: Path) -> None:
    done = command("--workers", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "give 1 or more" in done.stderr
