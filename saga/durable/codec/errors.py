"""Exceptions as plain values: what is worth keeping of one that another process is to read."""

from __future__ import annotations

import traceback
from typing import Any

from saga.durable.codec.refusals import TEXT_CHARACTERS, brief, stored_name, text_of
from saga.errors import EncodingError, RecordedError

__all__ = ["decode_error", "encode_error"]

_NOTES = 100


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return what is worth keeping of an exception as plain JSON values; never raises an Exception.

    :return: ``type`` ("module:qualname"), ``text`` and ``traceback`` (at most 20,000 characters each, of the traceback the
        last), ``notes`` (a list of texts).
    """
    if isinstance(error, RecordedError):  # recorded again: still the first one's story
        kind, text, trace = error.type_name, error.text, error.traceback_text
    else:
        kind, text = stored_name(type(error)), text_of(error)
        try:
            trace = "".join(traceback.format_exception(error))
        except Exception as failure:
            trace = f"<no traceback: formatting it raised {type(failure).__name__}>\n"
    if len(trace) > TEXT_CHARACTERS:
        trace = f"[...]\n{trace[-TEXT_CHARACTERS:]}"
    try:
        notes = [text_of(note) for note in getattr(error, "__notes__", [])[:_NOTES]]
    except Exception:  # it is an attribute like any other, so it may hold or do anything
        notes = []
    return {"type": kind, "text": text, "traceback": trace, "notes": notes}


def decode_error(recorded: Any) -> RecordedError:
    """Return the exception that :func:`encode_error` made ``recorded`` of, with its notes.

    :raises EncodingError: it is no such dict.
    """
    try:
        kind, text, trace, notes = (recorded[key] for key in ("type", "text", "traceback", "notes"))
        if not all(isinstance(part, str) for part in (kind, text, trace, *notes)):
            raise TypeError("text expected")
    except Exception as failure:
        raise EncodingError(f"not a recorded error: {brief(recorded)}; it has type, text, traceback and notes") from failure
    error = RecordedError(kind, text, trace)
    for note in notes:
        error.add_note(note)
    return error
