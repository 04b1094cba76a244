"""Break the engine by hand, one semantic at a time, and see that the tests notice.

``python tests/semantics/mutants.py --check`` sees in a second that no mutant has *moved*: that the text it replaces is where it
was, and that there are such tests. CI runs that. One that has moved stands for code that was rewritten: write it anew, for the
code as it is then, in ``tests/semantics/mutations``, which has them room by room.

``python tests/semantics/mutants.py [part of a name ...]`` tries them, or those named so; ``--room web`` those of a room, or of
several. It ends with status 0 where every one was noticed and the tests pass on the engine as it is. All of them take an hour
on two busy cores, so CI leaves that to whoever changes the machine, a driver, a journal or a store. Each works on a copy of the
package and the tests in a temporary folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from mutations import Mutant
from mutations.alerts import OF_ALERTS
from mutations.blobs import OF_BLOBS
from mutations.cli import OF_THE_COMMAND_LINE
from mutations.debugging import OF_DEBUGGING
from mutations.doubt import OF_DOUBT
from mutations.drivers import OF_DRIVERS
from mutations.durable import OF_DURABLE
from mutations.enlisted import OF_ENLISTED
from mutations.facade import OF_FACADE
from mutations.flow import OF_FLOW
from mutations.handing_over import OF_HANDING_OVER
from mutations.in_line import OF_THE_LINE
from mutations.looking import OF_LOOKING
from mutations.machine import OF_MACHINE
from mutations.observing import OF_OBSERVING
from mutations.people import OF_PEOPLE
from mutations.recovery import OF_RECOVERY
from mutations.retries import OF_RETRIES
from mutations.runs import OF_RUNS
from mutations.sqlite import OF_SQLITE
from mutations.storage import OF_STORAGE
from mutations.testing import OF_TESTING
from mutations.told import OF_WHAT_IS_TOLD
from mutations.transactional import OF_TRANSACTIONS
from mutations.units import OF_UNITS
from mutations.waiting import OF_WAITING
from mutations.web import OF_THE_PAGE

HOME = Path(__file__).resolve().parents[2]
ROOMS: dict[str, list[Mutant]] = {
    "flow": OF_FLOW,
    "machine": OF_MACHINE,
    "retries": OF_RETRIES,
    "units": OF_UNITS,
    "doubt": OF_DOUBT,
    "observing": OF_OBSERVING,
    "people": OF_PEOPLE,
    "handing_over": OF_HANDING_OVER,
    "transactional": OF_TRANSACTIONS,
    "drivers": OF_DRIVERS,
    "durable": OF_DURABLE,
    "blobs": OF_BLOBS,
    "recovery": OF_RECOVERY,
    "storage": OF_STORAGE,
    "sqlite": OF_SQLITE,
    "in_line": OF_THE_LINE,
    "enlisted": OF_ENLISTED,
    "facade": OF_FACADE,
    "runs": OF_RUNS,
    "testing": OF_TESTING,
    "told": OF_WHAT_IS_TOLD,
    "looking": OF_LOOKING,
    "debugging": OF_DEBUGGING,
    "cli": OF_THE_COMMAND_LINE,
    "waiting": OF_WAITING,
    "web": OF_THE_PAGE,
    "alerts": OF_ALERTS,
}
"""The mutants of each file of ``mutations``."""
MUTANTS = [mutant for room in ROOMS.values() for mutant in room]
LONGEST = 60  # seconds that the tests of one mutant may take; after that they are taken to hang


@cache
def sources() -> dict[str, str]:
    """Return the package's files, by their path from the project's folder."""
    return {path.relative_to(HOME).as_posix(): path.read_text(encoding="utf-8") for path in (HOME / "saga").rglob("*.py")}


def place(mutant: Mutant) -> str:
    """Return the file that a mutant changes.

    :raises LookupError: its text, or one of its tests, is not where it was.
    """
    texts = {mutant.file: sources().get(mutant.file, "")} if mutant.file else sources()
    found = [file for file, text in texts.items() for _ in range(text.count(mutant.old))]
    if len(found) != 1:
        raise LookupError(f"the old text is found {len(found)} times")
    file, _, chosen = mutant.tests.partition(" -k ")
    tests = HOME / f"{file}.py"
    if not tests.is_file():
        raise LookupError(f"there is no {file}.py")
    part = chosen.partition(" ")[0]
    if not re.search(rf"^(async )?def test\w*{part}", tests.read_text(encoding="utf-8"), re.MULTILINE):
        raise LookupError(f"no test of {file}.py has {part!r} in its name")
    return found[0]


def tried(mutant: Mutant | None, tests: str) -> str:
    """Run tests on a copy that ``mutant`` has changed. Return ``noticed`` or ``SURVIVED``, with what else is to be said."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in ("saga", "tests"):
            shutil.copytree(HOME / folder, home / folder, ignore=ignored)
        shutil.copy(HOME / "setup.cfg", home)
        if mutant is not None:
            try:
                file = place(mutant)
            except LookupError as why:
                return f"MOVED ({why})"
            (home / file).write_text(sources()[file].replace(mutant.old, mutant.new), encoding="utf-8")
        file, _, chosen = tests.partition(" -k ")
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"{file}.py", "-k", chosen]
        # CI: a test whose server cannot be started fails, where it would be skipped, which would tell nothing.
        limit = LONGEST if mutant is not None else 10 * LONGEST
        environment = {**os.environ, "CI": "1", "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return "noticed (it hangs)"
        return {0: "SURVIVED", 1: "noticed"}.get(ended.returncode, f"SURVIVED? pytest ended with {ended.returncode}")


def together(chosen: list[Mutant]) -> list[str]:
    """Return the tests of mutants, those of a file in one expression."""
    of_files: dict[str, dict[str, None]] = {}
    for mutant in chosen:
        file, _, expression = mutant.tests.partition(" -k ")
        of_files.setdefault(file, {})[expression] = None
    return [file if "" in some else f"{file} -k ({') or ('.join(some)})" for file, some in of_files.items()]


def moved() -> bool:
    """Say which mutants have moved."""
    told = []
    for mutant in MUTANTS:
        try:
            place(mutant)
        except LookupError as why:
            told.append(f"MOVED      {mutant.name}  [{mutant.tests}]: {why}")
    names = [mutant.name for mutant in MUTANTS]
    told += [f"TWICE      {name}" for name in sorted({name for name in names if names.count(name) > 1})]
    print("\n".join(told) or f"{len(MUTANTS)} mutants, and none has moved")
    return bool(told)


def survive(chosen: list[Mutant]) -> bool:
    """Try mutants and say what became of each. Return whether any is not noticed, or its tests tell nothing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = together(chosen)
        unbroken = pool.map(lambda some: tried(None, some), tests)
        failing = [some for some, told in zip(tests, unbroken, strict=True) if told != "SURVIVED"]
        if failing:
            print(f"these tests fail on the engine as it is, so they tell nothing: {', '.join(failing)}")
            return True
        unnoticed = False
        for mutant, told in zip(chosen, pool.map(lambda one: tried(one, one.tests), chosen), strict=True):
            print(f"{told:<10} {mutant.name}  [{mutant.tests}]", flush=True)
            unnoticed = unnoticed or not told.startswith("noticed")
    return unnoticed


def main(wanted: list[str]) -> int:
    if wanted == ["--check"]:
        return int(moved())
    if wanted[:1] == ["--room"]:
        unknown = [room for room in wanted[1:] if room not in ROOMS]
        if unknown or not wanted[1:]:
            print(f"there is no room {', '.join(unknown) or 'without a name'}; rooms: {', '.join(ROOMS)}")
            return 2
        return int(survive([mutant for room in wanted[1:] for mutant in ROOMS[room]]))
    return int(survive([mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
