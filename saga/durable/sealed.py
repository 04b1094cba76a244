"""Values at rest, encrypted: what of an entry or of a message a codec's cipher seals. How it encrypts is the user's.

What is sealed of an entry is one text, bound to its execution, its number and its kind. The rest stays readable: what happened
when, to which step, and the class of an error; so lists and counts, and who waits for what, need no key.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, Final

from saga.durable.codec import Cipher
from saga.errors import EncodingError, StorageError
from saga.plain import text_of
from saga.storage.records import Entry

__all__ = ["ENCRYPTED", "SEALED", "SEALED_OF", "decrypted", "encrypted", "opened", "opened_text", "sealed", "sealed_text"]

ENCRYPTED: Final = "(encrypted)"
"""Stands where a value, or the text of an error, is sealed."""

SEALED: Final = ("result", "changes", "removed", "value", "task", "error")
"""What of a payload is sealed, whatever its kind."""
SEALED_OF: Final = {"MessageRefused": ("message", "reason")}
"""What of a kind's payload is sealed, too."""

_STANDS_IN: Final[dict[str, Any]] = dict.fromkeys(("result", "value", "message", "reason"), ENCRYPTED)


def sealed(entry: Entry, saga_id: str, cipher: Cipher) -> Entry:
    """Return an entry whose values are encrypted.

    :raises StorageError: the cipher has failed.
    """
    payload = json.loads(entry.payload)
    hidden = {key: payload[key] for key in (*SEALED, *SEALED_OF.get(entry.kind, ())) if key in payload}
    if not hidden:
        return entry
    for key in hidden:
        if key == "error":
            payload[key] = {"type": hidden[key]["type"], "text": ENCRYPTED, "traceback": "", "notes": []}
        elif key in _STANDS_IN:
            payload[key] = _STANDS_IN[key]
        else:
            del payload[key]
    payload["sealed"] = json.loads(sealed_text(_to_json(hidden), _place(entry, saga_id), cipher))
    return entry._replace(payload=_to_json(payload))


def opened(entry: Entry, saga_id: str, cipher: Cipher) -> str:
    """Return an entry's payload as it was before it was sealed; as it is, where it was not.

    :raises EncodingError: it cannot be decrypted, or is another entry's.
    """
    if '"sealed"' not in entry.payload:
        return entry.payload
    payload = json.loads(entry.payload)
    if not isinstance(payload, dict) or "sealed" not in payload:
        return entry.payload
    hidden = opened_text(_to_json(payload.pop("sealed")), _place(entry, saga_id), cipher)
    return _to_json(payload | json.loads(hidden))


def sealed_text(text: str, place: str, cipher: Cipher) -> str:
    """Return a text encrypted, as JSON.

    :param place: what it is bound to.
    :raises StorageError: the cipher has failed.
    """
    return f'{{"$sealed":"{b64encode(encrypted(text.encode(), place, cipher)).decode()}"}}'


def opened_text(text: str, place: str, cipher: Cipher) -> str:
    """Return the text that :func:`sealed_text` has encrypted; as it is, where it is none.

    :raises EncodingError: it cannot be decrypted, or was bound to another place.
    """
    if not text.startswith('{"$sealed":'):
        return text
    try:
        data = b64decode(json.loads(text)["$sealed"], validate=True)
    except Exception as error:
        raise EncodingError(f"it was changed since it was encrypted: {type(error).__name__}: {text_of(error)}") from error
    return decrypted(data, place, cipher)


def encrypted(data: bytes, place: str, cipher: Cipher) -> bytes:
    """Return bytes encrypted, and bound to a place.

    :raises StorageError: the cipher has failed.
    """
    try:
        return bytes(memoryview(cipher.encrypt(data, place.encode())))
    except Exception as error:
        raise StorageError(f"the codec's cipher cannot encrypt: {type(error).__name__}: {text_of(error)}") from error


def decrypted(data: bytes, place: str, cipher: Cipher) -> str:
    """Return the text whose bytes :func:`encrypted` has encrypted.

    :raises EncodingError: it cannot be decrypted, or was bound to another place.
    """
    try:
        return cipher.decrypt(data, place.encode()).decode()
    except Exception as error:
        raise EncodingError(f"the codec's cipher cannot decrypt it: {type(error).__name__}: {text_of(error)}") from error


def _place(entry: Entry, saga_id: str) -> str:
    return f"entry\n{saga_id}\n{entry.seq}\n{entry.kind}\n{entry.step or ''}"


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
