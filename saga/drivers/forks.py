"""Forks: a child of this process has its parent's executions in memory, and none of them is the child's to go on with.

Whatever a task does in the child, its parent's execution stops there: no call is made, nothing is stored and nothing undone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from saga.context import Binding
from saga.drivers.calls import make, make_async
from saga.drivers.interrupts import AbandonedError
from saga.errors import SagaError

if TYPE_CHECKING:
    from saga.drivers.base import Driver
    from saga.drivers.observed import Observed

__all__ = ["is_of_parent", "refuse"]

process: object = object()
"""Stands for this process: another object in a child."""


def is_of_parent(driver: Observed) -> bool:
    """Whether this process was forked since the driver was made."""
    return driver.process is not process


def refuse(driver: Driver, error: BaseException | None = None) -> None:
    """Stop an execution that is the parent's.

    :param error: what the child has raised.
    :raises AbandonedError: it is.
    """
    if driver.process is process:
        return
    driver.abandoned = True
    if error is None:
        error = SagaError(
            f"saga {driver.definition.name!r} ({driver.machine.saga_id}) is executed by process {os.getppid()}, and this one "
            "was forked meanwhile; end a child that a task forks with os._exit(), or start it with subprocess"
        )
    driver.interrupted(error)
    raise AbandonedError(None)


class _OfParent(Binding):
    """The binding of a view that the parent works on: a series (see :mod:`saga.drivers.calls`) makes no other call with it."""

    @property
    def call(self) -> Any:
        return self.__dict__.get("call")

    @call.setter
    def call(self, call: Any) -> None:
        raise SagaError("a child that a task forked goes on with nothing")


def _in_child() -> None:
    global process
    process = object()
    frame = sys._getframe()
    series = (make.__code__, make_async.__code__)
    while frame is not None:
        if frame.f_code in series and "binding" in frame.f_locals:
            frame.f_locals["binding"].__class__ = _OfParent
        frame = frame.f_back  # type: ignore[assignment]


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_in_child)
