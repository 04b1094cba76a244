"""How an execution of a saga begins: its context is claimed, and what runs it is made, or found where it has run already."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from saga.context import ITS_OWN, Binding, Context
from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.threads import Execution
from saga.errors import SagaDefinitionError
from saga.in_use import claim, let_go, running_task
from saga.result import SagaResult

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution
    from saga.storage.protocol import StoreLike

T = TypeVar("T")

__all__ = ["abegin", "begin", "run_in_a_loop"]


def begin(
    definition: Definition,
    context: Context,
    saga_id: str,
    store: StoreLike | None,
    binding: Binding,
    stop: threading.Event | None = None,
) -> Execution | SagaResult:
    """Return what runs a new execution, or the result of the one that has its id already.

    The parameters after the definition are as :func:`saga.definition.inputs` returns them.

    :param stop: when it is set, an execution that others run, or that waits for its turn, is not waited for any more.
    :raises SagaDefinitionError: the context is in use; nothing is stored.
    """
    if context.__binding__ is not binding:  # else it was made for this execution
        claim(context, binding, threading.get_ident())
    if store is None:
        try:
            return Execution(definition, definition.machine(saga_id), context)
        except BaseException:  # an observer that is told of its stint may raise a SystemExit
            let_go(context, binding)
            raise
    from saga.durable.start import start

    found: Execution | SagaResult | None = None
    try:
        found = start(definition, Execution, context, saga_id, store, stop)
    finally:
        _let_go_unless_begun(context, binding, found)
    return found


async def abegin(
    definition: Definition,
    context: Context,
    saga_id: str,
    store: StoreLike | None,
    binding: Binding,
    stop: threading.Event | None = None,
) -> AsyncExecution | SagaResult:
    """As :func:`begin`, in the running event loop."""
    from saga.drivers.aio import AsyncExecution

    claim(context, binding, ITS_OWN if context.__binding__ is binding else running_task())
    if store is None:
        try:
            return AsyncExecution(definition, definition.machine(saga_id), context)
        except BaseException:  # as in begin()
            let_go(context, binding)
            raise
    from saga.durable.start import astart

    found: AsyncExecution | SagaResult | None = None
    try:
        found = await astart(definition, context, saga_id, store, stop)
    finally:
        _let_go_unless_begun(context, binding, found)
    return found


def _let_go_unless_begun(context: Context, binding: Binding, found: Driver | SagaResult | None) -> None:
    """Let go of a context that was claimed, where what was found for it is no new execution."""
    if not isinstance(found, Driver) or found.context is not context:
        let_go(context, binding)


def run_in_a_loop(saga: str, work: Coroutine[Any, Any, T], method: str) -> T:
    """Run in an event loop of its own.

    :param method: what is to be awaited where one runs already.
    :raises SagaDefinitionError: one runs already.
    """
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise SagaDefinitionError(f"saga {saga!r} has async tasks and an event loop runs: use `await saga.{method}(...)`")
    return asyncio.run(work)
