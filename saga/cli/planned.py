"""``saga check`` and ``diagram``: definitions, before anything is run by them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from saga.cli.certifying import certified_in, read
from saga.cli.definitions import loaded
from saga.cli.exits import DONE, PERSON, UNDONE
from saga.cli.exploring import explored, exploring
from saga.cli.files import write
from saga.cli.options import Settings, common
from saga.cli.records import print_records, record
from saga.cli.shown import Column, counted, line, marked, paragraph, say, table

if TYPE_CHECKING:
    from saga import Finding
    from saga.saga import Saga
    from saga.testing import Certificates

__all__ = ["COMMANDS"]


def left_by(sagas: list[Saga[Any]], settings: Settings) -> dict[str, int] | None:
    """Return how many executions that have not ended none of these definitions fits, by saga; ``None`` without a store."""
    if settings.store(needed=False) is None:
        return None
    found: dict[str, int] = {}
    for version in settings.operations().versions():
        same = [saga.definition for saga in sagas if saga.name == version.name]
        fits = any(one.plan.fingerprint == version.fingerprint or version.version in one.compatible_with for one in same)
        if same and not fits:
            found[version.name] = found.get(version.name, 0) + sum(version.executions.values())
    return found


@click.command()
@click.argument("references", metavar="[MODULE[:SAGA]]...", nargs=-1)
@certified_in
@click.option("--given", multiple=True, metavar="KEY", help="A key of the context that inputs have. May be given again.")
@click.option("--strict", is_flag=True, help="With --certificates: what is not certified is exit code 1.")
@exploring
@common
@click.pass_obj
def check(
    settings: Settings,
    /,
    references: tuple[str, ...],
    certificates: Path | None,
    given: tuple[str, ...],
    strict: bool,
    explore: bool,
    **how: Any,
) -> int:
    """Compile definitions, tell of their steps and policies, and whether a step lacks a key of the context that it requires.

    A key that is missing, or that branches set at the same time, is exit code 1. What else depends on the input is told.

    With a store: how many executions there have not ended that they do not fit, which is exit code 3. Good before a deploy.

    With --certificates: which tasks have none, or one that is stale or has failed.

    --explore executes them, with the tasks that they have, once for each combination of faults, and stores nothing. What breaks
    a law is exit code 1, and told with the shortest history that does, and a test to paste. SAGA may be a function then that
    makes one for a world.
    """
    listed = next((key for key in given if "," in key), None)
    if listed is not None:
        each = " ".join(f"--given {key.strip()}" for key in listed.split(","))
        raise click.UsageError(f"--given {listed} is one key; give {each}")
    if explore and given:
        raise click.UsageError("--given is for keys that steps require; give --explore a --context")
    if explore:
        return explored(settings, references, **how)
    for name, value in how.items():
        if value not in (None, ()):
            raise click.UsageError(f"--{name.replace('_', '-')} is for --explore; give it, too")
    if references:
        settings.sagas  # noqa: B018 - from then on modules are found here
    sagas = [saga for reference in references for saga in loaded(reference)] or settings.sagas
    if not sagas:
        raise click.UsageError("check what? Give module or module:saga")
    settings.found = sagas
    for saga in sagas:
        saga.definition  # noqa: B018 - what is wrong with it is raised
    left = left_by(sagas, settings)
    known = read(settings, certificates)
    if strict and known is None:
        raise click.UsageError("--strict is for certificates; give --certificates FILE, too")
    standing = [None if known is None else known.standing(saga.definition) for saga in sagas]
    unsound = any(set(steps.values()) - {"certified"} for steps in standing if steps is not None)
    keys = [_keys_of(saga, given) for saga in sagas]
    lacking = any(one.wrong for some in keys for one in some or ())
    code = PERSON if left else UNDONE if lacking or (strict and unsound) else DONE
    if settings.form != "text":
        print_records(
            settings.form,
            "definitions",
            (
                {
                    "name": saga.name,
                    "version": saga.definition.version,
                    "fingerprint": saga.plan.fingerprint,
                    "steps": list(saga.plan.names),
                    "asynchronous": saga.plan.asynchronous,
                    "left": None if left is None else left.get(saga.name, 0),
                    "certificates": steps,
                    "keys": None if some is None else [record("key", one) for one in some],
                }
                for saga, steps, some in zip(sagas, standing, keys, strict=True)
            ),
        )
        return code
    for saga, some in zip(sagas, keys, strict=True):
        _tell(saga, known)
        _tell_keys(some)
    for name, number in (left or {}).items():
        say(line(f"{marked('✗', '!')} no definition here fits {counted(number)} of {name} that go on"))
    return code


def _keys_of(saga: Saga[Any], given: tuple[str, ...]) -> list[Finding] | None:
    """Return what was found of the keys that steps require and provide; ``None``: no step says which these are."""
    from saga.saga import Saga

    return Saga.check(saga, given or None) if saga.plan.declares else None  # a step of it may be called check


def _tell_keys(found: list[Finding] | None) -> None:
    if found is None:
        say("  no step says which keys of the context it requires or provides")
    elif not found:
        say(f"  {marked('✓', '+')} each key of the context that a step requires is there")
    for one in found or ():
        mark = marked("✗", "!") if one.wrong else marked("·", ".")
        say(paragraph(f"{mark} {one}", 2))


def _tell(saga: Saga[Any], known: Certificates | None) -> None:
    """Print a definition's steps, and which of its tasks are not certified."""
    from saga.diagram.words import policies

    standing = {} if known is None else known.standing(saga.definition)
    say(line(f"{marked('✓', '+')} {saga.name} {saga.definition.version} ({saga.plan.fingerprint})"))
    columns = (Column("step"), Column("undo"), Column("certificate"), Column("policies", below=True))
    rows = [
        (
            step.name,
            "yes" if step.compensates else "no",
            standing.get(step.name),
            "; ".join(policies(step)),
        )
        for step in saga.plan.declared()
    ]
    say("\n".join(f"  {text}" for text in table(columns, rows, indent=2).splitlines()))
    for one in known or ():
        if one.saga == saga.name and standing.get(one.step) == "certificate failed":
            for what, came in one.wrong.items():
                say(paragraph(f"{marked('✗', '!')} {one.step}: {what}: {came}", 2))
    left = sum(how != "certified" for how in standing.values())
    if left:
        say(line(f"{marked('✗', '!')} {left} of {counted(len(standing), 'task')} not certified; saga certify measures them"))


@click.command()
@click.argument("reference", metavar="MODULE:SAGA")
@click.option("--id", "saga_id", metavar="ID", help="Draw how this execution went.")
@click.option("--format", "form", type=click.Choice(("svg", "mermaid", "sequence")), default="mermaid", help="What to draw.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where to write it.")
@certified_in
@common
@click.pass_obj
def diagram(
    settings: Settings, reference: str, saga_id: str | None, form: str, output: Path | None, certificates: Path | None
) -> None:
    """Draw a saga as SVG, as a flowchart for Mermaid, or as a sequence diagram."""
    saga = settings.saga(reference)
    result = None if saga_id is None else saga.load(saga_id, store=settings.store())
    text = str(getattr(saga.diagram(result, certificates=read(settings, certificates)), form)())
    if output is None:
        click.echo(text)
        return
    write(output, text)


COMMANDS: Final = {"check": check, "diagram": diagram}
