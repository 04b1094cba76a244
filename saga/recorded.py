"""Exceptions taken apart and made again: what is kept of one for another process. No text of a report lives here.

An exception is made again without calling its class's own ``__init__``: of its ``args`` and its attributes, as they were. It
counts as the same only where its text is the same; anything else stays a :class:`~saga.errors.RecordedError`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import BuiltinMethodType, MethodDescriptorType, WrapperDescriptorType
from typing import Any, Final

from saga.errors import RecordedError, SagaExecutionException
from saga.plain import TEXT_CHARACTERS, names_of, text_of

__all__ = [
    "made_again",
    "makes_itself",
    "parts_of",
    "plain_parts",
    "recalled",
    "remember_traceback",
    "stored_name",
    "taken_apart",
]

_TRACEBACK: Final = "__traceback_text__"  # beside Python's own __notes__ in an exception's __dict__, which none can refuse
_OURS: Final = (_TRACEBACK, "__notes__")

Parts = tuple[tuple[Any, ...], dict[str, Any]]
"""What an exception is made again of: its ``args``, and its attributes."""


def stored_name(cls: type) -> str:
    """Return the name that a class is found again by."""
    return ":".join(names_of(cls))


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return an exception's ``__dict__``, whatever its class does about attributes."""
    found: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return found


def recalled(error: Any) -> str | None:
    """Return the traceback that an exception of another process was recorded with, or ``None``: it is one of this process."""
    if issubclass(type(error), RecordedError):
        return str(error.traceback_text)
    found = attributes_of(error).get(_TRACEBACK)
    return found if isinstance(found, str) else None


# -- apart ------------------------------------------------------------------------------------------------------------


def makes_itself(cls: type) -> bool:
    """Whether a class says by a ``__reduce__`` of its own how it is made again."""
    return not all(isinstance(getattr(cls, name), MethodDescriptorType) for name in ("__reduce__", "__reduce_ex__"))


def taken_apart(error: BaseException) -> Parts | None:
    """Return what an exception is made again of; ``None`` where it cannot be."""
    if issubclass(type(error), RecordedError):
        return None
    try:
        reduced: Any = error.__reduce_ex__(2)
        made_by, args, *more = reduced
        attributes = dict(more[0] or {}) if more else {}
        if made_by is type(error) and isinstance(args, tuple) and all(part is None for part in more[1:]):
            return args, attributes
    except Exception:  # its __reduce__ is a user's
        return None
    return None


def plain_parts(error: BaseException, text: str) -> dict[str, Any]:
    """Return ``args`` and ``attributes`` as plain JSON values, or nothing: they have others, or more than is worth keeping.

    ``args`` of ``None`` is the text alone, which is so of most; attributes are pairs, and left out where there are none.
    """
    if issubclass(type(error), SagaExecutionException):  # its result is stored where its own saga is
        return {"args": None}
    parts = taken_apart(error)
    if parts is None:
        return {}
    args, attributes = parts[0], {name: value for name, value in parts[1].items() if name not in _OURS}
    if not all(map(_is_plain, (*args, *attributes.values()))):
        return {}
    found: dict[str, Any] = {"args": None if args == (text,) else list(args)}
    return found | {"attributes": list(map(list, attributes.items()))} if attributes else found


def parts_of(recorded: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return what :func:`plain_parts` has put into ``recorded``, as it is made again of."""
    if "args" not in recorded:
        return None
    args = recorded["args"]
    return (recorded["text"],) if args is None else args, recorded.get("attributes", ())


def _is_plain(value: object) -> bool:
    kind = type(value)
    if isinstance(value, str | int | float) and kind in (str, int, float):
        return len(value) <= TEXT_CHARACTERS if isinstance(value, str) else -(2**63) <= value < 2**63
    return value is None or kind is bool


# -- and again --------------------------------------------------------------------------------------------------------


def _class_of(type_name: str) -> type[Exception] | None:
    """Return the class of that name, where it is imported here: nobody can ask for one who has not imported it."""
    module, _, path = type_name.partition(":")
    found: object = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)  # not getattr, which a module may answer to with an import
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def made_again(
    type_name: str, parts: tuple[Any, Any] | None, text: str, trace: str, cls: type[BaseException] | None = None
) -> BaseException:
    """Return an exception of another process: of its class where that can be, else a :class:`~saga.errors.RecordedError`.

    :param parts: its args, and what makes a dict of its attributes.
    :param cls: its class, where it is known already.
    """
    error: BaseException | None = None
    if parts is not None:
        try:
            found = cls if cls is not None else _class_of(type_name)
            if found is not None:
                error = _made(found, tuple(parts[0]), dict(parts[1]))
        except Exception:
            error = None
    if error is None or text_of(error) != text:
        return RecordedError(type_name, text, trace)
    return remember_traceback(error, trace)


def remember_traceback(error: BaseException, trace: str) -> BaseException:
    """Return the exception, with the traceback that it had elsewhere."""
    attributes_of(error).setdefault(_TRACEBACK, trace)
    return error


def _made(cls: type[BaseException], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> BaseException | None:
    if makes_itself(cls):
        error: Any = cls(*args)
    elif not isinstance(cls.__new__, BuiltinMethodType):
        return None
    else:
        error = cls.__new__(cls, *args)
        builtin = (vars(base).get("__init__") for base in cls.__mro__)
        next(init for init in builtin if isinstance(init, WrapperDescriptorType))(error, *args)
    attributes_of(error).update(attributes)
    return error  # type: ignore[no-any-return]
