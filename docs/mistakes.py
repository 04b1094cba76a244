"""Write the table of ``guide/mistakes.rst``: what is found of each mistake that the page has, by running the page.

Usage::

    python docs/mistakes.py
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import Any, NamedTuple

from saga.testing import Exploration, explore

PAGE = Path(__file__).parent / "guide" / "mistakes.rst"
_TABLE = re.compile(r"(\.\. list-table::\n(?: .*\n|\n)*?)\n(?=\S)")
_PART = re.compile(r"^(?P<title>\S.*)\n(?P<line>-+|=+)\n|^\.\. code-block:: python\n\n(?P<code>(?: {4}.*\n|\n)+)", re.MULTILINE)


class Mistake(NamedTuple):
    """A mistake on the page.

    :ivar title: its heading.
    :ivar wrong: what was explored with it, :ivar right: and without, where the page has that.
    """

    title: str
    wrong: Exploration
    right: Exploration | None

    @property
    def faults(self) -> str:
        assert self.wrong.broken is not None
        return ", ".join(f"{fault.step}: {fault.kind}" for fault in self.wrong.broken.faults) or "none"

    @property
    def law(self) -> str:
        assert self.wrong.broken is not None
        assert self.wrong.broken.broken is not None
        return self.wrong.broken.broken.law


def found() -> list[Mistake]:
    """Run the page, and return what was found of each mistake."""
    program = types.ModuleType("mistakes")
    before, sys.modules[program.__name__] = sys.modules.get(program.__name__), program
    explored: list[tuple[str, Exploration]] = []
    title = ""

    def noted(*given: Any, **more: Any) -> Exploration:
        explored.append((title, explore(*given, check=False, **more)))
        return explored[-1][1]

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for part in _PART.finditer(PAGE.read_text(encoding="utf-8")):
                if part["title"]:
                    title = part["title"] if part["line"][0] == "-" else ""
                    continue
                exec(compile(textwrap.dedent(part["code"]), str(PAGE), "exec"), vars(program))
                vars(program)["explore"] = noted
    finally:
        if before is None:
            del sys.modules[program.__name__]
        else:
            sys.modules[program.__name__] = before
    titles = dict.fromkeys(title for title, _ in explored if title)
    return [Mistake(one, *_two([what for title, what in explored if title == one])) for one in titles]


def _two(explored: list[Exploration]) -> tuple[Exploration, Exploration | None]:
    wrong, *right = explored
    return wrong, right[0] if right else None


def table(mistakes: list[Mistake]) -> str:
    """Return the page's table."""
    rows = [("mistake", "what shows it", "law that is broken", "histories")]
    rows += [(f"`{one.title}`_", one.faults, one.law, str(one.wrong.count)) for one in mistakes]
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 24 32 10", "   :class: stacked", ""]
    for row in rows:
        lines += [f"   {'* -' if column == 0 else '  -'} {cell}" for column, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def written(page: str, mistakes: list[Mistake]) -> str:
    """Return the page with its table as it is to be."""
    return _TABLE.sub(lambda _: table(mistakes) + "\n", page, count=1)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found()), encoding="utf-8")
