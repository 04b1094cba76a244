"""How things are shown in a terminal: tables, statuses, ages. Whatever comes from users passes through ``one_line`` here.

A status has a mark and a word: no colour has to be seen. Where there is no terminal, nothing is shortened or coloured.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from saga.plain import one_line

__all__ = [
    "Column",
    "Progress",
    "age",
    "clear",
    "colours",
    "counted",
    "entry",
    "line",
    "marked",
    "on_terminal",
    "paragraph",
    "say",
    "status",
    "table",
    "tags",
    "width",
]

_MARKS: Final = {
    "submitted": ("·", ".", None),
    "running": ("▸", ">", "blue"),
    "paused": ("‖", "=", "yellow"),
    "compensating": ("↶", "<", "yellow"),
    "completed": ("✓", "+", "green"),
    "compensated": ("↩", "~", "yellow"),
    "stuck": ("✗", "!", "red"),
}
"""By status: its mark, the mark where that cannot be written, and its colour."""


def on_terminal() -> bool:
    """Return whether what is printed is read in a terminal."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def colours() -> bool:
    """Return whether colours may be written: https://no-color.org."""
    return on_terminal() and not os.environ.get("NO_COLOR")


def say(text: str = "") -> None:
    """Print a text that :func:`line` or :func:`table` made."""
    click.echo(text, color=colours())


def clear() -> None:
    """Begin at the top of the terminal."""
    click.echo("\x1b[H\x1b[J", nl=False, color=True)


def marked(mark: str, plain: str) -> str:
    """Return a mark, or the plain one where the stream cannot write it."""
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return mark


def status(name: str) -> str:
    """Return a status with its mark."""
    mark, plain, _ = _MARKS.get(name, ("?", "?", None))
    return f"{marked(mark, plain)} {name}"


def coloured(text: str) -> str:
    """Return a status with its mark in its colour."""
    return click.style(text, fg=_MARKS.get(text.strip().rpartition(" ")[2], ("", "", None))[2])


