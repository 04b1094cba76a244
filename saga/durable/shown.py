"""Payloads and messages as they are shown: values as they are stored, and words for those elsewhere. None is fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from saga.durable.elsewhere import KEYS, shown_text
from saga.storage.records import Entry

__all__ = ["as_shown", "details_of", "details_of_message"]


def as_shown(payload: str) -> Any:
    """Return what a payload holds, values as they are stored.

    :raises ValueError: it is no JSON.
    """
    return json.loads(shown_text(payload))


def details_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return each entry's payload as it is shown: values as they are stored, each error where it matters.

    Of one that cannot be read, the text of its payload.
    """
    found: dict[int, dict[str, Any]] = {}
    for entry in entries:
        try:
            details: dict[str, Any] = {**as_shown(entry.payload)}
            for beside in details.keys() & {"sealed", KEYS}:
                del details[beside]
            for pairs in details.keys() & {"changes", "carried"}:
                details[pairs] = dict(details[pairs])
            if "error_at" in details:
                details["error"] = found[details.pop("error_at")]["error"]
            found[entry.seq] = details
        except Exception:
            found[entry.seq] = {"unreadable": entry.payload}
    return list(found.values())


def details_of_message(body: str) -> dict[str, Any]:
    """Return a message as it is shown; of one that cannot be read, its text."""
    try:
        fields = {**json.loads(body)}
        if fields.pop(KEYS, None) is not None:
            fields["value"] = shown_text(fields["value"])
        return fields
    except Exception:
        return {"unreadable": body}
