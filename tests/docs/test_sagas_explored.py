"""The sagas of the guide are explored: what people copy from a page keeps the laws, unless the page shows how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.test_readme import PROJECT, README, blocks

GUIDE: Final = PROJECT / "docs" / "guide"
PAGES: Final = [
    README,
    *(GUIDE / f"{name}.rst" for name in ("async", "declaring", "durability", "failures", "limits", "operations")),
    *(GUIDE / f"{name}.rst" for name in ("tasks", "testing", "workers")),
]

SHOWN_WITH_ITS_MISTAKE: Final = {("README.rst", "place-order: ReserveStock, ChargePayment")}
"""What the page itself explores, and tells of."""

# Runs the blocks of a page as one program, and after each explores the sagas that were run in it, with the input that they had.
# What goes wrong without a fault is what the page is about.
EXPLORER: Final = """
import contextlib, io, json, sys, types
from saga import Context, Saga
from saga.testing import explore

begun = {}

def noted(method):
    def noting(saga, context=None, *args, **kwargs):
        given = dict(context) if type(context) is Context else context
        begun.setdefault(id(saga), (saga, given))
        return method(saga, context, *args, **kwargs)
    return noting

for name in ("execute", "try_execute", "submit", "aexecute"):
    setattr(Saga, name, noted(getattr(Saga, name)))
program = sys.modules["__main__"] = types.ModuleType("__main__")
found = []
with contextlib.redirect_stdout(io.StringIO()):
    for path, line, code in json.load(sys.stdin):
        exec(compile("\\n" * line + code, path, "exec"), program.__dict__)
        noted_here, begun = begun, {}
        for saga, given in noted_here.values():
            if not any(step.transactional for step in saga.plan.steps):
                broken = explore(saga, given, durable=True, check=False).broken
                how = None if broken is None or not broken.faults else f"{broken.broken}, with {broken.faults}"
                found.append((f"{saga.name}: {', '.join(saga.plan.names)}", how))
print(json.dumps(found))
"""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_sagas_of_a_page_break_no_law_but_where_it_shows_that(path: Path, tmp_path: Path) -> None:
    code = [(str(block.path), block.line, block.text) for block in blocks(path) if block.kind == "python"]
    ran = subprocess.run(
        [sys.executable, "-c", EXPLORER],
        input=json.dumps(code),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found
    broken = {(path.name, name): how for name, how in found if how is not None}
    shown = {one for one in SHOWN_WITH_ITS_MISTAKE if one[0] == path.name}
    assert broken.keys() == shown, broken
