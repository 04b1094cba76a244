"""What is in a store, in numbers: how it is asked in one statement, and what its rows say. Nothing is executed here.

Each row says what it tells of, and has up to three texts and a number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from saga.storage import rules
from saga.storage.columns import counts_of
from saga.storage.records import Figures, StoredExecution, StoredWorker

__all__ = ["LOOKED_AT", "OPEN", "TOLD", "asking", "figures_of", "figures_of_rows", "free"]

OPEN: Final = (*rules.CLAIMABLE, "paused", "stuck")
"""Statuses of what has not ended."""

LOOKED_AT: Final = 100
"""Executions of a status (of each version, where a store asks so) that are looked at, at most, for the one that was left alone
for the longest time: it costs the same however many are due. Of what was begun they are those due for the longest, so that none
that waits for a time or a signal is passed over. Of what was submitted they came first, whatever their priority."""

TOLD: Final = rules.END_OF_TIME
"""When what is stuck is due for somebody to be told of it, once somebody was."""

_OF_INDEX: Final = f"status NOT IN {rules.ENDED!r}"
"""Of what is in an index: a statement that is to use it says so."""


def free(now: str) -> str:
    """Return the condition that somebody could go on with an execution that nobody runs."""
    called = f"status = 'submitted' AND coalesce(called_until, 0) > {now}"
    return f"status IN {rules.CLAIMABLE!r} AND lease_until <= {now} AND NOT ({called})"


def asking(
    saga: str, worker: str, counted: str, left: str, now: str, latest: str, begun: Callable[[str, str], tuple[str, str]]
) -> str:
    """Return the statement for SQLite or PostgreSQL.

    :param saga: the table of executions.
    :param worker: the table of workers.
    :param counted: what counts them by name, status and cause.
    :param left: what gives name, version and fingerprint of those that are free.
    :param now: the time.
    :param latest: the function that returns the greatest of several numbers.
    :param begun: what leads to what is due of a status: told that and the condition, it returns a number, and from where it is.
    """
    parts = [
        f"SELECT 'now', NULL, NULL, NULL, {now}",
        counted,
        left,
        f"SELECT 'worker', definitions, NULL, NULL, until FROM {worker} WHERE until > {now}",
    ]
    for status in OPEN:
        for column in ("created", "progressed"):
            found = f"(SELECT min({column}) FROM {saga} WHERE {_OF_INDEX} AND status = '{status}')"
            parts.append(f"SELECT '{column}', '{status}', NULL, NULL, {found}")
    since, due = f"{latest}(due, opens, updated)", f"{free(now)} AND due <= {now} AND opens <= {now}"
    submitted, *others = rules.CLAIMABLE
    waiting = (
        f"(SELECT due, opens, updated FROM {saga} WHERE {_OF_INDEX} AND status = '{submitted}' AND {due}"
        f" ORDER BY progressed LIMIT {LOOKED_AT}) AS waiting"
    )
    parts.append(f"SELECT 'due', '{submitted}', NULL, NULL, min({since}) FROM {waiting}")
    for status in others:
        first, where = begun(status, f"status = '{status}' AND {due} ORDER BY due LIMIT {LOOKED_AT}")
        parts.append(f"SELECT 'due', '{status}', NULL, NULL, {first} FROM {where}")
    return " UNION ALL ".join(parts)


def figures_of(rows: Iterable[Sequence[Any]]) -> Figures:
    """Return what the rows of such a statement say."""
    found: dict[str, list[Sequence[Any]]] = {}
    for kind, *values in rows:
        if values[-1] is not None:
            found.setdefault(kind, []).append(values)
    times = {kind: {values[0]: float(values[3]) for values in found.get(kind, ())} for kind in ("created", "progressed", "due")}
    told = [json.loads(values[0]) for values in found.get("worker", ())]
    return Figures(
        now=float(found["now"][0][3]),
        executions=counts_of((*values[:3], int(values[3])) for values in found.get("executions", ())),
        free=sorted({(values[0], values[1], values[2]) for values in found.get("free", ())}),
        **times,
        workers=[tuple((one[0], one[1], one[2]) for one in definitions) for definitions in told],
    )


def figures_of_rows(executions: Iterable[StoredExecution], workers: Iterable[StoredWorker], now: float) -> Figures:
    """Return the figures of what a store in memory has."""
    counts: dict[tuple[str, str, str | None], int] = {}
    times: dict[tuple[str, str], float] = {}
    left: set[tuple[str, str, str]] = set()

    def earliest(kind: str, status: str, time: float) -> None:
        times[kind, status] = min(time, times.get((kind, status), time))

    for row in executions:
        key = (row.name, row.status, row.cause)
        counts[key] = counts.get(key, 0) + 1
        called = row.status == "submitted" and (row.called_until or 0) > now
        if row.status in rules.CLAIMABLE and row.lease_until <= now and not called:
            left.add((row.name, row.version, row.fingerprint))
            if row.due <= now and row.opens <= now:
                earliest("due", row.status, max(row.due, row.opens, row.updated))
        if row.status in OPEN:
            earliest("created", row.status, row.created)
            earliest("progressed", row.status, row.progressed)
    found: list[tuple[Any, ...]] = [("now", None, None, None, now)]
    found += [("executions", *key, number) for key, number in counts.items()]
    found += [("free", *definition, 1) for definition in left]
    found += [(kind, status, None, None, time) for (kind, status), time in times.items()]
    living = (one for one in workers if one.until > now)
    found += [("worker", json.dumps([list(each) for each in one.definitions]), None, None, one.until) for one in living]
    return figures_of(found)
