"""What a visitor has done by a form: an action on one execution, or on all that are stuck for one cause."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from saga.operations import Acted, Operations
from saga.web.views import ON_MANY, key_of

__all__ = ["ACTIONS", "OnMany", "act", "act_on_all", "chosen", "form_of"]

ACTIONS: Final = ("retry", "resume", "skip", "pause", "cancel", "compensate", "undo")
_AT_ONCE: Final = 1000
"""Executions that one request acts on."""
_LONGEST: Final = 100_000
"""Bytes of a form."""


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    :raises HTTPException: it is too long, or none.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST:
            raise HTTPException(413, "The form is too long.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError as error:
        raise HTTPException(400, "This is no form.") from error


def chosen(form: dict[str, str]) -> tuple[str, str]:
    """Return the action whose button was pressed, and what it is of: a step, a cause, or nothing.

    :raises HTTPException: there is no such action.
    """
    action, _, of = form.get("do", "").partition(":")
    if action not in ACTIONS:
        raise HTTPException(400, "There is no such action.")
    return action, of


async def act(operations: Operations, action: str, saga_id: str, step: str, why: str) -> None:
    """Do it, as the method of ``Operations`` does.

    :raises ActionRefusedError, StorageError, ValueError: as it does.
    """
    if action == "skip":
        await operations.askip(saga_id, step, why)
    elif action == "undo":
        await operations.aundo(saga_id, why, step or None)
    else:
        await getattr(operations, f"a{action}")(saga_id, why)


class OnMany(NamedTuple):
    """What became of an action on many.

    :ivar done: how many it was done with.
    :ivar refused: what became of the others.
    :ivar left: whether there are more, which nothing was done with.
    """

    action: str
    done: int
    refused: list[Acted]
    left: bool


async def act_on_all(operations: Operations, action: str, key: str, why: str) -> OnMany:
    """Act on each execution that is stuck for a cause.

    :param key: what stands for the cause.
    :raises HTTPException: there is none any more, or it is no action for many.
    :raises ValueError: ``why`` is empty.
    """
    cause = next((one for one in await operations.acauses() if key_of(one) == key), None)
    if cause is None or action not in ON_MANY:
        raise HTTPException(409, "Nothing is stuck for this cause any more, so nothing was done.")
    meant = []
    async for row in operations.aall(status="stuck", name=cause.name, step=cause.step, cause=cause.cause):
        if (row.step, row.cause) == (cause.step, cause.cause):
            meant.append(row.saga_id)
        if len(meant) > _AT_ONCE:
            break
    step = cause.step if action == "skip" else None
    acted = [one async for one in operations.aeach(action, why, meant[:_AT_ONCE], step=step)]
    refused = [one for one in acted if not one.done]
    return OnMany(action, len(acted) - len(refused), refused, len(meant) > _AT_ONCE)
