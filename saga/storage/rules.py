"""What all stores check alike: ids, statuses, cursors. No store and no database lives here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from saga.errors import (
    ActionRefusedError,
    LeaseLostError,
    SagaHeldError,
    StorageError,
    UnknownExecutionError,
    UnreadMessagesError,
)
from saga.names import LONGEST
from saga.storage.records import ANY, Entry, Hold, Lease, NewExecution, NewWorker

__all__ = [
    "CLAIMABLE",
    "LONGEST",
    "STATUSES",
    "TERMINAL",
    "already_stored",
    "check_claim",
    "check_limit",
    "check_new",
    "check_not_held",
    "check_number",
    "check_purge",
    "check_status",
    "check_texts",
    "closed",
    "fits",
    "is_id",
    "latest_created",
    "lease_lost",
    "not_taken",
    "patience_of",
    "reading",
    "statuses_of",
    "too_new",
    "unknown_execution",
]

CLAIMABLE = ("submitted", "running", "compensating")
"""Statuses in which executions are claimed without their id being given."""

TERMINAL = ("completed", "compensated", "stuck")
STATUSES = (*CLAIMABLE, "paused", *TERMINAL)
ENDED = ("completed", "compensated")
"""Of what nobody goes on with, so that nobody reads its messages either. What is stuck may be resumed."""

RESTING = (*ENDED, "paused")
"""Of what nobody looks at any more, or not for long: its messages are read before."""

MOST = 2**31 - 2
"""Executions that one call asks for, at most."""

END_OF_TIME = 1e300
"""Later than every execution; a number and no infinity, which MySQL does not have."""

UNTOLD = f"status = 'stuck' AND due < {END_OF_TIME!r}"
"""Of what is in the index of what is stuck that somebody is still to be told of: a statement that is to use it says so."""


def _fault(text: object, *, empty: bool) -> str | None:
    """Say what is wrong with a key, or return ``None``."""
    if type(text) is str and 0 < len(text) <= LONGEST and text.isascii() and "\0" not in text:
        return None  # nearly all of them
    if not isinstance(text, str):
        return f"must be a str, not {type(text).__name__}"
    if not text and not empty:
        return "must not be empty"
    if len(text) > LONGEST:
        return f"must have at most {LONGEST} characters, not {len(text)}"
    if "\0" in text:
        return "must not contain NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be encodable as UTF-8"
    return None


def is_id(text: object) -> bool:
    """Whether an execution may have this id: a non-empty str of up to 200 characters without NUL or lone surrogates."""
    return _fault(text, empty=False) is None


def check_number(name: str, value: float) -> None:
    """Check a time, or a number of seconds.

    :raises ValueError: it is no number, or one that not all stores compare alike: NaN and the infinities.
    """
    if type(value) is float and -END_OF_TIME <= value <= END_OF_TIME:
        return  # nearly all of them
    if isinstance(value, bool) or not isinstance(value, int | float) or not -END_OF_TIME <= value <= END_OF_TIME:
        raise ValueError(f"{name} must be a finite number, not {value!r}")


def patience_of(name: str, given: float | timedelta) -> float:
    """Return the seconds for which something is to be tried.

    :raises ValueError: it is no finite number of at least 0, and no ``timedelta``.
    """
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    check_number(name, seconds)
    if seconds < 0:
        raise ValueError(f"{name} must be at least 0 seconds, not {seconds!r}")
    return seconds


def check_limit(limit: int) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise ValueError(f"limit must be a whole number of at least 1, and of at most {MOST}, not {limit!r}")


def check_new(new: NewExecution, owner: str = "-", lease_seconds: float = 0.0) -> str:
    """Check an execution before it is stored; return its status as a plain string.

    :raises StorageError: a key is too long, holds NUL, or is empty where it must not be.
    :raises ValueError: the status is unknown, or a number none that all stores compare alike.
    """
    status = check_status(new.status)
    check_number("lease_seconds", lease_seconds)
    keys = {"saga_id": new.saga_id, "name": new.name, "owner": owner}
    others = {"version": new.version, "fingerprint": new.fingerprint, "digest": new.digest}
    for key, text in (keys | others).items():
        if fault := _fault(text, empty=key in others):
            raise StorageError(f"{key} {fault}: {text!r}")
    if new.tags or new.exclusive is not None:
        named = {"exclusive": new.exclusive} if new.exclusive is not None else {}
        for key, text in [
            *named.items(),
            *(one for tag in new.tags.items() for one in (("tag", tag[0]), (f"tag {tag[0]!r}", tag[1]))),
        ]:
            if fault := _fault(text, empty=False):
                raise StorageError(f"{key} {fault}: {text!r}")
    if isinstance(new.priority, bool) or not isinstance(new.priority, int) or not 0 <= new.priority <= MOST:
        raise ValueError(f"priority must be a whole number of 0 to {MOST}, not {new.priority!r}")
    if new.at is not None:
        check_number("at", new.at)
    return status


COUNTED = ("name", "status", "version", "fingerprint", "step", "cause", "reason")
"""Columns by which executions are counted."""


def check_count(by: Sequence[str]) -> tuple[str, ...]:
    """Check by which columns executions are to be counted.

    :raises ValueError: there is no such column.
    """
    for one in by:
        if one not in COUNTED:
            raise ValueError(f"executions are not counted by {one!r}, but by {', '.join(COUNTED)}")
    return tuple(dict.fromkeys(map(str, by)))


def check_hold(name: str, version: str, who: str, why: str) -> None:
    """Check what is to be held, and by whom.

    :raises StorageError: it cannot be stored.
    """
    for key, text, empty in (("name", name, False), ("version", version, True), ("who", who, False)):
        if fault := _fault(text, empty=empty):
            raise StorageError(f"{key} {fault}: {text!r}")
    if not isinstance(why, str) or "\0" in why:
        raise StorageError(f"why must be a str without NUL: {why!r}")


def check_worker(worker: NewWorker, seconds: float) -> None:
    """Check a worker that says that it lives.

    :raises StorageError: it cannot be stored.
    :raises ValueError: ``seconds`` is no finite number.
    """
    check_number("seconds", seconds)
    for key, text in (("id", worker.id), ("host", worker.host)):
        if fault := _fault(text, empty=False):
            raise StorageError(f"a worker's {key} {fault}: {text!r}")


def check_table_name(parameter: str, name: object) -> None:
    """Check what tables, or the schema they are in, are called after. Room is left within the 63 bytes that names have.

    :raises ValueError: it is no plain name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,46}", name):
        raise ValueError(f"{parameter} must be up to 47 letters, digits and underscores, not {name!r}")


