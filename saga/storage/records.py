"""The records of a store: executions' rows, entries, messages, leases, workers, and what is asked for. No store lives here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = [
    "ANY",
    "Append",
    "Beat",
    "Cause",
    "Count",
    "Entry",
    "Figures",
    "Hold",
    "Lease",
    "Message",
    "NewExecution",
    "NewWorker",
    "Page",
    "Place",
    "StoredExecution",
    "StoredWorker",
    "Told",
    "Wanted",
]

ANY = ""
"""The version of a :class:`Hold` that holds every version. No version of a definition is empty."""

NONE: Final[Mapping[str, str]] = MappingProxyType({})
"""No tags."""


class Entry(NamedTuple):
    """One line of a journal.

    :ivar seq: 1 for an execution's first; no gaps.
    :ivar kind: the event's class name.
    :ivar step: the step's name, or ``None``.
    :ivar payload: JSON text.
    """

    seq: int
    kind: str
    step: str | None
    payload: str
    at: float


class NewExecution(NamedTuple):
    """An execution to be stored: ``digest`` stands for its input, ``status`` is ``running`` or ``submitted``.

    ``saga_id`` and ``name`` are not empty. Each text but the status has up to 200 characters and no NUL.

    :ivar step: where it begins.
    :ivar tags: business keys to find it by.
    :ivar priority: each point is worth a minute of waiting.
    :ivar exclusive: of all that have the same key, one goes on at a time.
    :ivar at: it is not begun before then; ``None``: now.
    :ivar called: who called for it waits for its turn, and lives for so many seconds at least; ``None``: nobody did.
    """

    saga_id: str
    name: str
    version: str
    fingerprint: str
    digest: str
    status: str
    step: str | None = None
    tags: Mapping[str, str] = NONE
    priority: int = 0
    exclusive: str | None = None
    at: float | None = None
    called: float | None = None


class StoredExecution(NamedTuple):
    """An execution's row.

    :ivar owner: who holds the lease, or ``None``.
    :ivar epoch: how often it was taken.
    :ivar lease_until: when it runs out.
    :ivar due: workers leave it alone before then: when the lease runs out, or later where it was given back with a delay,
        or when a message came. What is submitted, or was given back for others to go on with at once, is due when it came, and
        as much earlier as its priority says. What is stuck is due for somebody to be told of it: see :meth:`Store.next_alert`.
    :ivar recoveries: how often it was claimed, its id not given, since it last got on.
    :ivar step: the step it is at, or the one that failed. While it runs, as its last heartbeat said.
    :ivar reason: why it is stuck, paused or was given up, in a sentence.
    :ivar cause: the name of the class of the error that it was given up for.
    :ivar opens: it is not begun before then, whatever its priority.
    :ivar started: when it was begun; ``None``: it was not.
    :ivar progressed: when it last got on. While it runs, as its last heartbeat said.
    :ivar keep_until: as long as it is completed, it is not purged before then.
    :ivar called_until: who called for it waits for its turn, and lives until then at least; ``None``: it was submitted. Others
        do not begin it before then.
    """

    saga_id: str
    name: str
    version: str
    fingerprint: str
    digest: str
    status: str
    owner: str | None
    epoch: int
    lease_until: float
    due: float
    recoveries: int
    created: float
    updated: float
    step: str | None = None
    reason: str | None = None
    cause: str | None = None
    tags: Mapping[str, str] = NONE
    priority: int = 0
    exclusive: str | None = None
    opens: float = 0.0
    started: float | None = None
    progressed: float = 0.0
    keep_until: float = 0.0
    called_until: float | None = None


class Wanted(NamedTuple):
    """Executions that a worker can run: those of one definition.

    :ivar version: the definition's: where a :class:`Hold` has it, nothing of it is begun. ``None``: no version in particular.
    :ivar fingerprint: of executions that it fits; ``None``: it fits all.
    :ivar compatible: versions whose executions it fits, whatever their fingerprint.
    :ivar limit: at most so many executions of this name are in hand at once, over all workers.
    :ivar rate: at most so many of this name are begun in any second. Where it is not whole, its whole part may be begun in as
        long as that takes: of 2.5, two in any 0.8 seconds; below 1, one in ``1 / rate`` seconds.
    """

    name: str
    version: str | None = None
    fingerprint: str | None = None
    compatible: frozenset[str] = frozenset()
    limit: int | None = None
    rate: float | None = None


class Told(NamedTuple):
    """What an execution's row tells from now on, besides its status: see :class:`StoredExecution`.

    :ivar keep: seconds for which it is not purged, as long as it is completed.
    :ivar definition: version and fingerprint of the one that goes on with it, where that is another than it was stored by.
    """

    step: str | None = None
    reason: str | None = None
    cause: str | None = None
    keep: float = 0.0
    definition: tuple[str, str] | None = None


class Place(NamedTuple):
    """Where an execution is while it runs: the step, and how many seconds ago it last got on."""

    step: str | None
    idle: float


class Lease(NamedTuple):
    """The right to write an execution's journal, valid while nobody has taken a later epoch."""

    saga_id: str
    owner: str
    epoch: int


