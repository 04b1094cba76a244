"""Messages of an execution's inbox: what comes from outside <-> a message's body."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from saga import events as e
from saga.durable.codec import Codec
from saga.durable.elsewhere import KEYS, Elsewhere, Fetching
from saga.durable.entries import are_texts
from saga.durable.lengths import check_length
from saga.durable.sealed import opened_text, sealed_text
from saga.errors import EncodingError
from saga.storage.protocol import Store

__all__ = ["action_message", "read_message", "signal_message"]


def action_message(action: str, step: str | None, who: str, why: str) -> str:
    """Return an operator's action as a message's body."""
    return json.dumps({"action": action, "step": step, "who": who, "why": why})


def signal_message(
    name: str,
    value: Any,
    codec: Codec,
    store: Store,
    saga_id: str,
    carried: Mapping[str, str] | None = None,
    who: str | None = None,
    why: str | None = None,
    *,
    dry: bool = False,
) -> str:
    """Return a signal as a message's body.

    :param saga_id: whose inbox it is for.
    :param who: the person who sends it; ``None``: a program does.
    :param dry: it is not to be sent: it is only seen that it can be stored.
    :raises EncodingError: its value cannot be stored, or is too long for the store.
    :raises StorageError: the codec's cipher has failed, or its blobs have.
    """
    text = codec.encode(value, f"the value of signal {name!r}")
    fields: dict[str, Any] = {"signal": name, "value": text}
    if codec.is_large(text):
        fields["value"], key = Elsewhere(codec, saga_id, dry=dry).reference(text)
        fields[KEYS] = [key]
    if codec.cipher is not None:
        fields["value"] = sealed_text(fields["value"], _place(saga_id, name), codec.cipher)
    if carried is not None:
        fields["carried"] = list(carried.items())
    if who is not None:
        fields |= {"who": who, "why": why}
    body = json.dumps(fields)
    check_length(body, store, f"the value of signal {name!r}")
    return body


def read_message(
    body: str, codec: Codec, saga_id: str, fetching: Fetching | None = None
) -> Callable[[float], e.OperatorActed | e.SignalReceived | e.MessageRefused]:
    """Return what a message says, to be called with the time. One that cannot be read is refused.

    :param saga_id: whose inbox it was in.
    :param fetching: reads what is elsewhere.
    :raises StorageError: the codec's blobs cannot be asked.
    """
    fetching = fetching or Fetching(codec, saga_id)
    try:
        return _message(json.loads(body), codec, saga_id, fetching)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's decode function may raise anything
        if error is fetching.failed:
            raise
        why = str(error) if isinstance(error, EncodingError) else repr(error)
        return partial(e.MessageRefused, body, f"it cannot be read: {why}")


def _place(saga_id: str, signal: str) -> str:
    return f"signal\n{saga_id}\n{signal}"


def _message(
    fields: Any, codec: Codec, saga_id: str, fetching: Fetching
) -> Callable[[float], e.OperatorActed | e.SignalReceived]:
    signal = "signal" in fields
    said = (fields.get("who"), fields.get("why"))
    texts = (fields["signal"], *(text or "" for text in said)) if signal else (fields["action"], *said, fields["step"] or "")
    if not all(isinstance(text, str) for text in texts):
        raise EncodingError("its fields are no texts")
    if signal:
        carried = fields.get("carried")
        if carried is not None and not are_texts(carried):
            raise EncodingError("what it carries are no pairs of texts")
        text = fields["value"]
        if codec.cipher is not None:
            text = opened_text(text, _place(saga_id, fields["signal"]), codec.cipher)
        value = codec.decode(fetching.read(text, f"signal {fields['signal']!r}"))
        pairs = None if carried is None else dict(carried)
        return partial(e.SignalReceived, fields["signal"], value, carried=pairs, who=said[0], why=said[1])
    return partial(e.OperatorActed, fields["action"], fields["step"], fields["who"], fields["why"])
