"""``saga show``: one execution as a tree of its steps, what is left of it, its errors, and what each action would do here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.exits import DONE, INTERRUPTED, ended
from saga.cli.known_ids import known_ids
from saga.cli.looking import executions, in_a_line
from saga.cli.options import SECONDS, Settings, common
from saga.cli.records import print_record, print_records, record
from saga.cli.records import time as iso
from saga.cli.shown import age, clear, coloured, colours, entry, line, marked, on_terminal, paragraph, say, status, tags
from saga.plain import one_line

if TYPE_CHECKING:
    from saga.looking import ExecutionView, StepView
    from saga.operations import Operations

__all__ = ["COMMANDS", "meant", "tree"]

_STEPS: Final[dict[str, tuple[str, str, str, str | None]]] = {
    "pending": ("·", ".", "not reached", None),
    "running": ("▸", ">", "runs", "blue"),
    "waiting": ("▸", ">", "failed, to be tried again", "yellow"),
    "succeeded": ("✓", "+", "done", "green"),
    "failed": ("✗", "!", "failed", "red"),
    "timed_out": ("✗", "!", "took too long", "red"),
    "in_doubt": ("?", "?", "in doubt", "red"),
    "skipped": ("»", ">", "skipped", "yellow"),
    "compensating": ("↶", "<", "is being undone", "yellow"),
    "compensated": ("↩", "~", "undone", "yellow"),
    "compensation_failed": ("✗", "!", "undo failed", "red"),
}
"""By a step's status: its mark, the mark where that cannot be written, what it is called, and its colour."""
_UNDER_WAY: Final = ("running", "waiting", "compensating")
"""Of these, what is left can only be told later."""
_DECISIONS: Final = 5
"""What persons decided last, so many at most; the journal has all."""
_REFUSED: Final = {"stuck": ("retry", "resume", "skip", "compensate"), "paused": ("resume",), "completed": ("undo",)}
"""By status: the actions that one may think of there, and is told of why they do not fit."""
_ENDED: Final = ("paused", "completed", "compensated", "stuck")


def tree(view: ExecutionView, now: float, traceback: bool = False) -> Iterator[str]:
    """Yield the lines of an execution as it is shown."""
    row = view.execution
    head = status(row.status)
    yield f"{coloured(head) if colours() else head}  {line(f'{row.name} {row.saga_id}')}"
    reason = row.reason or view.reason
    waits = view.waits if reason is None or reason not in (view.waits or "") else None  # which says it, too
    for title, text in (
        ("why", in_a_line(reason, row.cause)),
        ("waits", waits),
        *(("decided", f"{one}, {age(now - one.at)} ago") for one in view.decisions[-_DECISIONS:]),
        ("tags", tags(row.tags)),
        ("version", row.version),
        ("created", f"{iso(row.created)}, {age(now - row.created)} ago"),
        ("inbox", f"{len(view.inbox)} messages that it has not read yet" if view.inbox else None),
    ):
        if text:
            yield f"  {title:<9}{paragraph(text, 11).lstrip()}"
    yield ""
    yield _title("steps")
    path: tuple[str, ...] = ()
    most = max((len(step.name) + 2 * len(step.path) for step in view.steps), default=0)
    for step in view.steps:
        same = next((at for at, (one, other) in enumerate(zip(path, step.path, strict=False)) if one != other), None)
        same = min(len(path), len(step.path)) if same is None else same
        for depth in range(same, len(step.path)):
            yield line(f"  {'  ' * depth}{step.path[depth]}")
        path = step.path
        yield from _step(step, now, min(most, 40), row.owner is not None and row.lease_until > now)
    if view.errors:
        yield ""
        yield _title("errors")
        for error in view.errors:
            where = " ".join(filter(None, [error.step, error.phase, f"attempt {error.attempt}" if error.attempt else None]))
            said = f"{f'{where}: ' if where else ''}{error.type}: {error.text}"
            yield f"  {iso(error.at)}  {paragraph(said, 28).lstrip()}"
            if traceback and error.traceback:
                yield from _trace(error.traceback)
    yield ""
    yield _title("what can be done")
    for offer in view.offers:
        yield one_line(f"  {offer.command(row.saga_id)}")
        yield paragraph(offer.does, 6)
    refused = [(action, view.refused[action]) for action in _REFUSED.get(row.status, ()) if action in view.refused]
    if not view.offers and not refused:
        yield f"  nothing: it has ended ({one_line(row.status)})"
    for action, reason in refused:
        yield entry(f"  not {action}: {reason}", 6)


def _trace(traceback: str) -> Iterator[str]:
    """Yield a traceback's lines. Those that only point at a place in the line above are cut where the terminal ends."""
    for text in traceback.splitlines():
        yield line(f"    {text}") if not text.strip(" ^~") else f"    {one_line(text)}"


def _title(text: str) -> str:
    return click.style(text.upper(), bold=True) if colours() else text.upper()


