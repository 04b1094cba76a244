"""Blocks run once more broken: what may begin, what it is waited for, what it is called."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_RUNS"]

AGAIN = "tests/frontdoors/test_transaction_again"

OF_RUNS = [
    Mutant(
        "what is completed is run again",
        "if last is None or last.status == COMPENSATED:",
        "if last is None or Status(last.status).terminal:",
        AGAIN + " -k completed_is_not",
    ),
    Mutant(
        "the first run is not known where it began without again",
        "        yield 1, first\n",
        "        pass\n",
        AGAIN + " -k began_without_it",
    ),
    Mutant(
        "the last of the runs is whichever is found first",
        "run, last = max(_runs(definition, saga_id, store), key=lambda one: one[0], default=(0, None))",
        "run, last = next(_runs(definition, saga_id, store), (0, None))",
        AGAIN + " -k undone_is_followed",
    ),
    Mutant("a run whose process is gone is left as it is", "            left.run()\n", "", AGAIN + " -k dead_run"),
    Mutant(
        "what is asynchronous is undone where nobody awaits it",
        "    if not plan.asynchronous:\n        return Execution\n    import asyncio\n",
        "    return Execution\n    import asyncio\n",
        AGAIN + " -k dead_run or becomes_asynchronous",
    ),
    Mutant(
        "what is refused in a running loop is claimed before",
        "        drivers(rebuild(definition, found, entries_of(store, found.saga_id)).machine.plan)",
        "        ",
        AGAIN + " -k keep_its_loop_waiting",
    ),
    Mutant(
        "a later run has the keys of the first",
        "self.saga_id = self._binding.saga_id = self._machine.saga_id = ",
        "self.saga_id = self._machine.saga_id = ",
        AGAIN + " -k undone_is_followed",
    ),
    Mutant("what is dead is said to run", '        stands = "dead"\n', "", AGAIN + " -k called_dead"),
]
