"""What of a journal, or of a context, is not to be shown: what the masks of its definition's loggers name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from saga.definition import Definition
from saga.logging import SagaLogger
from saga.looking.shown import JournalLine
from saga.shown_keys import HIDDEN, RESULT

__all__ = ["Masks", "masked_lines"]


class Masks:
    """What a definition's loggers hide: every value under a key that a mask ends with, however deep it lies, and the result of
    a step of such a name. ``"result"`` hides every result.
    """

    def __init__(self, definition: Definition | None) -> None:
        observers = definition.observers if definition is not None else ()
        self._paths = {path for one in observers if isinstance(one, SagaLogger) for path in one.mask}
        self._names = {path.rpartition(".")[2] for path in self._paths if path != RESULT}

    def of(self, value: Any) -> Any:
        """Return a value, as it is stored, without what is to be hidden in it."""
        return _hidden(value, self._names) if self._paths else value

    def of_result(self, step: str | None, value: Any) -> Any:
        """Return the result of a step, as it is stored, without what is to be hidden."""
        hidden = step in self._names or RESULT in self._paths or f"{RESULT}.{step}" in self._paths
        return HIDDEN if hidden else self.of(value)

    def of_line(self, line: JournalLine) -> JournalLine:
        """Return a line without what is to be hidden."""
        if not self._paths:
            return line
        found = {key: value if key == "error" else self.of(value) for key, value in line.details.items()}
        if RESULT in found:
            found[RESULT] = self.of_result(line.step, found[RESULT])
        return replace(line, details=found)


def masked_lines(lines: Sequence[JournalLine], definition: Definition | None) -> tuple[JournalLine, ...]:
    """Return the lines without what is to be hidden: see :class:`Masks`."""
    masks = Masks(definition)
    return tuple(masks.of_line(line) for line in lines)


def _hidden(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if key in names else _hidden(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one, names) for one in value]
    return value
