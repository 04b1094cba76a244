"""The pictures in the documentation are what is drawn today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

from saga.events import Status
from saga.machine.state import TRANSITIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pictures_are_up_to_date(tmp_path: Path) -> None:
    runpy.run_path(str(DOCS / "pictures.py"))["draw"](tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == ["place-order-failed.svg", "place-order.svg", "states.svg"]
    for path in drawn:
        committed = (DOCS / "_static" / path.name).read_text(encoding="utf-8")
        assert path.read_text(encoding="utf-8") == committed, "run python docs/pictures.py"


def test_the_captures_of_the_terminal_are_up_to_date_but_for_times(tmp_path: Path) -> None:
    def told(path: Path) -> list[str]:
        return [
            re.sub(r"\d+", "0", " ".join(line.split()))
            for line in re.findall(r">([^<]*)</text>", path.read_text(encoding="utf-8"))
        ]

    runpy.run_path(str(DOCS / "captures.py"))["draw"](tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert {path.name for path in drawn} == {path.name for path in (DOCS / "_static").glob("terminal-*.svg")}
    for path in drawn:
        assert told(path) == told(DOCS / "_static" / path.name), "run python docs/captures.py"


def test_the_statuses_are_drawn_with_all_their_transitions() -> None:
    drawn = runpy.run_path(str(DOCS / "pictures.py"))
    changes = {(one.before, one.after) for one in TRANSITIONS}
    assert changes == set(drawn["_LINES"]), "docs/pictures.py: _LINES has a line for each change of status, and no other"
    assert set(Status) == set(drawn["_PLACES"]), "docs/pictures.py: _PLACES has a place for each status"


def test_every_picture_is_well_formed() -> None:
    for path in (DOCS / "_static").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
