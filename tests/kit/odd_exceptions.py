"""Exceptions that users' classes may well make: each is an exception like any other, but to who touches it carelessly.

``ODDITIES`` has a factory for each by name. A new one is tried in every mode by ``tests/semantics/test_odd_exceptions.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ODDITIES", "Plain"]


class Plain(Exception):
    """An exception like any other. All odd ones are of this class."""


def _refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("refused")


def _with(**members: Any) -> Callable[[], Plain]:
    return lambda: type("Strange", (Plain,), {"__module__": __name__, **members})("odd")


@dataclass(frozen=True)
class Frozen(Plain):
    code: str = "51"


@dataclass(frozen=True, slots=True)
class Slotted(Plain):
    code: str = "51"


class Unlike(Plain):
    """One that cannot be made from its ``args``."""

    def __init__(self, *, code: str) -> None:
        super().__init__()
        self.code = code


class _Meta(type):
    __eq__ = __bool__ = __repr__ = __str__ = _refuse
    __hash__ = type.__hash__


class OfAStrangeClass(Plain, metaclass=_Meta):
    pass


class Group(ExceptionGroup, Plain):
    pass


class Text(str):
    """A text that is nothing like one."""

    isprintable = replace = strip = splitlines = partition = encode = __eq__ = __contains__ = _refuse
    __hash__ = str.__hash__


def _a_cycle_of_causes() -> Plain:
    error, other = Plain("one"), Plain("other")
    error.__cause__, other.__cause__ = other, error
    return error


def _its_own_cause() -> Plain:
    error = Plain("one")
    error.__cause__ = error
    error.__context__ = error
    return error


def _a_cycle_of_contexts() -> Plain:
    error, other, third = Plain("one"), Plain("other"), Plain("third")
    error.__context__, other.__context__, third.__context__ = other, third, other
    return error


def _with_notes(notes: Any) -> Callable[[], Plain]:
    def make() -> Plain:
        error = Plain("noted")
        error.__notes__ = notes
        return error

    return make


ODDITIES: Final[dict[str, Callable[[], Plain]]] = {
    "frozen": Frozen,
    "slotted": Slotted,
    "refuses-attributes": _with(__setattr__=_refuse),
    "unlike-its-args": lambda: Unlike(code="51"),
    "str-raises": _with(__str__=_refuse),
    "str-is-no-text": _with(__str__=lambda self: 5),
    "str-is-a-strange-text": _with(__str__=lambda self: Text("strange")),
    "repr-raises": _with(__repr__=_refuse),
    "repr-is-no-text": _with(__repr__=lambda self: None),
    "shown-by-nothing": _with(__str__=_refuse, __repr__=_refuse, __format__=_refuse),
    "falsy": _with(__bool__=lambda self: False),
    "empty": _with(__len__=lambda self: 0),
    "bool-raises": _with(__bool__=_refuse, __len__=_refuse),
    "equal-to-all": _with(__eq__=lambda self, other: True, __hash__=lambda self: 0),
    "eq-raises": _with(__eq__=_refuse, __ne__=_refuse, __hash__=_refuse),
    "unhashable": _with(__eq__=lambda self, other: False, __hash__=None),
    "missing-attributes-raise": _with(__getattr__=_refuse),
    "has-every-attribute": _with(__getattr__=lambda self, name: 5),
    "attributes-raise": _with(__getattribute__=_refuse),
    "reduce-raises": _with(__reduce__=_refuse, __reduce_ex__=_refuse, __copy__=_refuse, __deepcopy__=_refuse),
    "class-lies": _with(__class__=property(lambda self: KeyboardInterrupt)),
    "class-raises": _with(__class__=property(_refuse)),
    "traceback-is-read-only": _with(__traceback__=property(lambda self: None)),
    "traceback-raises": _with(__traceback__=property(_refuse), with_traceback=_refuse),
    "cause-raises": _with(__cause__=property(_refuse), __context__=property(_refuse)),
    "suppressed-raises": _with(__suppress_context__=property(_refuse)),
    "args-raise": _with(args=property(_refuse)),
    "its-own-cause": _its_own_cause,
    "a-cycle-of-causes": _a_cycle_of_causes,
    "a-cycle-of-contexts": _a_cycle_of_contexts,
    "add-note-raises": _with(add_note=_refuse),
    "notes-are-none": _with_notes(5),
    "notes-raise": _with(__notes__=property(_refuse)),
    "notes-cannot-be-shown": _with_notes([_with(__str__=_refuse, __repr__=_refuse)()]),
    "of-a-strange-class": OfAStrangeClass,
    "a-group": lambda: Group("several", [ValueError(1), _with(__str__=_refuse, __setattr__=_refuse)()]),
    "a-group-that-is-falsy": lambda: type("Falsy", (Group,), {"__bool__": lambda self: False})("several", [ValueError(1)]),
    "a-key": lambda: type("Key", (Plain, KeyError), {})("key"),
    "a-text-of-many-lines": lambda: Plain("one\ntwo\r\x1b[31m\u2028" * 1000),
    "a-surrogate": lambda: Plain("\ud800"),
    "too-long-a-number": lambda: Plain(10**5000),
}
