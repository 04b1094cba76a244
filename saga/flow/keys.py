"""Keys of the context that a step says it requires or provides: what names them, and what comes of it where one is not there.

A step names them (``requires = ("order_id",)``), as in TaskFlow, whose words these are: for a class, a function and a step of
either alike. What parameters are called, by which TaskFlow and Hamilton know it too, tells nothing here, where a task takes the
whole context; and an annotation would say the same once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from typing import Any

from saga.context import Context
from saga.errors import MissingKeyError, SagaDefinitionError, near
from saga.flow.wrapped import WrappedTask, compensates, verifies
from saga.names import checked_name
from saga.task import Task

__all__ = ["keys_of", "missing_key", "requiring"]


def keys_of(given: Any, what: str) -> tuple[str, ...]:
    """Return names of keys of a context, in alphabetical order.

    :raises SagaDefinitionError: it is no collection of such; ``what`` is in the text.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Collection):
        example = given if isinstance(given, str) and given else "order_id"
        raise SagaDefinitionError(f"{what} is {given!r}; give keys of the context, such as ({example!r},)")
    keys = {checked_name(key, f"{what} is {given!r}: a key") for key in given}
    for key in sorted(keys):
        if hasattr(Context, key):
            raise SagaDefinitionError(f"{what} has {key!r}, an attribute of Context itself, which cannot be a key")
    return tuple(sorted(keys))


def requiring(task: Task[Any], keys: Iterable[str]) -> WrappedTask:
    """Return a task that is not executed where the context lacks one of these keys; nor is its breaker asked then."""
    if isinstance(task, WrappedTask):
        wrapped = copy(task)
    else:
        wrapped = WrappedTask(type(task), task, compensates(task), verifies(task))
        wrapped.compensate, wrapped.verify = task.compensate, task.verify  # type: ignore[method-assign]

    required = frozenset(keys)

    def execute(context: Any) -> Any:
        if not required <= vars(context).keys():
            raise missing_key(context.step.name, "requires", required - vars(context).keys(), context)
        return task.execute(context)

    wrapped.execute = execute  # type: ignore[method-assign]
    return wrapped


def missing_key(step: str, says: str, missing: Iterable[str], held: Mapping[str, Any]) -> MissingKeyError:
    """Return the error of a step where the context lacks keys: what the step ``says`` of them begins the text."""
    keys, known = sorted(missing), ", ".join(held) or "none"
    said, hint = ", ".join(map(repr, keys)), "".join(near(key, held) for key in keys)
    return MissingKeyError(f"step {step!r} {says} {said}, which the context lacks{hint}; keys: {known}")
