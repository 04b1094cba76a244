"""What operators see and do of workers and definitions, rather than of one execution: a part of ``Operations``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from saga.awaited import awaited
from saga.errors import near
from saga.events import Status
from saga.names import check_said, checked_name, several
from saga.own_log import LOG
from saga.storage.claims import is_had
from saga.storage.protocol import Store
from saga.storage.records import ANY, Count, Hold, StoredWorker

if TYPE_CHECKING:
    from saga.definition import Definition

__all__ = ["Fleet", "Version", "statuses"]

_OPEN = (Status.SUBMITTED, Status.RUNNING, Status.PAUSED, Status.COMPENSATING, Status.STUCK)
"""Where something is still to be done."""


class Version(NamedTuple):
    """A version of a definition: who can run it, and what is still to be done with it.

    :ivar fingerprint: of its steps and policies.
    :ivar workers: how many workers have it that live.
    :ivar executions: how many executions of it have not ended, by status.
    :ivar held: why nothing of it is begun, or ``None``.
    """

    name: str
    version: str
    fingerprint: str
    workers: int
    executions: dict[str, int]
    held: str | None


class Fleet:
    """Workers, versions, and what is held."""

    store: Store
    who: str
    _definitions: list[Definition]

    def count(
        self,
        by: Sequence[str] = ("name", "status"),
        *,
        status: Collection[str] | str | None = None,
        name: str | None = None,
    ) -> list[Count]:
        """Return how many executions there are of each kind.

        :param by: ``name``, ``status``, ``version``, ``fingerprint``, ``step``, ``cause``, ``reason``: any of these.
        :raises ValueError: there is no such status or column.
        """
        return self.store.count(
            several(by, "by"),
            status=None if status is None else statuses(status),
            name=None if name is None else checked_name(name, "name"),
        )

    def workers(self) -> list[StoredWorker]:
        """Return the workers that live: what they are, what they can run, how many executions they run."""
        now = self.store.now()
        return [worker for worker in self.store.workers() if worker.until > now]

    def versions(self) -> list[Version]:
        """Return every version of which something is still to be done, or that a worker has: who still runs version 1?"""
        executions: dict[tuple[str, str, str], dict[str, int]] = {}
        for values, number in self.store.count(("name", "version", "fingerprint", "status"), status=_OPEN):
            name, version, fingerprint, status = (value or "" for value in values)
            executions.setdefault((name, version, fingerprint), {})[status] = number
        living = self.workers()
        keys = executions.keys() | {one for worker in living for one in worker.definitions if one[2]}
        held = {(hold.name, hold.version): hold for hold in self.store.holds()}
        return [
            Version(
                *key,
                sum(is_had(worker.definitions, Version(*key, 0, {}, None)) for worker in living),
                executions.get(key, {}),
                _why(held.get((key[0], ANY)) or held.get(key[:2])),
            )
            for key in sorted(keys)
        ]

    def hold(self, name: str, why: str, *, version: str | None = None) -> bool:
        """Begin nothing new of a saga; what runs is finished, what is submitted is kept. :meth:`let_go` ends it.

        Whoever executes it here and now gets a :class:`~saga.errors.SagaHeldError` meanwhile.

        Return whether an execution or a worker here is of it. Where none is, as before it is first deployed, it is held all the
        same, and a warning is logged.

        :param version: of this version alone: workers that have another one which fits begin its executions.
        :raises ValueError: ``why`` is empty.
        """
        check_said(self.who, why)
        self.store.hold(checked_name(name, "name"), self._version(version), self.who, why)
        return self._is_known(name, version)

    def let_go(self, name: str, *, version: str | None = None) -> bool:
        """Let executions of a saga begin again. Return whether it was held."""
        return self.store.let_go(checked_name(name, "name"), self._version(version))

    def drain(self, name: str, version: str, why: str) -> bool:
        """Begin nothing new of one version, before its workers are stopped: :meth:`hold` of that version."""
        return self.hold(name, why, version=checked_name(version, "version"))

    def holds(self) -> list[Hold]:
        """Return what is held, by whom and why."""
        return self.store.holds()

    acount = awaited(count)
    aworkers = awaited(workers)
    aversions = awaited(versions)
    ahold = awaited(hold)
    alet_go = awaited(let_go)
    adrain = awaited(drain)
    aholds = awaited(holds)

    def _is_known(self, name: str, version: str | None) -> bool:
        """Whether anything is known of a saga, or of a version of it; else say so, and what is."""
        known: set[tuple[str | None, ...]] = {one[:2] for worker in self.store.workers() for one in worker.definitions}
        known |= {(one.name, one.version) for one in self._definitions}
        if any(one[0] == name and version in (None, one[1]) for one in known):
            return True
        if self.store.list(name=name, version=version, limit=1).executions:
            return True
        known |= {values for values, _ in self.store.count(("name", "version"))}
        names = {one[0] or "" for one in known}
        versions = {one[1] or "" for one in known if one[0] == name}
        if not versions:
            LOG.warning("no execution and no worker here is of saga %r%s; it is held all the same", name, near(name, names))
        else:
            here = ", ".join(map(repr, sorted(versions)))
            told = "no execution and no worker here is of version %r of saga %r, but of %s; it is held all the same"
            LOG.warning(told, version, name, here)
        return False

    @staticmethod
    def _version(version: str | None) -> str:
        return ANY if version is None else checked_name(version, "version")


def statuses(status: Collection[str] | str) -> list[str]:
    """Return statuses as a store takes them.

    :raises ValueError: there is no such status.
    """
    given = (status,) if isinstance(status, str) else several(status, "status")
    for one in given:
        if one not in list(Status):
            raise ValueError(f"status has {one!r}{near(one, Status)}; a status is one of {', '.join(Status)}")
    return [str(Status(one)) for one in given]


def _why(hold: Hold | None) -> str | None:
    return None if hold is None else f"{hold.who}: {hold.why}"
