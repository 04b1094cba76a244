"""Makes blocks, ``with transaction(...)``, and what a recovery undoes them by. Nothing is executed here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from saga.block import Transaction
from saga.context import Context
from saga.definition import Definition, Observer
from saga.errors import SagaDefinitionError
from saga.flow.policies import defaults_of
from saga.machine import OpenPlan
from saga.names import checked_id
from saga.observers import Loggers, observers_of
from saga.policy import ErrorKinds, Retry, Seconds

if TYPE_CHECKING:
    from uuid import UUID

    from saga.durable.codec import Codec
    from saga.storage import Store

__all__ = ["KIND", "block_definition", "transaction"]

KIND: Final[ContextVar[Callable[..., Transaction]]] = ContextVar("saga_block", default=Transaction)
"""What makes blocks here: tests run their own."""


def block_definition(name: str, defaults: Mapping[str, Any] | None = None, **parts: Any) -> Definition:
    """Return what the blocks of one name are run by, and what a recovery undoes them by.

    :param defaults: policies of the steps that say nothing themselves; a recovery reads them with each step.
    :raises SagaDefinitionError: something is wrong.
    """
    definition = Definition(name=name, version="block", plan=OpenPlan(name, defaults), **parts)
    definition.check()
    return definition


def transaction(
    name: str = "transaction",
    context: Context | Mapping[str, Any] | None = None,
    *,
    saga_id: str | UUID | None = None,
    logger: Loggers | None = None,
    observers: Iterable[Observer] = (),
    store: Store | str | os.PathLike[str] | None = None,
    codec: Codec | None = None,
    retry: Retry | None = None,
    step_timeout: Seconds | None = None,
    unknown_on: ErrorKinds | None = None,
    compensation_retry: Retry | None = None,
    compensation_timeout: Seconds | None = None,
    verification_retry: Retry | None = None,
    lease: Seconds = 30.0,
    again: bool = False,
) -> Transaction:
    """Return a block whose steps are undone, last first, when an exception leaves it.

    ``with transaction("place-order") as tx:`` and then ``order = tx.step(create_order, cancel_order, args=("A1",))``; or
    ``async with`` and ``await tx.astep(...)``. An exception in the block, between steps too, undoes the steps and is raised
    again, with the summary as a note; a step that fails raises :class:`~saga.errors.SagaExecutionException`. A step that runs
    beside another, or that nobody has awaited when the block ends, is an error, and the block is undone.

    :param store: where the steps are remembered. If the process dies in the block, ``Recovery(transactions=[name])`` undoes
        them, with functions of the modules that its ``Codec(modules=...)`` names. So each has to be a task class, or functions,
        at the top level of a module, with arguments that can be stored; anything else is refused before it is called.
    :param retry: of the steps that say nothing themselves, and so are ``step_timeout``, ``unknown_on``, ``compensation_retry``,
        ``compensation_timeout`` and ``verification_retry``: see :class:`saga.Saga`.
    :param again: whether it is run once more under the same ``saga_id`` where an earlier run of it was undone. A run that is
        not over is waited for first, and undone where its process is gone. ``tx.run`` counts the runs, and a later one's own id
        is ``saga_id`` with its number: ``A1~2``. It needs a ``saga_id``, a ``store`` and a ``codec`` with ``modules``.
    :raises SagaDefinitionError: a parameter is wrong.
    :raises SagaIdTakenError: when the block is entered: ``saga_id`` belongs to an earlier one; with ``again``, to one that is
        completed, or that a person has to act on first.
    """
    if saga_id is not None:
        saga_id = checked_id(saga_id, f"saga {name!r}: saga_id")
    if not isinstance(again, bool):
        raise SagaDefinitionError(f"transaction {name!r}: again is {again!r}; give a bool")
    tags = None
    if again:
        if saga_id is None or store is None:
            raise SagaDefinitionError(f"transaction {name!r}: again needs a saga_id and a store, which know the earlier runs")
        if codec is None or codec.names.modules is None:
            raise SagaDefinitionError(
                f"transaction {name!r}: what again undoes is undone by functions of modules that you name, and you name none; "
                "give codec=Codec(modules=['shop.orders'])"
            )
        tags = partial(_run_of, saga_id)
    observers = observers_of(name, logger, observers)
    retries = {"retry": retry, "compensation_retry": compensation_retry, "verification_retry": verification_retry}
    timeouts = {"step_timeout": step_timeout, "compensation_timeout": compensation_timeout}
    said = {**retries, **timeouts, "unknown_on": unknown_on}
    defaults = defaults_of(said, f"transaction {name!r}")
    definition = block_definition(name, defaults, observers=observers, codec=codec, lease=lease, tags=tags)
    if store is not None:
        from saga.storage.opened import check_store, pinned

        check_store(store, f"transaction {name!r}: store")
        store = pinned(store)
    return KIND.get()(definition, context, saga_id, store, again)


def _run_of(saga_id: str, context: Context) -> dict[str, str]:
    from saga.durable.runs import RUN_OF

    return {RUN_OF: saga_id}
