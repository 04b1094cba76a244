"""What the command line shows in a terminal, as pictures: ``python docs/captures.py`` draws them again.

Each command is run in a terminal of its own, in the shop of ``saga demo``. A test says whether the pictures are up to date, but
for times.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

COLUMNS: Final = 100
CAPTURES: Final = {
    "terminal-list.svg": ["list", "--limit", "10"],
    "terminal-show.svg": ["show", "A3"],
    "terminal-doctor.svg": ["doctor"],
}
_CELL: Final = 8.0
_LINE: Final = 18
_STYLE: Final = """\
text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:13px;fill:#1f2328}
.page{fill:#f6f8fa;stroke:#d1d9e0}.c1{font-weight:bold}.c31{fill:#b3261e}.c32{fill:#1a7f37}.c33{fill:#8a5a00}.c34{fill:#0b57d0}
@media (prefers-color-scheme: dark){text{fill:#e6edf3}.page{fill:#151b23;stroke:#3d444d}
.c31{fill:#ff8a80}.c32{fill:#6fdd8b}.c33{fill:#f0c36d}.c34{fill:#8ab4f8}}"""


def seen(arguments: list[str], directory: Path) -> str:
    """Return what a command writes into a terminal."""
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR" and not name.startswith("SAGA_")}
    environment |= {"COLUMNS": str(COLUMNS), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "saga", *arguments]
    with subprocess.Popen(
        command, cwd=directory, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        os.close(theirs)
        written = b""
        while some := _read(ours):
            written += some
        child.wait()
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody has it open any more
        return b""


def spans(line: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a line, and how each is styled: by the number of its escape sequence."""
    style = ""
    for text, codes in re.findall(r"([^\x1b]*)(?:\x1b\[([\d;]*)m|$)", line):
        if text:
            yield text, style
        style = "" if codes in ("", "0") else codes


def picture(command: str, text: str) -> str:
    """Return a terminal as SVG."""
    lines = [f"\x1b[1m$ {command}\x1b[0m", *text.rstrip("\n").split("\n")]
    width, height = COLUMNS * _CELL + 32, len(lines) * _LINE + 28
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img">',
        f"<title>{escape(command)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1}" rx="8"/>',
    ]
    for number, line in enumerate(lines):
        cell = 0
        for part, style in spans(line):
            kind = f' class="c{style}"' if style else ""
            x, y, room = 16 + cell * _CELL, 26 + number * _LINE, len(part) * _CELL
            if part.strip():
                drawn.append(f'<text x="{x:g}" y="{y}" textLength="{room:g}"{kind} xml:space="preserve">{escape(part)}</text>')
            cell += len(part)
    return "\n".join([*drawn, "</svg>", ""])


def draw(into: Path) -> None:
    """Draw all captures into a directory."""
    with tempfile.TemporaryDirectory() as directory:
        shop = Path(directory) / "shop"
        subprocess.run([sys.executable, "-m", "saga", "demo", str(shop)], check=True, stdout=subprocess.DEVNULL)
        for name, arguments in CAPTURES.items():
            (into / name).write_text(picture(f"saga {' '.join(arguments)}", seen(arguments, shop)), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(__file__).parent / "_static")
