"""Values: a context's keys and calls' results, as text and back. What is stored is read back before it is believed.

What a call returned or changed is encoded when it has ended, and the context then holds what decoding that gives: what the next
step sees is what a recovered one would see.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final

from saga.content import ATOMS
from saga.context import Context
from saga.durable.codec import Codec
from saga.durable.entries import Recorded, changes_text, start_text
from saga.durable.found_again import warn_of_main
from saga.durable.lengths import SURELY_FITS, check_length
from saga.errors import EncodingError
from saga.own_log import LOG
from saga.storage.protocol import Store

__all__ = [
    "apply_changes",
    "digest_of",
    "encode_changes",
    "encode_input",
    "encode_result",
    "input_digest",
    "input_text",
    "rebuild_context",
    "remember_recorded",
]

Texts = dict[str, tuple[Any, str]]
_UNORDERED: Final = {"$dict", "$set", "$frozenset"}


# -- what calls did ---------------------------------------------------------------------------------------------------


def encode_result(codec: Codec, step: str, view: Context, value: Any, store: Store) -> tuple[Any, str]:
    """Encode what a step returned and what it changed in its view.

    Return the result as it will be read, and what is encoded with its event. The view holds what will be read, too.

    :raises EncodingError: something cannot be stored, or is too long for the store; the view is as it was recorded last.
    """
    try:
        if id(type(value)) in ATOMS:
            text = codec.encode(value)
        else:
            text = codec.encode(value, f"the result of step {step!r}")
            value = codec.decode(text)
        return value, _changes(codec, view, store, text)
    except EncodingError:
        revert(codec, view)
        raise


def encode_changes(codec: Codec, view: Context, store: Store) -> str:
    """Encode what a call that raised, or a compensation, changed. What cannot be stored is taken back and logged."""
    try:
        return _changes(codec, view, store)
    except EncodingError as error:
        revert(codec, view)
        LOG.warning("changes to the context of saga %s are taken back: %s", view.__binding__.saga_id, error)
        return ""


def _changes(codec: Codec, view: Context, store: Store, result: str | None = None) -> str:
    """Return what is encoded with an event: a result, given as its text, and what changed in the view."""
    recorded = view.__binding__.recorded
    assert recorded is not None
    values = view.__dict__
    changed: Texts = {}
    replaced: list[tuple[str, str]] = []
    for key, value in values.items():
        known = recorded.get(key)
        if known is not None and known[0] is value and id(type(value)) in ATOMS:
            continue
        text = codec.encode(value, f"context.{key}")
        if known is None or known[1] != text:
            changed[key] = (value, text)
        elif known[0] is not value and id(type(value)) not in ATOMS:
            replaced.append((key, text))  # by an equal one, which may be another key's or the task's own too
    removed = [key for key in recorded if key not in values]
    # All is decoded before anything is believed: a registered type's decode function may raise.
    read = {key: (codec.decode(text), text) for key, text in replaced}
    for key, (value, text) in changed.items():
        read[key] = (value if id(type(value)) in ATOMS else codec.decode(text), text)
    text = "" if result is None else f',"result":{result}'
    if changed or removed:
        text += changes_text({key: text for key, (_, text) in changed.items()}, removed)
    if len(text) > SURELY_FITS:
        texts = [one for _, one in changed.values()] + ([] if result is None else [result])
        check_length(text, store, "what the call returned and changed", codec, texts)
    for key, (value, _) in read.items():
        values[key] = value
    recorded.update(read)
    for key in removed:
        del recorded[key]
    return text


def revert(codec: Codec, view: Context) -> None:
    """Make the view what it is by its texts."""
    recorded = view.__binding__.recorded or {}
    view.__dict__.clear()
    view.__dict__.update((key, codec.decode(text)) for key, (_, text) in recorded.items())


def remember_recorded(view: Context, codec: Codec) -> None:
    """Note how the view's keys are recorded, so that only later changes are recorded again."""
    view.__binding__.recorded = {key: (value, codec.encode(value, f"context.{key}")) for key, value in view.__dict__.items()}


def apply_changes(view: Context, recorded: Recorded, codec: Codec) -> None:
    """Change the view as a recorded call did, and note that so it is recorded."""
    recorded.apply(view)
    texts = view.__binding__.recorded
    assert texts is not None
    for key, value in recorded.changes.items():
        texts[key] = value, codec.encode(value, f"context.{key}")
    for key in recorded.removed:
        texts.pop(key, None)


# -- the input --------------------------------------------------------------------------------------------------------


def encode_input(context: Context, codec: Codec, version: str, store: Store) -> tuple[str, str]:
    """Encode every key, and leave in the context what will be read back. Return what :func:`input_text` does.

    :raises EncodingError: as :func:`input_text`; the context is unchanged.
    """
    started, digest, recorded = input_text(context, codec, version, store)
    for key, (value, text) in recorded.items():
        if id(type(value)) not in ATOMS:
            value = context.__dict__[key] = codec.decode(text)
            recorded[key] = (value, text)
    context.__binding__.recorded = recorded
    return started, digest


def input_text(context: Context, codec: Codec, version: str, store: Store) -> tuple[str, str, Texts]:
    """Encode every key of a context, which stays as it is.

    Return what is encoded with the first event, what stands for the input (see :func:`digest_of`), and each value's text.

    :raises EncodingError: a value cannot be stored, all are too long for the store, or the context's class is not found again.
    """
    kind = type(context)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind is not Context and codec.context_class(name) is not kind:
        raise EncodingError(f"another class is found as {name!r}, the class of the context; give it a name of its own")
    warn_of_main(kind)
    recorded = {key: (value, codec.encode(value, f"context.{key}")) for key, value in context.__dict__.items()}
    texts = {key: text for key, (_, text) in recorded.items()}
    started = start_text(name, changes_text(texts, ()), version)
    check_length(started, store, "the input", codec, texts.values())
    # Who can guess an input could tell by its digest: where it is encrypted, inputs are compared as they are read.
    return started, digest_of(texts) if codec.cipher is None else "", recorded


def digest_of(texts: dict[str, str]) -> str:
    """Return what stands for an input: the same for the same keys and values, in whatever order."""
    digest = hashlib.sha256()
    for key in sorted(texts):
        text = texts[key]
        if "{" in text:
            text = json.dumps(json.loads(text, object_hook=_in_order if '"$' in text else None), sort_keys=True)
        digest.update(f"{quote(key)}:{text},".encode())
    return digest.hexdigest()


def input_digest(started: Recorded, codec: Codec) -> str:
    """Return what stands for the input that an execution began with, as it is read and would be stored now.

    :raises EncodingError: it cannot be read any more.
    """
    values = rebuild_context(started, codec).__dict__
    return digest_of({key: codec.encode(value, f"context.{key}") for key, value in values.items()})


def _in_order(found: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object as it is, or, where it is written as a list and has no order of its own, with that sorted."""
    for tag in _UNORDERED & found.keys():
        found[tag] = sorted(found[tag], key=lambda item: json.dumps(item, sort_keys=True))
    return found


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
