"""The report of a history: what was put into it, what happened, which law it breaks, and a test to paste."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from saga.plain import shortened

if TYPE_CHECKING:
    from saga.testing.histories import History
    from saga.testing.records import Line

__all__ = ["report"]

_WIDEST = 100
_FIRST, _LAST = 12, 3  # lines that are shown of a history that goes on and on
_MOST = 40


def report(history: History) -> str:
    """Return a history as text."""
    name, faults = history.definition.name, history.faults
    with_them = f"with {_counted(len(faults), 'fault')}" if faults else "though nothing goes wrong"
    parts = [f"saga {name!r} breaks a law {with_them}:"]
    if history.broken is not None:
        parts = [f"saga {name!r} breaks a law {with_them}: {history.broken.law}"]
        parts += [f"    {line}" for line in history.broken.how.splitlines()]
    parts += ["", *table(history), "", f"It ends as {history.status}. To see it again:", ""]
    test = re.sub(r"\W+", "_", " ".join((name, *(f"{fault.step} {fault.kind}" for fault in faults)))).strip("_").lower()
    parts += [f"    def test_{test}() -> None:", f"        replay({history.setting.asked.format(list(faults))})"]
    return "\n".join(parts)


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


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
