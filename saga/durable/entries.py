"""Entries of a journal: events <-> entries of a store. The only place that knows what a payload looks like.

A payload is one JSON object: the event's fields, then what is ``encoded`` with it (see :mod:`saga.durable.values`). Values are
the codec's; context changes are pairs ``[key, value]``, so that no key can be mistaken for a tag of the codec.

The first entry says in which format the journal is written. A version of this package that writes another one gives it another
number, and still reads the older ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final

from saga import events as e
from saga.context import Context
from saga.durable.codec import Codec, decode_error, encode_error
from saga.durable.elsewhere import Elsewhere, Fetching, shown_text
from saga.durable.sealed import opened, sealed
from saga.durable.shown import as_shown
from saga.errors import EncodingError, RecordedError, UnreadableJournalError
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.storage.records import Entry

__all__ = [
    "FORMAT",
    "Errors",
    "Recorded",
    "are_texts",
    "changes_text",
    "made_progress",
    "read_as_stored",
    "read_entries",
    "start_text",
    "unreadable",
    "write_entries",
]

FORMAT: Final = 1
"""The number of the format that is written here."""

Errors = dict[int, tuple[BaseException, int]]
"""By id: the errors that a journal has already, and the number of the entry of each. An error is stored once."""


# -- writing ----------------------------------------------------------------------------------------------------------


def write_entries(
    events: Sequence[e.Event],
    written: int,
    errors: Errors,
    codec: Codec,
    saga_id: str = "",
    elsewhere: Elsewhere | None = None,
) -> list[Entry]:
    """Return the entries of events. What is large is elsewhere by then.

    :param written: how many entries the journal has before these.
    :param errors: those of earlier entries; those of these are added.
    :param saga_id: whose they are, which a cipher binds them to.
    :param elsewhere: puts what is large.
    :raises StorageError: the codec's cipher has failed, or its blobs have.
    """
    entries = []
    number = written
    for event in events:
        number += 1
        name, has_step, payload = _WRITERS[type(event)]
        text = payload(event, number, errors, codec)
        entries.append(Entry(number, name, event.step if has_step else None, text, event.at))  # type: ignore[union-attr]
    if codec.blobs is not None:
        elsewhere = elsewhere or Elsewhere(codec, saga_id)
        entries = [elsewhere.moved(entry) for entry in entries]
    return entries if codec.cipher is None else [sealed(entry, saga_id, codec.cipher) for entry in entries]


def _started(event: e.StepStarted, number: int, errors: Errors, codec: Codec) -> str:
    return f'{{"attempt":{event.attempt}{event.encoded}}}'


def _undone_from(event: e.CompensationStarted, number: int, errors: Errors, codec: Codec) -> str:
    return f'{{"attempt":{event.attempt}}}'


def _succeeded(event: e.StepSucceeded | e.CompensationSucceeded, number: int, errors: Errors, codec: Codec) -> str:
    return f'{{"attempt":{event.attempt},"elapsed":{event.elapsed:.6f}{event.encoded}}}'


def _verified(event: e.StepVerified, number: int, errors: Errors, codec: Codec) -> str:
    done = "true" if event.done else "false"
    return f'{{"attempt":{event.attempt},"elapsed":{event.elapsed:.6f},"done":{done}{event.encoded}}}'


def _signalled(event: e.SignalReceived, number: int, errors: Errors, codec: Codec) -> str:
    said = "" if event.who is None else f',"who":{quote(event.who)},"why":{quote(event.why or "")}'
    return f'{{"name":{quote(event.name)},"value":{codec.encode(event.value)}{_carried(event.carried)}{said}}}'


def _first(event: e.SagaSubmitted | e.SagaStarted, number: int, errors: Errors, codec: Codec) -> str:
    ids = f'"saga":{quote(event.saga)},"saga_id":{quote(event.saga_id)}'
    return f'{{{ids},"format":{FORMAT}{event.encoded}{_carried(event.carried)}}}'


def _recovered(event: e.SagaRecovered, number: int, errors: Errors, codec: Codec) -> str:
    return f'{{"owner":{quote(event.owner)},"epoch":{event.epoch}{_carried(event.carried)}}}'


def _carried(carried: Mapping[str, str] | None) -> str:
    return "" if carried is None else f',"carried":{_to_json(list(carried.items()))}'


def _other(event: Any, number: int, errors: Errors, codec: Codec) -> str:
    parts = []
    for name in event.__match_args__:
        if name in ("step", "at"):
            continue
        value = getattr(event, name)
        if isinstance(value, BaseException):
            _, known = errors.setdefault(id(value), (value, number))
            part = f'"error_at":{known}' if known != number else f'"error":{_to_json(encode_error(value))}'
        elif value is False is event.__dataclass_fields__[name].default:  # as most flags are
            continue
        else:
            part = f"{quote(name)}:{value if type(value) is int else _to_json(value)}"
        parts.append(part)
    encoded = getattr(event, "encoded", "")
    return f"{{{','.join(parts)}{encoded if parts else encoded[1:]}}}"


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
_PAYLOADS: Final[dict[type, Callable[[Any, int, Errors, Codec], str]]] = {
    e.SagaSubmitted: _first,
    e.SagaStarted: _first,
    e.SagaRecovered: _recovered,
    e.SignalReceived: _signalled,
    e.StepStarted: _started,
    e.CompensationStarted: _undone_from,
    e.StepSucceeded: _succeeded,
    e.CompensationSucceeded: _succeeded,
    e.StepVerified: _verified,
}
_KINDS: Final[dict[str, Any]] = {kind.__name__: kind for kind in e.Event.__args__}
#: For each kind of event its name, whether it has a step, and what writes its payload.
_WRITERS: Final = {kind: (name, "step" in kind.__match_args__, _PAYLOADS.get(kind, _other)) for name, kind in _KINDS.items()}


def changes_text(changed: Mapping[str, str], removed: Sequence[str]) -> str:
    """Return what is encoded with an event whose call changed and removed these keys; ``changed`` has their values' texts."""
    pairs = ",".join(f"[{quote(key)},{text}]" for key, text in changed.items())
    text = f',"changes":[{pairs}]' if pairs else ""
    return f'{text},"removed":{json.dumps(removed)}' if removed else text


