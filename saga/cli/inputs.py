"""Inputs of executions, from a file: JSON, one object a line, or one document with one or many."""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from saga.errors import SagaDefinitionError
from saga.names import checked_name
from saga.plain import text_of

__all__ = ["Inputs", "Item", "inputs"]

Item = tuple[str | None, dict[str, Any]]
"""An id and an input."""


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
        """Read all of them, if that can be done twice, and return how many there are; ``None``: that is not known.

        :raises click.UsageError: one is wrong.
        """
        return None if self._comes_once() else sum(1 for _ in self)

    def _comes_once(self) -> bool:
        """Whether it cannot be read twice: the standard input, or a pipe that a shell has made: ``--input <(...)``."""
        return self.source is not None and (self.source == "-" or Path(self.source).is_fifo())

    def until(self, stop: threading.Event) -> Iterator[Item]:
        """Yield each id and input until it is time to stop, while nothing more comes through a pipe, too.

        :raises click.UsageError: one is wrong.
        """
        return _until(stop, self) if self._comes_once() else iter(self)

    def __iter__(self) -> Iterator[Item]:
        """Yield each id and input.

        :raises click.UsageError: one is wrong.
        """
        for number, (where, value) in enumerate(self._values(), 1):
            if not isinstance(value, dict):
                raise click.UsageError(f'{where} is no JSON object; an input is one, such as {{"order": "A1"}}')
            if self.key is not None and not isinstance(value.get(self.key), str | int):
                raise click.UsageError(f"{where} has no {self.key!r} that is a text or a whole number, to be its id")
            saga_id = str(value[self.key]) if self.key is not None else f"{self.prefix}{number}" if self.prefix else None
            if saga_id is not None:
                try:
                    checked_name(saga_id, "its id")
                except SagaDefinitionError as error:
                    raise click.UsageError(f"{where}: {text_of(error)}") from error
            yield saga_id, value

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
    try:
        # utf-8-sig: some editors begin a file with a mark of its encoding.
        file = _standard_input() if source == "-" else Path(source).open(encoding="utf-8-sig")  # noqa: SIM115
    except OSError as error:
        raise click.UsageError(f"{source} cannot be read: {error.strerror}") from error
    with file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise click.UsageError(f"{source} is no text in UTF-8: {error}") from error


def _standard_input() -> IO[str]:
    """Return it as a file of its own: a thread that waits for its next line is not in the way of the process's end."""
    try:
        return open(os.dup(sys.stdin.fileno()), encoding="utf-8-sig")
    except io.UnsupportedOperation:  # it is no file at all
        return sys.stdin


def _until(stop: threading.Event, items: Iterable[Item]) -> Iterator[Item]:
    came: queue.Queue[Item | BaseException | None] = queue.Queue(1)

    def read() -> None:
        try:
            for item in items:
                came.put(item)
        except BaseException as error:
            came.put(error)
        else:
            came.put(None)

    threading.Thread(target=read, name="saga run: its input", daemon=True).start()
    while not stop.is_set():
        try:
            item = came.get(timeout=0.1)
        except queue.Empty:
            continue
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return
        yield item


def _read(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
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
