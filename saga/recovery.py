"""Recovery: a worker that finishes what dead processes left, and begins nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from saga.policy import Backoff, Seconds
from saga.worker import Worker
from saga.working.jobs import BACKOFF
from saga.working.shift import Stop

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.saga import Saga
    from saga.storage.protocol import StoreLike

__all__ = ["Recovery"]


class Recovery(Worker):
    """Finishes executions whose process is gone: a :class:`~saga.worker.Worker` that begins nothing that was submitted.

    Parameters as the worker's, of which these are the ones that matter here.

    :raises SagaDefinitionError: a saga is wrong, or two are the same.
    """

    _begins = False

    def __init__(
        self,
        store: StoreLike,
        sagas: Iterable[Saga[Any]] = (),
        *,
        transactions: Iterable[str] = (),
        codec: Codec | None = None,
        max_attempts: int = 10,
        backoff: Seconds | Backoff = BACKOFF,
        workers: int = 1,
        **more: Any,
    ) -> None:
        super().__init__(
            store,
            sagas,
            transactions=transactions,
            codec=codec,
            max_attempts=max_attempts,
            backoff=backoff,
            workers=workers,
            **more,
        )

    def run(self, stop: Stop | None = None, *, interval: Seconds = 5.0, signals: bool = True) -> None:
        super().run(stop, interval=interval, signals=signals)

    async def arun(self, stop: Stop | None = None, *, interval: Seconds = 5.0, signals: bool = False) -> None:
        await super().arun(stop, interval=interval, signals=signals)
