"""Values to JSON text and back, exactly: what comes back has the same type and equals. Nothing is run that a text names.

Plain JSON values stay plain, so that a person can read a journal. Everything else is an object with one key, its tag:
``{"$decimal": "1.10"}``; a dict that could be taken for one is written as ``{"$dict": [[key, value], ...]}``. A type is
dispatched on exactly: a subclass of a built-in type would come back as its base, so it is refused.

Dataclasses, enums and named tuples are found again by import of "module:qualname", and only such classes are used: a text
can name no other callable. It can make an importable module be imported, so a journal is to be trusted as far as its
database is. No storage, engine or pickle is known here.
"""

from __future__ import annotations

import re
import reprlib
import sys
import traceback
from base64 import b64decode, b64encode
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context as DecimalContext
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property, lru_cache
from importlib import import_module
from inspect import getattr_static
from json import JSONDecoder
from json.encoder import encode_basestring_ascii as _quote
from math import isfinite
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NoReturn, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from saga.context import Context
from saga.errors import EncodingError, RecordedError, SagaDefinitionError

__all__ = ["MAX_DEPTH", "Codec", "decode_error", "encode_error"]

T = TypeVar("T")
Writer = Callable[[Any, int], str]  # a value and its depth to JSON text
Reader = Callable[[Any], Any]  # what a tag holds, itself decoded already, to the value

MAX_DEPTH = 100
"""How many containers may stand inside each other. One level is up to four of JSON, and a reader recurses for each."""

_REGISTER = "register it with Codec.register(...)"
_LONG = 1 << 2000  # more digits than 640 may be refused by int(text): sys.set_int_max_str_digits
_ERROR_CHARACTERS = 20_000
_NOTES = 100
# A high surrogate followed by a low one would be read back as the one character that JSON writes so.
_SURROGATES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


