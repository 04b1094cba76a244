"""The examples' sagas are explored and certified: what people copy keeps the laws, with up to two faults, and is sound."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from urllib.parse import unquote

import pytest

from saga import Saga, cli, step
from saga.storage import MemoryStore
from saga.testing import Kind, certify, explore, with_stand_ins

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PERSONS: Final = {Kind.CANCELLED, Kind.PAUSED, Kind.INTERRUPTED, Kind.WRONG_INPUT}
MANY: Final = [kind for kind in Kind if kind not in PERSONS | {Kind.SECOND_OWNER}]
"""What is usual, and processes that stall: services that know a call by its key refuse what comes late."""


class Importing:
    """Imports an example's modules afresh, as running it by path does; they are gone with the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, folder: str, *names: str) -> Any:
        self._monkeypatch.syspath_prepend(str(EXAMPLES / folder))
        modules = [importlib.import_module(name) for name in names]
        return (
            modules[0]
            if len(modules) == 1
            else SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})
        )


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Importing]:
    _forget()
    yield Importing(monkeypatch)
    _forget()


def _forget() -> None:
    for name, module in list(sys.modules.items()):
        if str(EXAMPLES) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


# -- the shop ---------------------------------------------------------------------------------------------------------


def shops(shop: Any) -> Any:
    """Return what makes a world of the example shop: its own databases, in memory."""

    class Shop:
        def __init__(self) -> None:
            schemas = (shop.databases.INVENTORY, shop.databases.PAYMENTS, shop.databases.SHIPPING)
            memory = Path(":memory:")
            self.databases = shop.databases.Databases(*(shop.databases.Database(memory, schema) for schema in schemas))
            with self.databases.inventory.transaction() as db:
                db.executemany("INSERT INTO stock VALUES (?, ?, ?, ?)", [(*one, one[2]) for one in shop.databases.CATALOGUE])
            with self.databases.payments.transaction() as db:
                db.executemany("INSERT INTO cards (card, limit_cents) VALUES (?, ?)", shop.databases.CARDS)

        def state(self) -> dict[str, Any]:
            read, of = shop.audit._rows, self.databases
            return {
                "stock": read(of.inventory, "SELECT sku, on_hand FROM stock"),
                "reservations": read(of.inventory, "SELECT * FROM reservations"),
                "cards": read(of.payments, "SELECT card, balance_cents FROM cards"),
                "shipments": read(of.shipping, "SELECT order_id FROM shipments WHERE state = 'booked'"),
            }

    return Shop


WEATHER: Final = {"fair": (0, 2), "of one unanswered call": (1, 2), "of two": (2, 1), "in which nobody answers": (1000, 1)}
"""How many calls the carrier leaves unanswered, and how many faults there are besides."""


@pytest.mark.parametrize("weather", WEATHER)
def test_an_order_of_the_shop_is_placed_wholly_or_not_at_all_in_weather(weather: str, example: Importing) -> None:
    shop = example("shop", "databases", "orders", "carrier", "tasks", "outcomes", "audit")
    unanswered, faults = WEATHER[weather]
    orders = shop.orders.load_orders(EXAMPLES / "shop" / "orders.jsonl")
    order = next(one for one in orders if shop.carrier.unanswered_calls(one.order_id) == unanswered)

    def audited(world: Any, result: Any) -> None:
        if result.status in ("completed", "compensated"):
            outcome = shop.outcomes.Outcome(order, str(result.status), None, result.effects)
            try:
                shop.audit.audit(world.databases, {order.order_id: outcome})
            except shop.audit.AuditError as error:
                raise AssertionError(str(error)) from error

    explore(
        lambda world: shop.tasks.place_order(world.databases, MemoryStore()),
        shop.tasks.OrderContext(order),
        world=shops(shop),
        at_end=audited,
        kinds=MANY,
        may_fail=["BookShipment"],  # what the carrier does not say
        faults=faults,
    )


