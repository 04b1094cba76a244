"""Models of the libraries that have a base class for them: one rule for all, live and after a crash."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pydantic
import pytest

from saga import Context, InDoubt, Saga, step
from saga.durable.codec import Codec
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import Watched, expired


class Item(pydantic.BaseModel):
    price: Decimal
    tags: frozenset[str] = frozenset()


class Order(pydantic.BaseModel):
    items: list[Item]
    at: datetime


class Value:
    """The base of the attrs classes here: attrs itself has none."""

    __slots__ = ()


@attrs.frozen
class Price(Value):
    amount: Decimal
    _currency: str = "EUR"


@attrs.define
class Offer(Value):
    prices: tuple[Price, ...]
    until: datetime | None = None


class Parcel(msgspec.Struct, frozen=True):
    weight: Decimal
    holds: tuple[Any, ...] = ()


def attributes(value: Any) -> dict[str, Any]:
    return {field.alias: getattr(value, field.name) for field in attrs.fields(type(value))}


CODEC = (
    Codec()
    .register_base(pydantic.BaseModel, lambda model: model.model_dump(), lambda cls, stored: cls.model_validate(stored))
    .register_base(Value, attributes, lambda cls, stored: cls(**stored))
    .register_base(msgspec.Struct, msgspec.structs.asdict, lambda cls, stored: cls(**stored))
)
NOW = datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        Order(items=[Item(price=Decimal("1.10"), tags=frozenset("ab"))], at=NOW),
        Offer((Price(Decimal("1.10")), Price(Decimal(2), "USD")), NOW),
        Parcel(Decimal("0.50"), (Parcel(Decimal(1)), Price(Decimal(3)), Item(price=Decimal(4)))),
    ],
    ids=lambda value: type(value).__module__,
)
def test_models_come_back_as_they_were_live_and_recovered(value: Any) -> None:
    seen: list[Any] = []

    def put(context: Context) -> Any:
        context.put = [value]
        return value

    def look(previous: Any, context: Context) -> None:
        seen.extend([previous, context.given, *context.put])

    saga = Saga("s", codec=CODEC).add_task(step(put)).add_task(step(look, in_doubt=InDoubt.RERUN))
    watched = Watched(MemoryStore())
    saga.execute({"given": value}, saga_id="x", store=watched)  # type: ignore[arg-type]
    store = MemoryStore()
    expired(store, watched.writes[:-1])
    (again,) = Recovery(store, [saga]).run_once()
    assert again.ok
    assert seen == [value] * 6
    assert {type(one) for one in seen} == {type(value)}
