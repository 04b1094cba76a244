"""What observers are told of broken: their stints, what is carried along, and what stands on these."""

from __future__ import annotations

from . import DRIVERS, Mutant

__all__ = ["OF_OBSERVING"]

STINTS = DRIVERS + "stints"

OF_OBSERVING = [
    Mutant(
        "a stint has no observer of its own",
        '[_asked(one, "stint", _observer, info) or one for one in observers]',
        "list(observers)",
        STINTS + " -k all_that_happens",
    ),
    Mutant(
        "a stint ends with each record of a stream",
        "        if self.parked or self.abandoned or self.machine.ended:\n            self.stint_over = True\n",
        "        if True:\n            self.stint_over = True\n",
        STINTS + " -k each_front_door",
    ),
    Mutant(
        "a stint ends as often as it is looked at",
        "            self.stint_over = True\n",
        "",
        STINTS + " -k each_front_door",
    ),
    Mutant(
        "a stint whose straggler is undone later never ends",
        "        assert self.ended is not None\n        self.end_stint()\n",
        "        assert self.ended is not None\n",
        STINTS + " -k straggler",
    ),
    Mutant(
        "nobody is told what broke a stint off",
        "(sys.exception() or self.unstored or self.interrupt) if self.abandoned else None",
        "None",
        STINTS + " -k loses_the_lease",
    ),
    Mutant(
        "a recovery carries nothing along",
        "recover(machine, owner(), row.epoch, time.time(), execution.carried())",
        "recover(machine, owner(), row.epoch, time.time())",
        STINTS + " -k waits_in_its_store",
    ),
    Mutant(
        "what is carried along may be taken for a value",
        "_to_json(list(carried.items()))",
        "_to_json(dict(carried))",
        STINTS + " -k is_any_text",
    ),
    Mutant(
        "what an observer has carried along need be no texts",
        "    if not all(type(text) is str for pair in found.items() for text in pair):\n",
        "    if False:\n",
        STINTS + " -k does_wrong",
    ),
]
