"""``saga check --explore``: sagas are run through every history with so many faults, here and now, with the tasks they have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from saga.cli.definitions import raised
from saga.cli.exits import DONE, INTERRUPTED, UNDONE
from saga.cli.files import write
from saga.cli.given import context_of, function_of, is_json, makers, value_of
from saga.cli.options import SECONDS, TAG, Settings
from saga.cli.records import RECORDS, print_records, record
from saga.cli.shown import Progress, marked, paragraph, say
from saga.errors import SagaError
from saga.plain import one_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from saga.testing import Exploration, History

__all__ = ["explored", "exploring"]


def exploring(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how to explore: those that :func:`explored` takes."""
    named = "MODULE:NAME"
    for option in (
        click.option(
            "--diagram",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Draw the history that breaks a law, as SVG.",
        ),
        click.option("--durable/--no-durable", default=None, help="Let processes die; by whether it has a store if not given."),
        click.option(
            "--signal", multiple=True, type=TAG, metavar="NAME=JSON", help="What comes with a signal. May be given again."
        ),
        click.option(
            "--may-fail", multiple=True, metavar="STEP", help="Its compensate may fail by itself. May be given again."
        ),
        click.option(
            "--kind",
            multiple=True,
            metavar="KIND",
            shell_complete=_known_kinds,
            help="A kind of faults, such as answer-lost. May be given again.",
        ),
        click.option("--at-end", metavar=named, help="A function of world and result: what holds at the end."),
        click.option("--invariant", metavar=named, help="A function of the world: what holds after each call."),
        click.option("--world", metavar=named, help="What makes the world that the saga acts on, for each history."),
        click.option("--context", metavar=f"JSON|{named}", help="The input, or what makes it."),
        click.option("--seconds", type=SECONDS, metavar="TIME", help="Stop after so long: 30s, 5m."),
        click.option("--faults", type=click.IntRange(0), metavar="N", help="At most so many in a history; 2 if not given."),
    ):
        command = option(command)
    return click.option("--explore", is_flag=True, help="Run it through every failure. The options below are for that.")(
        command
    )


def _known_kinds(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the kinds that begin so, as they are typed without quotes."""
    from click.shell_completion import CompletionItem

    from saga.testing import Kind

    kinds = (kind.replace(" ", "-") for kind in Kind)
    return [CompletionItem(kind) for kind in kinds if kind.startswith(incomplete)]


class _Explored(NamedTuple):
    """A saga that was explored.

    :ivar names: what its test imports, as ``module:name``.
    """

    found: Exploration
    names: tuple[str, ...]


def explored(
    settings: Settings,
    references: Sequence[str],
    *,
    faults: int | None,
    seconds: float | None,
    context: str | None,
    world: str | None,
    invariant: str | None,
    at_end: str | None,
    kind: tuple[str, ...],
    may_fail: tuple[str, ...],
    signal: tuple[tuple[str, str], ...],
    durable: bool | None,
    diagram: Path | None,
) -> int:
    """Explore sagas, and tell what was explored, or how a law was broken. Return the exit code.

    :param references: each ``module``, or ``module:name`` of a saga or of a function that makes one; none: those imported.
    """
    sagas = list(makers(settings, references))
    if not sagas:
        raise click.UsageError("explore what? Give module or module:saga")
    if diagram is not None and len(sagas) > 1:
        raise click.UsageError("--diagram draws one saga; give it as module:saga")
    stored = settings.store_given is not None or "store" in settings.file
    options = {
        "context": context_of(context),
        "world": function_of("--world", world),
        "invariant": function_of("--invariant", invariant),
        "at_end": function_of("--at-end", at_end),
        "signals": {name: value_of(text) for name, text in signal},
        "faults": 2 if faults is None else faults,
        "seconds": seconds,
        "kinds": [one.replace("-", " ") for one in kind] or None,
        "may_fail": may_fail,
        "durable": durable if durable is not None or not stored else True,
    }
    besides = [name for name in (context, world, invariant, at_end) if name is not None and not is_json(name)]
    done: list[_Explored] = []
    for reference, saga in sagas:
        found = _explore(reference, saga, options)
        if found is None:
            return INTERRUPTED
        done.append(_Explored(found, (*filter(None, [reference]), *besides)))
        if settings.form == "text":
            _tell(done[-1])
        if found.broken is not None and diagram is not None:
            write(diagram, found.broken.diagram().svg())
    if settings.form != "text":
        print_records(settings.form, "explorations", map(_record, done))
    return UNDONE if any(one.found.broken is not None for one in done) else DONE


# -- what is done -----------------------------------------------------------------------------------------------------


def _explore(reference: str, saga: Any, options: dict[str, Any]) -> Exploration | None:
    """Explore a saga, with a bar of how far it has come. Return ``None`` where somebody stopped it.

    :raises click.UsageError: what is given raised.
    """
    from saga.testing import explore
    from saga.working.service import stopped_by_signals

    stop = threading.Event()
    bar, run = Progress(None), 0
    name, seconds = reference or saga.name, options["seconds"]

    def progress(number: int, left: int) -> None:
        nonlocal run
        run = number
        total = number + left
        if seconds is not None:  # which may be over before
            total = min(total, max(number, int(number * seconds / max(bar.elapsed, 0.001))))
        bar.show(number, name, total)
        if stop.is_set():  # between two histories: within one, it would be what struck a task
            raise KeyboardInterrupt

    try:
        with stopped_by_signals(stop.set):
            found = explore(saga, progress=progress, check=False, **options)
    except KeyboardInterrupt:
        bar.clear()
        click.echo(f"saga: stopped after {run} of the histories of {name}; no law was broken", err=True)
        return None
    except SagaError:
        bar.clear()
        raise
    except Exception as error:
        bar.clear()
        raise raised(f"exploring {name}", error) from error
    bar.clear()
    return found


# -- what is told -----------------------------------------------------------------------------------------------------


def _tell(one: _Explored) -> None:
    """Print what was explored, or the report of what breaks a law."""
    from saga.testing.reports import as_test, told

    broken = one.found.broken
    if broken is None:
        say(paragraph(f"{marked('✓', '+')} {one.found}"))
        return
    for text in told(broken):
        say(paragraph(text.lstrip(), len(text) - len(text.lstrip())) if text else "")
    say()
    for text in as_test(broken, one.names):  # not broken into lines, which would not be Python
        say(f"    {one_line(text)}" if text else "")


def _record(one: _Explored) -> dict[str, Any]:
    found = one.found
    known: dict[str, Any] = {name: getattr(found, name) for name in RECORDS["exploration"]}
    known["broken"] = None if found.broken is None else _broken(found.broken, one.names)
    return record("exploration", SimpleNamespace(**known))


def _broken(history: History, names: Iterable[str]) -> SimpleNamespace:
    """Return what the record of a history that breaks a law is made of."""
    from saga.testing.reports import as_test

    assert history.broken is not None
    law, how = history.broken
    test = "\n".join(as_test(history, names))
    return SimpleNamespace(law=law, how=how, status=history.status, faults=history.faults, lines=history.lines, test=test)
