"""Exceptions as plain values: what is worth keeping of one that another process is to read."""

from __future__ import annotations

from typing import Any

from saga.durable.codec.refusals import brief
from saga.errors import EncodingError, RecordedError
from saga.plain import TEXT_CHARACTERS, text_of
from saga.recorded import made_again, parts_of, plain_parts, stored_name
from saga.result import tracebacks

__all__ = ["decode_error", "encode_error"]

_NOTES = 100


def encode_error(error: BaseException) -> dict[str, Any]:
    """Return what is worth keeping of an exception as plain JSON values; never raises an Exception.

    :return: ``type`` ("module:qualname"), ``text`` and ``traceback`` (at most 20,000 characters each, of the traceback the
        last), ``notes`` (a list of texts); and where it can be made again of plain values, its ``args`` (``None`` for the text
        alone) and its ``attributes`` (pairs of a name and a value).
    """
    known: Any = error if issubclass(type(error), RecordedError) else None
    if known is not None:  # recorded again: still the first one's story
        kind, text, trace = known.type_name, known.text, known.traceback_text
    else:
        kind, text, trace = stored_name(type(error)), text_of(error), tracebacks(error)
    if len(trace) > TEXT_CHARACTERS:
        trace = f"[...]\n{trace[-TEXT_CHARACTERS:]}"
    try:
        notes = [text_of(note) for note in getattr(error, "__notes__", [])[:_NOTES]]
    except Exception:  # it is an attribute like any other, so it may hold or do anything
        notes = []
    return {"type": kind, "text": text, "traceback": trace, "notes": notes, **plain_parts(error, text)}


def decode_error(recorded: Any) -> BaseException:
    """Return the exception that :func:`encode_error` made ``recorded`` of, with its notes.

    It is one of its own class where that is imported here and can be made again; else a
    :class:`~saga.errors.RecordedError`.

    :raises EncodingError: it is no such dict.
    """
    try:
        kind, text, trace, notes = (recorded[key] for key in ("type", "text", "traceback", "notes"))
        if not all(isinstance(part, str) for part in (kind, text, trace, *notes)):
            raise TypeError("text expected")
        parts = parts_of(recorded)
    except Exception as failure:
        raise EncodingError(f"not a recorded error: {brief(recorded)}; it has type, text, traceback and notes") from failure
    error = made_again(kind, parts, text, trace)
    for note in notes:
        BaseException.add_note(error, note)
    return error