def test_the_tasks_of_the_shop_are_sound(example: Importing) -> None:
    shop = example("shop", "databases", "orders", "tasks", "audit")
    order, *_ = shop.orders.load_orders(EXAMPLES / "shop" / "orders.jsonl")
    found = certify(
        lambda world: shop.tasks.place_order(world.databases, MemoryStore()), shop.tasks.OrderContext(order), world=shops(shop)
    )
    assert len(found) == 3
    assert not found.wrong


# -- the order service ------------------------------------------------------------------------------------------------


def services(orders: Any) -> Any:
    """Return what makes a world of the order service: its bank, asked through its own client; its post; and its shelves."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")

    now: list[Any] = []  # the world in which the bank is asked
    bank = orders.bank.Bank("http://bank", 5)
    bank._client = httpx.Client(transport=httpx.MockTransport(lambda request: now[0].answer(request)), base_url="http://bank")

    @dataclass
    class Service:
        remaining: int = 3
        sold: bool = False
        points: int = 0
        mails: dict[str, str] = field(default_factory=dict)

        def __post_init__(self) -> None:
            self.ledger = orders.bank_fake.Ledger(":memory:")
            self.bank = bank
            now[:] = [self]

        def answer(self, request: Any) -> Any:
            key = request.headers.get("Idempotency-Key", "")
            if request.method == "GET":
                status, body = self.ledger.find(unquote(request.url.path.removeprefix("/charges/")))
            else:
                asked = self.ledger.charge if request.url.path == "/charges" else self.ledger.refund
                status, body = asked(key, **json.loads(request.content))
            return httpx.Response(status, json=body)

        def send(self, key: str, to: str, subject: str) -> None:
            self.mails[key] = subject  # a mail program shows what has one Message-ID once

        def state(self) -> dict[str, Any]:
            (cents,) = self.ledger._do("SELECT COALESCE(SUM(cents), 0) FROM ledger")[0]
            told = {about for subject in self.mails.values() for about in ("confirmed", "cancelled") if about in subject}
            # Who is told of nothing, and who is told that it is cancelled, does not wait for it.
            return {
                "remaining": self.remaining,
                "sold": self.sold,
                "points": self.points,
                "cents": cents,
                "waits": told == {"confirmed"},
            }

    return Service


def in_world(orders: Any, placed: Saga[Any], world: Any) -> Saga[Any]:
    """Return the service's saga in a world: what works in its database has stand-ins."""

    def give(context: Any) -> None:
        world.points = context.result_of(orders.tasks.ReserveStock) // 100

    def take(context: Any) -> int:
        if world.remaining < context.quantity:
            raise orders.tasks.OutOfStock("there are none left")
        world.remaining -= context.quantity
        return 950 * int(context.quantity)

    def give_back(context: Any) -> None:
        world.remaining += context.quantity

    stand_ins = {
        orders.tasks.ReserveStock: step(take, give_back),
        orders.tasks.ChargeCard: orders.tasks.ChargeCard(world.bank),
        orders.tasks.ConfirmSale: step(lambda: setattr(world, "sold", True), lambda: setattr(world, "sold", False)),
        orders.tasks.TellCustomer: orders.tasks.TellCustomer(world),
        orders.tasks.GivePoints: step(give, lambda: setattr(world, "points", 0)),
    }
    return with_stand_ins(placed, stand_ins)


