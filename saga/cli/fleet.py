"""``saga workers`` and ``versions``: what runs executions, and by which definitions. ``hold`` and ``let-go``: what is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from saga.cli.exits import usage
from saga.cli.options import Settings, acting, common
from saga.cli.records import print_record, print_records, record
from saga.cli.shown import Column, age, line, marked, say, table
from saga.plain import one_line

if TYPE_CHECKING:
    from saga.operations import Operations

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


@click.command()
@click.argument("name", metavar="SAGA")
@click.option("--version", metavar="VERSION", help="Of this version alone.")
@click.option("--why", required=True, metavar="TEXT", help="The reason, which whoever executes it is told.")
@common
@acting
@click.pass_obj
def hold(settings: Settings, name: str, version: str | None, why: str) -> None:
    """Begin nothing new of a saga, whoever has submitted it; what runs is finished. saga let-go ends that.

    It may be one of which nothing is there yet; a line says so.
    """
    with usage():
        known = settings.operations().hold(name, why, version=version)
    if settings.form == "text":
        say(line(f"{marked('✓', '+')} {_whose(name, version)} is held"))
    else:
        print_record({"name": name, "version": version, "known": known})


@click.command("let-go")
@click.argument("name", metavar="SAGA")
@click.option("--version", metavar="VERSION", help="The version that is held.")
@common
@click.pass_obj
def let_go(settings: Settings, name: str, version: str | None) -> None:
    """Let what saga hold keeps back begin again: a saga, or with --version a version that is held by itself."""
    operations = settings.operations()
    with usage():
        was_held = operations.let_go(name, version=version)
    if not was_held:
        raise click.UsageError(f"{_whose(name, version)} is not held{_instead(operations)}")
    if settings.form == "text":
        say(line(f"{marked('✓', '+')} {_whose(name, version)} is let go"))
    else:
        print_record({"name": name, "version": version})


def _whose(name: str, version: str | None) -> str:
    return f"saga {name}" if version is None else f"version {version} of saga {name}"


def _instead(operations: Operations) -> str:
    """Return what is held, for the error."""
    held = [_whose(one.name, one.version or None) for one in operations.holds()]
    return f"; what is: {one_line(', '.join(held))}" if held else "; nothing is"


COMMANDS: Final = {"workers": workers, "versions": versions, "hold": hold, "let-go": let_go}
