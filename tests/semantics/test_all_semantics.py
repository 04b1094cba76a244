"""The map of the semantics, in ``conftest.py``, leaves nothing out and names what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
MAP = ast.get_docstring(ast.parse((HERE / "conftest.py").read_text(encoding="utf-8"))) or ""


def test_every_semantic_has_its_tests_and_they_exist() -> None:
    lines = re.findall(r"^(\d+)\. (.+)$", MAP, re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1))
    for number, line in lines:
        files = re.findall(r"``([^`]+)``", line)
        assert files, number
        for file in files:
            assert (HERE.parent / file).is_file(), file


def test_every_file_here_belongs_to_a_semantic() -> None:
    here = {f"semantics/{path.name}" for path in HERE.glob("test_*.py")} - {f"semantics/{Path(__file__).name}"}
    assert here <= set(re.findall(r"``([^`]+)``", MAP))
