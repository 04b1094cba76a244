"""``saga workers`` and ``versions``: what runs executions, and by which definitions."""

from __future__ import annotations

from typing import Final

import click

from saga.cli.options import Settings, common
from saga.cli.records import print_records, record
from saga.cli.shown import Column, age, say, table

__all__ = ["COMMANDS"]


@click.command()
@common
@click.pass_obj
def workers(settings: Settings) -> None:
    """Tell of the workers that live: where they are, what they can run, how many executions they run."""
    operations = settings.operations()
    living, now = operations.workers(), operations.store.now()
    if settings.form != "text":
        print_records(settings.form, "workers", (record("worker", worker) for worker in living))
        return
    columns = (
        Column("host"),
        Column("pid", right=True),
        Column("in hand", right=True),
        Column("for", right=True),
        Column("seen", right=True),
        Column("state"),
        Column("sagas", below=True),
    )
    rows = [
        (
            worker.host,
            worker.pid,
            worker.in_hand,
            age(now - worker.started),
            f"{age(now - worker.seen)} ago",
            "stopping" if worker.stopping else "works",
            ", ".join(" ".join(part for part in one[:2] if part) for one in worker.definitions),
        )
        for worker in living
    ]
    say(table(columns, rows) if rows else "no worker lives; start one: saga worker --import MODULE")


@click.command()
@common
@click.pass_obj
def versions(settings: Settings) -> None:
    """Tell of every version of which something is still to be done, or that a worker has."""
    found = settings.operations().versions()
    if settings.form != "text":
        print_records(settings.form, "versions", (record("version", one) for one in found))
        return
    columns = (
        Column("saga"),
        Column("version"),
        Column("fingerprint"),
        Column("workers", right=True),
        Column("executions", below=True),
        Column("held", below=True),
    )
    rows = [
        (
            one.name,
            one.version,
            one.fingerprint,
            one.workers,
            ", ".join(f"{number} {status}" for status, number in one.executions.items()),
            one.held,
        )
        for one in found
    ]
    say(table(columns, rows) if rows else "no version: nothing is to be done, and no worker lives")


COMMANDS: Final = {"workers": workers, "versions": versions}
