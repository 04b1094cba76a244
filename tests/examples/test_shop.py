"""The example shop: three databases, and books that balance whatever happens to an order or to the process."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saga.storage import SqliteStore
from saga.testing import call

SHOP = Path(__file__).parents[2] / "examples" / "shop"
MODULES = ("audit", "carrier", "databases", "make_orders", "orders", "outcomes", "shop", "tasks")
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


def outcomes(example: SimpleNamespace, data: Path) -> dict[str, Any]:
    nowhere = SimpleNamespace(inventory=None, payments=None, shipping=None)
    with SqliteStore(data / "sagas.db") as store:
        return dict(example.outcomes.read_outcomes(example.tasks.place_order(nowhere, store), store))


def run(example: SimpleNamespace, data: Path, *more: str) -> int:
    code: int = example.shop.main(["--data", str(data), *more])
    return code


def money(data: Path) -> tuple[Any, ...]:
    """What was charged, what was refunded, and what is on the cards."""
    ledger = dict(rows(data, "payments.db", "SELECT kind, SUM(amount_cents) FROM ledger GROUP BY kind"))
    return ledger["charge"], ledger["refund"], rows(data, "payments.db", "SELECT SUM(balance_cents) FROM cards")[0][0]


def price_of_completed(example: SimpleNamespace, ended: dict[str, Any]) -> int:
    prices = {sku: price for sku, price, _ in example.databases.CATALOGUE}
    return sum(
        prices[item.sku] * item.quantity
        for outcome in ended.values()
        if outcome.status == "completed"
        for item in outcome.order.items
    )


@pytest.mark.parametrize("workers", ["1", "4", "16"])
def test_a_run_of_all_orders_audits_clean_and_meets_every_reason_to_fail(
    example: SimpleNamespace, tmp_path: Path, workers: str
) -> None:
    assert run(example, tmp_path, "--workers", workers) == 0
    ended = outcomes(example, tmp_path)
    assert {key: outcome.order for key, outcome in ended.items()} == {
        order.order_id: order for order in example.orders.load_orders(SHOP / "orders.jsonl")
    }
    reasons = Counter(outcome.reason for outcome in ended.values())
    assert set(reasons) == {None, "out of stock", "card limit", "undeliverable address", "carrier unavailable"}
    assert 0.15 < 1 - reasons[None] / len(ended) < 0.35
    assert {outcome.status for outcome in ended.values() if outcome.reason} == {"compensated"}


def test_money_charged_less_money_refunded_is_the_price_of_completed_orders_to_the_cent(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    run(example, tmp_path)
    expected = price_of_completed(example, outcomes(example, tmp_path))
    charged, refunded, balances = money(tmp_path)
    assert refunded > 0
    assert charged - refunded == balances == expected


def test_a_second_run_on_the_same_data_places_nothing_again(
    example: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(example, tmp_path)
    before, ended = everything(tmp_path), outcomes(example, tmp_path)
    summary = capsys.readouterr().out.partition("time")[2].partition("\n")[2]
    assert run(example, tmp_path) == 0
    printed = capsys.readouterr().out
    assert "0 placed, 300 had ended" in printed
    assert printed.endswith(summary)
    assert everything(tmp_path) == before
    assert outcomes(example, tmp_path) == ended


def test_a_fresh_start_forgets_the_shop_and_nothing_else_in_its_folder(
    example: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run(example, tmp_path)
    (tmp_path / "payments.db").unlink()
    assert run(example, tmp_path) == 1
    capsys.readouterr()
    assert run(example, tmp_path, "--fresh") == 0
    assert "300 placed, 0 had ended" in capsys.readouterr().out
    assert (tmp_path / "notes.txt").read_text() == "mine"


# -- processes that die -----------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    # Run by path, as a reader does: the script's folder has to be on sys.path, which PYTHONSAFEPATH would prevent.
    return {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}


def start(data: Path, *more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-W", "error", str(SHOP / "shop.py"), "--data", str(data), "--lease", "0.3", *more]
    return subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def entries(data: Path, condition: str = "1") -> int:
    try:
        return int(rows(data, "sagas.db", f"SELECT COUNT(*) FROM saga_journal WHERE {condition}")[0][0])
    except sqlite3.OperationalError:  # nothing is there yet
        return 0


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_and_run_again_every_order_ends_once_and_the_audit_holds(
    example: SimpleNamespace, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    for _ in range(12):  # a whole run writes about 2,700 entries; some of these die before they write one
        enough = entries(tmp_path) + dice.choice((0, dice.randrange(20), dice.randrange(300)))
        shop = start(tmp_path)
        while entries(tmp_path) < enough and shop.poll() is None:
            pass
        time.sleep(dice.random() * 0.01)
        shop.kill()
        shop.communicate()
        assert shop.returncode == -signal.SIGKILL
    assert entries(tmp_path, "kind = 'SagaRecovered'") > 0
    shop = start(tmp_path)
    printed, complaints = shop.communicate()
    assert (shop.returncode, complaints) == (0, "")
    assert "audit    passed: 300 orders" in printed
    ended = outcomes(example, tmp_path)
    assert ended.keys() == {order.order_id for order in example.orders.load_orders(SHOP / "orders.jsonl")}
    assert {outcome.status for outcome in ended.values()} == {"completed", "compensated"}
    reasons = {outcome.reason for outcome in ended.values()}
    assert reasons - {"shop died, carrier unavailable"} == {
        *(None, "out of stock", "card limit", "undeliverable address", "carrier unavailable")
    }
    charged, refunded, balances = money(tmp_path)
    assert charged - refunded == balances == price_of_completed(example, ended)
    before = everything(tmp_path)
    assert run(example, tmp_path) == 0
    assert everything(tmp_path) == before


DIES = """
import os, shop, tasks
call = tasks.{task}.{call}
def dies(self, context):
    if {done}:
        call(self, context)
    os._exit(9)
