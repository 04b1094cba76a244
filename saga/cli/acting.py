"""``saga cancel`` and the other actions of a person: on executions by their ids, or on all that filters find; what deletes."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from saga.cli.exits import DONE, PERSON, usage
from saga.cli.filters import filtered
from saga.cli.known_ids import known_ids
from saga.cli.looking import executions
from saga.cli.options import SECONDS, Settings, acting, common, ids, needs_definitions
from saga.cli.records import print_record, print_records, record
from saga.cli.shown import age, colours, counted, entry, line, marked, say

if TYPE_CHECKING:
    from saga.operations import Acted, Operations
    from saga.storage.records import StoredExecution

__all__ = ["COMMANDS"]

_ACTIONS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "cancel": (("submitted", "running", "paused"), "Give executions up: what they have done is undone."),
    "compensate": (("submitted", "running", "paused", "stuck"), "Undo executions now, what is in doubt and what failed too."),
    "pause": (("submitted", "running"), "Let executions rest until a person resumes them."),
    "resume": (("paused", "stuck"), "Let paused executions go on, and stuck ones that wait for a decision."),
    "retry": (("stuck",), "Try the failed compensations of stuck executions again."),
    "skip": (("stuck",), "Count a step of stuck executions as settled by a person: it is not called any more, and they go on."),
    "undo": (("completed",), "Undo completed executions, wholly or back to a step."),
}
"""By action: the statuses of those that it can fit, which filters look among, and what it does."""
_SHOWN: Final = 10


def _action(action: str) -> click.Command:
    statuses, what = _ACTIONS[action]

    def command(
        settings: Settings,
        saga_ids: Sequence[str],
        filters: dict[str, Any],
        why: str,
        yes: bool,
        limit: int | None,
        listed: Any,
        to: str | None = None,
    ) -> int:
        step = to if action == "undo" else filters.get("step") if action == "skip" else None
        if listed is not None:
            saga_ids = [*saga_ids, *_listed(listed)]
            if not saga_ids:
                click.echo("no executions", err=True)
                return DONE if settings.form == "text" else _tell(settings, action, ())
        if action == "skip" and step is None:
            raise click.UsageError("skip needs the step that a person has seen to; give --step")
        if saga_ids:
            over = [name for name in filters if name != "step"] if action == "skip" else list(filters)
            if over:
                raise click.UsageError("give ids, or filters, not both")
            operations = settings.operations()
            if len(saga_ids) == 1:  # what is wrong with it is told by the exit code
                from saga.operations import Acted

                with usage():
                    getattr(operations, action)(saga_ids[0], *([step] if action == "skip" else []), why, **_to(action, step))
                return _tell(settings, action, [Acted(saga_ids[0], True)])
            return _tell(settings, action, _each(operations, action, why, step, saga_ids))
        if not filters:
            raise click.UsageError(f"{action} which? Give ids, or filters such as --status {statuses[0]} --name place-order")
        filters.setdefault("status", statuses)
        operations = settings.operations()
        with usage():
            meant = [row.saga_id for row in _asked(operations, action, step, filters, why, limit, yes)]
        if not meant and settings.form == "text":
            return DONE
        return _tell(settings, action, _each(operations, action, why, step, meant) if meant else ())

    if action == "undo":
        command = click.option("--to", metavar="STEP", help="The step that stays done; what came after it is undone.")(command)
    for option in (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Of those that the filters find, so many at most."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask first."),
        click.option(
            "--ids",
            "listed",
            type=click.File(encoding="utf-8"),
            metavar="FILE",
            help="Those whose ids the file has, one a line, or as saga list --jsonl prints them; - is the standard input.",
        ),
        click.option("--why", required=True, metavar="TEXT", help="The reason, for those who read the journal later."),
    ):
        command = option(command)
    command.__doc__ = f"{what}\n\n    By their ids, or all that the filters find, which is asked for first."
    meant = {"step": "The step; filters find all of which a person is asked about it."} if action == "skip" else {}
    return click.command(action)(ids(filtered(common(acting(click.pass_obj(command))), **meant)))


def _to(action: str, step: str | None) -> dict[str, Any]:
    return {"to": step} if action == "undo" else {}


def _each(operations: Operations, action: str, why: str, step: str | None, saga_ids: Iterable[str]) -> Iterator[Acted]:
    """Act on executions; one that is refused does not keep the others.

    :raises StorageError: the store cannot be reached any more.
    """
    with usage():
        undo = action == "undo"
        return operations.each(action, why, saga_ids, step=None if undo else step, to=step if undo else None)


def _listed(file: TextIO) -> Iterator[str]:
    """Yield the ids that a file has.

    :raises click.UsageError: a line has none.
    """
    for number, text in enumerate(file, 1):
        text = text.strip()
        if text.startswith("{"):
            try:
                text = str(json.loads(text)["saga_id"])
            except (ValueError, KeyError):
                raise click.UsageError(f"--ids: line {number} has no saga_id in it; give an id a line") from None
        if text:
            yield text


def _asked(
    operations: Operations,
    action: str,
    step: str | None,
    filters: dict[str, Any],
    why: str,
    limit: int | None,
    yes: bool,
) -> list[StoredExecution]:
    """Return the executions that the filters find, if a person says so.

    :raises click.UsageError: nobody can be asked.
    """
    rows = list(operations.meant(action, limit=limit, **filters))
    if not rows:
        click.echo("no executions", err=True)
        return []
    if yes:
        return rows
    if not sys.stdin.isatty():
        raise click.UsageError(f"{action} would be done to {counted(len(rows))}; look at them with saga list, and give --yes")
    click.echo(executions(rows[:_SHOWN], operations.store.now()), err=True, color=colours())
    if len(rows) > _SHOWN:
        click.echo(f"... and {len(rows) - _SHOWN} more", err=True)
    does = next((one.does for one in operations.show(rows[0].saga_id).offers if (one.action, one.step) == (action, step)), None)
    if does is not None:
        click.echo(entry(f"of {rows[0].saga_id}{'' if len(rows) == 1 else ', for one,'} it {does}", 4), err=True)
    what = action if step is None else f"{action} back to {step!r}" if action == "undo" else f"{action} step {step!r} of"
    return rows if _agreed(f"{what} {'this execution' if len(rows) == 1 else f'all these {len(rows)}'}, for {why!r}?") else []


def _agreed(asked: str) -> bool:
    """Ask, and say so where the answer is no."""
    agreed = click.confirm(asked, err=True)
    if not agreed:
        click.echo("nothing was done", err=True)
    return agreed


def _tell(settings: Settings, action: str, acted: Iterable[Acted]) -> int:
    refused = done = 0
    last = ""

    def counted() -> Iterator[Acted]:
        nonlocal refused, done, last
        for one in acted:
            done, refused = done + one.done, refused + (not one.done)
            last = one.saga_id if one.done else last
            yield one

    if settings.form != "text":
        print_records(settings.form, "acted", (record("acted", one) for one in counted()))
    else:
        for one in counted():
            mark = marked("✓", "+") if one.done else marked("✗", "!")
            say(line(f"{mark} {action} {one.saga_id}" + ("" if one.done else f": {one.error}")))
        if done + refused > 1:
            say(f"{done} done" + (f", {refused} refused" if refused else ""))
        if done:
            click.echo(_carried_out(settings.operations(), last, done), err=True)
    return PERSON if refused else DONE


def _carried_out(operations: Operations, saga_id: str, number: int) -> str:
    """Return who carries it out, and how to see what comes of it."""
    row = operations.get(saga_id)
    if row.status in ("compensated", "paused"):
        return f"it is {row.status}"
    who = "a worker carries it out, or whoever runs it now"
    if not operations.workers() and row.owner is None:
        who = "no worker lives that carries it out: start saga worker"
    look = "saga causes" if number > 1 else f"saga show --follow {'-- ' if saga_id[0] == '-' else ''}{shlex.quote(saga_id)}"
    return f"{who}; {look} tells what comes of it"


@click.command()
@click.argument("saga_id", metavar="ID", shell_complete=known_ids)
@click.argument("name", metavar="SIGNAL")
@click.option("--value", metavar="JSON", help="What comes with it: JSON, or else the text itself.")
@click.option("--why", required=True, metavar="TEXT", help="The reason, for those who read the journal later.")
@acting
@common
@click.pass_obj
def signal(settings: Settings, saga_id: str, name: str, value: str | None, why: str) -> None:
    """Send a signal: the step that receives it has its value as its result. The saga's definition has to be known."""
    operations = settings.operations()
    row = operations.get(saga_id)
    if row.name not in [saga.name for saga in needs_definitions(settings, "signal")]:
        raise click.UsageError(f"the definition of saga {row.name!r} is not imported; give --import module")
    try:
        sent = None if value is None else json.loads(value)
    except ValueError:
        sent = value
    with usage():
        operations.signal(saga_id, name, why, sent)
    if settings.form == "text":
        say(line(f"{marked('✓', '+')} signal {name} to {saga_id}"))
    else:
        print_record({"saga_id": saga_id, "done": True, "error": None})


