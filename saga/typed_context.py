"""Contexts of a class that a saga names: made of an input, and looked at before anything runs. No execution is known here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin, get_type_hints

from saga.context import Context
from saga.errors import ContextKeyError, SagaDefinitionError, near

__all__ = ["check_kind", "context_of", "kind_in", "kind_of"]

_WIDER: Final[dict[Any, Any]] = {float: (int, float), complex: (int, float, complex)}
"""What else is taken where a type is said: as type checkers do."""


# -- which class ------------------------------------------------------------------------------------------------------


def kind_of(saga: type) -> type[Context] | None:
    """Return the class of contexts that a saga's class names: ``class PlaceOrder(Saga[OrderContext])``."""
    for base in saga.__mro__:
        for alias in vars(base).get("__orig_bases__", ()):
            kind = kind_in(alias)
            if kind is not None:
                return kind
    return None


def kind_in(alias: Any) -> type[Context] | None:
    """Return the class that stands in the brackets: ``Saga[OrderContext]``."""
    kinds = (one for one in get_args(alias) if isinstance(one, type) and issubclass(one, Context))
    return next(kinds, None)


def check_kind(kind: object, what: str) -> None:
    """Refuse what is neither ``None`` nor a class of contexts.

    :raises SagaDefinitionError: with ``what`` in the text.
    """
    if kind is not None and not (isinstance(kind, type) and issubclass(kind, Context)):
        raise SagaDefinitionError(f"{what} is {kind!r}; give a class of contexts, a @dataclass subclass of Context")


# -- its contexts -----------------------------------------------------------------------------------------------------


def context_of(kind: type[Context], given: object, saga: str) -> Context:
    """Return an input as a context of the class: itself, or one that is made of a mapping.

    :raises SagaDefinitionError: it is of another class, lacks a field, or has a value that is not what its field says. The text
        names the fields and types, and no values.
    """
    where = f"saga {saga!r}: the context"
    if isinstance(given, kind):
        context = given
    elif given is None or (isinstance(given, Mapping) and not isinstance(given, Context)):
        context = _made(kind, {} if given is None else given, where)
    else:
        found = f"the class {given.__name__}" if isinstance(given, type) else f"of {type(given).__name__}"
        raise SagaDefinitionError(f"{where} is {found}; give an object of {kind.__name__}, or a mapping")
    wrong = list(_wrong(kind, context.__dict__))
    if wrong:
        raise SagaDefinitionError(f"{where} is not what {kind.__name__} says: {'; '.join(wrong)}")
    return context


def _made(kind: type[Context], given: Mapping[str, Any], where: str) -> Context:
    values, others = given, dict[str, Any]()
    if is_dataclass(kind):
        known = {field.name: field for field in fields(kind) if field.init}
        lacking = [_said(kind, name) for name, field in known.items() if name not in given and not _has_default(field)]
        others = {key: value for key, value in given.items() if key not in known}
        if lacking:
            hints = "".join(near(key, known) for key in others)
            raise SagaDefinitionError(f"{where} lacks what {kind.__name__} says: {', '.join(lacking)}{hints}")
        values = {name: given[name] for name in known if name in given}
    try:
        context = kind(**values) if is_dataclass(kind) else kind(values)
        context.update(others)
    except (ContextKeyError, SagaDefinitionError) as error:
        raise SagaDefinitionError(f"{where}: {error}") from error
    except Exception as error:  # what its __post_init__ sees to
        raise SagaDefinitionError(f"{where} is refused by {kind.__name__}: {error}") from error
    return context


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _wrong(kind: type[Context], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of a class's fields."""
    hints = _hints(kind)
    for field in _fields(kind):
        if field.name not in values:
            yield f"it lacks {_said(kind, field.name)}"
            continue
        value = values[field.name]
        if value is not field.default and not _fits(value, hints.get(field.name, Any)):
            yield f"{field.name} is of {type(value).__name__}, not {_shown(hints[field.name])}"


def _fields(kind: type[Context]) -> tuple[Field[Any], ...]:
    return fields(kind) if is_dataclass(kind) else ()


@lru_cache(256)
def _hints(kind: type[Context]) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except Exception:  # what is imported for type checkers alone is not there
        return {}


def _said(kind: type[Context], name: str) -> str:
    """Return a field's name with its type."""
    hint = _hints(kind).get(name)
    return name if hint is None else f"{name} ({_shown(hint)})"


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as it can be seen: what is inside a list or a mapping is not looked at."""
    if isinstance(hint, NewType):
        return _fits(value, hint.__supertype__)
    origin = get_origin(hint)
    if origin is Annotated:
        return _fits(value, get_args(hint)[0])
    if origin is Union or origin is UnionType:
        return any(_fits(value, one) for one in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(hint))
    kind = NoneType if hint is None else origin or hint
    if not isinstance(kind, type):  # Any, a type variable, a name for one of these
        return True
    try:
        return isinstance(value, _WIDER.get(kind, kind))
    except TypeError:  # a protocol that is not to be asked
        return True