def start_text(context_class: str, changes: str, version: str) -> str:
    """Return what is encoded with an execution's first event: its saga's version, its context's class and input."""
    return f',"version":{quote(version)},"context":{quote(context_class)}{changes}'


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Recorded:
    """An entry read back: the event, and what its call changed in its view of the context.

    :ivar more: what else the payload holds.
    """

    event: e.Event
    changes: dict[str, Any]
    removed: Sequence[str]
    more: dict[str, Any]

    def apply(self, view: Context) -> None:
        """Change the view as the call did."""
        view.__dict__.update(self.changes)
        for key in self.removed:
            view.__dict__.pop(key, None)


def read_entries(
    entries: Sequence[Entry], codec: Codec, saga_id: str = "", fetch: bool = True
) -> tuple[list[Recorded], Errors]:
    """Return what a journal says, and the errors it has.

    :param saga_id: whose it is.
    :param fetch: else values that are elsewhere have words in their place.
    :raises UnreadableJournalError: an entry is missing or damaged, a class in it or what it has elsewhere is gone, or a later
        version of this package wrote it.
    :raises StorageError: the codec's blobs cannot be asked.
    """
    recorded: list[Recorded] = []
    errors: Errors = {}
    error_at = partial(_error_at, before=recorded)
    cipher, fetching = codec.cipher, Fetching(codec, saga_id)

    def payload_of(entry: Entry) -> Any:
        text = entry.payload if cipher is None else opened(entry, saga_id, cipher)
        whose = "the input" if entry.step is None else f"step {entry.step!r}"
        return codec.decode(fetching.read(text, whose) if fetch else shown_text(text))

    for number, entry in enumerate(entries, 1):
        if entry.seq != number:
            raise UnreadableJournalError(f"entry {number} of the journal is missing", entry=number)
        try:
            one = _read(entry, payload_of, error_at)
        except UnreadableJournalError:
            raise
        except Exception as error:  # whatever is wrong with it
            if error is fetching.failed:
                raise
            gone = isinstance(error, EncodingError) and _is_object(entry.payload)
            raise unreadable(entry, str(error) if isinstance(error, EncodingError) else repr(error), gone) from error
        recorded.append(one)
        failure = getattr(one.event, "error", None)
        if failure is not None:
            errors.setdefault(id(failure), (failure, entry.seq))
    return recorded, errors


def unreadable(entry: Entry, why: str, may_pass: bool = False) -> UnreadableJournalError:
    """Return the error of an entry that cannot be read, or cannot be."""
    return UnreadableJournalError(f"entry {entry.seq} ({entry.kind}): {why}", entry=entry.seq, may_pass=may_pass)


