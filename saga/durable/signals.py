"""Sending a signal to a stored execution. What becomes of one is the machine's."""

from __future__ import annotations

from typing import Any

from saga.definition import Definition
from saga.drivers.stints import carried_from
from saga.durable.leases import keeper_of
from saga.durable.messages import signal_message
from saga.durable.rebuild import codec_of
from saga.errors import SagaDefinitionError
from saga.storage.protocol import Store

__all__ = ["send_signal"]


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
    :raises UnknownExecutionError: there is no such execution.
    :raises ActionRefusedError: it is completed or compensated: nobody would read the signal.
    """
    pauses = [step.pause for step in definition.plan.steps]
    known = [pause.signal for pause in pauses if pause is not None and pause.signal is not None]
    if name not in known:
        raise SagaDefinitionError(
            f"saga {definition.name!r} receives no signal {name!r}; signals: {', '.join(known) or 'none'}"
        )
    carried = carried_from(definition.observers)
    store.post(saga_id, signal_message(name, value, codec_of(definition), store, carried, who, why))
    keeper_of(store).look(saga_id)