tasks.{task}.{call} = dies
shop.main({arguments})
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of some orders, one after another, in which nobody died."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lines = (SHOP / "orders.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "some.jsonl").write_text("".join(lines[:40]), encoding="utf-8")
    with start(folder, "--orders", str(folder / "some.jsonl"), "--workers", "1") as shop:
        printed, complaints = shop.communicate()
    assert (shop.returncode, complaints) == (0, ""), printed
    return folder


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", ["execute", "compensate"])
@pytest.mark.parametrize("task", ["ReserveStock", "ChargeCard", "BookShipment"])
def test_an_order_whose_process_died_at_a_call_ends_as_if_it_had_not(
    example: SimpleNamespace,
    tmp_path: Path,
    undisturbed: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    call: str,
    done: bool,
) -> None:
    options = ["--orders", str(undisturbed / "some.jsonl"), "--workers", "1", "--lease", "0.2"]
    code = DIES.format(task=task, call=call, done=done, arguments=["--data", str(tmp_path), *options])
    assert subprocess.run([sys.executable, "-c", code], cwd=SHOP, env=environment(), check=False).returncode == 9
    assert run(example, tmp_path, *options) == 0
    assert "1 that it left under way were finished" in capsys.readouterr().out
    assert entries(tmp_path, "kind = 'SagaRecovered'") == 1
    assert outcomes(example, tmp_path) == outcomes(example, undisturbed)
    assert everything(tmp_path) == everything(undisturbed)


def test_orders_of_another_file_that_a_dead_process_left_under_way_are_finished_too(
    example: SimpleNamespace, tmp_path: Path, undisturbed: Path
) -> None:
    code = DIES.format(task="ChargeCard", call="execute", done=True, arguments=["--data", str(tmp_path), "--lease", "0.2"])
    subprocess.run([sys.executable, "-c", code], cwd=SHOP, env=environment(), check=False)
    (tmp_path / "none.jsonl").touch()
    assert run(example, tmp_path, "--orders", str(tmp_path / "none.jsonl")) == 0
    assert {outcome.status for outcome in outcomes(example, tmp_path).values()} == {"completed"}