#: What is said to who may not make or change the tables, or may not use them.
MADE_BY_ANOTHER = (
    "their owner makes the tables by the SQL of saga.storage.schema_sql(..., role=...), which grants their use, and leads "
    "those of an earlier release forward by opening a store once"
)


def check_clock(clock: object) -> None:
    """Check what tells a store's time.

    :raises ValueError: it cannot be called, or not without being awaited.
    """
    if not callable(clock) or isinstance(clock, type) or inspect.iscoroutinefunction(clock):
        raise ValueError(f"clock is {clock!r}; give a function that returns seconds since the epoch")


def check_claim(owner: str, lease_seconds: float, limit: int) -> None:
    """Check who claims, for how long, and how many.

    :raises StorageError: the owner cannot be stored.
    :raises ValueError: ``lease_seconds`` or ``limit`` is no such number.
    """
    check_number("lease_seconds", lease_seconds)
    check_limit(limit)
    if fault := _fault(owner, empty=False):
        raise StorageError(f"owner {fault}: {owner!r}")


def check_status(status: str) -> str:
    """Return the status as a plain string, which every driver can send.

    :raises ValueError: there is no such status.
    """
    if status not in STATUSES:
        raise ValueError(f"there is no status {status!r}: a status is one of {', '.join(STATUSES)}")
    return str(status)


def check_purge(updated_before: float, status: Collection[str], limit: int) -> list[str]:
    """Check what is to be purged; return the statuses, each once.

    :raises ValueError: a status is not terminal, or a number none that all stores compare alike.
    """
    check_number("updated_before", updated_before)
    check_limit(limit)
    for one in status:
        if one not in TERMINAL:
            raise ValueError(f"only terminal executions are purged ({', '.join(TERMINAL)}), not {one!r}")
    return sorted({str(one) for one in status})


