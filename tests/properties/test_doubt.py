"""Whatever goes wrong in a flow, and wherever its process dies: what a result says of each step's effect is what is there.

Cases are random (:mod:`tests.properties.doubtkit.cases`), and others in each run. ``SAGA_DOUBT`` says how many there are in
each part; ``SAGA_DOUBT_SEED`` gives the seed of a run, or of the one case that a failure names.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import threading
import traceback
from pprint import pformat

import pytest

from tests.kit import PATIENCE
from tests.properties.doubtkit.cases import Case, case_of
from tests.properties.doubtkit.ledger import BrokenError
from tests.properties.doubtkit.runs import Run
from tests.properties.doubtkit.shrink import shrunk

SEED = os.environ.get("SAGA_DOUBT_SEED") or secrets.token_hex(4)
ONE = re.fullmatch(r".+/\d+/\d+", SEED) is not None
CASES = 1 if ONE else int(os.environ.get("SAGA_DOUBT", "2000"))
PARTS = 5


class Search:
    """Runs one case after the other, in a thread, until one breaks a law.

    :ivar seed: that of the case which runs; :ivar runs: how many there were; :ivar failure: what is told of the one that fails.
    """

    def __init__(self, part: int) -> None:
        self.part = part
        self.seed = ""
        self.runs = 0
        self.failure: str | None = None
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self) -> None:
        with asyncio.Runner() as loop:
            for number in range(CASES):
                self.seed = SEED if ONE else f"{SEED}/{self.part}/{number}"
                broken = self.broken_law(case_of(self.seed), loop)
                if broken is not None:
                    self.failure = self.told(*broken, loop)
                    return

    def broken_law(self, case: Case, loop: asyncio.Runner) -> tuple[str, str] | None:
        """Run a case. Return the law that it breaks, where it does, and what happened."""
        self.runs += 1
        run = Run(case, loop)
        try:
            run.go()
        except Exception as error:
            law = str(error) if isinstance(error, BrokenError) else "".join(traceback.format_exception(error))
            return law, run.story()
        return None

    def told(self, law: str, story: str, loop: asyncio.Runner) -> str:
        """Tell of a failure by the smallest case that breaks the same law."""
        last = (law, story)

        def fails(case: Case) -> bool:
            nonlocal last
            for _ in range(3):  # what runs beside one another may end in another order
                broken = self.broken_law(case, loop)
                if broken is not None and kind_of(broken[0]) == kind_of(law):
                    last = broken
                    return True
            return False

        case = shrunk(case_of(self.seed), fails)
        return f"{last[0]}\nSAGA_DOUBT_SEED={self.seed}\n{pformat(case, width=150, compact=True)}\n{last[1]}"

    def result(self) -> str | None:
        """Wait for the end. Return what is told of a failure."""
        runs = -1
        while self.thread.is_alive() and runs < self.runs:
            runs = self.runs
            self.thread.join(PATIENCE)
        return f"nothing hangs, but SAGA_DOUBT_SEED={self.seed}" if self.thread.is_alive() else self.failure


def kind_of(law: str) -> str:
    """A law without the names of steps and other particulars."""
    return re.sub(r"(n\d+/)*s\d+", "a step", law).partition(":")[0]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_said_of_effects_is_true_whatever_goes_wrong(part: int) -> None:
    failure = Search(part).result()
    if failure is not None:
        pytest.fail(failure, pytrace=False)
