"""Break the engine by hand, one semantic at a time, and see that the tests notice.

Run it as ``python tests/semantics/mutants.py [part of a name ...]``; it takes about a minute and ends with status 0 where
every mutant was noticed and the tests pass on the engine as it is. Each works on a copy of the package and the tests in a
temporary folder. A mutant whose old text is not found exactly once in the package is reported as *moved*: the engine was
rewritten there, so write the mutant anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HOME = Path(__file__).resolve().parents[2]
SEMANTICS, PROPERTIES = "tests/semantics/test_", "tests/properties/test_"


class Mutant(NamedTuple):
    """What is broken, the text that does it (once in the package), what takes its place, and the tests that must notice."""

    name: str
    old: str
    new: str
    tests: str


MUTANTS = [
    Mutant(
        "undo in forward order",
        "self.undo[-1]",
        "self.undo[0]",
        SEMANTICS + "01_reverse_order",
    ),
    Mutant(
        "undo in forward order while nobody looks",
        "for index in reversed(self.undo)]",
        "for index in self.undo]",
        SEMANTICS + "01_reverse_order",
    ),
    Mutant(
        "stop at the first failing compensation",
        "not (self.unfinished_undo and self.stop_on_compensation_failure)",
        "not self.unfinished_undo",
        SEMANTICS + "01_reverse_order",
    ),
    Mutant(
        "call it compensated though an undo failed",
        "if self.unfinished_undo or self.asked:\n            self.record",
        "if self.asked:\n            self.record",
        SEMANTICS + "01_reverse_order",
    ),
    Mutant(
        "compensate the failing step",
        "elif (step.compensate_on_failure or event.executed) and step.compensates:",
        "elif step.compensates:",
        SEMANTICS + "02_failures",
    ),
    Mutant(
        "one attempt too many",
        "return attempt < self.max_attempts and",
        "return attempt <= self.max_attempts and",
        SEMANTICS + "02_failures",
    ),
    Mutant(
        "a key of its own for every attempt",
        'return f"{self.saga_id}/{self.name}"',
        'return f"{self.saga_id}/{self.name}/{self.attempt}"',
        SEMANTICS + "02_failures",
    ),
    Mutant(
        "swallow an interrupt",
        "if execution.interrupt is not None:\n            execution.interrupt.add_note(result.report())",
        "if False:\n            execution.interrupt.add_note(result.report())",
        SEMANTICS + "03_interrupts",
    ),
    Mutant(
        "an interrupt is not in doubt",
        "if event.in_doubt:\n            self._doubt(step)",
        "if event.in_doubt:\n            pass",
        SEMANTICS + "03_interrupts",
    ),
    Mutant(
        "skip or retry an interrupt",
        "elif (event.in_doubt or event.executed) and not self.past_pivot:",
        "elif event.executed:",
        SEMANTICS + "03_interrupts",
    ),
    Mutant(
        "an interrupt ends the driver",
        "                struck = error\n",
        "                raise\n",
        SEMANTICS + "03_ctrl_c",
    ),
    Mutant(
        "compensate a straggler before it ends",
        "self.stragglers.add(step.index)",
        "self._doubt(step)",
        SEMANTICS + "04_stragglers",
    ),
    Mutant(
        "terminal with a straggler open",
        "        if self.stragglers:\n            return\n",
        "",
        SEMANTICS + "04_stragglers",
    ),
    Mutant(
        "retry beside a straggler",
        "elif not event.running:\n            self._retry",
        "else:\n            self._retry",
        SEMANTICS + "04_stragglers",
    ),
    Mutant(
        "a given-up straggler's changes are seen",
        "        if given_up:\n            return view\n",
        "",
        SEMANTICS + "04_stragglers",
    ),
    Mutant(
        "the deadline ends compensations",
        "if self.status.terminal or self.past_pivot or self.went_through:\n            return\n"
        "        error = SagaTimeoutError",
        "self.undoing.clear()\n        error = SagaTimeoutError",
        SEMANTICS + "05_deadline",
    ),
    Mutant(
        "the deadline waits for running steps",
        "self.record(StepTimedOut(step.name, self.attempts.get(index, 1), at, elapsed, error))",
        "pass",
        SEMANTICS + "05_deadline",
    ),
    Mutant(
        "branches share a view",
        "self._scope(_parent(parents[scope]))._fork()",
        "self._scope(_parent(parents[scope]))",
        SEMANTICS + "06_parallel",
    ),
    Mutant(
        "branches share containers",
        "view.__dict__.update((key, _isolate(value, memo)) for key, value in self.__dict__.items())",
        "view.__dict__.update(self.__dict__)",
        SEMANTICS + "06_parallel",
    ),
    Mutant(
        "no conflict is one",
        "if key in changed and not _same(changed[key][1], value):",
        "if False:",
        SEMANTICS + "06_parallel",
    ),
    Mutant(
        "merge in any order",
        "zip(group.names, views, strict=True)",
        "reversed(list(zip(group.names, views, strict=True)))",
        SEMANTICS + "06_parallel",
    ),
    Mutant(
        "undo while siblings run",
        "if self.open or self.status.terminal:",
        "if self.status.terminal:",
        SEMANTICS + "06_parallel",
    ),
    Mutant(
        "state on the saga",
        "context._begin(plan, saga_id)",
        "self.context = context\n        context._begin(plan, saga_id)",
        SEMANTICS + "12_one_saga_many_executions",
    ),
    Mutant(
        "one id for all",
        "saga_id = os.urandom(16).hex()",
        'saga_id = "id"',
        SEMANTICS + "12_one_saga_many_executions",
    ),
    Mutant(
        "import configures logging",
        "from saga.context import Context\nfrom saga.events import Status, StepStatus\n",
        "import logging\nlogging.basicConfig()\nfrom saga.context import Context\nfrom saga.events import Status, StepStatus\n",
        SEMANTICS + "13_import",
    ),
    Mutant(
        "an attempt after the saga gave up",
        "elif step.index in self.waiting and self.status is Status.RUNNING",
        "elif True",
        PROPERTIES + "machine_flows",
    ),
    Mutant(
        "compensations are not retried",
        "if step.compensation_retry.allows(event.attempt, event.error):",
        "if False:",
        PROPERTIES + "machine_sequences",
    ),
    Mutant(
        "state that no event tells",
        "policy = step.compensation_retry if compensation else step.retry",
        "policy = step.compensation_retry if compensation else step.retry\n        self.attempts[step.index] = attempt",
        PROPERTIES + "machine_sequences",
    ),
    Mutant(
        "a late success is owed no undo",
        "        if step.compensates:\n            self.undo.append(index)\n",
        "        if step.compensates and index not in self.skipped:\n            self.undo.append(index)\n",
        SEMANTICS + "04_stragglers",
    ),
    Mutant(
        "removed keys come back",
        "changes.update((key, _MISSING) for key in base if key not in now)",
        "pass",
        PROPERTIES + "context_views",
    ),
]


def check(mutant: Mutant) -> str:
    """Return ``noticed``, ``SURVIVED`` or ``MOVED``."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in ("saga", "tests"):
            shutil.copytree(HOME / folder, home / folder, ignore=ignored)
        shutil.copy(HOME / "setup.cfg", home)
        if mutant.old:
            found = [path for path in (home / "saga").rglob("*.py") for _ in range(path.read_text().count(mutant.old))]
            if len(found) != 1:
                return f"MOVED (the old text is found {len(found)} times)"
            found[0].write_text(found[0].read_text().replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", f"{mutant.tests}.py"]
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            return "noticed (it hangs)"
        return {0: "SURVIVED", 1: "noticed"}.get(ended.returncode, f"SURVIVED? pytest ended with {ended.returncode}")


def main(wanted: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not wanted or any(part in mutant.name for part in wanted)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = sorted({mutant.tests for mutant in chosen})
        unbroken = pool.map(check, [Mutant("", "", "", name) for name in tests])
        failing = [name for name, told in zip(tests, unbroken, strict=True) if told != "SURVIVED"]
        if failing:
            print(f"these tests fail on the engine as it is, so they tell nothing: {', '.join(failing)}")
            return 1
        outcomes = dict(zip(chosen, pool.map(check, chosen), strict=True))
    for mutant, outcome in outcomes.items():
        print(f"{outcome:<10} {mutant.name}  [{mutant.tests}]")
    return 0 if all(outcome.startswith("noticed") for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
