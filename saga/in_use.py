"""A context is in one execution at a time: who uses it, and who may use it within that. Nothing is executed here.

Whoever begins an execution claims its context, and lets go of it at the end. Within the execution its tasks may execute other
sagas with it, one after the other: in the thread or the asyncio task that runs the execution, and in those begun from there.
"""

from __future__ import annotations

import sys
import threading
import weakref
from contextvars import ContextVar
from typing import Final

from saga.context import ITS_OWN, Binding, Context, set_binding
from saga.errors import SagaDefinitionError

__all__ = ["INSIDE", "claim", "enter", "let_go", "running_task"]

INSIDE: Final[ContextVar[tuple[Binding, ...]]] = ContextVar("saga_inside", default=())
"""The executions that the running code is part of, where it is not in the thread or task that runs them."""

_claiming: Final = threading.Lock()


def claim(context: Context, binding: Binding, user: object) -> None:
    """Bind a context to an execution that begins, until :func:`let_go`.

    :param binding: the execution's; a context that was made for it is bound already.
    :param user: the thread's id or the asyncio task that runs it.
    :raises SagaDefinitionError: the context is in use elsewhere, and was left as it is.
    """
    binding.user = user
    if context.__binding__ is binding:
        return
    with _claiming:
        outer = _outer(context.__binding__)
        holder = _holder(outer)
        if holder is not None and not _is_inside(holder):
            raise SagaDefinitionError(
                f"saga {binding.saga!r}: the context is in use by execution {holder.saga_id!r} of saga {holder.saga!r}, which "
                "has not ended; give each execution a context of its own, such as copy.copy(context)"
            )
        binding.within = outer
        set_binding(context, binding)


def let_go(context: Context, binding: Binding) -> None:
    """Let others have a context whose execution has ended, or give it back to the execution that this one was within."""
    binding.user = None
    if binding.within is not None and context.__binding__ is binding:
        set_binding(context, binding.within)


def running_task() -> object:
    """Return the asyncio task that runs, or the id of a thread that runs a coroutine without one."""
    import asyncio

    return asyncio.current_task(asyncio.get_running_loop()) or threading.get_ident()


def enter(binding: Binding, user: object = None) -> tuple[Binding, ...] | None:
    """Enter an execution in this task, so that the tasks which its calls begin are part of it, too.

    Return what :data:`INSIDE` is to be afterwards; ``None`` where the execution has no need of it.

    :param user: what runs it from now on.
    """
    if binding.user is ITS_OWN:
        return None
    if user is not None:
        binding.user = user
    outside = INSIDE.get()
    INSIDE.set((*outside, binding))
    return outside


def _outer(binding: Binding | None) -> Binding | None:
    """Return the innermost binding whose execution has not ended."""
    while binding is not None and not _is_used(binding):
        binding = binding.within
    return binding


def _holder(binding: Binding | None) -> Binding | None:
    """Return the innermost binding of those whose execution has the context for itself."""
    while binding is not None and (binding.user is ITS_OWN or not _is_used(binding)):
        binding = binding.within
    return binding


def _is_used(binding: Binding) -> bool:
    user = binding.user
    return user is not None and not (isinstance(user, weakref.ref) and user() is None)  # which nobody can run any more


def _is_inside(holder: Binding) -> bool:
    if holder.user == threading.get_ident() or holder in INSIDE.get():
        return True
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it, no task runs
    loop = asyncio._get_running_loop() if asyncio is not None else None
    return asyncio is not None and loop is not None and holder.user is asyncio.current_task(loop)
