"""Values that hold no others: numbers, texts, bytes, times, zones, paths. Each has its tag, its way to text and back."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context as DecimalContext
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from json.encoder import encode_basestring_ascii as quote
from math import isfinite
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from saga.durable.codec.refusals import refuse

__all__ = ["SCALAR_READERS", "SCALAR_WRITERS", "SURROGATES", "Reader", "Writer", "is_iso", "quote"]

Writer = Callable[[Any, int], str]  # a value and its depth to JSON text
Reader = Callable[[Any], Any]  # what a tag holds, itself decoded already, to the value

_LONG = 1 << 2000  # more digits than 640 may be refused by int(text): sys.set_int_max_str_digits
# A high surrogate followed by a low one would be read back as the one character that JSON writes so.
SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def _zone_arguments(zone: timezone) -> tuple[Any, ...]:
    return zone.__getinitargs__()  # type: ignore[attr-defined, no-any-return]  # (offset,) or (offset, name): what pickle uses


def _zone_key(zone: ZoneInfo) -> str:
    if zone.key is None:  # ZoneInfo.from_file(file) has none
        refuse(ZoneInfo, "it was read from a file and has no key", "use ZoneInfo(key)")
    return zone.key


def _path_text(path: PurePath) -> str:
    if type(path)(str(path)) != path:  # Windows, Python 3.11: "./c:x" prints as "c:x", which is on drive c
        refuse(type(path), f"its text {str(path)!r} reads as another path", "store its parts")
    return str(path)


def _decimal(text: str) -> Decimal:
    # With a context of its own: in the caller's, malformed text may be allowed to make a NaN.
    return Decimal(text, DecimalContext(traps=[InvalidOperation]))


def _fraction(numerator: int, denominator: int) -> Fraction:
    if type(numerator) is not int or type(denominator) is not int:  # a few characters of text make millions of digits
        raise TypeError("two whole numbers expected")
    return Fraction(numerator, denominator)


def _write_str(value: str, depth: int = 0) -> str:
    if value.isascii() or SURROGATES.search(value) is None:
        return quote(value)
    return f'{{"$str":[{",".join(map(quote, SURROGATES.split(value)))}]}}'


def _write_int(value: int, depth: int = 0) -> str:
    return repr(value) if -_LONG < value < _LONG else f'{{"$int":"{value:#x}"}}'


def _write_float(value: float, depth: int = 0) -> str:
    return repr(value) if isfinite(value) else f'{{"$float":"{value!r}"}}'


def is_iso(zone: timezone) -> bool:
    # Offsets below a second are written in ISO 8601, but some versions of Python read them as UTC.
    return len(_zone_arguments(zone)) == 1 and not zone.utcoffset(None).microseconds


def _moment(cls: type[datetime] | type[time], held: Any) -> datetime | time:
    if isinstance(held, str):
        return cls.fromisoformat(held)
    text, zone, fold = held
    if not isinstance(zone, tzinfo | None):
        raise TypeError("no time zone")
    return cls.fromisoformat(text).replace(tzinfo=zone, fold=fold)


# Types whose whole value is one text: the tag, to text, from text.
_TEXTS: list[tuple[type, str, Callable[[Any], str], Callable[[str], Any]]] = [
    (bytes, "$bytes", lambda value: b64encode(value).decode(), lambda text: b64decode(text, validate=True)),
    (bytearray, "$bytearray", lambda value: b64encode(value).decode(), lambda text: bytearray(b64decode(text, validate=True))),
    (date, "$date", date.isoformat, date.fromisoformat),
    (ZoneInfo, "$zoneinfo", _zone_key, ZoneInfo),
    (UUID, "$uuid", str, UUID),
    (Decimal, "$decimal", str, _decimal),
    (PosixPath, "$posixpath", _path_text, PosixPath),
    (WindowsPath, "$windowspath", _path_text, WindowsPath),
    (PurePosixPath, "$pureposixpath", _path_text, PurePosixPath),
    (PureWindowsPath, "$purewindowspath", _path_text, PureWindowsPath),
]


def _text_writer(tag: str, to_text: Callable[[Any], str]) -> Writer:
    return lambda value, depth: f'{{"{tag}":{_write_str(to_text(value))}}}'


def _text_reader(tag: str, from_text: Callable[[str], Any]) -> Reader:
    def read(held: Any) -> Any:
        if not isinstance(held, str):
            raise TypeError(f"{tag} holds text")
        return from_text(held)

    return read


def _write_delta(value: timedelta, depth: int = 0) -> str:
    return f'{{"$timedelta":[{value.days},{value.seconds},{value.microseconds}]}}'


def _write_fixed_zone(value: timezone, depth: int) -> str:
    offset, *name = _zone_arguments(value)
    return f'{{"$timezone":[{",".join([_write_delta(offset), *map(_write_str, name)])}]}}'


SCALAR_WRITERS: dict[type, Writer] = {
    type(None): lambda value, depth: "null",
    bool: lambda value, depth: "true" if value else "false",
    int: _write_int,
    float: _write_float,
    str: _write_str,
    complex: lambda value, depth: f'{{"$complex":[{_write_float(value.real)},{_write_float(value.imag)}]}}',
    timedelta: _write_delta,
    timezone: _write_fixed_zone,
    Fraction: lambda value, depth: f'{{"$fraction":[{_write_int(value.numerator)},{_write_int(value.denominator)}]}}',
    **{cls: _text_writer(tag, to_text) for cls, tag, to_text, _ in _TEXTS},
}
SCALAR_READERS: dict[str, Reader] = {
    "$int": _text_reader("$int", lambda text: int(text, 16)),
    "$float": _text_reader("$float", float),
    "$str": lambda held: "".join(held),
    "$complex": lambda held: complex(*held),
    "$timedelta": lambda held: timedelta(*held),
    "$timezone": lambda held: timezone(*held),
    "$fraction": lambda held: _fraction(*held),
    "$datetime": lambda held: _moment(datetime, held),
    "$time": lambda held: _moment(time, held),
    **{tag: _text_reader(tag, from_text) for _, tag, _, from_text in _TEXTS},
}
