"""``saga certify``, and the file that it writes: which tasks were measured, and what came of that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.definitions import raised
from saga.cli.exits import DONE, UNDONE
from saga.cli.given import context_of, function_of, makers, value_of
from saga.cli.options import TAG, Settings, common
from saga.cli.records import print_records, record
from saga.cli.shown import Progress, counted, line, marked, paragraph, say
from saga.errors import SagaError

if TYPE_CHECKING:
    from saga.testing import Certificates

__all__ = ["COMMANDS", "certified_in", "read"]


def certified_in(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option that says where certificates are."""
    return click.option(
        "--certificates",
        envvar="SAGA_CERTIFICATES",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="What was measured of tasks: the file that saga certify writes.",
    )(command)


def read(settings: Settings, given: Path | None) -> Certificates | None:
    """Return the certificates of the file that is given; ``None``: none is.

    :raises click.UsageError: it cannot be read.
    """
    path = settings.certificates(given)
    if path is None:
        return None
    from saga.testing import Certificates

    try:
        return Certificates.load(path)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}; saga certify writes it") from error


@click.command()
@click.argument("references", metavar="[MODULE[:SAGA]]...", nargs=-1)
@click.option("--world", required=True, metavar="MODULE:NAME", help="What makes the world that the saga acts on, each time.")
@click.option("--context", metavar="JSON|MODULE:NAME", help="The input, or what makes it.")
@click.option("--signal", multiple=True, type=TAG, metavar="NAME=JSON", help="What comes with a signal. May be given again.")
@click.option("--durable/--no-durable", default=None, help="As with a store, or without; as the saga says if not given.")
@certified_in
@common
@click.pass_obj
def certify(
    settings: Settings,
    references: tuple[str, ...],
    world: str,
    context: str | None,
    signal: tuple[tuple[str, str], ...],
    durable: bool | None,
    certificates: Path | None,
) -> int:
    """Measure what each task of a saga does to its world, and keep that in a file, made to be committed.

    The tasks are called, with what they have: does undo restore the world; is undo twice harmless, and undo alone; does execute
    twice leave the same as once; does verify tell the truth. What does not hold is exit code 1.

    SAGA may be a function that makes one for a world. The file is saga-certificates.json where nothing says another; what it
    has of other sagas stays.
    """
    from saga.testing import Certificates
    from saga.testing.certificates import FILE

    found = Certificates()
    options = {
        "context": context_of(context),
        "world": function_of("--world", world),
        "signals": {name: value_of(text) for name, text in signal},
        "durable": durable,
    }
    for reference, saga in makers(settings, references):
        found = found.merge(_certified(reference or saga.name, saga, options))
    if not found:
        raise click.UsageError("certify what? Give module or module:saga")
    path = settings.certificates(certificates) or Path(FILE)
    _keep(found, path)
    if settings.form == "text":
        _tell(found)
    else:
        print_records(settings.form, "certificates", (record("certificate", one) for one in found))
    return UNDONE if found.wrong else DONE


def _certified(name: str, saga: Any, options: dict[str, Any]) -> Certificates:
    """Certify a saga's tasks, with a bar of how far it has come."""
    from saga.testing import certify

    bar = Progress(None)
    try:
        return certify(saga, progress=lambda done, left: bar.show(done, name, done + left), **options)
    except SagaError:
        raise
    except Exception as error:
        raise raised(f"certifying {name}", error) from error
    finally:
        bar.clear()


def _keep(found: Certificates, path: Path) -> None:
    """Write certificates to a file, with those of other sagas that it has.

    :raises click.UsageError: that cannot be done.
    """
    from saga.testing import Certificates

    try:
        known = Certificates.load(path) if path.exists() else Certificates()
        known.merge(found).save(path)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(line(f"saga: wrote {path}"), err=True)


def _tell(found: Certificates) -> None:
    from saga.testing.certificates import HOLDS

    for one in found:
        mark = marked("✗", "!") if one.wrong else marked("✓", "+")
        holds = sum(came == HOLDS for came in one.measured.values())
        say(line(f"{mark} {one.saga}/{one.step}: {holds} of {counted(holds + len(one.wrong), 'measurement')} hold"))
        for what, came in one.wrong.items():
            say(paragraph(f"{what}: {came}", 4))


COMMANDS: Final = {"certify": certify}
