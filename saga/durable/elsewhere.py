"""Large values at rest: which of an entry or of a message are kept in a codec's blobs, and the reference that stands for one.

Bytes are put before the entry that names them is stored, under a key that nobody has used, so that a crash between leaves bytes
that nothing names, and never a name of nothing; and who deletes what an execution had cannot meet one that begins under the
same id meanwhile. Whoever reads an entry reads what it names, and sees that it is what was put.

The keys of what is elsewhere stand beside a payload's other fields, too, where whoever deletes finds them without a key of the
cipher's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final

from saga.durable.codec import Codec
from saga.durable.sealed import decrypted, encrypted
from saga.errors import EncodingError, StorageError
from saga.plain import text_of
from saga.storage.protocol import Store
from saga.storage.records import Entry

__all__ = ["KEYS", "Elsewhere", "Fetching", "drop_if_unknown", "keys_in", "owner_of", "shown_text", "unnamed"]

KEYS: Final = "blobs"
"""The field of a payload, or of a message, that has the keys of what is elsewhere."""

_MAY_BE_LARGE: Final = ("result", "value", "task")
"""What of a payload may be elsewhere, besides what a context's keys have got."""

_TAG: Final = '{"$blob":'
# A text within a text has its quotes escaped, and a dict of a user's is not written so: this finds references alone.
_REFERENCE: Final = re.compile(r'\{"\$blob":\[("(?:[^"\\]|\\.)*"),"([0-9a-f]{64})",(\d+),([01])\]\}')

References = dict[str, str]
"""By the digest of a value's text, the reference that stands for it."""


class Elsewhere:
    """Where the large values of one execution are put.

    :param dry: nothing is put: what would be stored is only looked at.
    :ivar arrived: references of messages that are to leave the inbox with the next commit.
    """

    def __init__(self, codec: Codec, saga_id: str, *, dry: bool = False) -> None:
        self._codec = codec
        self._saga_id = saga_id
        self._dry = dry
        self._known: References = {}  # those that are stored, and no others: what nothing names may be deleted
        self._made: dict[int, References] = {}  # by entry, those that are to be
        self.arrived: References = {}

    def moved(self, entry: Entry) -> Entry:
        """Return an entry whose large values are elsewhere.

        :raises StorageError: one cannot be put there.
        """
        self._made.pop(entry.seq, None)
        if not self._codec.is_large(entry.payload):
            return entry
        payload = json.loads(entry.payload)
        made: References = {}
        for name in _MAY_BE_LARGE:
            if name in payload:
                payload[name] = self._value(payload[name], made)
        if "changes" in payload:
            payload["changes"] = [[key, self._value(value, made)] for key, value in payload["changes"]]
        if not made:
            return entry
        self._made[entry.seq] = made
        payload[KEYS] = [_parts(reference)[0] for reference in made.values()]
        return entry._replace(payload=_to_json(payload))

    def reference(self, text: str) -> tuple[str, str]:
        """Put a message's text elsewhere. Return what stands for it, and its key.

        :raises StorageError: that cannot be done.
        """
        made = self._reference(text, {})
        return made, _parts(made)[0]

    def stored(self, entries: int) -> None:
        """Take note that the journal has so many entries, and that the messages are gone which these deal with."""
        for seq in [seq for seq in self._made if seq <= entries]:
            self._known |= self._made.pop(seq)
        self.arrived.clear()

    def _value(self, value: Any, made: References) -> Any:
        text = _to_json(value)
        return json.loads(self._reference(text, made)) if self._codec.is_large(text) else value

    def _reference(self, text: str, made: References) -> str:
        data = text.encode()
        digest = sha256(data).hexdigest()
        known = made.get(digest) or self._known.get(digest) or self.arrived.get(digest)
        if known is None:
            key = f"{_escaped(self._saga_id)}/{os.urandom(16).hex()}"
            if self._codec.cipher is not None:
                data = encrypted(data, _place(key), self._codec.cipher)
            if not self._dry:
                self._put(key, data)
            sealed = int(self._codec.cipher is not None)
            known = f'{_TAG}[{quote(key)},"{sha256(data).hexdigest()}",{len(data)},{sealed}]}}'
        made[digest] = known
        return known

    def _put(self, key: str, data: bytes) -> None:
        blobs = self._codec.blobs
        assert blobs is not None
        try:
            blobs.put(key, data)
        except Exception as error:
            raise StorageError(
                f"execution {self._saga_id!r}: a value of {_size(len(data))} cannot be stored elsewhere, in {text_of(blobs)}: "
                f"{type(error).__name__}: {text_of(error)}"
            ) from error