@click.command()
@click.option("--older-than", type=SECONDS, required=True, metavar="TIME", help="Last written so long ago: 12h, 30d.")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice(("completed", "compensated", "stuck")),
    default=("completed", "compensated"),
    help="With these statuses.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@common
@click.pass_obj
def purge(settings: Settings, older_than: float, status: Sequence[str], yes: bool) -> None:
    """Delete executions that have ended, with their journals, and what they have elsewhere, where definitions are imported."""
    operations = settings.operations()
    asked = f"delete executions that are {' or '.join(status)} and were last written at least {age(older_than)} ago"
    if yes or _agreed_to(asked):
        with usage():
            _say_deleted(settings, operations.purge(older_than=older_than, status=status))


@click.command()
@click.option("--older-than", type=SECONDS, required=True, metavar="TIME", help="Put so long ago: 1h at least, better 1d.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@common
@click.pass_obj
def sweep(settings: Settings, older_than: float, yes: bool) -> None:
    """Delete what the blobs of imported definitions have that no execution names: of dead processes and purges."""
    operations = settings.operations()
    asked = f"delete values that were put elsewhere at least {age(older_than)} ago, and that no execution in this store names"
    if yes or _agreed_to(asked):
        with usage():
            _say_deleted(settings, operations.sweep(older_than=older_than))


def _agreed_to(asked: str) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would {asked}; give --yes")
    return _agreed(f"{asked}?")


def _say_deleted(settings: Settings, number: int) -> None:
    if settings.form == "text":
        say(f"{number} deleted")
    else:
        print_record({"deleted": number})


COMMANDS: Final = {action: _action(action) for action in _ACTIONS} | {"signal": signal, "purge": purge, "sweep": sweep}