class _RefusedError(Exception):
    """Why a value cannot be stored; each container on the way out adds itself and where in it that was."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.trail: list[tuple[object, str]] = []

    def inside(self, container: object, place: str) -> Self:
        self.trail.append((container, place))
        return self

    def told(self, path: str) -> str:
        # Cycles are not looked for while writing, which would cost every container: they end as "too deep", and all the
        # containers on the way there are still alive, so that one met twice is the same one.
        seen: dict[int, str] = {}
        for container, place in reversed(self.trail):
            if id(container) in seen:
                return f"{_short(path)}: cannot store a value that holds itself: this is {_short(seen[id(container)])} again"
            seen[id(container)] = path
            path += place
        return f"{_short(path)}: {self}"


class _Writers(dict[type, Writer]):
    # A dict which makes what is missing: a type met before costs one look-up.
    def __init__(self, known: dict[type, Writer], make: Callable[[type], Writer]) -> None:
        super().__init__(known)
        self.make = make

    def __missing__(self, kind: type) -> Writer:
        writer = self[kind] = self.make(kind)
        return writer


class Codec:
    """Turns values into JSON text and back. Register at start-up; encoding and decoding are safe from many threads.

    Stored as they are: ``None``, bool, int, float, complex, str, bytes, bytearray, datetime, date, time, timedelta, timezone,
    ZoneInfo, UUID, Decimal, Fraction, pathlib's paths, list, tuple, set, frozenset, dict, OrderedDict, deque, and members
    of enums, dataclasses and named tuples that are defined at a module's or class's level. Others are registered.

    A dataclass is rebuilt without ``__init__``: a field the text lacks takes its default, a field that only the text has is
    an error. Attributes beside the fields are kept, values of a ``cached_property`` are not.
    """

    def __init__(self) -> None:
        own: dict[type, Writer] = {
            list: self._write_list,
            dict: self._write_dict,
            tuple: lambda value, depth: f'{{"$tuple":{self._write_list(value, depth)}}}',
            set: lambda value, depth: f'{{"$set":[{self._write_set(value, depth)}]}}',
            frozenset: lambda value, depth: f'{{"$frozenset":[{self._write_set(value, depth)}]}}',
            deque: lambda value, depth: f'{{"$deque":[{self._write_list(value, depth)},{_maxlen(value)}]}}',
            OrderedDict: self._write_ordered,
            datetime: self._write_moment,
            time: self._write_moment,
        }
        self._writers = _Writers(_SCALARS | own, self._make_writer)
        self._readers: dict[str, Reader] = _READERS | {
            "$dataclass": lambda found: _read_dataclass(self._class("$dataclass", found[0]), *found),
            "$enum": lambda found: _read_enum(self._class("$enum", found[0]), *found),
            "$namedtuple": lambda found: _read_named_tuple(self._class("$namedtuple", found[0]), *found),
            "$object": lambda found: self._read_registered(*found),
        }
        self._built_in = frozenset(self._writers)
        self._names: dict[type, str] = {}
        self._decoders: dict[str, tuple[type, Callable[[Any], Any]]] = {}
        self._aliases: dict[str, type] = {}
        self._decoder = JSONDecoder(object_hook=self._read_object, parse_constant=_refuse_constant)
        self._plain_decoder = JSONDecoder(parse_constant=_refuse_constant)  # for texts without a tag: most of them

    def register(
        self, cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T], *, name: str | None = None
    ) -> Self:
        """Store values whose type is exactly ``cls`` as ``encode(value)``. Return the codec.

        :param encode: returns something this codec can encode; :param decode: rebuilds the value from that.
        :param name: what stands for the class in the text; "module:qualname" if not given.
        :raises SagaDefinitionError: the class is stored already, or the name is taken.
        """
        if not isinstance(cls, type) or not callable(encode) or not callable(decode):
            raise SagaDefinitionError(f"Codec.register: give a class and two functions, not {cls!r}, {encode!r}, {decode!r}")
        name = _name_of(cls) if name is None else name
        if cls in self._built_in:
            raise SagaDefinitionError(f"Codec.register: {_say(cls)} is stored without being registered")
        if cls in self._names:
            raise SagaDefinitionError(f"Codec.register: {_say(cls)} is registered already, as {self._names[cls]!r}")
        self._check_name("register", name)
        self._names[cls] = name
        self._decoders[name] = (cls, decode)
        self._writers[cls] = self._registered_writer(name, encode)
        return self

    def alias(self, name: str, cls: type) -> Self:
        """Read what was stored under ``name`` ("module:qualname", or a registered name) as ``cls``. Return the codec.

        For a class that was moved or renamed. What is written bears the new name.

        :raises SagaDefinitionError: the name is taken, or ``cls`` is no dataclass, Enum or named tuple and not registered.
        """
        if not isinstance(cls, type):
            raise SagaDefinitionError(f"Codec.alias: give a class, not {cls!r}")
        kind = _kind_of(cls)
        if cls not in self._names and not kind.startswith("$") and not issubclass(cls, Context):
            raise SagaDefinitionError(f"Codec.alias: {_say(cls)} is {kind.partition('; ')[0]}; {_REGISTER} first")
        self._check_name("alias", name)
        self._aliases[name] = cls
        for known in [known for known in self._writers if _name_of(known) == name and known not in self._names]:
            del self._writers[known]  # a class that still bears the old name would come back as ``cls``
        return self

    def encode(self, value: Any, path: str = "value") -> str:
        """Return ``value`` as JSON text: ASCII, no spaces, the same for the same elements of a set in any order.

        :param path: what to call the value in an error, such as "context.order".
        :raises EncodingError: it cannot be stored; the text names the key path and type.
        """
        try:
            return self._writers[type(value)](value, 1)
        except _RefusedError as refused:
            raise EncodingError(refused.told(path)) from refused.__cause__
        except Exception as error:  # changed by another thread meanwhile, no stack left, ...
            raise EncodingError(f"{path}: cannot be stored: {type(error).__name__}: {_text(error)}") from error

    def decode(self, text: str) -> Any:
        """Return the value that :meth:`encode` made ``text`` of.

        :raises EncodingError: it is not such a text, or a class in it is gone; the message says which.
        """
        try:
            return (self._decoder if '"$' in text else self._plain_decoder).decode(text)
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(f"not JSON: {_text(error)}: {_brief(text)}") from error

    def _check_name(self, what: str, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise SagaDefinitionError(f"Codec.{what}: the name is {name!r}; give some text")
        owner = self._aliases.get(name) or self._decoders.get(name, (None,))[0]
        if owner is not None:
            raise SagaDefinitionError(f"Codec.{what}: the name {name!r} is taken by {_say(owner)}; give another")

    # Writing. Text is made directly, without a tree in between: one pass, and nothing another thread can change midway.

    def _write_list(self, value: Iterable[Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            _refuse_depth()
        writers = self._writers
        parts: list[str] = []
        depth += 1
        try:
            for item in value:
                parts.append(writers[type(item)](item, depth))
        except _RefusedError as refused:
            raise refused.inside(value, f"[{len(parts)}]") from refused.__cause__
        return f"[{','.join(parts)}]"

    def _write_set(self, value: Iterable[Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            _refuse_depth()
        try:
            return ",".join(sorted([self._writers[type(item)](item, depth + 1) for item in value]))
        except _RefusedError as refused:
            raise refused.inside(value, ".<element>") from refused.__cause__

    def _write_dict(self, value: dict[Any, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            _refuse_depth()
        # The keys first: finding one out after its items are written would write these twice, at every level again.
        for key in value:
            if type(key) is not str or not (key.isascii() or _SURROGATES.search(key) is None):
                return f'{{"$dict":{self._write_pairs(value, depth)}}}'
        if len(value) == 1 and key.startswith("$"):
            return f'{{"$dict":{self._write_pairs(value, depth)}}}'
        writers = self._writers
        parts: list[str] = []
        depth += 1
        try:
            for key, item in value.items():
                parts.append(f"{_quote(key)}:{writers[type(item)](item, depth)}")
        except _RefusedError as refused:
            raise refused.inside(value, f"[{_brief(key)}]") from refused.__cause__
        return f"{{{','.join(parts)}}}"

    def _write_pairs(self, value: dict[Any, Any], depth: int) -> str:
        if depth > MAX_DEPTH:
            _refuse_depth()
        parts: list[str] = []
        place = ""
        try:
            for key, item in value.items():
                place = ".<key>"
                left = self._writers[type(key)](key, depth + 1)
                place = f"[{_brief(key)}]"
                parts.append(f"[{left},{self._writers[type(item)](item, depth + 1)}]")
        except _RefusedError as refused:
            raise refused.inside(value, place) from refused.__cause__
        return f"[{','.join(parts)}]"

    def _write_ordered(self, value: OrderedDict[Any, Any], depth: int) -> str:
        if value.__dict__:
            _refuse(type(value), f"it has attributes of its own: {', '.join(value.__dict__)}", "make it a dataclass")
        return f'{{"$ordereddict":{self._write_pairs(value, depth)}}}'

    def _write_moment(self, value: datetime | time, depth: int) -> str:
        tag, zone = type(value).__name__, value.tzinfo
        if not value.fold and (zone is None or (type(zone) is timezone and _is_iso(zone))):
            return f'{{"${tag}":"{value.isoformat()}"}}'
        # The clock's own reading and the zone, not an offset: the same zone comes back, whatever its rules are by then.
        try:
            written = self._writers[type(zone)](zone, depth + 1)
        except _RefusedError as refused:
            raise refused.inside(value, ".tzinfo") from refused.__cause__
        return f'{{"${tag}":["{value.replace(tzinfo=None).isoformat()}",{written},{value.fold}]}}'

    def _make_writer(self, cls: type) -> Writer:
        kind = _kind_of(cls)
        if not kind.startswith("$"):
            _refuse(cls, *kind.split("; ", 1))
        name = _name_of(cls)
        if "<locals>" in name:
            _refuse(cls, "it is defined in a function, where nothing finds it again", f"move it to module level or {_REGISTER}")
        try:
            found: object = self._aliases.get(name) or _find(name)
        except LookupError as error:
            found = error
        if found is not cls:
            problem = str(found) if isinstance(found, LookupError) else "another object has that name"
            _refuse(cls, f"it is not found as {name!r}: {problem}", f"give it its own name at module level or {_REGISTER}")
        head = f'{{"{kind}":[{_quote(name)},'
        if kind == "$enum":
            return lambda value, depth: f"{head}{_member(value)}]}}"
        if kind == "$namedtuple":
            return self._field_writer(cls, head, cls._fields)  # type: ignore[attr-defined]
        return self._field_writer(cls, head, [field.name for field in fields(cls)])

    def _field_writer(self, cls: type, head: str, names: Iterable[str]) -> Writer:
        keys = [(name, f"{_quote(name)}:") for name in names]
        known = frozenset(names)
        has_dict = cls.__dictoffset__ != 0

        def write(value: Any, depth: int) -> str:
            if depth > MAX_DEPTH:
                _refuse_depth()
            writers = self._writers
            parts: list[str] = []
            others: list[str] = []
            name = ""
            depth += 1
            try:
                for name, key in keys:
                    item = getattr(value, name)
                    parts.append(key + writers[type(item)](item, depth))
                if has_dict and not known.issuperset(value.__dict__):
                    for name, item in _others(value, known):
                        others.append(f"[{_quote(name)},{writers[type(item)](item, depth)}]")
            except _RefusedError as refused:
                raise refused.inside(value, f".{name}") from refused.__cause__
            except AttributeError as error:
                raise _refusal(cls, f"its field {name!r} is not set", "set it, or give it a default") from error
            return f"{head}{{{','.join(parts)}}}{',[' + ','.join(others) + ']' if others else ''}]}}"

        return write

    def _registered_writer(self, name: str, encode: Callable[[Any], Any]) -> Writer:
        head = f'{{"$object":[{_quote(name)},'

        def write(value: Any, depth: int) -> str:
            if depth > MAX_DEPTH:
                _refuse_depth()
            try:
                stand_in = encode(value)
            except Exception as error:
                raise _refusal(
                    type(value), f"its encode function raised {type(error).__name__}: {_text(error)}", "mend that"
                ) from error
            try:
                return f"{head}{self._writers[type(stand_in)](stand_in, depth + 1)}]}}"
            except _RefusedError as refused:
                raise refused.inside(value, ".<encoded>") from refused.__cause__

        return write

    # Reading goes from the inside out: the JSON parser calls for each object when all that it holds is rebuilt.

    def _read_object(self, found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        [(tag, held)] = found.items()
        if not tag.startswith("$"):
            return found
        reader = self._readers.get(tag)
        if reader is None:
            raise EncodingError(
                f"unknown tag {tag!r}: the text comes from a newer version of saga or was changed; read it with the version "
                f"that wrote it"
            )
        try:
            return reader(held)
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(f"cannot rebuild {tag} from {_brief(held)}: {type(error).__name__}: {_text(error)}") from error

    def context_class(self, name: str) -> type[Context]:
        """Return the class of a stored execution's context.

        :raises EncodingError: it is gone, or no :class:`~saga.context.Context`.
        """
        cls = self._named(name)
        if not issubclass(cls, Context):
            raise EncodingError(f"{name!r} was a class of contexts and is none: say which is: Codec.alias({name!r}, TheClass)")
        return cls

    def _named(self, name: str) -> type:
        try:
            return self._aliases.get(name) or _find(name)
        except LookupError as error:
            raise EncodingError(
                f"the class {name!r} of a stored value is not found: {error}; put it back, or say where it went: "
                f"Codec.alias({name!r}, TheClass)"
            ) from error

    def _class(self, kind: str, name: Any) -> Any:
        if not isinstance(name, str):
            raise TypeError("a class is named by text")
        cls = self._named(name)
        if not isinstance(cls, type) or _kind_of(cls) != kind:
            raise EncodingError(
                f"{name!r} was stored as {_KINDS[kind]} and is none: nothing is built with it; make it one again, or name the "
                f"right class: Codec.alias({name!r}, TheClass)"
            )
        return cls

    def _read_registered(self, name: str, held: Any) -> Any:
        known = self._names.get(self._aliases.get(name, type(None)), name)
        if known not in self._decoders:
            raise EncodingError(
                f"no class is registered as {name!r}; call Codec.register(TheClass, encode, decode, name={name!r}) first"
            )
        cls, decode = self._decoders[known]
        value = decode(held)
        if type(value) is not cls:
            raise TypeError(f"the decode function registered as {known!r} returned {_say(type(value))}, not {_say(cls)}")
        return value


_KINDS = {"$dataclass": "a dataclass", "$enum": "an Enum", "$namedtuple": "a named tuple"}


@lru_cache(1000)
def _kind_of(cls: type) -> str:
    """Return the tag of a class that is found by name; or "what it is; what to do" of one that is not stored."""
    if issubclass(cls, Context):
        return "a saga's context, which holds values and is none; store the keys you need"
    if issubclass(cls, Enum):
        return "$enum"
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return "$namedtuple"
    if issubclass(cls, defaultdict):
        return f"a dict with a default factory, which cannot be stored; store dict(...) of it or {_REGISTER}"
    for base in _BASES:
        if issubclass(cls, base):
            name = base.__name__
            return f"a subclass of {name}, which would come back as {name}; store {name}(...) of it or {_REGISTER}"
    if not is_dataclass(cls):
        what = "a class, not a value; store its name" if issubclass(cls, type) else "no dataclass, Enum or named tuple"
        return f"{what}{' or' if '; ' in what else ';'} {_REGISTER}"
    known = {field.name for field in fields(cls)} | {"__dict__", "__weakref__"}
    slots = [_names(base.__dict__.get("__slots__", ())) for base in cls.__mro__]
    if others := [name for names in slots for name in names if name not in known]:
        return f"a dataclass with slots that are no fields: {', '.join(others)}; make them fields or {_REGISTER}"
    try:
        object.__new__(cls)
    except TypeError as error:
        return f"a dataclass that cannot be rebuilt: {error}; {_REGISTER}"
    return "$dataclass"


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _find(name: str) -> type:
    """Return the class called "module:qualname".

    :raises LookupError: there is none; nothing but the module's import has run.
    """
    module, _, path = name.partition(":")
    if not all(part.isidentifier() for part in path.split(".")):  # before the import, which runs the module
        raise LookupError('it is not of the form "module:qualname"')
    try:
        found: Any = sys.modules.get(module) or import_module(module)
    except (Exception, SystemExit) as error:  # a script that was not meant to be imported may well exit
        raise LookupError(f"importing {module!r} raised {type(error).__name__}: {_text(error)}") from error
    for part in path.split("."):
        # Through __dict__, not getattr: neither a module's __getattr__ nor a descriptor is called for a text.
        found = getattr(found, "__dict__", {}).get(part)
        if not isinstance(found, type):
            raise LookupError(f"{module!r} has no class {path!r}")
    return found  # type: ignore[no-any-return]


def _member(value: Enum) -> str:
    cls, name = type(value), value._name_
    if cls.__members__.get(name) is value:
        return _quote(name)
    if not isinstance(value, Flag):
        _refuse(cls, f"its member {name!r} is not one the class defines", _REGISTER)
    # A combination, by its members' names; bits that no member has, as a number.
    parts, rest = [], value._value_
    for member in value:
        parts.append(_quote(str(member._name_)))
        rest &= ~member._value_
    return f"[{','.join(parts + [str(rest)] * (rest != 0))}]"


def _others(value: Any, known: frozenset[str]) -> list[tuple[str, Any]]:
    """Return a dataclass's attributes beside its fields, but for what a cached_property or ``typing`` keeps there."""
    found = [(name, item) for name, item in value.__dict__.items() if name not in known and name != "__orig_class__"]
    found = [(name, item) for name, item in found if not isinstance(getattr_static(type(value), name, None), cached_property)]
    if found and isinstance(value, tuple):
        names = ", ".join(name for name, _ in found)
        _refuse(type(value), f"a named tuple with attributes beside its fields: {names}", "make it a dataclass")
    return found


