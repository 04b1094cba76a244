"""``saga debug``: an execution as it was right before a call, and that call made again, under a debugger where there is one."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.exits import DONE, UNDONE, usage
from saga.cli.options import Settings, common
from saga.cli.records import print_record, print_records, record
from saga.cli.showing import meant
from saga.cli.shown import line, paragraph, say

if TYPE_CHECKING:
    from saga.testing import Again, Moment

__all__ = ["COMMANDS"]


@click.command()
@click.argument("saga_id", metavar="ID|TAG=VALUE")
@click.option("--at", type=int, metavar="SEQ", help="An entry of its journal; where not given, the call that went wrong.")
@click.option("--look", is_flag=True, help="Make no call.")
@click.option("--pdb/--no-pdb", default=None, help="Make it under pdb; so it is in a terminal where not said otherwise.")
@click.option(
    "--debugpy", "port", type=click.IntRange(1, 65535), metavar="PORT", help="Wait for a debugger at this port of this host."
)
@click.option(
    "--module", "modules", multiple=True, metavar="MODULE", help="Where a block's functions are, besides what is imported."
)
@click.option("--allow-effects", is_flag=True, help="Let it use sockets, start programs, write files and stores.")
@common
@click.pass_obj
def debug(
    settings: Settings,
    saga_id: str,
    at: int | None,
    look: bool,
    pdb: bool | None,
    port: int | None,
    allow_effects: bool,
    modules: tuple[str, ...],
) -> int:
    """See an execution as it was before a call went wrong, and make that call again, with the code as it is now.

    Tells what was known then, what came of the call now, what would follow, and the command that does it for real. Nothing is
    stored. The call is kept from sockets, programs, files and stores, as far as Python can see.
    """
    from saga.testing import debug as debugged

    store = settings.store()
    if "=" in saga_id:
        saga_id = meant(settings.operations(), saga_id)
    with usage():
        moment = debugged(saga_id, settings.sagas, store=store, at=at, codec=settings.codec(*modules))
    text = settings.form == "text"
    if text:
        for known in str(moment).splitlines():
            say(line(known))
    again = None
    if not look and moment.step is not None:
        stops = pdb if pdb is not None else text and port is None and sys.stdin.isatty() and sys.stdout.isatty()
        if text:
            say()
            effects = "with its effects" if allow_effects else "without effects"
            leave = "; pdb stops at its first line, q leaves it" if stops else ""
            say(f"the call is made again, {effects}{leave}")
        if port is not None:
            _wait_for_debugger(port)
        again = moment.call(allow_effects=allow_effects, pdb=stops)
        if text:
            for told in moment.told(again).splitlines():
                say(paragraph(told.strip(), len(told) - len(told.lstrip())))
    if not text:
        shown = record("moment", _shown(moment, again))
        if settings.form == "json":
            print_records("json", "followed", shown.pop("followed"), **shown)
        else:
            print_record(shown)
    return DONE if again is None or again.left or (again.returned and not again.refused) else UNDONE


def _shown(moment: Moment, again: Again | None) -> SimpleNamespace:
    """Return what the record of a moment is made of: what is masked is hidden."""
    names = ("saga_id", "saga", "status", "seq", "when", "step", "phase", "attempt", "followed")
    known: dict[str, Any] = {name: getattr(moment, name) for name in names}
    known |= {"context": moment.shown_context(), "results": moment.shown_results(), "again": None}
    known["error"] = moment.said
    if again is not None:
        result, changes = moment.shown_again(again)
        known["again"] = SimpleNamespace(
            returned=again.returned,
            result=result,
            error=again.said,
            traceback=again.traceback,
            changes=changes,
            removed=again.removed,
            refused=again.refused,
            follows=again.follows,
            command=None if again.offer is None else again.offer.command(moment.saga_id),
            does=again.does,
        )
    return SimpleNamespace(**known)


def _wait_for_debugger(port: int) -> None:
    """Wait until a debugger is attached.

    :raises click.UsageError: there is no debugpy, or the port is taken.
    """
    try:
        import debugpy
    except ModuleNotFoundError as error:
        raise click.UsageError("--debugpy needs debugpy: pip install debugpy") from error
    try:
        debugpy.listen(("127.0.0.1", port))
    except (OSError, RuntimeError) as error:
        raise click.UsageError(f"--debugpy {port}: {error}") from error
    click.echo(f"saga: waits for a debugger at 127.0.0.1:{port}; set a breakpoint in the task", err=True)
    debugpy.wait_for_client()


COMMANDS: Final = {"debug": debug}
