"""The package's own log lines: what it says where no observer is there to. What executions do is told by observers.

Whatever stands in a line is written as :mod:`saga.plain` writes it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partialmethod
from typing import Final

from saga.errors import exc_info_of
from saga.plain import one_line, repr_of

__all__ = ["LOG", "silence"]

_SILENT: Final[ContextVar[bool]] = ContextVar("saga_silent", default=False)


class _Shown:
    """Stands for a value in a line."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return one_line(self._value)

    def __repr__(self) -> str:
        return one_line(repr_of(self._value))


class _OwnLog:
    def log(self, level: int, text: str, *args: object, exc_info: BaseException | bool | None = None) -> None:
        """Write a line, with ``args`` in it."""
        if _SILENT.get():
            return
        shown = (arg if type(arg) is int or type(arg) is float else _Shown(arg) for arg in args)
        # Asked for here, because importing this package makes no logger; the line is that of whoever calls this.
        error = sys.exception() if exc_info is True else exc_info
        told = exc_info_of(error) if isinstance(error, BaseException) else None
        logging.getLogger("saga").log(level, text, *shown, exc_info=told, stacklevel=2)

    info = partialmethod(log, logging.INFO)
    warning = partialmethod(log, logging.WARNING)
    error = partialmethod(log, logging.ERROR)
    critical = partialmethod(log, logging.CRITICAL)
    exception = partialmethod(log, logging.ERROR, exc_info=True)


LOG: Final = _OwnLog()


@contextmanager
def silence() -> Iterator[None]:
    """Write nothing meanwhile, of what happens in this thread or task: somebody else tells it."""
    before = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(before)
