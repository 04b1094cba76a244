"""What histories are described by: settings, points, lines. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from saga.blobs import MemoryBlobs
from saga.context import Context
from saga.definition import Definition
from saga.plain import one_line, text_of
from saga.testing.faults import Kind

if TYPE_CHECKING:
    from saga.testing.blocks import Block

__all__ = ["ID", "Broken", "Line", "Point", "Setting", "apart", "objection"]

ID: Final = "explored"
"""The id that an execution has in every history; of a block, where it gives none."""


def apart(definition: Definition, blobs: MemoryBlobs) -> Definition:
    """Return a definition whose large values are kept in memory: the program's own blobs are left alone."""
    codec = definition.codec
    return definition if codec is None or codec.blobs is None else replace(definition, codec=codec.with_blobs(blobs))


class Broken(NamedTuple):
    """A law that a history breaks.

    :ivar law: what holds in every history.
    :ivar how: what was seen here.
    """

    law: str
    how: str


class Point(NamedTuple):
    """Where something can go wrong: the ``call``-th time that a history comes to a step's place, and what can there."""

    step: str
    place: str
    call: int
    kinds: tuple[Kind, ...]


@dataclass(slots=True)
class Line:
    """What happened in a history: a call, most often.

    :ivar life: the number of the process, from 1.
    :ivar step: the step's name.
    :ivar what: ``execute``, ``compensate``, ``verify``, or what else happened.
    :ivar attempt: of the call; 0 where it is none.
    :ivar came: what came of it.
    :ivar fault: what struck it.
    """

    life: int
    step: str
    what: str
    attempt: int = 0
    came: str = ""
    fault: Kind | None = None


@dataclass(slots=True)
class Setting:
    """What all histories of an exploration have in common.

    :ivar make: returns a world, the definition of a saga that acts on it, and a context, all new.
    :ivar define: returns a definition of that saga, as another process has it: its tasks are others. A block's is that which a
        recovery undoes it by.
    :ivar has_store: whether a process's death is outlived.
    :ivar kinds: what can go wrong.
    :ivar invariant: called with the world after each call.
    :ivar signals: the values of signals, by name.
    :ivar may_fail: the names of steps whose ``compensate`` or ``verify`` may fail by themselves.
    :ivar asked: the arguments that :func:`saga.testing.replay` gets for the same, as they are written; the faults are ``{}``.
    :ivar block: what runs the block, where it is one.
    :ivar footprints: by step, where the world was seen to change in its calls.
    """

    make: Callable[[], tuple[Any, Definition, Context]]
    define: Callable[[Any], Definition]
    has_store: bool
    kinds: frozenset[Kind]
    invariant: Callable[[Any], Any] | None
    signals: Mapping[str, Any]
    may_fail: frozenset[str]
    asked: str
    block: Block | None = None
    footprints: dict[str, set[str]] = field(default_factory=dict)


def objection(function: Callable[..., Any], *given: Any) -> str | None:
    """Return what an invariant finds wrong, if anything.

    :raises Exception: it fails itself.
    """
    try:
        said = function(*given)
    except AssertionError as error:  # pytest adds lines to the first
        return one_line(text_of(error).partition("\n")[0]) or "its assertion fails"
    return None if said is None or said is True else f"it returned {one_line(said)}"