def _read(entry: Entry, payload_of: Callable[[Entry], Any], error_at: Callable[[Any], Any]) -> Recorded:
    """Return what an entry says.

    :param payload_of: returns what its payload holds.
    :param error_at: returns the error that an earlier entry has.
    """
    kind = _KINDS.get(entry.kind)
    if kind is None:
        raise UnreadableJournalError(
            f"entry {entry.seq} is a {entry.kind!r}, which this version does not know; upgrade the package",
            entry=entry.seq,
            may_pass=True,
        )
    if not entry.payload.isascii():
        raise unreadable(entry, "its payload is not as it was written")
    payload: dict[str, Any] = payload_of(entry)
    if not isinstance(payload, dict):
        raise unreadable(entry, "its payload is no JSON object")
    if payload.pop("format", FORMAT) > FORMAT:
        raise UnreadableJournalError(
            f"entry {entry.seq} says that a later version of this package wrote the journal; upgrade it",
            entry=entry.seq,
            may_pass=True,
        )
    known: dict[str, Any] = {}
    for name, needed, may_be in _FIELDS[entry.kind]:
        if name == "step":
            value: Any = entry.step
        elif name == "at":
            value = entry.at
        elif name == "error" and "error_at" in payload:
            value = error_at(payload.pop("error_at"))
        elif name in payload:
            value = decode_error(payload.pop(name)) if name == "error" else payload.pop(name)
        elif needed:
            raise unreadable(entry, f"it has no {name}")
        else:
            continue
        if may_be is not None and not may_be(value):
            raise unreadable(entry, f"its {name} cannot be {value!r}")
        known[name] = dict(value) if name == "carried" else value
    if "changes" not in payload and "removed" not in payload:
        return Recorded(kind(**known), {}, (), payload)
    changes, removed = payload.pop("changes", []), payload.pop("removed", [])
    if not isinstance(changes, list) or not all(isinstance(one, list) and len(one) == 2 for one in changes):
        raise unreadable(entry, "its changes are no pairs of key and value")
    if not isinstance(removed, list) or not all(isinstance(key, str) for key in (*[key for key, _ in changes], *removed)):
        raise unreadable(entry, "the keys that it changes are no texts")
    return Recorded(kind(**known), dict(changes), removed, payload)


def _error_at(number: Any, before: Sequence[Recorded]) -> Any:
    """Return the error that an earlier entry has."""
    if not _is_count(number) or number > len(before):
        raise EncodingError(f"no entry {number!r} with its error comes before it")
    return getattr(before[number - 1].event, "error", None)


def _is_object(payload: str) -> bool:
    """Whether a payload is JSON as it should be, so that what cannot be read is what a value says."""
    try:
        return isinstance(json.loads(payload, parse_constant=float.fromhex), dict)
    except Exception:
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def are_texts(value: Any) -> bool:
    """Whether it is pairs of texts."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


#: What the fields of events may be.
_MAY_BE: Final[dict[str, Callable[[Any], bool]]] = {
    "at": _is_number,
    "elapsed": _is_number,
    "delay": _is_number,
    "attempt": _is_count,
    "epoch": _is_count,
    "group": lambda value: value == 0 or _is_count(value),
    "phase": lambda value: value in (EXECUTE, VERIFY, COMPENSATE),
    "error": _is(BaseException),
    "carried": are_texts,
    "again": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    **dict.fromkeys(("running", "in_doubt", "executed", "done"), _is(bool)),
    **dict.fromkeys(("step", "saga", "saga_id", "name", "owner", "reason", "message", "action", "who", "why", "way"), _is(str)),
    "failed_step": _is(str, type(None)),
}
_WITHOUT_STEP: Final = (e.SagaCompensating, e.OperatorActed)


def _fields_of(kind: Any) -> list[tuple[str, bool, Callable[[Any], bool] | None]]:
    """Return the names of an event's fields, whether its payload must have them, and what says that a value may be one's."""
    may_be = _MAY_BE | ({"step": _is(str, type(None))} if kind in _WITHOUT_STEP else {})
    fields = kind.__dataclass_fields__
    return [(name, fields[name].default is MISSING, may_be.get(name)) for name in kind.__match_args__]


_FIELDS: Final = {name: _fields_of(kind) for name, kind in _KINDS.items()}


def read_as_stored(entries: Sequence[Entry]) -> list[Recorded]:
    """Return what a journal says, to be looked at: values as they are stored. What cannot be read is left out."""
    recorded: list[Recorded] = []
    errors: dict[Any, Any] = {}
    for entry in entries:
        try:
            one = _read(entry, lambda entry: as_shown(entry.payload), lambda number: errors.get(number, _LOST))
        except Exception:  # whatever is wrong with it
            continue
        recorded.append(one)
        errors[entry.seq] = getattr(one.event, "error", _LOST)
    return recorded


_LOST: Final = RecordedError("?", "the journal has lost this error", "")


def made_progress(entries: Sequence[Entry], recoveries: int) -> bool:
    """Return whether any outcome was recorded within the last ``recoveries`` recoveries."""
    seen = 0
    for entry in reversed(entries):
        if entry.kind in _OUTCOMES and '"in_doubt":true' not in entry.payload:
            return True
        seen += entry.kind == e.SagaRecovered.__name__
        if seen >= recoveries:
            return False
    return False


_OUTCOMES: Final = frozenset(
    kind.__name__
    for kind in (
        e.StepSucceeded,
        e.StepFailed,
        e.StepSkipped,
        e.StepVerified,
        e.CompensationSucceeded,
        e.CompensationFailed,
        e.OperatorActed,
    )
)
