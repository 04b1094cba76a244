"""Values that hold others, to text: lists, dicts, sets, dataclasses, ... and what is registered.

Text is made directly, without a tree in between: one pass, and nothing another thread can change midway.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import date, datetime, time, timezone
from typing import Any, Final

from saga.durable.codec.classes import base_of, kind_of, other_attributes, write_member
from saga.durable.codec.names import Names, NotNamedError
from saga.durable.codec.refusals import (
    MAX_DEPTH,
    REGISTER,
    RefusedError,
    TooLargeError,
    brief,
    refusal,
    refuse,
    refuse_depth,
)
from saga.durable.codec.scalars import SCALAR_WRITERS, SURROGATES, Writer, is_iso, quote
from saga.durable.found_again import warn_of_main
from saga.plain import text_of
from saga.recorded import stored_name

__all__ = ["Writers"]

# In containers: freezegun puts its own classes in the place of these two wherever a module has one.
_MOMENTS: Final = (datetime, time)
_STOOD_IN_FOR: Final[dict[str, type]] = {"freezegun.api.FakeDatetime": datetime, "freezegun.api.FakeDate": date}


class Writers(dict[type, Writer]):
    """The writer of each type. One for a class not met before is made, so that a type met before costs one look-up.

    Each container looks at how long its text becomes, while it does: a part that stands in many places makes it grow without
    end, and nothing else would end that.

    :param aliases: the classes that names stand for, other than those found under them.
    :param bases: the encode function of each class whose subclasses are stored in one way.
    :param names: finds the others.
    :param max_size: how many characters a text may have.
    """

    def __init__(
        self, aliases: Mapping[str, type], bases: Mapping[type, Callable[[Any], Any]], names: Names, max_size: int
    ) -> None:
        super().__init__(SCALAR_WRITERS)
        self.max_size = max_size
        self.update(
            {
                list: self._write_list,
                dict: self._write_dict,
                tuple: lambda value, depth: f'{{"$tuple":{self._write_list(value, depth)}}}',
                set: lambda value, depth: f'{{"$set":[{self._write_set(value, depth)}]}}',
                frozenset: lambda value, depth: f'{{"$frozenset":[{self._write_set(value, depth)}]}}',
                deque: lambda value, depth: f'{{"$deque":[{self._write_list(value, depth)},{_maxlen(value)}]}}',
                OrderedDict: self._write_ordered,
                **dict.fromkeys(_MOMENTS, self._write_moment),
            }
        )
        self.built_in = frozenset(self)
        self._aliases = aliases
        self._bases = bases
        self._found = names

    def __missing__(self, cls: type) -> Writer:
        real = _STOOD_IN_FOR.get(f"{cls.__module__}.{cls.__name__}")
        writer = self[cls] = self._made_for(cls) if real is None else self[real]
        return writer

    def _write_list(self, value: Iterable[Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            refuse_depth()
        parts: list[str] = []
        room = self.max_size
        depth += 1
        try:
            for item in value:
                text = self[type(item)](item, depth)
                room -= len(text)
                if room < 0:
                    raise TooLargeError(self.max_size)
                parts.append(text)
        except RefusedError as refused:
            raise refused.inside(value, f"[{len(parts)}]") from refused.__cause__
        return f"[{','.join(parts)}]"

    def _write_set(self, value: Iterable[Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            refuse_depth()
        parts: list[str] = []
        room = self.max_size
        try:
            for item in value:
                text = self[type(item)](item, depth + 1)
                room -= len(text)
                if room < 0:
                    raise TooLargeError(self.max_size)
                parts.append(text)
        except RefusedError as refused:
            raise refused.inside(value, ".<element>") from refused.__cause__
        return ",".join(sorted(parts))

    def _write_dict(self, value: dict[Any, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            refuse_depth()
        # The keys first: finding one out after its items are written would write these twice, at every level again.
        for key in value:
            if type(key) is not str or not (key.isascii() or SURROGATES.search(key) is None):
                return f'{{"$dict":{self._write_pairs(value, depth)}}}'
        if len(value) == 1 and key.startswith("$"):
            return f'{{"$dict":{self._write_pairs(value, depth)}}}'
        parts: list[str] = []
        room = self.max_size
        depth += 1
        try:
            for key, item in value.items():
                text = f"{quote(key)}:{self[type(item)](item, depth)}"
                room -= len(text)
                if room < 0:
                    raise TooLargeError(self.max_size)
                parts.append(text)
        except RefusedError as refused:
            raise refused.inside(value, f"[{brief(key)}]") from refused.__cause__
        return f"{{{','.join(parts)}}}"

    def _write_pairs(self, value: dict[Any, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            refuse_depth()
        parts: list[str] = []
        room = self.max_size
        place = ""
        try:
            for key, item in value.items():
                place = ".<key>"
                left = self[type(key)](key, depth + 1)
                place = f"[{brief(key)}]"
                text = f"[{left},{self[type(item)](item, depth + 1)}]"
                room -= len(text)
                if room < 0:
                    raise TooLargeError(self.max_size)
                parts.append(text)
        except RefusedError as refused:
            raise refused.inside(value, place) from refused.__cause__
        return f"[{','.join(parts)}]"

    def _write_ordered(self, value: OrderedDict[Any, Any], depth: int) -> str:
        if value.__dict__:
            refuse(type(value), f"it has attributes of its own: {', '.join(value.__dict__)}", "make it a dataclass")
        return f'{{"$ordereddict":{self._write_pairs(value, depth)}}}'

    def _write_moment(self, value: datetime | time, depth: int) -> str:
        tag, zone = "time" if isinstance(value, time) else "datetime", value.tzinfo
        if not value.fold and (zone is None or (type(zone) is timezone and is_iso(zone))):
            return f'{{"${tag}":"{value.isoformat()}"}}'
        # The clock's own reading and the zone, not an offset: the same zone comes back, whatever its rules are by then.
        try:
            written = self[type(zone)](zone, depth + 1)
        except RefusedError as refused:
            raise refused.inside(value, ".tzinfo") from refused.__cause__
        return f'{{"${tag}":["{value.replace(tzinfo=None).isoformat()}",{written},{value.fold}]}}'

    def _made_for(self, cls: type) -> Writer:
        base = base_of(cls, self._bases)
        kind = kind_of(cls) if base is None else "$based"
        if not kind.startswith("$"):
            refuse(cls, *kind.split("; ", 1))
        name = stored_name(cls)
        warn_of_main(cls)
        if "<locals>" in name:
            refuse(cls, "it is defined in a function, where nothing finds it again", f"move it to module level or {REGISTER}")
        try:
            found: object = self._aliases.get(name) or self._found.class_of(name)
        except NotNamedError as error:
            refuse(cls, "which would not be found again", f"{error}, or {REGISTER}")
        except LookupError as error:
            found = error
        if found is not cls:
            problem = str(found) if isinstance(found, LookupError) else "another object has that name"
            refuse(cls, f"it is not found as {name!r}: {problem}", f"give it its own name at module level or {REGISTER}")
        head = f'{{"{kind}":[{quote(name)},'
        if base is not None:
            return self._encoded(head, self._bases[base])
        if kind == "$enum":
            return lambda value, depth: f"{head}{write_member(value)}]}}"
        if kind == "$namedtuple":
            return self._of_fields(cls, head, cls._fields)  # type: ignore[attr-defined]
        return self._of_fields(cls, head, [field.name for field in fields(cls)])

    def _of_fields(self, cls: type, head: str, names: Iterable[str]) -> Writer:
        keys = [(name, f"{quote(name)}:") for name in names]
        known = frozenset(names)
        has_dict = cls.__dictoffset__ != 0

        def write(value: Any, depth: int) -> str:
            if depth > MAX_DEPTH:
                refuse_depth()
            parts: list[str] = []
            others: list[str] = []
            name = ""
            room = self.max_size
            depth += 1
            try:
                for name, key in keys:
                    item = getattr(value, name)
                    text = key + self[type(item)](item, depth)
                    room -= len(text)
                    if room < 0:
                        raise TooLargeError(self.max_size)
                    parts.append(text)
                if has_dict and not known.issuperset(value.__dict__):
                    for name, item in other_attributes(value, known):
                        text = f"[{quote(name)},{self[type(item)](item, depth)}]"
                        room -= len(text)
                        if room < 0:
                            raise TooLargeError(self.max_size)
                        others.append(text)
            except RefusedError as refused:
                raise refused.inside(value, f".{name}") from refused.__cause__
            except AttributeError as error:
                raise refusal(cls, f"its field {name!r} is not set", "set it, or give it a default") from error
            return f"{head}{{{','.join(parts)}}}{',[' + ','.join(others) + ']' if others else ''}]}}"

        return write

    def registered(self, name: str, encode: Callable[[Any], Any]) -> Writer:
        """Return the writer of a class that is registered as ``name``."""
        return self._encoded(f'{{"$object":[{quote(name)},', encode)

    def _encoded(self, head: str, encode: Callable[[Any], Any]) -> Writer:
        def write(value: Any, depth: int) -> str:
            if depth > MAX_DEPTH:
                refuse_depth()
            try:
                stand_in = encode(value)
            except Exception as error:
                raise refusal(
                    type(value), f"its encode function raised {type(error).__name__}: {text_of(error)}", "mend that"
                ) from error
            try:
                return f"{head}{self[type(stand_in)](stand_in, depth + 1)}]}}"
            except RefusedError as refused:
                raise refused.inside(value, ".<encoded>") from refused.__cause__

        return write


def _maxlen(value: deque[Any]) -> str:
    return "null" if value.maxlen is None else str(value.maxlen)
