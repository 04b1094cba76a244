"""What a visitor says by a form, and an action on one execution, done by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request

from saga.operations import Operations

__all__ = ["ACTIONS", "LONGEST", "Form", "act", "chosen", "form_of"]

Form = ImmutableMultiDict[str, str]

ACTIONS: Final = ("retry", "resume", "skip", "pause", "cancel", "compensate", "undo")
LONGEST: Final = 100_000
"""Bytes of a form."""


async def form_of(request: Request, longest: int = LONGEST) -> Form:
    """Return the fields of a form.

    :param longest: bytes of it at most.
    :raises HTTPException: it is too long, or none.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            raise HTTPException(413, "The form is too long.")
    try:
        return ImmutableMultiDict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
    except ValueError as error:
        raise HTTPException(400, "This is no form.") from error


def chosen(form: Mapping[str, str]) -> tuple[str, str]:
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
