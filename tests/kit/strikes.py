"""Interrupts at lines of the code that is tried: a trace function raises them. None of a real signal lives here."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import saga

__all__ = ["Strikes", "functions", "in_files", "struck_by"]


def interrupt() -> None:
    """Raise what a Ctrl-C raises."""
    raise KeyboardInterrupt


class Strikes:
    """What traces: it strikes at some lines, counted as they are executed.

    :param ours: whether a function's lines count.
    :param positions: the first line is 1.
    :param strike: what it does there.
    :param often: how often the same line counts; ``None``: each time.
    :ivar struck: the functions in which it has.
    """

    def __init__(
        self,
        ours: Callable[[CodeType], bool],
        positions: Collection[int],
        strike: Callable[[], None] = interrupt,
        often: int | None = None,
    ) -> None:
        self._ours = ours
        self._positions = positions
        self._strike = strike
        self._often = often
        self._numbers = itertools.count(1)
        self._times: Counter[tuple[CodeType, int]] = Counter()
        self.struck: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._on_line if self._ours(frame.f_code) else None

    def _on_line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and self._counts(frame) and next(self._numbers) in self._positions:
            self.struck.append(frame.f_code.co_name)
            self._strike()
        return self._on_line

    def _counts(self, frame: FrameType) -> bool:
        if self._often is None:
            return True
        line = frame.f_code, frame.f_lineno
        self._times[line] += 1
        return self._times[line] <= self._often


def functions(names: dict[str, set[str]]) -> Callable[[CodeType], bool]:
    """Return what says whether a function is one of these, by the names of the package's files."""
    package = Path(saga.__file__).parent

    def ours(code: CodeType) -> bool:
        file = Path(code.co_filename)
        return package in file.parents and code.co_name in names.get(file.name, ())

    return ours


def in_files(files: Collection[Path]) -> Callable[[CodeType], bool]:
    """Return what says whether a function is in one of these files."""
    return lambda code: Path(code.co_filename) in files


def struck_by(strikes: Strikes, run: Callable[[], object]) -> BaseException | None:
    """Run it in this thread, with the strikes. Return what was raised."""
    before = sys.gettrace()
    sys.settrace(strikes)
    try:
        run()
    except BaseException as error:
        return error
    finally:
        sys.settrace(before)
    return None
