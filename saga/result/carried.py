"""What of a result is pickled: its facts, with the users' objects in them. Nothing is folded or told here.

A user's object may not be picklable, or not where the pickle is read, and neither may cost the rest. So each is pickled by
itself. What cannot be is a :class:`NotPickled` afterwards; an exception is then what is recorded of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

from saga.content import ATOMS
from saga.context import Context
from saga.plain import printed_name, text_of
from saga.recorded import made_again, makes_itself, remember_traceback, stored_name, taken_apart
from saga.result.report import tracebacks

__all__ = ["Carrier", "NotPickled"]


class NotPickled:
    """Stands in an unpickled result for a value that could not be pickled, or not be unpickled.

    :ivar kind: the name of the value's class.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a {self.kind}, which cannot be pickled>"


class _Pickled:
    """Stands in a pickle for what is made when that is read."""

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        self._made = (make, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._made


class Carrier:
    """Makes the facts of one result ready to be pickled: what is one object in them is one object afterwards."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, _Pickled]] = {}  # with the object, whose id is another's when it is gone

    def value(self, value: Any) -> Any:
        """Return what stands for a value."""
        if id(type(value)) in ATOMS or isinstance(value, Enum):
            return value
        if id(value) not in self._known:
            made = _of_error(value) if isinstance(value, BaseException) else _of_value(value)
            self._known[id(value)] = (value, made)
        return self._known[id(value)][1]

    def record(self, record: Any) -> _Pickled:
        """Return what stands for a dataclass of this package with values in it."""
        names = [field.name for field in fields(record) if field.name != "encoded"]
        return _Pickled(_record, type(record), {name: self.value(getattr(record, name)) for name in names})

    def context(self, context: Context) -> _Pickled:
        """Return what stands for a context."""
        values = {key: self.value(value) for key, value in context.__dict__.items()}
        return _Pickled(_context, self.value(type(context)), values)


def _record(kind: type, values: Mapping[str, Any]) -> Any:
    return kind(**values)


def _context(kind: Any, values: Mapping[str, Any]) -> Context:
    context = Context.__new__(kind if isinstance(kind, type) and issubclass(kind, Context) else Context)
    context.__dict__.update(values)
    return context


def _dumped(value: Any) -> bytes | None:
    import pickle  # needed by those alone who pickle something

    try:
        return pickle.dumps(value)
    except Exception:  # a user's __reduce__ may raise anything
        return None


def _of_value(value: Any) -> _Pickled:
    return _Pickled(_value, _dumped(value), printed_name(type(value)))


def _value(data: bytes | None, kind: str) -> Any:
    import pickle

    try:
        return NotPickled(kind) if data is None else pickle.loads(data)
    except Exception:  # its class is not here, or its __setstate__ raised
        return NotPickled(kind)


def _of_error(error: BaseException) -> _Pickled:
    parts = None if makes_itself(type(error)) else taken_apart(error)
    data = _dumped(error if parts is None else (type(error), *parts))
    return _Pickled(_error, data, stored_name(type(error)), text_of(error), tracebacks(error))


def _error(data: bytes | None, kind: str, text: str, trace: str) -> BaseException:
    import pickle

    try:
        found = None if data is None else pickle.loads(data)
    except Exception:
        found = None
    if isinstance(found, BaseException):
        return remember_traceback(found, trace)
    if found is None:
        return made_again(kind, None, text, trace)
    cls, args, attributes = found
    return made_again(kind, (args, attributes), text, trace, cls)
