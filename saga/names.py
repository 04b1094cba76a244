"""Names and ids: what sagas, versions, steps, signals and executions may be called. The same with and without a store.

Whatever names a thing is looked at here before anything runs, so that no store and no log is the first to find it wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from saga.errors import SagaDefinitionError

__all__ = ["LONGEST", "check_said", "checked_id", "checked_name", "several"]

LONGEST: Final = 200
"""Characters in a name or an id, at most: what the columns of every store take."""

# NUL and lone surrogates cannot be stored everywhere. What ends a line, or does worse in a terminal, forges lines of a log.
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def checked_name(text: Any, what: str, of: object = None) -> str:
    """Return a name or an id as a plain ``str``: 1 to 200 characters, no control characters, no lone surrogates, not blank.

    :param what: what is named so, for the error: ``saga 'order': saga_id``; ``of``: whose that is, where there is more to say.
    :raises SagaDefinitionError: it is none; the text says what to write instead.
    """
    if (
        type(text) is str
        and len(text) <= LONGEST
        and (text.isidentifier() or (text.isascii() and text.isprintable() and text.strip()))
    ):
        return text  # nearly all of them
    if of is not None:
        what = f"{what} of {of!r}"
    if not isinstance(text, str):
        raise SagaDefinitionError(f"{what} is {text!r} ({type(text).__name__}); give a str, such as str(...) of it")
    plain: str = str.__str__(text)  # a subclass, such as a StrEnum, is written in another way here and there
    if not plain.strip():
        raise SagaDefinitionError(f"{what} is {plain!r}; give a str that is not blank")
    if len(plain) > LONGEST:
        raise SagaDefinitionError(f"{what} is {plain[:20]!r}... of {len(plain)} characters; give one of at most {LONGEST}")
    if unfit := _UNFIT.search(plain):
        raise SagaDefinitionError(
            f"{what} is {plain!r}; {unfit[0]!r} cannot be in a name or an id: leave it out, or percent-encode it"
        )
    return plain


def checked_id(given: Any, what: str) -> str:
    """Return an execution's id as a plain ``str``: as :func:`checked_name`, or of a ``UUID``.

    :raises SagaDefinitionError: it is none.
    """
    if type(given) is not str:
        from uuid import UUID  # whoever has one has imported it

        if isinstance(given, UUID):
            return str(given)
    return checked_name(given, what)


def several(given: Any, what: str) -> tuple[Any, ...]:
    """Return what was given as several things.

    :raises SagaDefinitionError: it is one: of a ``str``, the letters are surely not what was meant.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise SagaDefinitionError(f"{what} is {given!r}; give several, such as [{given!r}]")
    return tuple(given)


def check_said(who: object, why: object) -> None:
    """Refuse who acts, or why, where it is no text that every store can keep, or a blank one.

    :raises ValueError: the text says which.
    """
    if not _is_said(who):
        raise ValueError(f"who is {who!r}; give the name of the person who acts")
    if not _is_said(why):
        raise ValueError(f"why is {why!r}; give the reason, for those who read the journal later")


def _is_said(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip()) and not re.search("[\0\ud800-\udfff]", text)
