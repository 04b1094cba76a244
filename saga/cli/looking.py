"""``saga list``, ``count``, ``causes`` and ``journal``: what there is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.exits import DONE, usage
from saga.cli.filters import filtered
from saga.cli.known_ids import known_ids
from saga.cli.options import SECONDS, Settings, common
from saga.cli.records import print_record, print_records, record
from saga.cli.shown import Column, age, clear, coloured, entry, line, on_terminal, say, status, table, tags

if TYPE_CHECKING:
    from saga.operations import Operations
    from saga.storage.records import StoredExecution

__all__ = ["COMMANDS", "executions", "in_a_line"]

_COLUMNS: Final = (
    Column("status", style=coloured),
    Column("id"),
    Column("saga", cut=True),
    Column("tags", cut=True),
    Column("step", cut=True),
    Column("why", below=True),
    Column("since", right=True),
)
_BY: Final = ("name", "status", "version", "fingerprint", "step", "cause", "reason")


_OF_A_HEARTBEAT: Final = ("lease_until", "updated")


def in_a_line(reason: str | None, cause: str | None) -> str | None:
    """Return why an execution stands so, with the class of the error where the reason does not name it."""
    return reason if cause is None or cause in (reason or "") else f"{reason or 'failed'} ({cause})"


def executions(rows: Iterable[StoredExecution], now: float, titles: bool = True) -> str:
    """Return a table of executions."""
    from saga.looking.waits import why  # a help needs none of it

    return table(
        _COLUMNS,
        [
            (
                status(row.status),
                row.saga_id,
                row.name,
                tags(row.tags),
                row.step,
                in_a_line(why(row, now), row.cause),
                age(now - (row.progressed or row.updated)),
            )
            for row in rows
        ],
        titles=titles,
    )


@click.command("list")
@click.argument("text", metavar="[TEXT]", required=False, shell_complete=known_ids)
@filtered
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="How many at most.")
@click.option("--all", "every", is_flag=True, help="All there are, however many.")
@click.option("--after", metavar="CURSOR", help="What a list before ended with: the next ones.")
@click.option(
    "--watch", type=SECONDS, is_flag=False, flag_value=2.0, metavar="TIME", help="Look again every 2 s, or as often as is said."
)
@common
@click.pass_obj
def list_(
    settings: Settings,
    text: str | None,
    filters: dict[str, Any],
    limit: int,
    every: bool,
    after: str | None,
    watch: float | None,
) -> int:
    """Tell of executions, newest first: where each stands, why, and for how long it has stood so. A TEXT finds those with that
    id, whose ids begin so, or that have such a tag.

    With --watch and --json or --jsonl: of each in a line, and again when it has changed.
    """
    operations = settings.operations()
    if text is not None:
        if filters or every or after or watch is not None:
            raise click.UsageError("give a text that finds executions, or filters, not both; saga show ID tells of one")
        with usage():
            _print(settings, operations.find(text, limit), None, operations)
        return DONE
    if watch is not None:
        return _watched(settings, operations, filters, limit, watch)
    if every:
        with usage():
            _print(settings, operations.all(**filters), None, operations)
        return DONE
    with usage():
        page = operations.list(**filters, limit=limit, after=after)
    _print(settings, page.executions, page.next, operations)
    return DONE


def _print(settings: Settings, rows: Iterable[StoredExecution], following: str | None, operations: Operations) -> None:
    if settings.form != "text":
        more = {"next": following}
        print_records(settings.form, "executions", (record("execution", row) for row in rows), **more)
        return
    now, found = operations.store.now(), iter(rows)
    first = True
    while some := list(islice(found, 1000)):
        say(executions(some, now, titles=first))
        first = False
    if first:
        say("no executions")
    if following is not None:
        click.echo(line(f"there are more: --all, or --after {following}"), err=True)


def _watched(settings: Settings, operations: Operations, filters: dict[str, Any], limit: int, every: float) -> int:
    drawn = settings.form == "text"
    if drawn and not on_terminal():
        raise click.UsageError("--watch needs a terminal, or --jsonl; ask again and again without it")
    known: dict[str, dict[str, Any]] = {}
    try:
        while True:
            with usage():
                page = operations.list(**filters, limit=limit)
            if drawn:
                text = executions(page.executions, operations.store.now()) if page.executions else "no executions"
                clear()
                say(text)
            else:
                known = _changed(page.executions, known)
            time.sleep(every)
    except KeyboardInterrupt:
        return DONE


def _changed(rows: Iterable[StoredExecution], known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Print those that have changed, but for a lease that was renewed. Return how all stand now."""
    now = {row.saga_id: record("execution", row) for row in rows}
    for saga_id, one in now.items():
        before = known.get(saga_id)
        if before is None or any(before[name] != value for name, value in one.items() if name not in _OF_A_HEARTBEAT):
            print_record(one)
    return now


@click.command()
@click.option("--by", default="name,status", metavar="COLUMNS", help=f"Of each what: {', '.join(_BY)}; several with commas.")
@click.option("--status", multiple=True, metavar="STATUS", help="Only those with this status, or these.")
@click.option("--name", metavar="SAGA", help="Only those of this saga.")
@common
@click.pass_obj
def count(settings: Settings, by: str, status: Sequence[str], name: str | None) -> None:
    """Count executions."""
    columns = [column.strip() for column in by.split(",") if column.strip()]
    operations = settings.operations()
    with usage():
        counts = operations.count(columns, status=status or None, name=name)
    if settings.form != "text":
        records = ({**dict(zip(columns, values, strict=True)), "executions": number} for values, number in counts)
        print_records(settings.form, "counts", records)
        return
    say(
        table(
            [*(Column("saga" if column == "name" else column) for column in columns), Column("executions", right=True)],
            [(*values, number) for values, number in counts],
        )
        if counts
        else "no executions"
    )


@click.command()
@click.option("--name", metavar="SAGA", help="Only those of this saga.")
@common
@click.pass_obj
def causes(settings: Settings, name: str | None) -> None:
    """Group stuck executions by saga, step and class of error; most first."""
    operations = settings.operations()
    found, now = operations.causes(name), operations.store.now()
    if settings.form != "text":
        print_records(settings.form, "causes", (record("cause", one) for one in found))
        return
    columns = (
        Column("stuck", right=True),
        Column("saga"),
        Column("step"),
        Column("cause"),
        Column("oldest", right=True),
        Column("such as"),
        Column("why", below=True),
    )
    rows = [(one.executions, one.name, one.step, one.cause, age(now - one.oldest), one.sample, one.reason) for one in found]
    say(table(columns, rows) if rows else "nothing is stuck")


@click.command()
@click.argument("saga_id", metavar="ID", shell_complete=known_ids)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only so many, the last ones.")
@common
@click.pass_obj
def journal(settings: Settings, saga_id: str, last: int | None) -> None:
    """Print an execution's journal. Values are as they are stored."""
    entries = settings.operations().show(saga_id).journal
    entries = entries[-last:] if last is not None else entries
    if settings.form != "text":
        print_records(settings.form, "journal", (record("entry", one) for one in entries))
        return
    for one in entries:
        say(entry(one, 6))


COMMANDS: Final = {"list": list_, "count": count, "causes": causes, "journal": journal}
