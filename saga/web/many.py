"""What a visitor does with many executions at once: on which, what they are asked before, and what became of it.

Nothing is done with an execution that was not among those that were asked about, nor with one that has become stuck anew since.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from saga.errors import SagaDefinitionError, StorageError, UnknownExecutionError
from saga.events import Status
from saga.operations import Acted, Cause, Operations
from saga.plain import one_line
from saga.storage import StoredExecution
from saga.web.acting import LONGEST
from saga.web.views import AT_ONCE, FEW, ON_MANY, key_of

__all__ = ["OnMany", "Question", "act_on", "asked_about", "few", "of_cause", "of_ids", "those_of"]

_LONGEST_ADDRESS: Final = 3000
"""Bytes of ids that an address has."""
_KINDS: Final = 20
"""Of how many kinds it is told what would follow: the most frequent ones."""


class Some(NamedTuple):
    """Some executions.

    :ivar rows: theirs.
    :ivar left: how many more there are that nothing is to be done with.
    """

    rows: Sequence[StoredExecution]
    left: int = 0


class Kind(NamedTuple):
    """Executions that stand alike.

    :ivar sample: one of them.
    :ivar number: how many there are.
    :ivar does: what would follow with the sample, in a sentence; ``None``: the action does not fit.
    :ivar refused: why it does not; ``None``: it does.
    """

    sample: StoredExecution
    number: int
    does: str | None
    refused: str | None


class Question(NamedTuple):
    """What is asked before anything is done.

    :ivar others: how many executions are of other kinds, which are too many to be told.
    :ivar those: which executions, for the form that says yes.
    :ivar left: how many more there are that nothing is done with.
    """

    action: str
    kinds: Sequence[Kind]
    others: int
    rows: Sequence[StoredExecution]
    those: str
    left: int


class OnMany(NamedTuple):
    """What became of an action on many.

    :ivar given: the ids of those that it was given to.
    :ivar refused: what became of the others.
    """

    action: str
    given: Sequence[str]
    refused: Sequence[Acted]


async def of_cause(operations: Operations, key: str, most: str) -> Some:
    """Return the executions that are stuck for a cause, newest first.

    :param key: what stands for the cause.
    :param most: so many of them at most, in digits; blank: all.
    :raises HTTPException: there is none any more, or it is no number.
    """
    number = int(most) if most.strip().isdecimal() and len(most) < 10 else AT_ONCE if not most.strip() else 0
    if not number:
        raise HTTPException(400, f"{one_line(most)!r} is no number of executions; give one such as 10, or none for all.")
    cause = next((one for one in await operations.acauses() if key_of(one) == key), None)
    rows = [] if cause is None else [row async for row in _stuck_for(operations, cause, min(number, AT_ONCE))]
    if cause is None or not rows:
        raise HTTPException(409, "Nothing is stuck for this cause any more, so nothing was done.")
    return Some(rows, max(0, cause.executions - len(rows)))


async def _stuck_for(operations: Operations, cause: Cause, most: int) -> AsyncGenerator[StoredExecution, None]:
    async for row in operations.aall(status="stuck", name=cause.name, step=cause.step, cause=cause.cause, limit=200):
        if most and (row.step, row.cause) == (cause.step, cause.cause):  # a filter of none is no filter
            most -= 1
            yield row
        if not most:
            return


async def of_ids(operations: Operations, saga_ids: Sequence[str]) -> Some:
    """Return the executions of these ids, without those that are gone.

    :raises HTTPException: there is none.
    """
    rows = []
    for saga_id in dict.fromkeys(saga_ids[:AT_ONCE]):
        with suppress(UnknownExecutionError, SagaDefinitionError):
            rows.append(await operations.aget(saga_id))
    if not rows:
        raise HTTPException(400, "No execution is ticked, so nothing was done. Go back and tick those that you mean.")
    return Some(rows)


async def asked_about(operations: Operations, action: str, some: Some) -> Question:
    """Return what is asked before an action is done with some executions: with which, and what would follow.

    :raises HTTPException: it is no action for many.
    """
    if action not in ON_MANY:
        raise HTTPException(400, f"{action} is done with one execution at a time, so nothing was done.")
    alike: dict[tuple[str | None, ...], list[StoredExecution]] = {}
    for row in some.rows:  # a reason says which steps failed, and then what was raised there, which is different everywhere
        reason = (row.reason or "").partition(" (")[0] if row.status == Status.STUCK else None
        alike.setdefault((row.name, row.status, row.step, row.cause, reason), []).append(row)
    every = sorted(alike.values(), key=len, reverse=True)
    kinds = [Kind(rows[0], len(rows), *await _would_do(operations, action, rows[0])) for rows in every[:_KINDS]]
    others = sum(map(len, every[_KINDS:]))
    those = json.dumps([(row.saga_id, _since(row)) for row in some.rows], separators=(",", ":"))
    return Question(action, kinds, others, some.rows, those, some.left)


async def _would_do(operations: Operations, action: str, row: StoredExecution) -> tuple[str | None, str | None]:
    try:
        view = await operations.ashow(row.saga_id)
    except UnknownExecutionError as error:
        return None, one_line(error)
    for offer in view.offers:
        if offer.action == action and (action != "skip" or offer.step == row.step):
            return offer.does, None
    return None, view.refused.get(action, f"{row.step or 'no step'} is not one that waits for a decision of a person")


def _since(row: StoredExecution) -> float | None:
    """Return since when an execution is stuck; ``None``: it is not."""
    return row.progressed if row.status == Status.STUCK else None


async def act_on(operations: Operations, action: str, why: str, those: str) -> OnMany:
    """Act on each execution that was asked about, and that is not stuck anew since.

    :param those: which, as the question had it.
    :raises HTTPException: it is no action for many, or those are none.
    :raises ValueError: ``why`` is empty.
    """
    if action not in ON_MANY:
        raise HTTPException(400, f"{action} is done with one execution at a time, so nothing was done.")
    if len(why) > LONGEST:
        raise HTTPException(413, "The reason is too long.")
    acted: list[Acted] = []
    meant = those_of(those)
    for saga_id, since in meant:
        try:
            acted.append(await _acted(operations, action, why, saga_id, since))
        except StorageError as error:
            if not acted:
                raise
            acted += [Acted(other, False, one_line(error)) for other, _ in meant[len(acted) :]]
            break
    given = [one.saga_id for one in acted if one.done]
    return OnMany(action, given, [one for one in acted if not one.done])


def those_of(those: str) -> Sequence[tuple[str, float | None]]:
    """Return ids of executions, and since when each was stuck when it was asked about.

    :raises HTTPException: those are none, or too many.
    """
    try:
        read = [(saga_id, since) for saga_id, since in json.loads(those)]
    except (ValueError, TypeError, RecursionError):
        read = []
    fit = [isinstance(saga_id, str) and isinstance(since, int | float | None) for saga_id, since in read]
    if not read or len(read) > AT_ONCE or not all(fit):
        raise HTTPException(400, "This form does not say which executions are meant, so nothing was done.")
    return read


async def _acted(operations: Operations, action: str, why: str, saga_id: str, since: float | None) -> Acted:
    try:
        row = await operations.aget(saga_id)
    except (UnknownExecutionError, SagaDefinitionError) as error:
        return Acted(saga_id, False, one_line(error))
    if since is not None and not math.isclose(_since(row) or 0.0, since, rel_tol=0.0, abs_tol=1e-4):
        return Acted(saga_id, False, "it does not stand any more as it did when you were asked; look at it again")
    if action == "skip" and row.step is None:
        return Acted(saga_id, False, "no step waits for a decision of a person")
    step = row.step if action == "skip" else None
    [acted] = [one async for one in operations.aeach(action, why, [saga_id], step=step)]
    return acted


def few(saga_ids: Sequence[str]) -> Sequence[str]:
    """Return the first of some ids: as many as an address has room for."""
    room = [*accumulate(len(urlencode({"of": saga_id})) for saga_id in saga_ids[:FEW])]
    return saga_ids[: sum(length <= _LONGEST_ADDRESS for length in room)]
