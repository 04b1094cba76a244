"""Which keys of a context, and which results, a logger shows, and what of them it hides. Nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from saga.errors import SagaDefinitionError, near
from saga.names import several
from saga.plain import printed_name

__all__ = ["HIDDEN", "RESULT", "ShownKeys"]

HIDDEN: Final = "***"
RESULT: Final = "result"
"""What the results of steps are shown and hidden by: ``"result"`` for all, ``"result.charge"``, ``"result.charge.id"``."""


class ShownKeys:
    """Keys to show, and those of them, or within their values, to hide.

    :param show: keys of a context, or of the values in it: ``"order.id"``.
    :param mask: the same, of what is hidden.
    :raises SagaDefinitionError: one hides nothing of what is shown.
    """

    def __init__(self, show: Iterable[str], mask: Iterable[str]) -> None:
        self.show = _keys("show", show)
        self.mask = frozenset(_keys("mask", mask))
        for path in sorted(self.mask):
            if not any(path == key or _is_within(path, key) or _is_within(key, path) for key in self.show):
                shown = ", ".join(self.show) or "nothing"
                raise SagaDefinitionError(
                    f"SagaLogger: mask has {path!r}, which hides nothing{near(path, self.show)}; show has {shown}: give one of "
                    "these keys, or one within its value, such as 'order.card'"
                )

    def of(self, context: Mapping[str, Any]) -> Iterator[tuple[str, Any, str | None]]:
        """Yield each key that is there, with its value, and with what should be hidden in it and is not to be found.

        Where that is so, all of the value is hidden.
        """
        for key in self.show:
            if self._is_hidden(key):
                if _first(key, context) in context:
                    yield key, HIDDEN, None
                continue
            try:
                value = _value(key, context)
            except LookupError:
                continue
            yield key, *self._without_hidden(key, value)

    def of_result(self, step: str, result: Any, steps: Iterable[str]) -> Iterator[tuple[str, Any, str | None]]:
        """Yield what is shown of a step's result, as :meth:`of` does; where none of it is shown, that it is hidden.

        :param steps: the names of all: what should be hidden in none of them hides every result, where all are shown.
        """
        whole = f"{RESULT}.{step}"
        if RESULT in self.show:
            names = [f"{RESULT}.{name}" for name in steps]
            missed = [path for path in self.mask if _is_within(path, RESULT)]
            missed = [path for path in missed if not any(path == name or _is_within(path, name) for name in names)]
            if missed:
                yield whole, HIDDEN, min(missed)
                return
        all_of_it = RESULT in self.show or whole in self.show
        keys = [whole] if all_of_it else [key for key in self.show if _is_within(key, whole)]
        if not keys:
            yield whole, HIDDEN, None
        for key in keys:
            if self._is_hidden(key):
                yield key, HIDDEN, None
                continue
            try:
                value = result if key == whole else _value(key.replace(whole, RESULT, 1), {RESULT: result})
            except LookupError:
                continue
            yield key, *self._without_hidden(key, value)

    def _is_hidden(self, key: str) -> bool:
        return any(path == key or _is_within(key, path) for path in self.mask)

    def _without_hidden(self, key: str, value: Any) -> tuple[Any, str | None]:
        for path in sorted(path for path in self.mask if _is_within(path, key)):
            try:
                value = _hidden(value, path.removeprefix(f"{key}.").split("."))
            except LookupError:
                return HIDDEN, path
            except Exception:  # a user's object
                return HIDDEN, None
        return value, None


def _keys(parameter: str, keys: Iterable[str]) -> tuple[str, ...]:
    found = several(keys, f"SagaLogger: {parameter}")  # a mask must not miss
    for key in found:
        if not isinstance(key, str):
            raise SagaDefinitionError(
                f"SagaLogger: {parameter} has {key!r}; a key is a string, such as 'order' or 'order.card'"
            )
    return found


def _is_within(path: str, key: str) -> bool:
    return path.startswith(f"{key}.")


def _first(key: str, context: Mapping[str, Any]) -> str:
    return key if key in context else key.partition(".")[0]


def _value(key: str, context: Mapping[str, Any]) -> Any:
    """Return the value of a key, or of one within a value.

    :raises LookupError: there is none.
    """
    if key in context:
        return context[key]
    first, *path = key.split(".")
    value = context[first] if first in context else _missing()
    for name in path:
        try:
            value = value[name] if isinstance(value, Mapping) else getattr(value, name)
        except (LookupError, AttributeError):
            _missing()
        except Exception as error:  # a user's property
            return f"<{name} raised {printed_name(type(error))}>"
    return value


def _hidden(value: Any, path: list[str]) -> Any:
    """Return a copy of a value in which what the path leads to is hidden; of a dataclass a dict.

    :raises LookupError: it leads nowhere, so nothing is known of what is to be hidden.
    """
    name, *rest = path
    if isinstance(value, list | tuple):
        return [_hidden(item, path) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in fields(value)}
    if not isinstance(value, Mapping) or name not in value:
        _missing()
    return {**value, name: _hidden(value[name], rest) if rest else HIDDEN}


def _missing() -> Any:
    raise LookupError
