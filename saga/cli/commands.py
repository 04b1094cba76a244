"""The program ``saga``: its commands, each imported when it is asked for, and how the process ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

import click

from saga.cli.exits import DONE, told
from saga.cli.options import Settings, common
from saga.errors import near

__all__ = ["COMMANDS", "root", "run"]


class Listed(NamedTuple):
    """A command: the module that has it, and what it does. The module is imported when the command is asked for."""

    module: str
    what: str


COMMANDS: Final = {
    "list": Listed("looking", "Executions, newest first."),
    "count": Listed("looking", "How many executions there are, of each kind."),
    "causes": Listed("looking", "Why executions are stuck: of which saga, where, and how many."),
    "show": Listed("showing", "One execution: its steps, its errors, and what each action would do."),
    "journal": Listed("looking", "All that happened in an execution, entry by entry."),
    "debug": Listed("debugging", "See an execution as it was before a call went wrong, and make that call again."),
    "cancel": Listed("acting", "Give executions up: what they have done is undone."),
    "compensate": Listed("acting", "Undo executions now, what is in doubt and what failed too."),
    "pause": Listed("acting", "Let executions rest until a person resumes them."),
    "resume": Listed("acting", "Let paused executions go on, and stuck ones that wait for a decision."),
    "retry": Listed("acting", "Try the failed compensations of stuck executions again."),
    "skip": Listed("acting", "Let stuck executions go on without a step that a person has seen to."),
    "undo": Listed("acting", "Undo completed executions, wholly or back to a step."),
    "signal": Listed("acting", "Send a signal to an execution."),
    "purge": Listed("acting", "Delete executions that have ended."),
    "sweep": Listed("acting", "Delete what is elsewhere that no execution names."),
    "run": Listed("running", "Execute a saga here and now, for each input of a file."),
    "submit": Listed("running", "Store executions for workers to run, for each input of a file."),
    "worker": Listed("working", "Run what was submitted, and what dead processes left."),
    "workers": Listed("fleet", "The workers that live."),
    "versions": Listed("fleet", "The versions of which something is still to be done."),
    "hold": Listed("fleet", "Begin nothing new of a saga, or of a version of it."),
    "let-go": Listed("fleet", "Let what is held begin again."),
    "web": Listed("page", "Show executions, causes and health in a browser."),
    "watch": Listed("watching", "Call out for each execution that becomes stuck: a command, or a webhook."),
    "doctor": Listed("doctor", "See whether the store is well, and what waits for a person."),
    "check": Listed("planned", "See whether definitions are right, fit what is stored, outlive each failure."),
    "certify": Listed("certifying", "Measure what the tasks of a saga do, and keep that in a file."),
    "diagram": Listed("planned", "Draw a saga, or how an execution of it went."),
    "schema": Listed("schema", "Make a store's tables, or print the SQL that does."),
    "demo": Listed("demo", "Make a shop to play with: some orders are stuck, and some wait."),
    "completion": Listed("completion", "Print what lets a shell complete commands and options."),
}


_INSTEAD: Final = {
    "find": "saga list TEXT finds executions, saga show TEXT tells of the only one",
    "search": "saga list TEXT finds executions, saga show TEXT tells of the only one",
    "status": "saga show ID tells of one execution, saga count of all",
}
"""What does what a name that is no command's says."""


class Root(click.Group):
    """The commands, in the order in which they are told of."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.what) for name, listed in COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: dict[str, click.Command] = import_module(f"saga.cli.{COMMANDS[cmd_name].module}").COMMANDS
        return found[cmd_name]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            hint = f": {_INSTEAD[name]}" if name in _INSTEAD else near(name, COMMANDS)
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
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
