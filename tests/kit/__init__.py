"""The kit: what tests of several folders share, each thing once. Fixtures are in the ``conftest.py`` files, built on this.

``waiting``: gates, and waits for what another thread, process or coroutine does. ``tasks``: tasks and functions that note what
is called. ``runners``: sagas of flows, run by either driver, and what is watched of them. ``stores``: stores that are watched,
held or full, and journals cut off as a crash would. ``crashes``: steps with effects, and what is found wherever their process
died. ``journals``: what every journal and every ending must be. By name only: ``recoveries``, ``blocks`` and ``databases``, for
executions that are left to a recovery, for blocks in either form, and for stores of every kind; ``histories`` and ``scripts``,
random ones, and ``profiles``, how hypothesis searches; ``engine``, which makes calls with outcomes alone; ``processes``, which
are started and killed; ``relays``, between clients and a server; ``ciphers``, which encrypt.

No test is here, and nothing that only one file needs.
"""

from __future__ import annotations

from tests.kit.crashes import Crash, Effects, World, crash_everywhere, left_at, probe
from tests.kit.journals import check_journal, check_truth, journal_of, outcomes, told
from tests.kit.runners import KITS, Background, Calls, Kit, Watch, on, saga_of
from tests.kit.stores import (
    FullStore,
    HeldStore,
    Watched,
    Write,
    expired,
    found_after,
    in_memory_or_sqlite,
    outlive_its_lease,
    until_nothing_is_held,
    until_renewed,
)
from tests.kit.tasks import Odd, failing_times, failures, undone_last_first
from tests.kit.waiting import LONG, PATIENCE, SHORT, Gate, auntil, background, in_a_child, ticks, until, within

__all__ = [
    "KITS",
    "LONG",
    "PATIENCE",
    "SHORT",
    "Background",
    "Calls",
    "Crash",
    "Effects",
    "FullStore",
    "Gate",
    "HeldStore",
    "Kit",
    "Odd",
    "Watch",
    "Watched",
    "World",
    "Write",
    "auntil",
    "background",
    "check_journal",
    "check_truth",
    "crash_everywhere",
    "expired",
    "failing_times",
    "failures",
    "found_after",
    "in_a_child",
    "in_memory_or_sqlite",
    "journal_of",
    "left_at",
    "on",
    "outcomes",
    "outlive_its_lease",
    "probe",
    "saga_of",
    "ticks",
    "told",
    "undone_last_first",
    "until",
    "until_nothing_is_held",
    "until_renewed",
    "within",
]