def order_service(example: Importing) -> tuple[Any, Saga[Any]]:
    for library in ("httpx", "psycopg"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    orders = example("", "orders.bank", "orders.sagas", "orders.tasks")
    orders.bank_fake = example("", "orders.fakes.bank")
    return orders, orders.sagas.place_order("2")


@pytest.mark.parametrize(("card", "quantity"), [("4000", 2), ("4000", 4), ("declined", 2)])
def test_an_order_of_the_service_is_placed_wholly_or_not_at_all(card: str, quantity: int, example: Importing) -> None:
    orders, placed = order_service(example)
    order = orders.tasks.Order("A1", "ann@example.org", "mug", quantity, card)
    explore(lambda world: in_world(orders, placed, world), order, world=services(orders), kinds=MANY)


def test_the_tasks_of_the_service_are_sound(example: Importing) -> None:
    orders, placed = order_service(example)
    order = orders.tasks.Order("A1", "ann@example.org", "mug", 2, "4000")
    found = certify(lambda world: in_world(orders, placed, world), order, world=services(orders))
    assert len(found) == 5
    assert not found.wrong


# -- the web service that streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", ["4000", "declined"])
def test_an_order_of_the_web_service_that_streams_is_placed_wholly_or_not_at_all(card: str, example: Importing) -> None:
    orders = example("fastapi_sse", "orders")

    class Ledger(orders.Ledger):  # type: ignore[misc, name-defined]
        """The service's, in memory."""

        def __init__(self) -> None:
            self.database = sqlite3.connect(":memory:")
            super().__init__(Path(":memory:"))

        @contextmanager
        def _connection(self) -> Iterator[sqlite3.Connection]:
            with self.database as db:
                yield db

        def state(self) -> dict[str, str]:
            return dict(self.database.execute("SELECT key, what FROM effects WHERE what IS NOT NULL"))

    def place_order(world: Ledger) -> Saga[Any]:
        return orders.place_order(world, MemoryStore(), 30.0, 0.0)  # type: ignore[no-any-return]

    explore(place_order, {"order_id": "A1", "sku": "tea", "card": card}, world=Ledger, kinds=MANY)


# -- the recipes, the page and the demonstration ----------------------------------------------------------------------

Books = dict[str, str]


def entering(books: Books) -> Any:
    """Return a stand-in that enters the order under its step's key, and strikes it out."""

    class Entering:
        def execute(self, context: Any) -> str:
            return books.setdefault(context.step.idempotency_key, context.step.name)

        def compensate(self, context: Any) -> None:
            books.pop(context.step.idempotency_key, None)

    return Entering()


def demonstration(name: str) -> Any:
    """Return a saga of ``saga demo``'s shop."""
    code = (Path(cli.__file__).with_name("shop.py.txt")).read_text(encoding="utf-8")
    shop = ModuleType("shop")
    shop.__file__ = __file__
    exec(compile(code, "shop.py", "exec"), vars(shop))
    return getattr(shop, name)


EFFECTS: Final[dict[str, tuple[str, str, str, tuple[str, ...]]]] = {
    "the recipes": ("recipes", "orders", "place_order", ("ReserveStock", "ChargeCard")),
    "FastAPI": ("recipes", "fastapi_app", "orders", ("ChargeCard",)),
    "Celery": ("recipes", "celery_app", "ship_order", ("ShipOrder",)),
    "the page": ("page", "orders", "place_order", ("reserve", "charge")),
    "an order of the demonstration": ("", "", "place_order", ("reserve", "charge", "label")),
    "one that is approved": ("", "", "approved", ("charge",)),
    "one that waits": ("", "", "later", ("reserve", "charge")),
}
"""By example: its folder, its module, its saga, and the steps that act on something."""


@pytest.mark.parametrize("which", EFFECTS)
def test_a_saga_with_effects_of_its_own_is_as_sound_as_the_calls_that_it_makes(which: str, example: Importing) -> None:
    folder, module, name, steps = EFFECTS[which]
    for library in ("fastapi", "celery"):
        if library in module:
            pytest.importorskip(library, reason=f"{library} is not installed")
    made = getattr(example(folder, module), name) if module else demonstration(name)
    order = {"order": "A1"} if which not in ("the recipes", "FastAPI", "Celery") else {"order_id": "A1", "card": "4000"}
    explore(made, order, durable=True)  # as they are, they act on nothing
    explore(lambda books: with_stand_ins(made, {step: entering(books) for step in steps}), order, world=dict, durable=True)
