"""``saga watch``: calls out for each execution that becomes stuck."""

from __future__ import annotations

import logging
from typing import Final

import click

from saga.cli.exits import DONE
from saga.cli.options import SECONDS, Settings, common
from saga.cli.shown import counted, say

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--exec",
    "line",
    metavar="COMMAND",
    help="A line for the shell. JSON is its standard input; SAGA_ID, SAGA_NAME, SAGA_STEP, SAGA_CAUSE, SAGA_TEXT and"
    " SAGA_EXECUTIONS (how many) are its environment.",
)
@click.option("--webhook", "url", metavar="URL", help="An address that the JSON is posted to.")
@click.option("--timeout", type=SECONDS, default=30.0, metavar="TIME", help="How long a call may take.")
@click.option("--interval", type=SECONDS, default=5.0, metavar="TIME", help="Between looks into the store.")
@click.option(
    "--group",
    type=SECONDS,
    is_flag=False,
    flag_value=300.0,
    metavar="TIME",
    help="One call for all that are stuck for the same cause, and at most one for a cause in 5 min, or in as long as is said.",
)
@click.option("--once", is_flag=True, help="Call out for those that nobody was told of yet, and end.")
@common
@click.pass_obj
def watch(
    settings: Settings,
    /,
    line: str | None,
    url: str | None,
    timeout: float,
    interval: float,
    group: float | None,
    once: bool,
) -> int:
    """Call out once for each execution that becomes stuck, in whatever process: until SIGTERM, SIGINT or Ctrl-C.

    Whoever dies meanwhile, it is called out for at least once: with --group, as one of several. A call that fails is made again
    later; with --exec and --webhook the other one is not.
    """
    from saga.alerts import Alerts
    from saga.callouts import command, several, webhook

    calls = [command(line, timeout=timeout)] if line is not None else []
    calls += [webhook(url, timeout=timeout)] if url is not None else []
    if not calls:
        raise click.UsageError("who is told? Give --exec COMMAND, --webhook URL, or both")

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)-8s %(message)s")
    alerts = Alerts(settings.store(), several(*calls), sagas=settings.sagas, group=group)
    if once:
        told = alerts.look()
        say(f"{told} told of" if group is None else counted(told, "call"))
        return DONE
    click.echo("saga: watches for what becomes stuck; SIGTERM or Ctrl-C stops it", err=True)
    alerts.run(interval=interval)
    return DONE


COMMANDS: Final = {"watch": watch}
