"""What a visitor says by a form, and an action on one execution, done by one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request

from saga.operations import Operations

__all__ = ["ACTIONS", "LONGEST", "Form", "act", "chosen", "form_of"]

Form = ImmutableMultiDict[str, str]

ACTIONS: Final = ("retry", "resume", "skip", "signal", "pause", "cancel", "compensate", "undo")
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
    """Return the action whose button was pressed, and what it is of: a step, a signal, a cause, or nothing.

    :raises HTTPException: there is no such action.
    """
    action, _, of = form.get("do", "").partition(":")
    if action not in ACTIONS:
        raise HTTPException(400, "There is no such action.")
    return action, of


async def act(operations: Operations, action: str, saga_id: str, of: str, form: Mapping[str, str]) -> None:
    """Do it, as the method of ``Operations`` does.

    :raises ActionRefusedError, StorageError, SagaDefinitionError, EncodingError, ValueError: as it does.
    """
    why = form.get("why", "")
    if action == "skip":
        await operations.askip(saga_id, of, why)
    elif action == "undo":
        await operations.aundo(saga_id, why, of or None)
    elif action == "signal":
        await operations.asignal(saga_id, of, why, _value(form.get(f"value-{of}", "")))
    else:
        await getattr(operations, f"a{action}")(saga_id, why)


def _value(text: str) -> Any:
    """Return what comes with a signal: JSON, or nothing.

    :raises ValueError: it is no JSON.
    """
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'the value is no JSON ({error}); write {{"by": "ann"}}, 7, or a text as "yes"') from error
