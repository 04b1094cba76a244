"""An execution's journal: events <-> entries of a store, with what the calls changed in the context.

A payload is one JSON object. Values in it are the codec's; context changes are pairs ``[key, value]``, so that no key can be
mistaken for a tag of the codec. What a call returned or changed is encoded when it has ended, and the context then holds
what decoding that gives: what the next step sees is what a recovered one would see.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Final

from saga import events as e
from saga.codec import Codec, decode_error, encode_error
from saga.context import _ATOMS, Context
from saga.errors import EncodingError, StorageError
from saga.leases import Keeper
from saga.machine import Machine
from saga.storage.protocol import Append, Entry, Lease, NewExecution, Store, StoredExecution

__all__ = [
    "Journal",
    "Recorded",
    "commit_each",
    "digest_of",
    "encode_context",
    "first_payload",
    "read_entry",
    "rebuild_context",
    "remember_texts",
    "write_action",
    "write_signal",
]


class Journal:
    """Writes one execution's events to a store, under a lease.

    :ivar written: how many of the machine's events are stored.
    """

    def __init__(self, store: Store, codec: Codec, lease: Lease, written: int, status: e.Status, keeper: Keeper) -> None:
        self.store = store
        self.codec = codec
        self.lease = lease
        self.written = written
        self.taken: list[int] = []  # messages dealt with, to leave the inbox with the next commit
        self._status = status
        self._keeper = keeper
        self._extras: dict[int, str] = {}  # by id of the event: the rest of its payload

    # -- what calls did -----------------------------------------------------------------------------------------------

    def take_result(self, step: str, view: Context, value: Any) -> tuple[Any, str]:
        """Encode what a step returned and what it changed in its view.

        Return the result as it will be read, and the text for :meth:`attach`. The view holds what will be read, too.

        :raises EncodingError: something cannot be stored; the view is as it was recorded last.
        """
        try:
            if type(value) in _ATOMS:
                text = self.codec.encode(value)
            else:
                text = self.codec.encode(value, f"the result of step {step!r}")
                value = self.codec.decode(text)
            return value, f',"result":{text}{self._changes(view)}'
        except EncodingError:
            self._revert(view)
            raise

    def take_changes(self, view: Context) -> str:
        """Encode what a call that raised, or a compensation, changed. What cannot be stored is taken back and logged."""
        try:
            return self._changes(view)
        except EncodingError as error:
            self._revert(view)
            logging.getLogger("saga").warning("changes to the context of saga %s are taken back: %s", self.lease.saga_id, error)
            return ""

    def attach(self, event: e.Event, text: str) -> None:
        """Store ``text`` with the event, which is about to be given to the machine."""
        if text:
            self._extras[id(event)] = text

    def _changes(self, view: Context) -> str:
        texts = view._run.texts
        assert texts is not None
        values = view.__dict__
        changed: dict[str, tuple[Any, str]] = {}
        replaced: list[tuple[str, str]] = []
        for key, value in values.items():
            known = texts.get(key)
            if known is not None and known[0] is value and type(value) in _ATOMS:
                continue
            text = self.codec.encode(value, f"context.{key}")
            if known is None or known[1] != text:
                changed[key] = (value, text)
            elif known[0] is not value and type(value) not in _ATOMS:
                replaced.append((key, text))  # by an equal one, which may be another key's or the task's own too
        removed = [key for key in texts if key not in values]
        # All is decoded before anything is believed: a registered type's decode function may raise.
        read = {key: (self.codec.decode(text), text) for key, text in replaced}
        for key, (value, text) in changed.items():
            read[key] = (value if type(value) in _ATOMS else self.codec.decode(text), text)
        for key, (value, _) in read.items():
            values[key] = value
        texts.update(read)
        if not changed and not removed:
            return ""
        for key in removed:
            del texts[key]
        return _changes_text(changed, removed)

    def _revert(self, view: Context) -> None:
        texts = view._run.texts or {}
        view.__dict__.clear()
        view.__dict__.update((key, self.codec.decode(text)) for key, (_, text) in texts.items())

    # -- from the operators -------------------------------------------------------------------------------------------

    def read_mail(self) -> list[Callable[[float], e.OperatorActed | e.SignalReceived]]:
        """Return what is in the inbox, each to be called with the time. It leaves the inbox with the next commit.

        :raises StorageError: it cannot be read.
        """
        events = []
        for message in self.store.inbox(self.lease.saga_id):
            if message.id not in self.taken:
                self.taken.append(message.id)
                events.append(self._read(message.body))
        return events

    def _read(self, body: str) -> Callable[[float], e.OperatorActed | e.SignalReceived]:
        told = json.loads(body)
        if "signal" in told:
            return partial(e.SignalReceived, told["signal"], self.codec.decode(told["value"]))
        return partial(e.OperatorActed, told["action"], told["step"], told["who"], told["why"])

    # -- to the store -------------------------------------------------------------------------------------------------

    def begin(self, new: NewExecution, machine: Machine, lease_seconds: float) -> StoredExecution | None:
        """Store the execution with its first events. Return ``None``, or the execution that has its id already."""
        events = machine.events
        existing = self.store.create(new, self._entries(events), self.lease.owner, lease_seconds)
        if existing is None:
            self.written = len(events)
            self._extras.clear()
        return existing

    def hold(self, seconds: float, on_mail: Callable[[], None]) -> None:
        """Keep the lease until the execution is terminal or cannot be stored any more."""
        self._keeper.hold(self.lease, seconds, on_mail)

    def park(self, delay: float) -> None:
        """Give the lease back until ``delay`` seconds have passed or a message comes."""
        self._keeper.drop(self.lease)
        saga_id, owner = self.lease.saga_id, self.lease.owner
        with suppress(StorageError):  # the lease runs out, then
            self.store.release(self.lease, delay=delay, got_on=True)
            if self.store.inbox(saga_id):  # it came before the release, which put it off
                for row in self.store.claim(owner, 10.0, saga_id=saga_id):
                    self.store.release(Lease(saga_id, owner, row.epoch), got_on=True)

    def let_go(self) -> None:
        """Give the lease back, for a recovery to take the execution up at once; if that fails, it runs out."""
        self._keeper.drop(self.lease)
        with suppress(Exception):  # of a store with a fault, too
            self.store.release(self.lease)

    def commit(self, machine: Machine) -> None:
        """Store the events that are not stored yet. They are durable when this returns.

        :raises LeaseLostError: another process has taken the execution over.
        :raises StorageError: nothing more is stored.
        """
        events = machine.events
        if self.written == len(events):
            return
        entries = self._entries(events)
        status = machine.status
        try:
            self._append(entries, status)
        except StorageError:
            # An interrupt may have struck after the commit and before it was noted here.
            stored = self._stored_already(entries)
            if not stored:
                raise
            if stored < len(entries):
                self._append(entries[stored:], status)
        self._stored(len(entries), status)

    def _append(self, entries: Sequence[Entry], status: e.Status) -> None:
        self.store.append(self.lease, entries, status=self._changed(status), release=status.terminal, taken=self.taken)

    def _changed(self, status: e.Status) -> str | None:
        return str(status) if status is not self._status else None

    def _stored(self, entries: int, status: e.Status) -> None:
        if status.terminal:
            self._keeper.drop(self.lease)
        self.written += entries
        self._status = status
        self._extras.clear()
        self.taken.clear()

    def _stored_already(self, entries: Sequence[Entry]) -> int:
        try:
            stored = self.store.journal(self.lease.saga_id)[self.written :]
        except StorageError:
            return 0
        count = 0
        for mine, theirs in zip(entries, stored, strict=False):
            if (mine.seq, mine.kind, mine.step, mine.payload) != (theirs.seq, theirs.kind, theirs.step, theirs.payload):
                return 0
            count += 1
        return 0 if len(stored) > len(entries) else count

    def _entries(self, events: Sequence[e.Event]) -> list[Entry]:
        extras = self._extras
        entries = []
        number = self.written
        for event in events[number:]:
            number += 1
            kind, has_step, payload = _WRITTEN[type(event)]
            text = payload(event, extras.get(id(event), ""), self.codec)
            entries.append(Entry(number, kind, event.step if has_step else None, text, event.at))  # type: ignore[union-attr]
        return entries


def commit_each(store: Store, parts: Sequence[tuple[Journal, Machine]]) -> None:
    """Store what executions have to store, in one transaction where that can be.

    What could not be stored is left to :meth:`Journal.commit`, which tells what is wrong with it.
    """
    with suppress(Exception):
        parts = [(journal, machine) for journal, machine in parts if journal.written < len(machine.events)]
        if len(parts) < 2:
            return
        appends = []
        for journal, machine in parts:
            entries, status = journal._entries(machine.events), machine.status
            appends.append(Append(journal.lease, entries, journal._changed(status), status.terminal, journal.taken))
        for (journal, machine), one, stored in zip(parts, appends, store.append_each(appends), strict=True):
            if stored:
                journal._stored(len(one.entries), machine.status)


# -- payloads ---------------------------------------------------------------------------------------------------------


def _started(event: e.StepStarted | e.CompensationStarted, extra: str, codec: Codec) -> str:
    return f'{{"attempt":{event.attempt}{extra}}}'


def _succeeded(event: e.StepSucceeded | e.CompensationSucceeded, extra: str, codec: Codec) -> str:
    return f'{{"attempt":{event.attempt},"elapsed":{event.elapsed:.6f}{extra}}}'


def _signalled(event: e.SignalReceived, extra: str, codec: Codec) -> str:
    return f'{{"name":{_quote(event.name)},"value":{codec.encode(event.value)}}}'


def _begun(event: e.SagaStarted, extra: str, codec: Codec) -> str:
    return f'{{"saga":{_quote(event.saga)},"saga_id":{_quote(event.saga_id)}{extra}}}'


def _payload(event: e.Event, extra: str, codec: Codec) -> str:
    told = []
    for name in event.__dataclass_fields__:
        if name in ("step", "at"):
            continue
        value = getattr(event, name)
        if value is False:  # every flag's default
            continue
        told.append(f"{_quote(name)}:{_to_json(encode_error(value) if isinstance(value, BaseException) else value)}")
    return f"{{{','.join(told)}{extra if told else extra[1:]}}}"


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
_PAYLOADS: Final[dict[type, Callable[[Any, str, Codec], str]]] = {
    e.SagaStarted: _begun,
    e.SignalReceived: _signalled,
    e.StepStarted: _started,
    e.CompensationStarted: _started,
    e.StepSucceeded: _succeeded,
    e.CompensationSucceeded: _succeeded,
}
_KINDS: Final[dict[str, Any]] = {kind.__name__: kind for kind in e.Event.__args__}
#: For each kind of event its name, whether it has a step, and what writes its payload.
_WRITTEN: Final = {
    kind: (name, "step" in kind.__dataclass_fields__, _PAYLOADS.get(kind, _payload)) for name, kind in _KINDS.items()
}


def _changes_text(changed: dict[str, tuple[Any, str]], removed: Sequence[str]) -> str:
    pairs = ",".join(f"[{_quote(key)},{text}]" for key, (_, text) in changed.items())
    text = f',"changes":[{pairs}]' if pairs else ""
    return f'{text},"removed":{json.dumps(removed)}' if removed else text


@dataclass(slots=True)
class Recorded:
    """An entry read back: the event, and what its call changed in its view of the context."""

    event: e.Event
    changes: dict[str, Any]
    removed: Sequence[str]
    more: dict[str, Any]  # what else the payload holds

    def apply(self, view: Context) -> None:
        """Change the view as the call did."""
        view.__dict__.update(self.changes)
        for key in self.removed:
            view.__dict__.pop(key, None)


def read_entry(entry: Entry, codec: Codec) -> Recorded:
    """Return what an entry says.

    :raises EncodingError: it cannot be read: a class in it is gone, or a later version of this package wrote it.
    """
    kind = _KINDS.get(entry.kind)
    if kind is None:
        raise EncodingError(f"entry {entry.seq} is a {entry.kind!r}, which this version does not know; upgrade the package")
    payload: dict[str, Any] = codec.decode(entry.payload)
    known: dict[str, Any] = {"at": entry.at}
    for name in kind.__dataclass_fields__:
        if name == "step":
            known["step"] = entry.step
        elif name == "error":
            known["error"] = decode_error(payload.pop("error"))
        elif name in payload:
            known[name] = payload.pop(name)
    changes = dict(payload.pop("changes", ()))
    return Recorded(kind(**known), changes, payload.pop("removed", ()), payload)


# -- messages ---------------------------------------------------------------------------------------------------------


def write_action(action: str, step: str | None, who: str, why: str) -> str:
    """Return an operator's action as a message's body."""
    return json.dumps({"action": action, "step": step, "who": who, "why": why})


def write_signal(name: str, value: Any, codec: Codec) -> str:
    """Return a signal as a message's body.

    :raises EncodingError: its value cannot be stored.
    """
    return json.dumps({"signal": name, "value": codec.encode(value, f"the value of signal {name!r}")})


# -- the input --------------------------------------------------------------------------------------------------------


def encode_context(context: Context, codec: Codec) -> dict[str, tuple[Any, str]]:
    """Encode every key, and leave in the context what will be read back. Return the texts by key.

    :raises EncodingError: a value cannot be stored, or the context's class not be found again; the context is unchanged.
    """
    kind = type(context)
    name = _name_of(kind)
    if kind is not Context and codec.context_class(name) is not kind:
        raise EncodingError(f"another class is found as {name!r}, the class of the context; give it a name of its own")
    texts = {key: (value, codec.encode(value, f"context.{key}")) for key, value in context.__dict__.items()}
    for key, (value, text) in texts.items():
        if type(value) not in _ATOMS:
            value = context.__dict__[key] = codec.decode(text)
            texts[key] = (value, text)
    context._run.texts = texts
    return texts


def first_payload(event: e.SagaStarted, context: Context, texts: dict[str, tuple[Any, str]], version: str) -> str:
    """Return the text to attach to an execution's first event: its saga's version, its context's class and input."""
    kind = _quote(_name_of(type(context)))
    return f',"version":{_quote(version)},"context":{kind}{_changes_text(texts, ())}'


def _name_of(kind: type[Context]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def digest_of(texts: dict[str, tuple[Any, str]]) -> str:
    """Return what stands for an input: the same for the same keys and values, in whatever order."""
    digest = hashlib.sha256()
    for key in sorted(texts):
        text = texts[key][1]
        if "{" in text:
            text = json.dumps(json.loads(text), sort_keys=True)
        digest.update(f"{_quote(key)}:{text},".encode())
    return digest.hexdigest()


def rebuild_context(started: Recorded, codec: Codec) -> Context:
    """Return the context an execution began with.

    :raises EncodingError: its class is gone.
    """
    kind = codec.context_class(started.more["context"])
    context = kind.__new__(kind)
    if is_dataclass(kind):  # keys that the class has got since then
        for field in fields(kind):
            if field.default is not MISSING:
                context.__dict__[field.name] = field.default
            elif field.default_factory is not MISSING:
                context.__dict__[field.name] = field.default_factory()
    started.apply(context)
    return context


def remember_texts(view: Context, codec: Codec) -> None:
    """Note how the view's keys are recorded, so that only later changes are recorded again."""
    view._run.texts = {key: (value, codec.encode(value, f"context.{key}")) for key, value in view.__dict__.items()}
