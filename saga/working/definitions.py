"""The definitions that a worker has: which executions it can run, and by which of them. Nothing is claimed here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from saga.blocks import block_definition
from saga.definition import Definition, check_codec, definitions_of
from saga.durable.submit import wanted_of
from saga.errors import SagaDefinitionError
from saga.names import checked_name, several
from saga.own_log import LOG
from saga.storage.claims import Defined, fits_one, rate_window
from saga.storage.opened import place_of
from saga.storage.records import StoredExecution, Wanted

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.saga import Saga
    from saga.storage.protocol import Store

__all__ = ["Definitions", "warn_of_another_store"]


def warn_of_another_store(store: Store, sagas: Iterable[Saga[Any]], what: str) -> None:
    """Say where a saga stores its executions plainly elsewhere than in a store. :param what: whose they are."""
    place = place_of(store)
    for saga in sagas:
        own = None if saga.store is None else place_of(saga.store)
        if place is not None and own is not None and own != place:
            told = "%s: saga %r has another store than this one: what it stores there is not run from here; give both the same"
            LOG.warning(told, what, saga.name)


class Definitions:
    """Definitions by their sagas' names; several versions of one saga may be among them.

    :param what: whose they are, for errors.
    :ivar lease: seconds of the shortest lease among them.
    :ivar window: the shortest time, in seconds, within which no more may be begun than a rate says.
    :ivar in_line: whether executions of one of them may have to wait for others to end.
    :raises SagaDefinitionError: a saga is wrong, two are the same, or there is none.
    """

    def __init__(self, sagas: Iterable[Saga[Any]], transactions: Iterable[str], codec: Codec | None, what: str) -> None:
        names = [checked_name(name, f"{what}: one of transactions") for name in several(transactions, f"{what}: transactions")]
        check_codec(codec, f"{what}: codec")
        if names and (codec is None or codec.names.modules is None):
            raise SagaDefinitionError(
                f"{what}: transactions are undone by functions of modules that you name, and you name none; give "
                "codec=Codec(modules=['shop.orders'])"
            )
        self.by_name: dict[str, list[Definition]] = {}
        blocks = [block_definition(name, codec=codec) for name in names]
        for definition in (*definitions_of(sagas, f"{what}: sagas"), *blocks):
            known = self.by_name.setdefault(definition.name, [])
            if any(other.version == definition.version for other in known):
                raise SagaDefinitionError(f"{what}: version {definition.version!r} of saga {definition.name!r} is given twice")
            known.append(definition)
        if not self.by_name:
            raise SagaDefinitionError(f"{what}: give the sagas, or the names of the transactions, that are to be finished")
        self.all = [one for known in self.by_name.values() for one in known]
        self.lease = min(one.lease for one in self.all)
        self.window = min((rate_window(one.rate)[1] for one in self.all if one.rate is not None), default=math.inf)
        self.in_line = any(one.in_line for one in self.all)

    def wanted(self, asynchronous: bool) -> list[Wanted]:
        """Return which executions they fit: those that an event loop runs, or those that a thread does."""
        return [wanted_of(one) for one in self.all if one.plan.asynchronous is asynchronous]

    def fits(self, row: Defined) -> bool:
        """Whether one of them fits an execution."""
        return self._fitting(row) is not None

    def of(self, row: StoredExecution) -> Definition:
        """Return the definition to run an execution by: the one it began with, or one that says it is compatible."""
        return self._fitting(row) or self.by_name[row.name][-1]  # which says what does not fit

    def _fitting(self, row: Defined) -> Definition | None:
        known = self.by_name.get(row.name, [])
        found = fits_one(row, map(wanted_of, known))
        return None if found is None else next(one for one in known if one.version == found.version)

    def told(self) -> list[tuple[str, str, str]]:
        """Return name, version and fingerprint of each, and, of no fingerprint, each version that it is compatible with."""
        own = [(one.name, one.version, one.plan.fingerprint) for one in self.all]
        return own + [(one.name, version, "") for one in self.all for version in sorted(one.compatible_with)]
