"""Tables, ages, texts and bars, as they are shown in terminals of any width; and the shop to play with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga.cli import shown
from saga.cli.commands import COMMANDS
from saga.cli.looking import _COLUMNS

from .conftest import Cli

TEXTS = st.text(st.sampled_from("abc 0\u0301漢字\u202e\n\x1b…é"), max_size=30)
ROWS = st.lists(st.tuples(*[TEXTS.filter(str.strip)] * 2, *[TEXTS] * 5), min_size=1, max_size=5)


def in_terminal(columns: int) -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(shown, "on_terminal", lambda: True)
    patch.setenv("COLUMNS", str(columns))
    patch.setenv("NO_COLOR", "1")
    return patch


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()


@given(ROWS, st.integers(40, 200))
def test_a_table_fits_its_terminal_and_cuts_no_id(rows: list[tuple[str, ...]], columns: int) -> None:
    patch = in_terminal(columns)
    try:
        lines = plain(shown.table(_COLUMNS, rows))
    finally:
        patch.undo()
    least = sum(max(shown.width(shown.one_line(row[at])) for row in rows) + 2 for at in (0, 1, 6))
    if least + 4 * 10 <= columns:
        assert max(map(shown.width, lines)) <= columns
    for row in rows:
        assert any(shown.one_line(row[1]).strip() in line for line in lines), "an id is to be copied"


@given(ROWS)
def test_where_there_is_no_terminal_nothing_is_cut(rows: list[tuple[str, ...]]) -> None:
    lines = plain(shown.table(_COLUMNS, rows))
    assert len(lines) == len(rows) + 1
    for row, line in zip(rows, lines[1:], strict=True):
        assert all(shown.one_line(text).strip() in line for text in row)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172800, "2 d"),
        (1e7, "116 d"),
    ],
)
def test_an_age_is_told_in_a_few_characters(seconds: float, told: str) -> None:
    assert shown.age(seconds) == told


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("漢字", 4), ("e\u0301", 1), ("a\u200db", 2)])
def test_the_width_of_a_text_is_in_cells(text: str, cells: int) -> None:
    assert shown.width(text) == cells


def test_a_paragraph_is_broken_between_words_in_a_terminal_alone() -> None:
    text = "a reason of many words\nthat a person is to read to its end " * 3
    assert "\n" not in shown.paragraph(text, 4)
    patch = in_terminal(50)
    try:
        lines = shown.paragraph(text, 4).splitlines()
    finally:
        patch.undo()
    assert len(lines) > 3
    assert all(line.startswith("    ") and len(line) <= 50 for line in lines)
    assert " ".join(" ".join(line.split()) for line in lines) == " ".join(shown.one_line(text).split())


def test_a_bar_says_how_many_ended_how_and_how_fast(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    patch = in_terminal(100)
    monkeypatch.setattr(shown.sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    try:
        for total in (10, None):
            bar = shown.Progress(total)
            bar.show(5, "4 completed, 1 stuck")
            told = capsys.readouterr().err
            assert ("[##########----------] 5/10  " in told) is (total is not None)
            assert "4 completed, 1 stuck" in told
            bar.clear()
            assert capsys.readouterr().err == "\r\x1b[K"
    finally:
        patch.undo()


def test_the_shop_has_orders_of_every_status_and_says_what_to_try(cli: Cli, here: Path) -> None:
    (here / "shop.py").unlink()
    said = cli("demo", "play")
    assert said.code == 0
    assert {"saga list", "saga worker --once"} <= {line.partition("#")[0].strip() for line in said.out.splitlines()}
    tried = re.findall(r"^  saga (\w+)", said.out, re.MULTILINE)
    assert set(tried) <= COMMANDS.keys()
    assert Path.cwd().name == "play"
    statuses = {line.split()[1] for line in cli("list").out.splitlines()[1:]}
    assert statuses == {"submitted", "running", "paused", "completed", "compensated", "stuck"}
