"""Executions that are submitted: stored, for whoever claims them to begin."""

from __future__ import annotations

import time
from typing import Any

from saga import Context, Saga, Status
from saga.drivers.views import bind
from saga.durable.codec import Codec
from saga.durable.entries import write_entries
from saga.durable.values import encode_input
from saga.storage import Lease, NewExecution, Store


def submit(saga: Saga, store: Store, values: Any = None, saga_id: str = "x") -> None:
    """Store an execution of a saga, which nobody runs yet."""
    definition, codec, context = saga.definition, Codec(), Context(values or {})
    bind(context, definition.plan, saga.name, saga_id)
    encoded, digest = encode_input(context, codec, definition.version, store)
    machine = definition.machine(saga_id)
    machine.submit(time.time(), encoded)
    new = NewExecution(saga_id, saga.name, definition.version, machine.plan.fingerprint, digest, str(Status.SUBMITTED))
    assert store.create(new, write_entries(machine.events, 0, {}, codec), "who submits", 1.0) is None
    store.release(Lease(saga_id, "who submits", 1))
