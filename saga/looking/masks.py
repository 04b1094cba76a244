"""What of a journal is not to be shown: what the masks of its definition's loggers name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from saga.definition import Definition
from saga.logging import SagaLogger
from saga.looking.shown import JournalLine
from saga.shown_keys import HIDDEN, RESULT

__all__ = ["masked_lines"]


def masked_lines(lines: Sequence[JournalLine], definition: Definition | None) -> tuple[JournalLine, ...]:
    """Return the lines without what is to be hidden: every value under a key that a mask ends with, however deep it lies, and
    the result of a step of such a name. ``"result"`` hides every result.
    """
    observers = definition.observers if definition is not None else ()
    paths = {path for one in observers if isinstance(one, SagaLogger) for path in one.mask}
    if not paths:
        return tuple(lines)
    names = {path.rpartition(".")[2] for path in paths if path != RESULT}
    return tuple(replace(line, details=_details(line, paths, names)) for line in lines)


def _details(line: JournalLine, paths: Collection[str], names: Collection[str]) -> dict[str, Any]:
    found = {key: value if key == "error" else _hidden(value, names) for key, value in line.details.items()}
    if RESULT in found and (line.step in names or RESULT in paths or f"{RESULT}.{line.step}" in paths):
        found[RESULT] = HIDDEN
    return found


def _hidden(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if key in names else _hidden(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one, names) for one in value]
    return value
