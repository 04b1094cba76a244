"""Inputs of executions, from a file: JSON, one object a line, or one document with one or many."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

__all__ = ["Inputs", "inputs"]


@dataclass(frozen=True)
class Inputs:
    """Inputs, and the ids of their executions.

    :ivar source: a path, ``"-"`` for the standard input, or ``None``: one that is empty.
    :ivar key: of an input, whose value is the id; ``prefix``: the id is this and the input's number. ``None``: any id.
    """

    source: str | None
    key: str | None
    prefix: str | None

    def check(self) -> int | None:
        """Read all of them, if that can be done twice, and return how many there are.

        :raises click.UsageError: one is wrong.
        """
        return None if self.source == "-" else sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[str | None, dict[str, Any]]]:
        """Yield each id and input.

        :raises click.UsageError: one is wrong.
        """
        for number, (where, value) in enumerate(self._values(), 1):
            if not isinstance(value, dict):
                raise click.UsageError(f'{where} is no JSON object; an input is one, such as {{"order": "A1"}}')
            if self.key is not None and not isinstance(value.get(self.key), str | int):
                raise click.UsageError(f"{where} has no {self.key!r} that is a text or a whole number, to be its id")
            yield str(value[self.key]) if self.key is not None else f"{self.prefix}{number}" if self.prefix else None, value

    def _values(self) -> Iterator[tuple[str, Any]]:
        if self.source is None:
            yield "the input", {}
            return
        name = "the standard input" if self.source == "-" else self.source
        with _opened(self.source) as file:
            if self.source.endswith(".json"):
                value = _read(file.read(), name)
                yield from (
                    ((f"{name}, number {at}", one) for at, one in enumerate(value, 1))
                    if isinstance(value, list)
                    else [(name, value)]
                )
                return
            for at, text in enumerate(file, 1):
                if text.strip():
                    yield f"{name}, line {at}", _read(text, f"{name}, line {at}")


@contextmanager
def _opened(source: str) -> Iterator[IO[str]]:
    if source == "-":
        yield sys.stdin
        return
    try:
        file = Path(source).open(encoding="utf-8")  # noqa: SIM115 - what is raised within is another matter
    except OSError as error:
        raise click.UsageError(f"{source} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _read(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{where} is no JSON: {error}") from error


def inputs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what the inputs are."""
    for option in (
        click.option("--prefix", metavar="TEXT", help="The ids are this and the number of the input."),
        click.option("--id", "key", metavar="KEY", help="The key of an input whose value is its execution's id."),
        click.option(
            "--input",
            "source",
            metavar="FILE",
            help="Inputs: .json (an object, or a list), .jsonl (an object a line), or - for lines from the standard input.",
        ),
    ):
        command = option(command)
    return command
