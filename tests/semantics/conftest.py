"""Each semantic of the design has its tests, in these files under ``tests``:

1. ``semantics/test_reverse_order.py``: undo in reverse order of completion, all of it.
   ``drivers/test_cause.py``: what it is for.
2. ``semantics/test_failures.py``: what an exception is: not done, or unknown. ``semantics/test_doubt.py``: what follows then.
3. ``semantics/test_interrupts.py``, ``semantics/test_ctrl_c.py``, ``semantics/test_interrupts_between_the_lines.py``,
   ``semantics/test_interrupts_at_every_line.py``.
4. ``semantics/test_stragglers.py``: a step beyond its timeout.
   ``drivers/test_compensation_timeout.py``: an undo beyond its own.
5. ``semantics/test_timeout.py``: a saga beyond its own.
6. ``semantics/test_parallel.py``: branches, their views, and their merge.
7. ``durable/test_journal.py``, ``drivers/test_commits_together.py``: what is stored before what runs, in how few commits.
8. ``durable/test_values.py``: values are encoded before they are believed.
9. ``durable/test_leases.py``: one owner.
10. ``durable/test_doubt.py``, ``durable/test_died_anywhere.py``, ``semantics/test_doubt.py``: doubt, and what a recovery makes
    of it.
11. ``crash/test_storage_failures.py``: a storage failure right after an execute.
12. ``semantics/test_one_saga_many_executions.py``: nothing of an execution lives on a saga.
    ``semantics/test_one_context_one_execution.py``: a context or a block is in one execution at a time.
13. ``semantics/test_import.py``: importing does nothing.
14. ``semantics/test_odd_exceptions.py``: whatever an exception does, it is an exception like any other.
15. ``frontdoors/test_not_awaited.py``, ``frontdoors/test_async_where_nobody_awaits.py``: what is not run is not done.
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
