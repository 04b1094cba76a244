"""Plain text: what users' names, ids, values and errors are where they leave this package. No I/O and no layout lives here.

What is printed, logged, drawn or put into a report comes from users, and from their users: a line break in it would forge a
line of a log, an escape sequence would reach an operator's terminal, and its ``str()`` may raise. It all passes through here.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["TEXT_CHARACTERS", "names_of", "one_line", "printed_name", "repr_of", "shortened", "text_of"]

TEXT_CHARACTERS: Final = 20_000
"""How much is kept of a text."""
_module, _qualname = type.__dict__["__module__"].__get__, type.__dict__["__qualname__"].__get__
_JOINERS: Final = "\u200c\u200d"  # of scripts and emoji: they join what is seen, and hide nothing


def one_line(value: object) -> str:
    """Return ``str(value)`` on one line that shows all there is: what breaks, hides or reorders text is an escape there."""
    text = text_of(value)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


def text_of(value: object) -> str:
    """Return ``str(value)`` as exactly a str of bounded length; never raises an Exception."""
    try:
        return str.__str__(str(value))[:TEXT_CHARACTERS]
    except Exception as error:
        return f"<{printed_name(type(value))} whose str() raised {printed_name(type(error))}>"


def repr_of(value: object) -> str:
    """Return ``repr(value)`` as :func:`text_of` returns ``str(value)``."""
    try:
        return str.__str__(repr(value))[:TEXT_CHARACTERS]
    except Exception as error:
        return f"<{printed_name(type(value))} whose repr() raised {printed_name(type(error))}>"


def printed_name(cls: type) -> str:
    """Return a class's name as it is written, with its module's where it is no built-in one."""
    module, name = names_of(cls)
    return name if module == "builtins" else f"{module}.{name}"


def names_of(cls: type) -> tuple[str, str]:
    """Return a class's ``__module__`` and ``__qualname__``, whatever its metaclass says they are."""
    return str(_module(cls)), str(_qualname(cls))


def shortened(text: str, most: int) -> str:
    """Return at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