class Fetching:
    """Reads what is elsewhere of one execution; what is named several times, once.

    :ivar failed: that the blobs could not be asked, so that nothing is known of what they have.
    """

    def __init__(self, codec: Codec, saga_id: str) -> None:
        self._codec = codec
        self._saga_id = saga_id
        self._texts: dict[str, str] = {}
        self.failed: StorageError | None = None

    def read(self, text: str, whose: str) -> str:
        """Return a payload's text with what is elsewhere in its place.

        :param whose: for errors, whose values they are.
        :raises EncodingError: it is not there any more, or is not what was put.
        :raises StorageError: the blobs cannot be asked; it is ``failed``.
        """
        if _TAG not in text:
            return text
        return _REFERENCE.sub(lambda found: self._text(found[0], whose), text)

    def references(self) -> References:
        """Return the references of what was read."""
        return {sha256(text.encode()).hexdigest(): reference for reference, text in self._texts.items()}

    def _text(self, reference: str, whose: str) -> str:
        text = self._texts.get(reference)
        if text is None:
            text = self._texts[reference] = self._fetched(reference, whose)
        return text

    def _fetched(self, reference: str, whose: str) -> str:
        key, digest, size, sealed = _parts(reference)
        codec = self._codec
        what = f"a value of {whose} is elsewhere, {_size(size)} under the key {key!r}"
        if codec.blobs is None:
            raise EncodingError(f"{what}, and this codec has no blobs; give those it was stored with: Codec(blobs=...)")
        if key.rpartition("/")[0] != _escaped(self._saga_id):
            raise EncodingError(f"{what}, which is another execution's; the entry was changed, so restore it from a backup")
        where = f"in {text_of(codec.blobs)}"
        try:
            data = codec.blobs.get(key)
        except KeyError:
            raise EncodingError(
                f"{what}, and nothing is there {where}; put it back from a backup, or give the blobs that have it"
            ) from None
        except Exception as error:
            self.failed = StorageError(
                f"execution {self._saga_id!r}: {what}, and cannot be read {where}: {type(error).__name__}: {text_of(error)}"
            )
            raise self.failed from error
        if not isinstance(data, bytes) or sha256(data).hexdigest() != digest:
            raise EncodingError(f"{what}, and what is there {where} was changed; put back what it was, from a backup")
        if not sealed:
            return data.decode()
        if codec.cipher is None:
            raise EncodingError(f"{what}, encrypted, and this codec has no cipher; give the one it was stored with")
        return decrypted(data, _place(key), codec.cipher)


def keys_in(texts: Iterable[str]) -> set[str]:
    """Return the keys of what is elsewhere of some payloads or messages. What cannot be read has none."""
    found: set[str] = set()
    for text in texts:
        if f'"{KEYS}"' in text:
            with suppress(ValueError, TypeError, AttributeError):
                found.update(key for key in json.loads(text).get(KEYS, ()) if isinstance(key, str))
    return found


def unnamed(store: Store, saga_id: str, keys: Iterable[str]) -> list[str]:
    """Return which of an execution's keys nothing names that is stored of it."""
    # The inbox first: what leaves it is in the journal from the same moment on.
    texts = [message.body for message in store.inbox(saga_id)]
    texts += [entry.payload for entry in store.journal(saga_id)]
    # Damaged or not: whoever mends an entry finds what it has named.
    return [key for key in keys if not any(key.rpartition("/")[2] in text for text in texts)]


def drop_if_unknown(entries: Iterable[Entry], saga_id: str, codec: Codec, store: Store) -> None:
    """Delete what was put for entries, where they were not stored because another execution has the id."""
    keys = keys_in(entry.payload for entry in entries)
    if keys and codec.blobs is not None:
        with suppress(Exception):  # then whoever sweeps finds it
            codec.blobs.delete(keys - keys_in(entry.payload for entry in store.journal(saga_id)))


# -- to be looked at --------------------------------------------------------------------------------------------------


def shown_text(text: str) -> str:
    """Return a payload's text, with words in the place of what is elsewhere."""
    return _REFERENCE.sub(_in_words, text) if _TAG in text else text


def _in_words(found: re.Match[str]) -> str:
    return f'"(elsewhere, {_size(int(found[3]))})"'


def _size(size: int) -> str:
    for unit, of in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size} bytes"


# -- keys -------------------------------------------------------------------------------------------------------------


def _escaped(saga_id: str) -> str:
    """Return an id as it stands in a key: nothing in it can be taken for a path, and nobody but this id has the same."""
    return re.sub(r"[%/\\.]", lambda found: f"%{ord(found[0]):02X}", saga_id)


def owner_of(key: str) -> str:
    """Return the id of the execution that a key is one of."""
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), key.rpartition("/")[0])


def _parts(reference: str) -> tuple[str, str, int, bool]:
    """Return the key of what a reference names, the digest of its bytes, how many these are, and whether they are encrypted."""
    found = _REFERENCE.fullmatch(reference)
    assert found is not None
    return json.loads(found[1]), found[2], int(found[3]), found[4] == "1"


def _place(key: str) -> str:
    """Return what a cipher binds bytes to."""
    return f"blob\n{key}"


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
