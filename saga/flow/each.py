"""``each``: what is done for each item of a list that is known when the saga comes to it. Doing it is the machine's work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saga.awaitables import answer, check_callable, is_awaitable, is_coroutine_function, refuse_unrun
from saga.errors import SagaDefinitionError
from saga.flow.build import FlowLike, as_flow, check_limit
from saga.flow.functions import function_name, is_function
from saga.flow.methods import MethodStep
from saga.flow.nodes import ForEach, Pause, Sequence, Step
from saga.names import LONGEST, checked_name
from saga.policy import InDoubt
from saga.task import Task

__all__ = ["Items", "ListingTask", "each"]

Items = str | type[Task[Any]] | Callable[[Any], Any]
"""Where a list is: a key of the context, a task class whose result it is, or a function of the context."""


def each(
    items: Items,
    task_or_flow: FlowLike,
    *,
    limit: int | None = None,
    name: str | None = None,
    key: Callable[[Any], str] | None = None,
    compensate_together: bool = False,
) -> ForEach:
    """Return a step that lists items, and a flow that is done for each of them, at the same time.

    The list is made once, when the saga comes to it, and is in the journal before the first branch begins. Each branch has its
    own view of the context, as one of ``parallel``; in it, ``context.step.item`` is the item, and the first step gets it as the
    result of the step before. The branch of the first item is called ``name[0]``, or by ``key``: a single step has that name, a
    longer flow's steps have it before theirs. When all have ended, the step's result is the list of the branches' last results,
    in order, ``None`` where all of one was skipped; until then, it is what was listed. An empty list goes on at once.

    :param items: a key of the context; a task class, whose step's result is meant; or a function of the context, plain or
        ``async``. It only looks: where the process dies in it, it is called again.
    :param task_or_flow: what is done for each: a task, a task class, a saga or a flow.
    :param limit: how many branches are under way at a time, as of ``parallel``.
    :param name: the step's name; that of the task, or of the saga, where not given.
    :param key: a function of an item: what its branch is called by. No two items have the same.
    :param compensate_together: undo the branches at the same time, each in reverse order.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    child = as_flow(task_or_flow, "each(): task_or_flow")
    if name is None:
        name = child.name if isinstance(child, Step | MethodStep | Pause | Sequence) else None
        if name is None:
            raise SagaDefinitionError("each(): name is None, and its flow is more than one step; give it a name=")
    name = checked_name(name, "each(): name")
    check_limit(limit, "each()")
    if not isinstance(compensate_together, bool):
        raise SagaDefinitionError(f"each(): compensate_together is {compensate_together!r}; give a bool")
    if isinstance(items, str):
        items = checked_name(items, "each(): items")
    elif not (isinstance(items, type) and issubclass(items, Task)):
        if isinstance(items, MethodStep) or not is_function(items):
            raise SagaDefinitionError(
                f"each(): items is {items!r}; give a key of the context, a task class whose result they are, or a function of "
                "the context"
            )
        check_callable(items, f"each(): items {function_name(items)}", "the context", 1)
    if key is not None:
        if not is_function(key):
            raise SagaDefinitionError(f"each(): key is {key!r}; give a function of an item that returns a str")
        check_callable(key, "each(): key", "an item", 1)
        refuse_unrun(key, "each(): key", "give a plain function of an item")
    task = (AsyncListingTask if is_coroutine_function(items) else ListingTask)(items, key)
    return ForEach(Step(task, name), child, limit, compensate_together)


class ListingTask(Task[Any]):
    """Lists what a flow is done for. It changes nothing outside, so that nothing of it is ever in doubt.

    Its result is the list; with a ``key``, a dict of keys to items.
    """

    in_doubt = InDoubt.RERUN
    unknown_on = ()

    def __init__(self, items: Items, key: Callable[[Any], str] | None) -> None:
        self.items = items
        self._key = key

    def execute(self, context: Any) -> Any:
        items: Any = self.items
        if isinstance(items, str):
            return self._listed(context, context[items])
        if isinstance(items, type):
            return self._listed(context, context.result_of(items))
        found = items(context)
        if is_awaitable(found):
            answer(found, f"each(): items {function_name(items)}", "make it an `async def` which awaits it")
        return self._listed(context, found)

    def _listed(self, context: Any, items: Any) -> list[Any] | dict[str, Any]:
        if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
            raise SagaDefinitionError(f"each(): items are {type(items).__name__}; give a list")
        listed = list(items)
        if self._key is None:
            return listed
        call = context.__binding__.call
        most = LONGEST if call is None else LONGEST - call.step.longest_around_key
        keyed: dict[str, Any] = {}
        for item in listed:
            key = checked_name(self._key(item), "each(): a key")
            if len(key) > most:
                raise SagaDefinitionError(
                    f"each(): the key {key[:20]!r}... makes a step's name of more than {LONGEST} characters; give one of at "
                    f"most {most}"
                )
            if key in keyed:
                raise SagaDefinitionError(f"each(): two items have the key {key!r}; give each a key of its own")
            keyed[key] = item
        return keyed

    def __repr__(self) -> str:
        items: Any = self.items
        return f"<list of {items if isinstance(items, str) else function_name(items)}>"


class AsyncListingTask(ListingTask):
    """One that asks a coroutine function."""

    async def execute(self, context: Any) -> Any:
        items: Any = self.items
        return self._listed(context, await items(context))
