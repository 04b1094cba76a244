"""What an address asks for: filters, as ``Operations.list`` takes them; parts of what is long; addresses that ask for nearly
the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from saga.events import Status

__all__ = ["KEYS", "Asked", "asked", "normal", "number", "seconds"]

_TEXTS: Final = ("name", "version", "step", "cause")
_AGES: Final = ("older", "newer", "idle")
_KEPT: Final = ("q", "status", *_TEXTS, "tag", *_AGES)
_SEVERAL: Final = ("status", "tag", "of")
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "executions": (*_KEPT, "after"),
    "causes": (),
    "execution": ("id", "steps", "errors", "before"),
    "health": (),
    "some": ("of",),
}
"""By page: the keys that say what is looked at there."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Asked:
    """
    :ivar pairs: what the address has, without the page's cursor.
    :ivar filters: for ``Operations.list``.
    :ivar after: the cursor.
    """

    pairs: tuple[tuple[str, str], ...]
    filters: dict[str, Any]
    after: str | None

    def given(self, key: str) -> str:
        """Return what a field of a form shows."""
        return dict(self.pairs).get(key, "")

    @property
    def statuses(self) -> list[str]:
        return [value for key, value in self.pairs if key == "status"]

    @property
    def filtered(self) -> int:
        """How many filters there are, besides statuses."""
        return sum(key not in ("status", "q") for key, _ in self.pairs)

    def address(self, **other: str | None) -> str:
        """Return the address of a list that asks for the same, but for this; ``None`` leaves it out."""
        pairs = [(key, value) for key, value in self.pairs if key not in other]
        pairs += [(key, value) for key, value in other.items() if value is not None]
        return f"./?{urlencode(pairs)}" if pairs else "./"


def normal(query: QueryParams, page: str) -> QueryParams:
    """Return what of an address says what is looked at, in one form for all that look at the same."""
    pairs: list[tuple[str, str]] = []
    for key in KEYS[page]:
        values = [value for value in query.getlist(key) if value]
        pairs += [(key, value) for value in (sorted(set(values)) if key in _SEVERAL else values[-1:])]
    return QueryParams(pairs)


def number(query: QueryParams, key: str) -> int | None:
    """Return the whole number that an address has, or ``None``.

    :raises ValueError: it has something else.
    """
    text = query.get(key)
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise ValueError(f"{key} is {text!r}; give a whole number of 1 or more.")
    return int(text)


def asked(query: QueryParams) -> Asked:
    """Return what an address asks for.

    :raises ValueError: it asks for what cannot be.
    """
    pairs = tuple((key, value.strip()) for key, value in query.multi_items() if key in _KEPT and value.strip())
    found: Mapping[str, str] = dict(pairs)
    filters: dict[str, Any] = {key: found[key] for key in _TEXTS if key in found}
    statuses = [value for key, value in pairs if key == "status"]
    if statuses:
        filters["status"] = statuses
    elif "step" in filters or "cause" in filters:  # which those have not, and they are nearly all
        filters["status"] = [status for status in Status if status is not Status.COMPLETED]
    tags = dict(_tag(value) for key, value in pairs if key == "tag")
    if tags:
        filters["tags"] = tags
    for key, parameter in zip(_AGES, ("older_than", "newer_than", "idle_for"), strict=True):
        if key in found:
            filters[parameter] = seconds(found[key])
    return Asked(pairs, filters, query.get("after") or None)


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        raise ValueError(f"The tag is {text!r}; write key=value, such as order=A1.")
    return key, value


def seconds(text: str) -> float:
    """Return a length of time: ``90s``, ``5m``, ``2h``, ``3d``, ``1w``, or seconds.

    :raises ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([smhdw])?", text)
    length = float(found[1]) * _UNITS[found[2] or "s"] if found is not None else math.nan
    if not length < 1e10:
        raise ValueError(f"{text!r} is no length of time; write one such as 90s, 5m, 2h, 3d or 1w.")
    return length
