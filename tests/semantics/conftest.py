"""Each semantic of the design has its tests, in these files under ``tests``:

1. ``semantics/test_reverse_order.py``: undo in reverse order of completion, all of it.
2. ``semantics/test_failures.py``: what an exception is: not done, or unknown. ``semantics/test_doubt.py``: what follows then.
3. ``semantics/test_interrupts.py``, ``semantics/test_ctrl_c.py``, ``semantics/test_interrupts_between_the_lines.py``.
4. ``semantics/test_stragglers.py``: a step beyond its timeout.
5. ``semantics/test_timeout.py``: a saga beyond its own.
6. ``semantics/test_parallel.py``: branches, their views, and their merge.
7. ``durable/test_journal.py``, ``drivers/test_commits_together.py``: what is stored before what runs, in how few commits.
8. ``durable/test_values.py``: values are encoded before they are believed.
9. ``durable/test_leases.py``: one owner.
10. ``durable/test_doubt.py``, ``durable/test_died_anywhere.py``, ``semantics/test_doubt.py``: doubt, and what a recovery makes
    of it.
11. ``crash/test_storage_failures.py``: a storage failure right after an execute.
12. ``semantics/test_one_saga_many_executions.py``: nothing of an execution lives on a saga.
13. ``semantics/test_import.py``: importing does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from saga import Task
from tests.kit import Kit


@pytest.fixture
def make(log: list[str]) -> Callable[..., Task[str]]:
    """Make a task that writes to ``log``: ``make(name, during, during_undo, undo=True, **policies)``."""
    return Kit(in_loop=False, is_async=False, log=log).task