def _maxlen(value: deque[Any]) -> str:
    return "null" if value.maxlen is None else str(value.maxlen)


def _read_enum(cls: type[Enum], name: str, held: Any) -> Enum:
    parts = [held] if isinstance(held, str) else held
    if gone := [part for part in parts if isinstance(part, str) and part not in cls.__members__]:
        raise EncodingError(
            f"{name!r} has no member {', '.join(map(repr, gone))}; a member that was renamed keeps its old name if that "
            f"stands as an alias in the class"
        )
    if isinstance(held, str):
        return cls.__members__[held]
    bits = 0
    for part in parts:
        bits |= cls.__members__[part].value if isinstance(part, str) else part
    value: Any = cls(bits) if issubclass(cls, Flag) else None
    if not isinstance(value, cls):  # a Flag may also answer with a plain int
        raise ValueError(f"{name!r} has no such combination")
    return value


def _read_named_tuple(cls: Any, name: str, stored: dict[str, Any]) -> Any:
    # Past the class's own __new__: what is stored has been through it.
    return tuple.__new__(
        cls, _complete(name, stored, {field: cls._field_defaults.get(field, MISSING) for field in cls._fields})
    )


def _read_dataclass(cls: type, name: str, stored: dict[str, Any], others: Iterable[tuple[str, Any]] = ()) -> Any:
    known = {field.name: field for field in fields(cls)}
    value: Any = object.__new__(cls)
    for key, item in zip(known, _complete(name, stored, known), strict=True):
        object.__setattr__(value, key, item)
    if others:
        value.__dict__.update(others)
    return value


