"""``saga doctor``: whether a store is well, and what waits for a person. Each check is a line, with what mends it."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from saga.cli.exits import DONE, PERSON
from saga.cli.options import Settings, common
from saga.cli.records import print_records, record
from saga.cli.shown import age, counted, marked, paragraph, say

if TYPE_CHECKING:
    from saga.operations import Operations
    from saga.storage.records import StoredExecution

__all__ = ["COMMANDS"]

_SKEW: Final = 1.0
_LATE: Final = 60.0
_LEFT: Final = 30 * 86400.0
_MOST: Final = 1000
"""How many executions are looked at, of those that may have something."""
_COUNTED: Final = 10_000
"""How many that have ended are counted, at most."""
_OPEN: Final = ("submitted", "running", "compensating")
_ENDED: Final = ("completed", "compensated")
_NAME: Final = "saga doctor"


class Finding(NamedTuple):
    """What a check has found.

    :ivar check: its name.
    :ivar mend: what to do about it.
    """

    check: str
    ok: bool
    says: str
    mend: str | None = None


def _skew(operations: Operations) -> Finding:
    before = time.time()
    there = operations.store.now()
    skew = there - (before + time.time()) / 2
    if abs(skew) < _SKEW:
        return Finding("clock", True, f"the store's differs by {abs(skew) * 1000:.0f} ms from this host's")
    way = "behind" if skew > 0 else "ahead of"
    return Finding(
        "clock", False, f"this host's is {age(abs(skew))} {way} the store's", "set it by NTP: times in journals are its"
    )


def _rights(operations: Operations) -> Finding:
    from saga.errors import StorageError

    try:  # a row that nobody reads, and it is gone again
        operations.store.hold(_NAME, "1", operations.who, "a check of the rights")
        operations.store.let_go(_NAME, "1")
    except StorageError as error:
        return Finding("rights", False, f"nothing can be written: {error}", "grant what saga schema --sql --role says")
    return Finding("rights", True, "rows can be written and deleted")


def _workers(operations: Operations) -> Finding:
    living, now = operations.workers(), operations.store.now()
    if living:
        hosts = len({worker.host for worker in living})
        return Finding("workers", True, f"{len(living)} on {hosts} host{'s' if hosts > 1 else ''}")
    gone = max((worker.seen for worker in operations.store.workers()), default=None)
    last = "none lives" if gone is None else f"none lives; the last was seen {age(now - gone)} ago"
    rows = list(islice(operations.all(status=_OPEN, limit=_MOST), _COUNTED))
    due = sum(row.lease_until <= now and (row.opens if row.status == "submitted" else row.due) <= now for row in rows)
    if due:
        most = "at least " if len(rows) == _COUNTED else ""
        return Finding("workers", False, f"{last}, and {most}{counted(due)} could go on", "saga worker --import MODULE")
    rest = f"what has not ended ({len(rows)}) waits for its time, or a signal" if rows else "nothing waits for one"
    return Finding("workers", True, f"{last}, and {rest}")


def _fitting(operations: Operations) -> Finding:
    unfit: Counter[str] = Counter()
    for one in operations.versions():  # of one version, there may be several fingerprints
        if not one.workers and one.executions:
            unfit[f"{one.name} {one.version}"] += sum(one.executions.values())
    if not unfit:
        return Finding("definitions", True, "every execution that has not ended has a worker that fits")
    told = ", ".join(f"{number} of {name}" for name, number in unfit.items())
    if not operations.workers():
        return Finding("definitions", True, f"not known while no worker lives: of {told}", "saga check MODULE says it, too")
    return Finding(
        "definitions",
        False,
        f"no worker's fits {told}",
        "start a worker of that version, or say compatible_with= in a later one",
    )


def _left(operations: Operations) -> Finding:
    now = operations.store.now()
    rows = operations.list(status=("running", "compensating"), idle_for=_LATE, limit=_MOST).executions
    late: list[StoredExecution] = [row for row in rows if row.lease_until < now - _LATE and row.due < now - _LATE]
    if not late:
        return Finding("leases", True, "nobody's lease has run out unseen")
    oldest = max(now - row.lease_until for row in late)
    return Finding(
        "leases",
        False,
        f"{counted(len(late))}, whose process is gone, for up to {age(oldest)} by now: {late[0].saga_id}, ...",
        "saga worker --import MODULE finishes them",
    )


def _stuck(operations: Operations) -> Finding:
    causes = operations.causes()
    if not causes:
        return Finding("stuck", True, "none")
    number, first = sum(one.executions for one in causes), causes[0]
    told = f"{counted(number)} for {counted(len(causes), 'cause')}; {first.executions} of {first.name} at {first.step or '-'}: "
    told += first.reason or first.cause or "no error"
    return Finding("stuck", False, told, f"saga causes; saga show {shlex.quote(first.sample)} says what can be done")


def _holds(operations: Operations) -> Finding:
    held = [
        f"{hold.name} {hold.version}".strip() + f" by {hold.who}: {hold.why}"
        for hold in operations.holds()
        if hold.name != _NAME
    ]
    if not held:
        return Finding("held", True, "nothing")
    return Finding("held", False, "; ".join(held), "saga let-go SAGA lets it begin again")


def _leftovers(operations: Operations) -> Finding:
    rows = islice(operations.all(status=_ENDED, older_than=_LEFT, limit=_MOST), _COUNTED)
    number = sum(1 for _ in rows)
    if not number:
        return Finding("leftovers", True, f"nothing that ended is older than {age(_LEFT)}")
    are = "1 that ended is" if number == 1 else f"{'at least ' if number == _COUNTED else ''}{number} that ended are"
    told = f"{are} older than {age(_LEFT)}; the oldest was stored {age(_oldest(operations))} ago"
    return Finding("leftovers", True, told, "saga purge --older-than 30d")


def _oldest(operations: Operations) -> float:
    """Return how long ago the first of what has ended was stored, to within some percent: lists begin with the last."""

    def older(than: float) -> float | None:
        rows = operations.list(status=_ENDED, older_than=than, limit=1).executions
        return operations.store.now() - rows[0].created if rows else None

    least, most = _LEFT, 2 * _LEFT
    while (found := older(most)) is not None:
        least, most = found, 2 * found
    while most - least > least / 50:
        found = older((least + most) / 2)
        least, most = (least, (least + most) / 2) if found is None else (found, most)
    return least


_CHECKS: Final = (_skew, _rights, _workers, _fitting, _left, _stuck, _holds, _leftovers)


def findings(operations: Operations) -> Iterator[Finding]:
    """Yield what each check has found.

    :raises StorageError: the store cannot be reached any more.
    """
    number = sum(one.executions for one in operations.count(("status",)))
    yield Finding("store", True, f"it answers, its tables are there, and has {counted(number)}")
    for check in _CHECKS:
        yield check(operations)


@click.command()
@common
@click.pass_obj
def doctor(settings: Settings) -> int:
    """Look at the store, its clock, rights, workers, leases, stuck executions and leftovers, and say what mends each.

    Exit code 3 where a person must act, 5 where the store cannot be reached.
    """
    operations = settings.operations()
    found = []
    for finding in findings(operations):
        found.append(finding)
        if settings.form == "text":
            mark = (marked("·", ".") if finding.mend else marked("✓", "+")) if finding.ok else marked("✗", "!")
            say(f"{mark} {finding.check:<12} {paragraph(settings.hidden(finding.says), 15).lstrip()}")
            if finding.mend:
                say(f"{'':<15}{marked('→', '->')} {paragraph(finding.mend, 17).lstrip()}")
    if settings.form != "text":
        print_records(settings.form, "findings", (record("finding", finding) for finding in found))
    return DONE if all(finding.ok for finding in found) else PERSON


COMMANDS: Final = {"doctor": doctor}