class Append(NamedTuple):
    """What :meth:`Store.append` is to store."""

    lease: Lease
    entries: Sequence[Entry]
    status: str | None = None
    release: bool = False
    taken: Sequence[int] = ()
    told: Told | None = None


class Listed(NamedTuple):
    """Which executions a page is of, and where it begins: see :meth:`Store.list`.

    :ivar statuses: of these.
    :ivar equal: columns and their values.
    :ivar start: created at this time, or after it.
    :ivar bound: the time and the id before which the page begins.
    """

    statuses: Sequence[str]
    equal: Mapping[str, str]
    tags: Mapping[str, str]
    start: float
    bound: tuple[float, str]
    progressed_before: float | None
    limit: int


class Message(NamedTuple):
    """Something sent to an execution from outside: an operator's action, a signal. ``id`` orders them."""

    id: int
    saga_id: str
    body: str


class Beat(NamedTuple):
    """A lease that was renewed, and whether the execution's inbox holds anything."""

    saga_id: str
    mail: bool


class Page(NamedTuple):
    """Some executions, newest first, and the cursor for the next page (``None``: there is none)."""

    executions: tuple[StoredExecution, ...]
    next: str | None


NO_PLACES: Final[Mapping[str, Place]] = MappingProxyType({})


class Count(NamedTuple):
    """How many executions have these values, in the order of the columns that were asked for."""

    values: tuple[str | None, ...]
    executions: int


class Cause(NamedTuple):
    """Why some executions are stuck.

    :ivar name: of their saga.
    :ivar step: where they failed.
    :ivar cause: the name of the error's class.
    :ivar reason: why one of them is stuck, in a sentence.
    :ivar executions: how many there are.
    :ivar oldest: since when the first of them is stuck, in seconds since the epoch.
    :ivar sample: the id of one of them.
    """

    name: str
    step: str | None
    cause: str | None
    reason: str | None
    executions: int
    oldest: float
    sample: str


class Hold(NamedTuple):
    """Nothing of a saga is begun: of one version, or of all (:data:`ANY`). What has begun goes on."""

    name: str
    version: str
    who: str
    why: str
    at: float


class NewWorker(NamedTuple):
    """A worker that says that it lives.

    :ivar id: what stands for it in leases.
    :ivar definitions: name, version and fingerprint of each definition that it has.
    :ivar in_hand: how many executions it runs.
    :ivar stopping: whether it begins nothing new.
    """

    id: str
    host: str
    pid: int
    definitions: Sequence[tuple[str, str, str]]
    in_hand: int = 0
    stopping: bool = False


class StoredWorker(NamedTuple):
    """A worker that lives, or did: it said so at ``seen``, and is taken to be dead from ``until`` on."""

    id: str
    host: str
    pid: int
    definitions: tuple[tuple[str, str, str], ...]
    in_hand: int
    stopping: bool
    started: float
    seen: float
    until: float


class Figures(NamedTuple):
    """What is in a store, in numbers, at one moment.

    :ivar now: when that is.
    :ivar executions: how many there are, by name, status and cause.
    :ivar free: name, version and fingerprint of those that somebody could go on with, and nobody runs.
    :ivar created: by status, when the oldest was stored of those that are not completed or compensated.
    :ivar progressed: by status, when the one of those got on last that has not for the longest time.
    :ivar due: by status, since when somebody could have gone on with the one that nobody has gone on with for the longest time.
    :ivar workers: of each worker that lives, its definitions: see :class:`StoredWorker`.
    """

    now: float
    executions: Sequence[Count]
    free: Sequence[tuple[str, str, str]]
    created: Mapping[str, float]
    progressed: Mapping[str, float]
    due: Mapping[str, float]
    workers: Sequence[tuple[tuple[str, str, str], ...]]
