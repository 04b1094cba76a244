"""The report of a history: what was put into it, what happened, which law it breaks, and a test to paste."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from saga.diagram import Diagram
from saga.plain import shortened
from saga.result import error_line

if TYPE_CHECKING:
    from saga.definition import Definition
    from saga.result import SagaResult
    from saga.testing.histories import History
    from saga.testing.records import Line

__all__ = ["as_test", "counted", "drawn", "end_of", "report", "told"]

_WIDEST = 100
_FIRST, _LAST = 12, 3  # lines that are shown of a history that goes on and on
_MOST = 40


def report(history: History) -> str:
    """Return a history as text, with a test to paste."""
    test = [f"    {line}" if line else "" for line in as_test(history)]
    return "\n".join((*told(history), "", *test))


def told(history: History) -> list[str]:
    """Return what a history was, in lines."""
    name, faults = history.definition.name, history.faults
    with_them = f"with {counted(len(faults), 'fault')}" if faults else "though nothing goes wrong"
    kind = "block" if history.plan.open else "saga"
    parts = [f"{kind} {name!r} breaks a law {with_them}:"]
    if history.broken is not None:
        parts = [f"{kind} {name!r} breaks a law {with_them}: {history.broken.law}"]
        parts += [f"    {line}" for line in history.broken.how.splitlines()]
    return [*parts, "", *table(history), "", f"It ends as {history.status}. To see it again:"]


def drawn(history: History, definition: Definition, result: SagaResult) -> Diagram:
    """Return a picture of how a history went, what was put into it, and which law it breaks.

    :param definition: what its flow is drawn by, and ``result``: what it came to in that.
    """
    faults = ", ".join(f"{fault.step} {fault.kind}" for fault in history.faults) or "nothing went wrong"
    broken = [] if history.broken is None else [f"breaks a law: {history.broken.law}", *history.broken.how.splitlines()]
    return Diagram(definition, result, [faults, *broken])


def end_of(history: History) -> str:
    """Return how a history ended, and why."""
    result = history.result
    where = f" at step {result.failed_step!r}" if result.failed_step is not None else ""
    return f"{history.status}{where}" + (f": {error_line(result.error)}" if result.error is not None else "")


def as_test(history: History, names: Iterable[str] = ()) -> list[str]:
    """Return the lines of a test that replays a history.

    :param names: what it imports, each as ``module:name``; nothing where none are given: it stands where these are.
    """
    words = (history.definition.name, *(f"{fault.step} {fault.kind}" for fault in history.faults))
    test = re.sub(r"\W+", "_", " ".join(words)).strip("_").lower()
    asked = history.setting.asked.format(list(history.faults))
    return [*_imports(names), f"def test_{test}() -> None:", f"    replay({asked})"]


def _imports(names: Iterable[str]) -> list[str]:
    """Return the lines that import names, and those between them and a test."""
    of: dict[str, set[str]] = {}
    for module, _, name in (one.partition(":") for one in names):
        of.setdefault(module, set()).add(name.partition(".")[0])
    lines = [f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(of.items())]
    return ["from saga.testing import replay", *lines, "", ""] if lines else []


def table(history: History) -> list[str]:
    """Return the lines of a history as a table; of many, the first and the last."""
    several, lines = history.lives > 1, list(enumerate(history.lines, 1))
    left_out = len(lines) - _FIRST - _LAST if len(lines) > _MOST else 0
    if left_out:
        del lines[_FIRST:-_LAST]
    rows = [_row(number, line, several) for number, line in lines]
    if not rows:
        return ["    nothing was called"]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    found = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        found.append(("    " + "  ".join((*cells, row[-1]))).rstrip())
    if left_out:
        found.insert(_FIRST, f"    ... and {left_out} more")
    return found


def _row(number: int, line: Line, several: bool) -> tuple[str, ...]:
    what = f"{line.what} (attempt {line.attempt})" if line.attempt > 1 else line.what
    fault = f"  <- {line.fault}" if line.fault is not None else ""
    life = (f"process {line.life}",) if several else ()
    return (f"{number:>2}", *life, line.step, what, f"{shortened(line.came, _WIDEST)}{fault}")


def counted(count: int, what: str) -> str:
    """Return a number of things: ``1 fault``, ``2 faults``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
