"""Executions that no definition of a worker fits: left to workers that have one, and parked where there has been none for long.

In a deploy, the new version's first worker finds what the old version's last ones are still to finish.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from saga.durable.leases import claim, owner
from saga.durable.rebuild import entries_of, rebuild
from saga.errors import StorageError
from saga.own_log import LOG
from saga.storage.claims import holds_back, is_had
from saga.storage.pages import each_of
from saga.storage.protocol import Store
from saga.storage.records import Lease, StoredExecution
from saga.working.definitions import Definitions
from saga.working.jobs import Jobs

__all__ = ["AT_ONCE", "park_unfit"]

AT_ONCE = 100


class _Kind(NamedTuple):
    name: str
    version: str
    fingerprint: str


def park_unfit(
    store: Store,
    definitions: Definitions,
    jobs: Jobs,
    after: float,
    statuses: tuple[str, ...],
    stopping: Callable[[], bool],
) -> int:
    """Park what waits for a definition that no worker has had for ``after`` seconds; not more at once than take a moment.

    Return how many.

    :param statuses: of executions that the worker would claim.
    :param stopping: whether it is time to stop.
    """
    parked = 0
    now = store.now()
    workers = store.workers()
    held = {(hold.name, hold.version) for hold in store.holds()}
    for values in [one.values for one in store.count(("name", "version", "fingerprint"), status=statuses)]:
        name, version, fingerprint = (value or "" for value in values)
        kind = _Kind(name, version, fingerprint)
        if name not in definitions.by_name or definitions.fits(kind):
            continue
        if now - max((one.until for one in workers if is_had(one.definitions, kind)), default=-math.inf) < after:
            continue
        for row in each_of(store.list, status=statuses, name=name, version=version, limit=AT_ONCE):
            if row.status == "submitted" and holds_back(held, name, version):
                continue  # a person knows of it
            waits_since = max(row.opens if row.status == "submitted" else row.due, row.updated)
            if stopping() or parked == AT_ONCE:
                return parked
            if row.fingerprint == fingerprint and waits_since <= now - after and row.lease_until <= now:
                _park(store, definitions, jobs, row)
                parked += 1
    return parked


def _park(store: Store, definitions: Definitions, jobs: Jobs, found: StoredExecution) -> None:
    for row in claim(store, definitions.lease, saga_id=found.saga_id):
        lease = Lease(row.saga_id, owner(), row.epoch)
        if row.status != found.status or definitions.fits(row):
            store.release(lease)
            continue
        try:
            rebuild(definitions.of(row), row, entries_of(store, row.saga_id))
        except StorageError as error:
            jobs.park(row, lease, str(error))
        else:
            LOG.error("saga %s fits after all", row.saga_id)
            store.release(lease)