def age(seconds: float) -> str:
    """Return a length of time in a few characters: ``5 s``, ``3 min``, ``2 h``, ``4 d``."""
    for unit, least, size in (("d", 172800, 86400), ("h", 7200, 3600), ("min", 120, 60)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def counted(number: int, of: str = "execution") -> str:
    """Return a number of things: ``1 execution``, ``2 executions``."""
    return f"{number} {of}{'' if number == 1 else 's'}"


def tags(given: Any) -> str:
    """Return tags in a line."""
    return " ".join(f"{key}={value}" for key, value in given.items())


def width(text: str) -> int:
    """Return how many cells a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(one) or unicodedata.category(one) == "Cf"
        else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def _cut(text: str, most: int) -> str:
    if width(text) <= most:
        return text
    end = marked("…", "~")
    while text and width(text) > most - 1:
        text = text[:-1]
    return text.rstrip() + end


def line(value: object, most: int | None = None) -> str:
    """Return a value on one line that shows all there is; cut where there is a terminal that is narrower."""
    text = one_line(value)
    if most is None:
        most = shutil.get_terminal_size().columns
    return _cut(text, most) if on_terminal() else text


class Progress:
    """A bar of what has ended, on the standard error stream: how it ended, how fast, how much is left.

    :param total: how many there are; ``None``: nobody knows yet.
    """

    _EVERY: Final = 0.1
    _CELLS: Final = 20

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._began, self._last = time.monotonic(), 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def show(self, ended: int, how: str, total: int | None = None) -> None:
        """Draw it again, where it is time to.

        :param total: how many are known to be there by now, if that has changed.
        """
        self._total = total if total is not None else self._total
        if self._shown and time.monotonic() - self._last >= self._EVERY:
            self._last = time.monotonic()
            rate = ended / max(self.elapsed, 0.001)
            text = f"{ended}  {how}  {rate:.0f}/s"
            if self._total:
                full = self._CELLS * ended // self._total
                left = age((self._total - ended) / rate) if rate else "?"
                text = f"[{'#' * full}{'-' * (self._CELLS - full)}] {ended}/{self._total}  {how}  {rate:.0f}/s  {left} left"
            click.echo(f"\r\x1b[K{_cut(text, shutil.get_terminal_size().columns - 1)}", nl=False, err=True, color=True)

    def clear(self) -> None:
        """Leave the line to something else."""
        if self._shown and self._last:
            self._last = 0.0
            click.echo("\r\x1b[K", nl=False, err=True, color=True)


def entry(value: object, indent: int) -> str:
    """Return a value on one line; in a terminal, what has no room there goes on below, between words.

    :param indent: the cell where it does.
    """
    text = one_line(value)
    if not on_terminal():
        return text
    room = max(shutil.get_terminal_size().columns, indent + 20)
    after = textwrap.wrap(text, room, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)
    return "\n".join(line.rstrip() for line in after) or text


def paragraph(value: object, indent: int = 0) -> str:
    """Return all of a value: in a terminal, broken between words into lines that begin in the same cell.

    :param indent: that cell.
    """
    text = one_line(value)
    if not on_terminal():
        return " " * indent + text
    room = max(shutil.get_terminal_size().columns - indent, 20)
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return "\n".join(" " * indent + line for line in lines)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    :ivar cut: whether its texts may be cut where the terminal is narrow; an id never is.
    :ivar below: whether it goes below its row, on a line of its own, where there is no room beside the others.
    :ivar right: whether its texts stand at the right.
    :ivar style: gives a text its colour.
    """

    title: str
    cut: bool = False
    below: bool = False
    right: bool = False
    style: Callable[[str], str] | None = None


_GAP: Final = 2
_LEAST: Final = 8
_BESIDE: Final = 60
"""The cells that a column which may go below needs to stay beside the others."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], indent: int = 0, titles: bool = True) -> str:
    """Return a table as text, as wide as the terminal; without one, as wide as it is.

    :param indent: cells of the terminal that are taken already.
    :param titles: whether the columns' titles come first.
    """
    texts = [[one_line("" if value is None else value) for value in row] for row in rows]
    # A column that has nothing in it says nothing.
    used = [index for index in range(len(columns)) if not rows or any(row[index] for row in texts) or not index]
    columns, texts = [columns[index] for index in used], [[row[index] for index in used] for row in texts]
    widths = [max(map(width, [column.title, *(row[index] for row in texts)])) for index, column in enumerate(columns)]
    room = shutil.get_terminal_size().columns - indent if on_terminal() else None
    below: list[int] = []
    if room is not None:
        below = _below(columns, widths, room)
        _narrow(columns, widths, below, room)
    beside = [index for index in range(len(columns)) if index not in below]
    heads = [column.title.upper() for column in columns]
    first = [_row(columns, widths, beside, heads, plain=True), *(f"    {heads[index]}" for index in below)]
    lines = [click.style(text, bold=True) for text in first] if titles else []
    for row in texts:
        lines.append(_row(columns, widths, beside, row))
        lines += [text for index in below if row[index] for text in _lines(row[index], room or 0)]
    return "\n".join(lines)


def _lines(text: str, room: int) -> list[str]:
    """Return a text below a row: two lines at most."""
    found = textwrap.wrap(text, max(room - 4, 20), max_lines=2, placeholder=marked("…", "~"), break_on_hyphens=False)
    return [f"    {line}" for line in found]


def _row(
    columns: Sequence[Column], widths: Sequence[int], which: Sequence[int], row: Sequence[str], plain: bool = False
) -> str:
    cells = []
    for index in which:
        text = _cut(row[index], widths[index])
        space = " " * (widths[index] - width(text))
        cell = space + text if columns[index].right else text + (space if index != which[-1] else "")
        style = columns[index].style
        cells.append(cell if style is None or plain else style(cell))
    return (" " * _GAP).join(cells).rstrip()


def _taken(widths: Sequence[int], but: Sequence[int] = ()) -> int:
    return sum(cells + _GAP for index, cells in enumerate(widths) if index not in but)


def _below(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """Return the columns for which there is no room beside the others."""
    movable = [index for index, column in enumerate(columns) if column.below]
    for index in movable:
        left = room - _taken(widths, movable)
        if widths[index] > left and left < _BESIDE:
            return movable
    return []


def _narrow(columns: Sequence[Column], widths: list[int], below: Sequence[int], room: int) -> None:
    """Make columns narrower, the widest first, until all fit or none can be cut any more."""
    able = [index for index, column in enumerate(columns) if (column.cut or column.below) and index not in below]
    while able and _taken(widths, below) - _GAP > room:
        widest = max(able, key=lambda index: widths[index])
        if widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
