"""Sending a signal to a stored execution. What becomes of one is the machine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from saga import events as e
from saga.definition import Definition
from saga.drivers.stints import carried_from
from saga.durable.leases import keeper_of
from saga.durable.messages import signal_message
from saga.durable.rebuild import codec_of, row_of, status_of
from saga.errors import ActionRefusedError, SagaDefinitionError
from saga.flow import refusal
from saga.machine import Standing, check_signal
from saga.storage.protocol import Store
from saga.storage.records import Entry
from saga.storage.rules import ENDED

__all__ = ["check_sent", "send_signal"]

_FORWARD: Final = (e.Status.SUBMITTED, e.Status.RUNNING, e.Status.PAUSED)
_LOOKS: Final = 3
"""How often it is looked where an execution stands that gets on between the look and the signal."""


def send_signal(
    definition: Definition,
    store: Store,
    saga_id: str,
    name: str,
    value: Any,
    who: str | None = None,
    why: str | None = None,
) -> None:
    """Leave a signal in an execution's inbox.

    :param who: the person who sends it; ``None``: a program does.
    :raises SagaDefinitionError: no step of the saga receives it.
    :raises EncodingError: the value cannot be stored.
    :raises UnknownExecutionError: there is no such execution of this saga.
    :raises ActionRefusedError: no step would receive it: the execution has ended or is being undone, or the value does not fit.
    """
    value = check_sent(definition, name, value)
    body = signal_message(name, value, codec_of(definition), store, saga_id, carried_from(definition.observers), who, why)
    for left in reversed(range(_LOOKS)):
        status = status_of(row_of(definition, saga_id, store))
        if status not in ENDED:  # else the store says so
            check_signal(Standing(status, gave_up=status is e.Status.STUCK and _gave_up(store.journal(saga_id))))
        try:
            store.post(saga_id, body, status=[*_FORWARD, status])
            break
        except ActionRefusedError:
            if status in ENDED or not left:
                raise
    keeper_of(store).look(saga_id)


def check_sent(definition: Definition, name: str, value: Any) -> Any:
    """See that a step of the saga receives a signal with this value. Return the value as it will be read.

    :raises SagaDefinitionError: none receives it.
    :raises EncodingError: the value cannot be stored.
    :raises ActionRefusedError: the value does not fit.
    """
    known = definition.plan.signals
    if name not in known:
        raise SagaDefinitionError(
            f"saga {definition.name!r} receives no signal {name!r}; signals: {', '.join(known) or 'none'}"
        )
    if name in definition.plan.accepts:
        codec = codec_of(definition)
        value = codec.decode(codec.encode(value, f"the value of signal {name!r}"))
        refused = refusal(definition.plan.accepts, name, value)
        if refused is not None:
            raise ActionRefusedError(f"saga {definition.name!r}: {refused}; nothing was sent")
    return value


def _gave_up(entries: Sequence[Entry]) -> bool:
    """Whether the undo had begun by the end of a journal."""
    for entry in reversed(entries):
        if entry.kind in (e.SagaCompensating.__name__, e.SagaRewound.__name__):
            return entry.kind == e.SagaCompensating.__name__
    return False
