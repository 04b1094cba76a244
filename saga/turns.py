"""Whose turn it is to begin, and what an execution is found by: what a definition says of that, asked of a context.

Nothing waits here: stores keep the limits and the keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from saga.awaitables import check_callable, refuse_unrun
from saga.errors import SagaDefinitionError
from saga.names import LONGEST, checked_name

if TYPE_CHECKING:
    from saga.context import Context
    from saga.definition import Definition

__all__ = ["check_turns", "checked_tags", "key_of", "masked", "tags_of"]

_MOST_TAGS: Final = 32


def masked(value: object) -> str:
    """Return what stands for a value in a tag, so that it is found by it and not shown: ``tags={"card": masked(number)}``.

    It is the beginning of a hash: whoever can guess the value can find out that it is this one.
    """
    import hashlib  # few need it

    return f"masked:{hashlib.sha256(str(value).encode()).hexdigest()[:24]}"


def check_turns(definition: Definition) -> None:
    """Check what a definition says of limits, keys and tags.

    :raises SagaDefinitionError: something is wrong.
    """
    where = f"saga {definition.name!r}"
    limit, rate = definition.limit, definition.rate
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SagaDefinitionError(f"{where}: limit is {limit!r}; give a whole number of 1 or more")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 1e-6 <= rate < math.inf):
        raise SagaDefinitionError(f"{where}: rate is {rate!r}; give how many may be begun in a second, such as 5 or 0.5")
    for option in ("exclusive", "tags"):
        function = getattr(definition, option)
        if function is None or (option == "tags" and not callable(function)):
            continue
        if isinstance(function, type):
            raise SagaDefinitionError(f"{where}: {option} is {function!r}; give a function of the context")
        check_callable(function, f"{where}: {option}", "the context", 1)
        refuse_unrun(function, f"{where}: {option}", "give a plain function of the context")
    if definition.tags is not None and not callable(definition.tags):
        if isinstance(definition.tags, str | bytes | Mapping) or not isinstance(definition.tags, Iterable):
            raise SagaDefinitionError(
                f"{where}: tags is {definition.tags!r}; give a function of the context that returns a mapping, or some of its "
                'keys: tags=["order_id"]'
            )
        keys = tuple(checked_name(key, f"{where}: one of tags") for key in definition.tags)
        object.__setattr__(definition, "tags", keys)


def key_of(definition: Definition, context: Context) -> str | None:
    """Return the key that one execution has at a time; ``None``: it need not wait for others.

    :raises SagaDefinitionError: the function raised, or returned no key.
    """
    if definition.exclusive is None:
        return None
    key = _asked(definition, "exclusive", definition.exclusive, context)
    return None if key is None else _text(key, f"saga {definition.name!r}: exclusive returned", "the key")


def tags_of(definition: Definition, context: Context, given: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what an execution is found by: what its saga says, and what was given with it, which comes first.

    :raises SagaDefinitionError: a tag is wrong, or the saga's function raised.
    """
    found: dict[str, str] = {}
    says = definition.tags
    where = f"saga {definition.name!r}: tags"
    if callable(says):
        answer = _asked(definition, "tags", says, context)
        if not isinstance(answer, Mapping):
            raise SagaDefinitionError(f"{where} returned {answer!r}; return a mapping: {{'order': context.order_id}}")
        found |= checked_tags(answer, where)
    elif says is not None:
        present = {key: value for key in says if (value := context.get(key)) is not None}
        found |= checked_tags(present, where)
    if given is not None:
        found |= checked_tags(given, where)
    return found


def checked_tags(tags: object, where: str) -> dict[str, str]:
    """Return tags as texts.

    :raises SagaDefinitionError: one is no text or number, or is too long.
    """
    if not isinstance(tags, Mapping):
        raise SagaDefinitionError(f"{where} is {tags!r}; give a mapping: {{'order': 'A1'}}")
    if len(tags) > _MOST_TAGS:
        raise SagaDefinitionError(f"{where} has {len(tags)} tags; an execution has at most {_MOST_TAGS}")
    named = ((checked_name(key, f"{where}: the name of a tag"), value) for key, value in tags.items())
    return {key: _text(value, f"{where}: {key!r} is", "a tag") for key, value in named if value is not None}


def _text(value: object, what: str, is_to_be: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SagaDefinitionError(f"{what} {value!r} ({type(value).__name__}); {is_to_be} is a str or an int: str(...) of it")
    if isinstance(value, int) and abs(value) >= 10**LONGEST:  # Python may refuse to write it out
        raise SagaDefinitionError(f"{what} an int of more than {LONGEST} digits; {is_to_be} has at most {LONGEST} characters")
    return checked_name(str(value), f"{what} {value!r}: {is_to_be}")


def _asked(definition: Definition, option: str, function: Callable[[Any], Any], context: Context) -> Any:
    try:
        return function(context)
    except Exception as error:
        raise SagaDefinitionError(f"saga {definition.name!r}: {option} raised {error!r}; nothing was stored") from error
