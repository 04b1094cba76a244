"""The package's own log lines: what it says where no observer is there to. What executions do is told by observers.

Whatever stands in a line is written as :mod:`saga.plain` writes it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from saga.plain import one_line, repr_of

__all__ = ["LOG"]


class _Shown:
    """Stands for a value in a line."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return one_line(self._value)

    def __repr__(self) -> str:
        return one_line(repr_of(self._value))


class _OwnLog(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        kwargs.setdefault("stacklevel", 2)  # who calls this
        super().log(level, msg, *(arg if type(arg) in (int, float) else _Shown(arg) for arg in args), **kwargs)


LOG: Final = _OwnLog(logging.getLogger("saga"), {})
