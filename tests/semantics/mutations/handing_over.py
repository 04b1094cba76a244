"""Handing over broken: what is held, handed back, or paused by a person, and who goes on with it."""

from __future__ import annotations

from . import DRIVERS, DURABLE, Mutant

__all__ = ["OF_HANDING_OVER"]

HANDED_BACK = DRIVERS + "handing_back"
LEAVING = DRIVERS + "leaving"
PAUSED = DURABLE + "paused"
ROWS = "tests/unit/machine/test_table"

OF_HANDING_OVER = [
    Mutant(
        "a signal's handler waits for a lock that the thread which it struck has",
        "            start_new_thread(work, ())  # threading's own thread has locks, too\n",
        "            work()\n",
        DURABLE + "worker -k where_a_lock_is_held",
    ),
    Mutant(
        "what has a store and is told to leave right after it has looked is undone",
        "driver.journal is not None or _waits_for(driver) is None",
        "_waits_for(driver) is None",
        LEAVING + " -k right_after",
    ),
    Mutant(
        "who is told to stop waits on for what could be left",
        "if driver.recovers or driver.leaving else None",
        "if driver.recovers else None",
        LEAVING + " -k left_in_the_store",
    ),
    Mutant(
        "who is told to stop, and has no store, waits on",
        "        elif not (self.leaving and gives_up(self)):\n            self._await_one()",
        "        else:\n            self._await_one()",
        LEAVING + " -k without_a_store",
    ),
    Mutant(
        "a loop that is told to stop while it waits does not hear it",
        "            if self.mail or self.leaving:\n",
        "            if self.mail:\n",
        LEAVING + " -k left_in_the_store",
    ),
    Mutant(
        "who is told to stop waits for others",
        "        if stop is not None and stop.is_set():\n            return load(",
        "        if False:\n            return load(",
        LEAVING + " -k others_keep_back",
    ),
    Mutant(
        "what is held goes on with what follows",
        "        if not state.held:\n            DECISIONS",
        "        if True:\n            DECISIONS",
        HANDED_BACK,
    ),
    Mutant("an attempt that is due while it is held is made", "if state.held:  # who takes", "if False:  # who takes", ROWS),
    Mutant("what is held is undone all the same", "or state.held or self.deciding:", "or self.deciding:", ROWS),
    Mutant("nobody decides what came while it was held", "    machine.decide_late(undecided, at)\n", "", HANDED_BACK),
    Mutant(
        "a step that returned late while it was held has timed out",
        ' and not getattr(event, "running", False)',
        "",
        ROWS,
    ),
    Mutant(
        "what was decided is decided again when it is held once more",
        "            found.clear()\n            held = False\n",
        "            held = False\n",
        HANDED_BACK,
    ),
    Mutant(
        "branches that ended while it was held are merged twice",
        "if not any(type(command) is Merge and command.group is group for command in self.commands):",
        "if True:",
        HANDED_BACK,
    ),
    Mutant(
        "what is held is handed back while a call runs",
        "driver.machine.state.held and not driver.beside and not driver.machine.ended",
        "driver.machine.state.held and not driver.machine.ended",
        HANDED_BACK,
    ),
    Mutant(
        "what was taken up and not begun makes a call before it is handed back",
        "    if driver.journal is None:\n        return False\n",
        "    if True:\n        return False\n",
        HANDED_BACK,
    ),
    Mutant(
        "a block is handed back",
        "if self.journal is not None and not self.definition.plan.open:",
        "if self.journal is not None:",
        HANDED_BACK,
    ),
    Mutant(
        "a recovery that hands back counts as one that was tried",
        "self._keeper.give_back(self.lease, untried=untried)",
        "self._keeper.give_back(self.lease)",
        HANDED_BACK,
    ),
    # -- paused -------------------------------------------------------------------------------------------------------
    Mutant("a pause is forgotten when its process dies", "    if machine.pause(at):\n        return\n", "", PAUSED),
    Mutant(
        "what is undone is paused",
        "if action is None or self.state.status is not RUNNING:",
        "if action is None:",
        ROWS,
    ),
    Mutant(
        "resuming decides about what a person is asked",
        "if state.status is RUNNING and not paused:",
        "if state.status is RUNNING:",
        ROWS,
    ),
    Mutant("a block is paused", "    if standing.block:", "    if False:", ROWS),
    Mutant(
        "what is paused is not given back",
        "_status not in (Status.SUBMITTED, Status.RUNNING, Status.COMPENSATING)",
        "_status in (Status.COMPLETED, Status.COMPENSATED, Status.STUCK)",
        PAUSED,
    ),
    Mutant(
        "memory: what has unread messages rests",
        'RESTING = (*ENDED, "paused")',
        "RESTING = ENDED",
        PAUSED,
    ),
    Mutant("who acts on what nobody runs does not pause it", 'if acted.action == "pause":', "if False:", PAUSED),
]