def _complete(name: str, stored: dict[str, Any], known: dict[str, Any]) -> list[Any]:
    """Return each known field's value: what is stored, or its default (``known`` has that, or the dataclass's field)."""
    if unknown := stored.keys() - known.keys():
        listed = ", ".join(map(repr, sorted(unknown)))
        raise EncodingError(
            f"{name!r} has no field {listed}, which a stored value has; put it back, or read it with the version that wrote it"
        )
    values = []
    for key, default in known.items():
        if key in stored:
            item = stored[key]
        elif isinstance(default, Field):
            item = default.default if default.default_factory is MISSING else default.default_factory()
        else:
            item = default
        if item is MISSING:
            raise EncodingError(f"a stored {name!r} has no field {key!r}; give that a default in the class")
        values.append(item)
    return values


def _say(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _refusal(cls: type, problem: str, remedy: str) -> _RefusedError:
    return _RefusedError(f"cannot store a value of type {_say(cls)} ({problem}); {remedy}")


def _refuse(cls: type, problem: str, remedy: str) -> NoReturn:
    raise _refusal(cls, problem, remedy)


def _refuse_depth() -> NoReturn:
    raise _RefusedError(f"cannot store values nested more than {MAX_DEPTH} deep; flatten them, or store a key instead")


def _refuse_constant(name: str) -> NoReturn:
    raise EncodingError(f'{name} is no JSON; infinities and not-a-number are stored as {{"$float": "inf"}}')


def _short(path: str) -> str:
    return path if len(path) <= 300 else f"{path[:150]} ... {path[-150:]}"


def _brief(value: object) -> str:
    try:
        return reprlib.repr(value)
    except Exception:  # an int of more digits than may be printed
        return f"<{_say(type(value))}>"


def _text(value: object) -> str:
    """Return ``str(value)`` as exactly a str of bounded length; never raises an Exception."""
    try:
        return str.__str__(str(value))[:_ERROR_CHARACTERS]
    except Exception as error:
        return f"<{_say(type(value))} whose str() raised {type(error).__name__}>"


def _zone_arguments(zone: timezone) -> tuple[Any, ...]:
    return zone.__getinitargs__()  # type: ignore[attr-defined, no-any-return]  # (offset,) or (offset, name): what pickle uses


def _zone_key(zone: ZoneInfo) -> str:
    if zone.key is None:  # ZoneInfo.from_file(file) has none
        _refuse(ZoneInfo, "it was read from a file and has no key", "use ZoneInfo(key)")
    return zone.key


def _path_text(path: PurePath) -> str:
    if type(path)(str(path)) != path:  # Windows, Python 3.11: "./c:x" prints as "c:x", which is on drive c
        _refuse(type(path), f"its text {str(path)!r} reads as another path", "store its parts")
    return str(path)


def _decimal(text: str) -> Decimal:
    # With a context of its own: in the caller's, malformed text may be allowed to make a NaN.
    return Decimal(text, DecimalContext(traps=[InvalidOperation]))


def _write_str(value: str, depth: int = 0) -> str:
    if value.isascii() or _SURROGATES.search(value) is None:
        return _quote(value)
    return f'{{"$str":[{",".join(map(_quote, _SURROGATES.split(value)))}]}}'


def _write_int(value: int, depth: int = 0) -> str:
    return repr(value) if -_LONG < value < _LONG else f'{{"$int":"{value:#x}"}}'


def _write_float(value: float, depth: int = 0) -> str:
    return repr(value) if isfinite(value) else f'{{"$float":"{value!r}"}}'


def _is_iso(zone: timezone) -> bool:
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


_SCALARS: dict[type, Writer] = {
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
_READERS: dict[str, Reader] = {
    "$int": _text_reader("$int", lambda text: int(text, 16)),
    "$float": _text_reader("$float", float),
    "$str": lambda held: "".join(held),
    "$complex": lambda held: complex(*held),
    "$timedelta": lambda held: timedelta(*held),
    "$timezone": lambda held: timezone(*held),
    "$fraction": lambda held: Fraction(*held),
    "$datetime": lambda held: _moment(datetime, held),
    "$time": lambda held: _moment(time, held),
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$deque": lambda held: deque(*held),
    "$dict": dict,
    "$ordereddict": OrderedDict,
    **{tag: _text_reader(tag, from_text) for _, tag, _, from_text in _TEXTS},
}
# The subclass before its base: what a value would come back as is the nearest.
_BASES = (
    *(int, float, complex, str, bytes, bytearray, datetime, date, time, timedelta, UUID, Decimal, Fraction),
    *(PosixPath, WindowsPath, PurePosixPath, PureWindowsPath, OrderedDict, dict, list, tuple, set, frozenset, deque),
)


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return what is worth keeping of an exception as plain JSON values; never raises an Exception.

    :return: ``type`` ("module:qualname"), ``text`` and ``traceback`` (at most 20,000 characters each, of the traceback the
        last), ``notes`` (a list of texts).
    """
    if isinstance(error, RecordedError):  # recorded again: still the first one's story
        kind, text, trace = error.type_name, error.text, error.traceback_text
    else:
        kind, text = _name_of(type(error)), _text(error)
        try:
            trace = "".join(traceback.format_exception(error))
        except Exception as failure:
            trace = f"<no traceback: formatting it raised {type(failure).__name__}>\n"
    if len(trace) > _ERROR_CHARACTERS:
        trace = f"[...]\n{trace[-_ERROR_CHARACTERS:]}"
    try:
        notes = [_text(note) for note in getattr(error, "__notes__", [])[:_NOTES]]
    except Exception:  # it is an attribute like any other, so it may hold or do anything
        notes = []
    return {"type": kind, "text": text, "traceback": trace, "notes": notes}


def decode_error(recorded: Any) -> RecordedError:
    """Return the exception that :func:`encode_error` made ``recorded`` of, with its notes.

    :raises EncodingError: it is no such dict.
    """
    try:
        kind, text, trace, notes = (recorded[key] for key in ("type", "text", "traceback", "notes"))
        if not all(isinstance(part, str) for part in (kind, text, trace, *notes)):
            raise TypeError("text expected")
    except Exception as failure:
        raise EncodingError(f"not a recorded error: {_brief(recorded)}; it has type, text, traceback and notes") from failure
    error = RecordedError(kind, text, trace)
    for note in notes:
        error.add_note(note)
    return error
