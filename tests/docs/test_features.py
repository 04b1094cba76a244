"""Each feature on the features page is shown by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NODES = re.findall(r"``(tests/[^`]+)``", (PROJECT / "docs" / "features.rst").read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", sorted(set(NODES)))
def test_the_test_that_shows_a_feature_exists(node: str) -> None:
    path, _, name = node.partition("::")
    name, _, parameter = name.partition("[")
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    if parameter:  # a page of the documentation
        assert (PROJECT / parameter.removesuffix("]")).is_file()


def test_every_row_names_a_test() -> None:
    page = (PROJECT / "docs" / "features.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - (?!there$|what$)", page, re.MULTILINE)
    assert len(rows) == len(NODES)
