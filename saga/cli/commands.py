"""The program ``saga``: its commands, each imported when it is asked for, and how the process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from saga.cli.exits import DONE, told
from saga.cli.options import Settings, common
from saga.errors import near

__all__ = ["COMMANDS", "root", "run"]

COMMANDS: Final = {
    "list": "looking",
    "count": "looking",
    "causes": "looking",
    "show": "showing",
    "journal": "looking",
    "cancel": "acting",
    "compensate": "acting",
    "pause": "acting",
    "resume": "acting",
    "retry": "acting",
    "skip": "acting",
    "undo": "acting",
    "signal": "acting",
    "purge": "acting",
    "run": "running",
    "submit": "running",
    "worker": "working",
    "workers": "fleet",
    "versions": "fleet",
    "web": "page",
    "watch": "watching",
    "doctor": "doctor",
    "check": "planned",
    "diagram": "planned",
    "schema": "schema",
    "demo": "demo",
    "completion": "completion",
}
"""By name: the module that has it."""


class Root(click.Group):
    """The commands, in the order in which they are told of."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: dict[str, click.Command] = import_module(f"saga.cli.{COMMANDS[cmd_name]}").COMMANDS
        return found[cmd_name]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {name!r}{near(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from saga import __version__

        click.echo(f"saga {__version__}")
        context.exit()


root = common(
    Root(
        "saga",
        context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SAGA", "show_default": True},
        help="""Executions of sagas: what became of them, what a person can do, what runs them.

    Each option may also stand in the environment: --store as SAGA_STORE, --limit of list as SAGA_LIST_LIMIT.

    \b
    Exit codes:
      0  done                       3  a person must act
      1  failed, and undone         4  there is no such execution
      2  the command was wrong      5  the store cannot be reached
    """,
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                allow_from_autoenv=False,
                is_eager=True,
                expose_value=False,
                callback=_version,
                help="Print the version.",
            )
        ],
    )
)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code."""
    if "_SAGA_COMPLETE" in os.environ:
        root.main(list(arguments), prog_name="saga", complete_var="_SAGA_COMPLETE", obj=Settings())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what it cannot write is no reason to write nothing
            stream.reconfigure(errors="backslashreplace")
    settings = Settings()
    try:
        with root.make_context("saga", list(arguments), obj=settings) as context:
            code = root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        return told(error, settings)
    return code if isinstance(code, int) else DONE
