"""Certificates: what was measured of tasks, kept in a file that is made to be committed. Nothing is measured here."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from saga.diagram.words import policies
from saga.errors import SagaDefinitionError
from saga.flow import FunctionTask
from saga.machine import Each, PlannedStep

if TYPE_CHECKING:
    from saga.definition import Definition

__all__ = [
    "CERTIFIED",
    "DOES_NOT_APPLY",
    "FAILED",
    "FILE",
    "HOLDS",
    "MISSING",
    "STALE",
    "Certificate",
    "Certificates",
    "certificate_of",
    "tasks_of",
]

FILE: Final = "saga-certificates.json"
HOLDS: Final = "holds"
DOES_NOT_APPLY: Final = "does not apply"

CERTIFIED: Final = "certified"
FAILED: Final = "certificate failed"
STALE: Final = "certificate stale"
MISSING: Final = "not certified"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured of a task, in its place in a saga.

    :ivar saga: the saga's name.
    :ivar step: the step's.
    :ivar task: the qualified name of the task's class, or of its function.
    :ivar digest: stands for its source, and for the step's policies, as they were.
    :ivar measured: what was measured, and what came of it: ``"holds"``, ``"does not apply"``, or what is wrong.
    """

    saga: str
    step: str
    task: str
    digest: str
    measured: Mapping[str, str]

    @property
    def wrong(self) -> dict[str, str]:
        """What does not hold, and what was seen instead."""
        return {what: came for what, came in self.measured.items() if came not in (HOLDS, DOES_NOT_APPLY)}


class Certificates:
    """Certificates, sorted by their sagas and steps: what :func:`~saga.testing.certify` returns, and what a file has."""

    def __init__(self, certificates: Iterable[Certificate] = ()) -> None:
        found = {(one.saga, one.step): one for one in certificates}
        self._of: Mapping[tuple[str, str], Certificate] = MappingProxyType(dict(sorted(found.items())))

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self._of.values())

    def __len__(self) -> int:
        return len(self._of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificates) and self._of == other._of

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<certificates of {len(self)} steps>"

    def of(self, saga: str, step: str) -> Certificate | None:
        """Return the certificate of a saga's step, if there is one."""
        return self._of.get((saga, step))

    @property
    def wrong(self) -> list[str]:
        """What does not hold, in lines: ``place-order/Pay: undo twice does no harm: paid['A1']: 0, then -30``."""
        return [f"{one.saga}/{one.step}: {what}: {came}" for one in self for what, came in one.wrong.items()]

    def merge(self, other: Certificates) -> Certificates:
        """Return these with another's: of the sagas that are in that one, only what that one has."""
        sagas = {one.saga for one in other}
        return Certificates([*(one for one in self if one.saga not in sagas), *other])

    def standing(self, definition: Definition) -> dict[str, str]:
        """Return how each task of a saga stands, by its step's name.

        ``"certified"``, ``"not certified"``, ``"certificate stale"`` where its source or its policies have changed, or
        ``"certificate failed"``.
        """
        return {step.name: self._standing(definition, step) for step in tasks_of(definition)}

    def _standing(self, definition: Definition, step: PlannedStep) -> str:
        known = self.of(definition.name, step.name)
        if known is None:
            return MISSING
        if known.digest != _digest(step):
            return STALE
        return FAILED if known.wrong else CERTIFIED

    # -- the file -----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str] = FILE) -> None:
        """Write a file: a line for each certificate, sorted, so that what changes is seen.

        :raises OSError: it cannot be written.
        """
        lines = [json.dumps(_record(one), ensure_ascii=False) for one in self]
        Path(path).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str] = FILE) -> Certificates:
        """Read a file.

        :raises OSError: it cannot be read.
        :raises SagaDefinitionError: it is none of certificates.
        """
        try:
            return cls(_certificate(one) for one in json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            raise SagaDefinitionError(
                f"{os.fspath(path)} is no file of certificates ({type(error).__name__}: {error}); certify() and save() make one"
            ) from error


def _record(one: Certificate) -> dict[str, str]:
    return {"saga": one.saga, "step": one.step, "task": one.task, "digest": one.digest, **one.measured}


def _certificate(record: Any) -> Certificate:
    measured = dict(record)
    saga, step, task, digest = (measured.pop(name) for name in ("saga", "step", "task", "digest"))
    return Certificate(saga, step, task, digest, measured)


# -- of a definition --------------------------------------------------------------------------------------------------


def tasks_of(definition: Definition) -> list[PlannedStep]:
    """Return the steps that have a task, in the order declared; those that are done for each item of a list are ``ship[]``."""
    steps = definition.plan.declared()
    return [step for step in steps if step.pause is None and step.ways is None and not isinstance(step.then, Each)]


def certificate_of(definition: Definition, step: PlannedStep, measured: Mapping[str, str]) -> Certificate:
    """Return what was measured of a step, as a certificate.

    :raises SagaDefinitionError: nobody knows the task's source.
    """
    digest, (named, *_) = _digest(step), _parts(step)
    task = f"{named.__module__}.{named.__qualname__}"
    if digest is None:
        raise SagaDefinitionError(
            f"saga {definition.name!r}: the source of {task} cannot be read, and a certificate is one of that; define it in a "
            "file"
        )
    return Certificate(definition.name, step.name, task, digest, measured)


def _digest(step: PlannedStep) -> str | None:
    """Return what stands for a task's source and its step's policies; ``None``: nobody knows it."""
    try:
        sources = [_source_of(one) for one in _parts(step)]
    except (OSError, TypeError):
        return None
    return hashlib.sha256("\n".join((*sources, *policies(step))).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _source_of(one: Any) -> str:
    """Return the source of a class or a function.

    :raises OSError, TypeError: nobody knows it.
    """
    if inspect.isroutine(one) and not hasattr(one, "__code__"):  # it is written in C, and not by the user
        return str(one.__qualname__)
    try:
        return inspect.cleandoc(inspect.getsource(one))
    except (OSError, TypeError):
        methods = [each for each in vars(one).values() if inspect.isfunction(each)] if isinstance(one, type) else []
        if not methods:
            raise
        return "\n".join(map(_source_of, methods))  # of a class in a notebook


def _parts(step: PlannedStep) -> list[Any]:
    """Return the functions of a task, or its class and those it inherits from, but for this package's own."""
    task = step.inner_task
    if isinstance(task, FunctionTask):
        adapted = (task.action, task.compensation, task.verification)
        return [_written(one.function) for one in adapted if one is not None]
    own = [kind for kind in step.kind.__mro__ if kind.__module__.partition(".")[0] not in _NOT_THE_USERS]
    return own or [step.kind]


def _written(function: Any) -> Any:
    """Return what is written in a file of a function: what a partial calls, the class of an object."""
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    return function if inspect.isroutine(function) else type(function)


_NOT_THE_USERS: Final = ("abc", "builtins", "saga", "typing")