def test_an_order_that_another_run_took_over_is_waited_for(
    example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = example.carrier.Carrier.book
    orders = example.orders.load_orders(SHOP / "orders.jsonl")[:3]

    def slow(carrier: Any, order: Any, key: str, attempt: int) -> int:
        if order is orders[1] and attempt == 1:  # this process is halted, its lease runs out, somebody claims the order
            with closing(sqlite3.connect(tmp_path / "sagas.db")) as other, other:
                other.execute("UPDATE saga SET epoch = 2, lease_until = ? WHERE id = ?", (time.time() + 0.2, order.order_id))
        number: int = book(carrier, order, key, attempt)
        return number

    monkeypatch.setattr(example.carrier.Carrier, "book", slow)
    with (
        example.databases.open_databases(tmp_path) as databases,
        SqliteStore(tmp_path / "sagas.db") as store,
    ):
        example.shop.place_all(orders, example.tasks.place_order(databases, store), workers=1)
    assert {outcome.status for outcome in outcomes(example, tmp_path).values()} == {"completed"}
    assert rows(tmp_path, "shipping.db", "SELECT COUNT(*) FROM shipments") == [(3,)]


# -- the carrier ------------------------------------------------------------------------------------------------------


def test_orders_the_carrier_leaves_unanswered_once_or_twice_complete_with_one_shipment(
    example: SimpleNamespace, tmp_path: Path
) -> None:
    run(example, tmp_path)
    unanswered = example.carrier.unanswered_calls
    recovered = [
        order_id
        for order_id, outcome in outcomes(example, tmp_path).items()
        if outcome.status == "completed" and unanswered(order_id)
    ]
    assert {unanswered(order_id) for order_id in recovered} == {1, 2}
    shipments = Counter(order_id for (order_id,) in rows(tmp_path, "shipping.db", "SELECT order_id FROM shipments"))
    assert {shipments[order_id] for order_id in recovered} == {1}


def test_a_shipment_whose_confirmation_never_arrived_is_cancelled(example: SimpleNamespace, tmp_path: Path) -> None:
    run(example, tmp_path)
    cancelled = {key for (key,) in rows(tmp_path, "shipping.db", "SELECT order_id FROM shipments WHERE state <> 'booked'")}
    ended = outcomes(example, tmp_path)
    assert cancelled
    assert {ended[order_id].reason for order_id in cancelled} == {"carrier unavailable"}


# -- the audit --------------------------------------------------------------------------------------------------------


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
    orders = example.orders.load_orders(SHOP / "orders.jsonl")[:20]
    with example.databases.open_databases(tmp_path) as databases:
        with SqliteStore(tmp_path / "sagas.db") as store:
            example.shop.place_all(orders, example.tasks.place_order(databases, store), workers=2)
        ended = outcomes(example, tmp_path)
        example.audit.audit(databases, ended)
        card = orders[0].card
        with databases.inventory.transaction() as db:
            db.execute("UPDATE stock SET on_hand = on_hand - 1 WHERE sku = 'FILTER-100'")
        with databases.payments.transaction() as db:
            db.execute("UPDATE cards SET balance_cents = balance_cents + 1 WHERE card = ?", (card,))
        with databases.shipping.transaction() as db:
            db.execute("INSERT INTO shipments (order_id, destination, state) VALUES ('unheard-of', 'x', 'booked')")
        with pytest.raises(example.audit.AuditError) as caught:
            example.audit.audit(databases, ended)
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
    assert held == {key for key, outcome in outcomes(example, tmp_path).items() if outcome.status == "completed"}


def test_calls_that_are_repeated_undone_twice_or_late_change_nothing(example: SimpleNamespace, tmp_path: Path) -> None:
    order, other = example.orders.load_orders(SHOP / "orders.jsonl")[:2]
    with example.databases.open_databases(tmp_path) as databases:
        tasks = [
            example.tasks.ReserveStock(databases.inventory),
            example.tasks.ChargeCard(databases.payments),
            example.tasks.BookShipment(example.carrier.Carrier(databases.shipping)),
        ]

        def make(phase: Any, task: Any, order: Any) -> None:
            reserved = example.tasks.Reservation(order.order_id, 10_000)
            context = example.tasks.OrderContext(order)
            call(task, context, phase=phase, attempt=9, results={"ReserveStock": reserved}, saga_id=order.order_id)

        fresh = everything(tmp_path)
        for task in tasks:
            make("compensate", task, other)
        assert everything(tmp_path) == fresh
        for task in tasks:
            make("execute", task, order)
        done = everything(tmp_path)
        assert done != fresh
        for task in tasks:
            make("execute", task, order)
        assert everything(tmp_path) == done
        for task in reversed(tasks):
            make("compensate", task, order)
        undone = everything(tmp_path)
        assert undone != done
        for task in tasks:
            make("compensate", task, order)
            make("execute", task, order)
        assert everything(tmp_path) == undone
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


# -- the command line -------------------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path, safe_path: bool = False) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *(["-P"] if safe_path else []), "-W", "error", str(SHOP / "shop.py"), *arguments]
    return subprocess.run(line, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("safe_path", [False, True])
def test_the_command_prints_a_summary_and_exits_with_0(tmp_path: Path, safe_path: bool) -> None:
    done = command("--data", str(tmp_path / "data"), "--workers", "3", cwd=tmp_path, safe_path=safe_path)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (str(tmp_path / "data"), "300 placed, 0 had ended", "3 workers", "completed", "out of stock", "passed"):
        assert part in done.stdout


def test_the_command_says_where_it_keeps_its_data_and_finds_it_again(tmp_path: Path) -> None:
    first, second = command(cwd=tmp_path), command(cwd=tmp_path)
    folder = tmp_path / first.stdout.split()[1]
    assert {path.name for path in folder.glob("*.db")} == {*DATABASES, "sagas.db"}
    assert (first.returncode, second.returncode) == (0, 0)
    assert "0 placed, 300 had ended" in second.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(("--workers", "0"), "give 1 or more"), (("--lease", "nan"), "give seconds above 0")]
)
def test_the_command_refuses_options_that_make_no_sense(tmp_path: Path, arguments: tuple[str, str], complaint: str) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []
