"""Classes of contexts: that of a saga is one of those of the sagas within it, or it is theirs. No context is known here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from saga.errors import SagaDefinitionError

__all__ = ["fitting", "shared_by"]


def fitting(kind: type[Any], name: str | None, outer: type[Any] | None, saga: str) -> type[Any]:
    """Return the class of contexts that a saga within another names, where what it is given derives from that.

    :param name: the inner saga's; ``outer``: the class of what it is given, where that is known.
    :raises SagaDefinitionError: it does not.
    """
    if outer is not None and not issubclass(outer, kind):
        raise SagaDefinitionError(
            f"saga {saga!r}: saga {name!r} within it is for contexts of {kind.__name__}, and is given {outer.__name__}; let "
            f"{outer.__name__} derive from {kind.__name__}"
        )
    return kind


def shared_by(kinds: Collection[tuple[str | None, type[Any]]], saga: str) -> type[Any] | None:
    """Return the class whose contexts are right for all of these sagas, each with its name; ``None``: there are none.

    :raises SagaDefinitionError: none of theirs derives from all of them.
    """
    for _, kind in kinds:
        if all(issubclass(kind, other) for _, other in kinds):
            return kind
    if not kinds:
        return None
    told = ", ".join(f"{name!r} ({kind.__name__})" for name, kind in kinds)
    raise SagaDefinitionError(
        f"saga {saga!r}: the sagas within it are for contexts of several classes, {told}; name one that derives from all of "
        "them: Saga(context=...)"
    )
