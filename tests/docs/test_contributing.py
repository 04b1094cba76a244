"""What the page for contributors names is there: files, names in them, tests. And its tree of errors is the one there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

import saga.errors

PROJECT: Final = Path(__file__).parents[2]
PAGE: Final = " ".join((PROJECT / "docs" / "contributing.rst").read_text(encoding="utf-8").split())
NODES: Final = sorted(set(re.findall(r"``(tests/[\w/.]+::\w+)``", PAGE)))
FILES: Final = sorted(set(re.findall(r"``((?:saga|tests|docs|benchmarks)/[\w/.]*|setup\.cfg|\.ci/run)``", PAGE)))
#: ``file``: ``name`` or ``name``, ``name``
NAMES: Final = re.findall(r"``(saga/[\w/]+\.py)``: (``\w+``(?:(?:,| and|, and) ``\w+``)*)", PAGE)


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_is_named_exists(node: str) -> None:
    path, _, name = node.partition("::")
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (PROJECT / path).exists(), f"docs/contributing.rst: {path} is not there"


@pytest.mark.parametrize(("path", "names"), NAMES)
def test_a_name_in_a_file_is_there(path: str, names: str) -> None:
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    there |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    missing = set(re.findall(r"``(\w+)``", names)) - there
    assert not missing, f"docs/contributing.rst: {path} has no {missing}"


def test_the_page_names_files_and_tests() -> None:
    assert len(NODES) > 10
    assert len(NAMES) > 10


def test_the_tree_of_errors_is_the_one_there_is() -> None:
    tree = re.findall(r"^ {4}((?:[│ ] {3})*)(?:[├└]── )?(\w+Error|\w+Exception)", saga.errors.__doc__ or "", re.MULTILINE)
    assert sorted(name for _, name in tree) == sorted(saga.errors.__all__), "saga/errors.py: the tree at the top"
    above: list[str] = []
    for line in (saga.errors.__doc__ or "").splitlines():
        found = re.match(r" {4}((?:[│ ] {3})*)([├└]── )?(\w+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4 + bool(found[2])
        above[depth:] = [found[3]]
        base = getattr(saga.errors, found[3]).__mro__[1].__name__
        assert base == (above[-2] if depth else "Exception"), f"saga/errors.py: the tree puts {found[3]} in a wrong place"


def test_every_folder_of_tests_is_told() -> None:
    folders = {path.name for path in (PROJECT / "tests").iterdir() if any(path.glob("*.py"))}
    untold = {name for name in folders if f"``{name}``" not in PAGE}
    assert not untold, f"docs/contributing.rst: {untold} are not among the tests' folders"
