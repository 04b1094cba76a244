"""The programs of other libraries on the pages "coming from": each prints what its page says, where it can be run.

``pip install 'saga-tasks[test]'`` installs the libraries that have a package. The program for py-saga-orchestration needs a
clone of it: ``PY_SAGA_ORCHESTRATION`` is its folder. Its module is called ``saga``, as ours is, so it runs alone.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "coming-from"
NEEDS = {
    "saga-framework-python": "saga",  # a program written to its README needs nothing but this package
    "simple-saga": "simple_saga",
    "spakky-saga": "spakky.saga",
    "python-cqrs": "cqrs.saga",
}


def said(name: str) -> str:
    """What the page says right after the program."""
    page = (PAGES / f"{name}.rst").read_text(encoding="utf-8")
    found = re.search(
        r"literalinclude:: theirs/\S+\n   :language: python\n\n\.\. code-block:: none\n\n((?: {4}.*\n|\n)+)", page
    )
    assert found is not None
    return textwrap.dedent(found[1]).strip()


def prints_what_its_page_says(name: str, **environment: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(PAGES / "theirs" / f"{name}.py")],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(".*?".join(map(re.escape, said(name).split("..."))), ran.stdout.strip(), re.DOTALL), ran.stdout


@pytest.mark.filterwarnings("ignore:'typing.ByteString':DeprecationWarning")  # python-cqrs asks for it; Python 3.15 says so
@pytest.mark.parametrize("name", NEEDS)
def test_a_program_of_another_library_prints_what_its_page_says(name: str) -> None:
    package = NEEDS[name]
    top = package.partition(".")[0]
    if importlib.util.find_spec(top) is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} is not installed: pip install 'saga-tasks[test]'")
    prints_what_its_page_says(name)


def test_the_program_of_py_saga_orchestration_prints_what_its_page_says() -> None:
    folder = os.environ.get("PY_SAGA_ORCHESTRATION")
    if folder is None:
        pytest.skip("py-saga-orchestration has no package: set PY_SAGA_ORCHESTRATION to a clone of it")
    prints_what_its_page_says("py-saga-orchestration", PYTHONPATH=folder, PYTHONSAFEPATH="1")


def test_every_page_has_a_program_and_every_program_a_page() -> None:
    pages = {path.stem for path in PAGES.glob("*.rst")} - {"index"}
    assert pages == {path.stem for path in (PAGES / "theirs").glob("*.py")} == {*NEEDS, "py-saga-orchestration"}