def statuses_of(status: Collection[str] | None) -> list[str]:
    """Return the statuses that a listing asks for, each once; all where it does not say.

    :raises ValueError: there is no such status.
    """
    if status is None:
        return list(STATUSES)
    return sorted({check_status(one) for one in status})


def latest_created(status: str, created: float, progressed_before: float | None) -> float:
    """Return when the executions of a status that have not got on since then were created at the latest.

    What has ended got on last when it ended: not before it was created. So it is found by that, with no index of its own.
    """
    return created if progressed_before is None or status not in ENDED else min(created, progressed_before)


def fits(text: str, longest: int) -> bool:
    """Whether a text has no more than so many bytes, as it is sent to a database: what would end it is escaped there."""
    if not isinstance(text, str) or 4 * len(text) <= longest:
        return True  # whatever its characters are; and what is no text, a database refuses by itself
    return len(text.encode(errors="replace")) + sum(map(text.count, "\"'\\")) <= longest


def check_texts(texts: Iterable[str], longest: int) -> None:
    """See that a store takes these texts.

    :raises StorageError: one is too long; nothing is stored.
    """
    for text in texts:
        if not fits(text, longest):
            raise StorageError(
                f"a text of {len(text):,} characters is more than this store takes ({longest:,} bytes); nothing was stored"
            )


def lease_lost(lease: Lease) -> LeaseLostError:
    """The error of an append whose lease no longer holds."""
    return LeaseLostError(
        f"execution {lease.saga_id!r} is no longer held by {lease.owner!r} with epoch {lease.epoch}: it was taken over, "
        "given back or purged; nothing was stored"
    )


def already_stored(saga_id: str, entries: Collection[Entry]) -> StorageError:
    """The error of an append of which the journal has a ``seq`` already."""
    seqs = ", ".join(str(entry.seq) for entry in entries)
    return StorageError(f"the journal of execution {saga_id!r} already has one of the entries {seqs}; nothing was stored")


def unknown_execution(saga_id: str) -> UnknownExecutionError:
    """The error of a message to an execution that is not there."""
    return UnknownExecutionError(f"there is no execution {saga_id!r} to send a message to")


def check_not_held(new: NewExecution, holds: Iterable[Hold]) -> None:
    """See that nobody holds a saga of which something is to be begun here and now.

    :raises SagaHeldError: somebody does.
    """
    for hold in holds:
        if hold.name == new.name and hold.version in (ANY, new.version):
            version = f" version {hold.version!r} of" if hold.version else ""
            which = f"{new.name!r}, version={hold.version!r}" if hold.version else repr(new.name)
            raise SagaHeldError(
                f"{hold.who} holds{version} saga {new.name!r}: {hold.why}; nothing of it is begun here and now until "
                f"Operations(...).let_go({which}), and submit() stores it for then"
            )


def reading(status: Collection[str] | None) -> list[str]:
    """Return the statuses in which an execution takes a message that is meant for these.

    :raises ValueError: there is no such status.
    """
    return [one for one in statuses_of(status) if one not in ENDED]


def not_taken(saga_id: str, status: str) -> ActionRefusedError:
    """The error of a message to an execution that does not take it any more."""
    if status in ENDED:
        return ActionRefusedError(f"execution {saga_id!r} has ended ({status}): nobody reads a message to it any more")
    return ActionRefusedError(f"execution {saga_id!r} is {status} by now: it does not take this message")


def unread(saga_id: str) -> UnreadMessagesError:
    """The error of an end that an execution's messages forestall."""
    return UnreadMessagesError(f"execution {saga_id!r} has messages that it has not read; nothing was stored")


def closed(kind: str) -> StorageError:
    """The error of using a store of this class after its end."""
    return StorageError(f"this {kind} is closed")


def too_new(found: int, known: int, where: str) -> StorageError:
    """The error of opening a store that a later release of this package has written."""
    return StorageError(
        f"{where} has version {found} of saga's tables, and this release of saga-tasks knows versions up to {known}: "
        "install the newer release; nothing was changed"
    )