def _step(step: StepView, now: float, most: int, held: bool) -> Iterator[str]:
    """Yield the lines of a step. :param held: whether somebody runs the execution, or may, as far as the store knows."""
    mark, plain, word, colour = _STEPS.get(step.status, ("?", "?", str(step.status), None))
    if step.status == "running" and step.waits_for is not None:
        word = f"waits for {step.waits_for}"
    elif step.status == "running" and step.next_at is not None:
        word = "waits"
    elif step.status == "running" and not held:  # what it waits for, its definition knows; or its process died
        word = "begun, and nobody runs it now"
    if step.asks:
        word += ", a person is asked"
    elif step.in_doubt and step.status != "in_doubt":
        word += ", in doubt"
    name = f"{'  ' * len(step.path)}{one_line(step.name)}"
    facts = [word, *_facts(step, now)]
    text = line(f"  {marked(mark, plain)} {name:<{most}}  {'; '.join(filter(None, facts))}")
    if colour is not None and colours():
        text = click.style(text[:3], fg=colour) + text[3:]
    yield text
    indent = " " * (4 + 2 * len(step.path) + 2)
    for before, said in (("", step.error), ("undo: ", step.compensation_error), ("", step.settled)):
        if said is not None:
            yield paragraph(f"{before}{said}", len(indent))
    if step.result is not None:
        yield line(f"{indent}{marked('→', '->')} {step.result}")


def _facts(step: StepView, now: float) -> Iterator[str]:
    """Yield what there is to say of a step besides its status."""
    if step.left and step.status not in _UNDER_WAY and (step.status, step.effect) != ("compensated", "undone"):
        yield step.left
    if step.attempts > 1:
        yield f"{step.attempts} attempts"
    if step.compensation_attempts > 1:
        yield f"{step.compensation_attempts} undo attempts"
    if step.verified is not None:
        yield "verified: it was done" if step.verified else "verified: it was not done"
    if step.next_at is not None and step.next_at > now:
        yield f"next in {age(step.next_at - now)}"
    if step.elapsed >= 0.0005:
        yield f"{step.elapsed * 1000:.0f} ms" if step.elapsed < 10 else f"{step.elapsed:.0f} s"


def meant(operations: Operations, text: str) -> str:
    """Return the id that is meant: one as it is, or that of the only one that is found by a tag or the beginning of its id.

    :raises click.UsageError: several have it.
    """
    found = operations.find(text)
    if not found or found[0].saga_id == text:
        return text
    if len(found) > 1:
        click.echo(executions(found, operations.store.now()), err=True)
        raise click.UsageError(f"{text} may be one of {len(found)} executions; give the id of one")
    return found[0].saga_id


@click.command()
@click.argument("saga_id", metavar="ID|TEXT", shell_complete=known_ids)
@click.option("--follow", "-f", is_flag=True, help="Go on telling until it has ended; the exit code says how.")
@click.option("--every", type=SECONDS, default=1.0, metavar="TIME", help="With --follow: how often to look.")
@click.option("--traceback", is_flag=True, help="Show the errors' tracebacks.")
@common
@click.pass_obj
def show(settings: Settings, saga_id: str, follow: bool, every: float, traceback: bool) -> int:
    """Tell of an execution: a tree of its steps, with what stands, what is undone and what nobody knows; its errors; what each
    action would do here, and the command for it. A text that is no id finds the only one whose id begins so, or that has such a
    tag.

    With --import, steps that have not begun are told of, too, and what loggers mask is hidden.
    """
    operations = settings.operations()
    saga_id = meant(operations, saga_id)
    if follow:
        try:
            return _followed(settings, operations, saga_id, every, traceback)
        except KeyboardInterrupt:  # which is no end of the execution
            return INTERRUPTED
    view = operations.show(saga_id)
    if settings.form == "json":
        print_records("json", "journal", (record("entry", one) for one in view.journal), **record("view", view))
    elif settings.form == "jsonl":
        print_record(record("view", view))
    else:
        _print(view, operations.store.now(), traceback)
    return DONE


def _print(view: ExecutionView, now: float, traceback: bool) -> None:
    for text in tree(view, now, traceback):
        say(text)


def _followed(settings: Settings, operations: Operations, saga_id: str, every: float, traceback: bool) -> int:
    """Tell until it has ended: the tree again in a terminal, entries as they come elsewhere."""
    drawn = on_terminal() and settings.form == "text"
    told = 0
    while True:
        view = operations.show(saga_id)
        if drawn:
            lines: list[Any] = list(tree(view, operations.store.now(), traceback))
            clear()
            say("\n".join(lines))
        for one in () if drawn else view.journal:
            if one.seq > told:
                told = one.seq
                if settings.form == "text":
                    say(entry(one, 6))
                else:
                    print_record(record("entry", one))
        if view.execution.status in _ENDED:
            return ended(view.execution.status)
        time.sleep(every)


COMMANDS: Final = {"show": show}
