"""Faults: what can go wrong at a call of a task, and which of it can go wrong at this one. Nothing is called here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple

from saga.errors import SagaDefinitionError, near
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.machine.plan import PlannedStep

__all__ = [
    "DEATHS",
    "EACH",
    "PERSISTENT",
    "PLACE_OF",
    "USUAL",
    "AnswerLostError",
    "Died",
    "Fault",
    "InjectedError",
    "Kind",
    "faults_of",
    "kinds_at",
    "kinds_of",
]


class Kind(StrEnum):
    """What goes wrong. Where a fault is given, its text will do: ``("Charge", "answer lost")``."""

    FAILS = "fails"
    """``execute`` raises :class:`InjectedError` and has done nothing; a next attempt may do better."""
    FAILS_FOR_GOOD = "fails for good"
    """... and so does each attempt that follows."""
    FAILS_ODDLY = "fails oddly"
    """... with an :class:`OddError`, whose texts, truth and attributes raise."""
    NEVER_RUN = "never run"
    """``execute`` returns a coroutine that nobody awaits, where the saga has no async task: nothing of it has run."""
    ANSWER_LOST = "answer lost"
    """``execute`` takes effect, and then raises :class:`AnswerLostError`."""
    DIES_BEFORE = "dies before"
    """The process dies just before ``execute`` is called: it is stored that it was about to."""
    DIES_AFTER = "dies after"
    """The process dies when ``execute`` has taken effect, and nobody has stored that."""
    LATE = "late"
    """``execute`` takes effect when its step's timeout, or the saga's, is over."""
    HANGS = "hangs"
    """``execute`` does nothing and never returns: its process is killed in the end."""
    INTERRUPTED = "interrupted"
    """Ctrl-C strikes when ``execute`` has taken effect."""
    DIES_AT_AWAIT = "dies at await"
    """The process dies while a coroutine function waits: at the n-th ``await`` of that step, whichever method it is in."""
    CANCELLED_AT_AWAIT = "cancelled at await"
    """The task that runs the saga is cancelled there."""

    UNDO_FAILS = "undo fails"
    """``compensate`` raises :class:`InjectedError` and has done nothing; a next attempt may do better."""
    UNDO_FAILS_FOR_GOOD = "undo fails for good"
    """... and so does each attempt that follows."""
    UNDO_FAILS_ODDLY = "undo fails oddly"
    """... with an :class:`OddError`."""
    UNDO_NEVER_RUN = "undo never run"
    """``compensate`` returns a coroutine that nobody awaits, where the saga has no async task."""
    UNDO_OVERDUE = "undo overdue"
    """``compensate`` takes effect when the saga's timeout is over."""
    UNDO_ANSWER_LOST = "undo answer lost"
    """``compensate`` takes effect, and then raises :class:`AnswerLostError`."""
    UNDO_LATE = "undo late"
    """``compensate`` takes effect when its step's ``compensation_timeout`` is over."""
    UNDO_HANGS = "undo hangs"
    """``compensate`` does nothing and never returns: its process is killed in the end."""
    DIES_BEFORE_UNDO = "dies before undo"
    """The process dies just before ``compensate`` is called."""
    DIES_AFTER_UNDO = "dies after undo"
    """The process dies when ``compensate`` has taken effect, and nobody has stored that."""

    VERIFY_FAILS = "verify fails"
    """``verify`` raises :class:`AnswerLostError`: it could not be found out."""
    DIES_IN_VERIFY = "dies in verify"
    """The process dies when ``verify`` has been asked, and nobody has stored what it said."""

    DIES_BEFORE_STORING = "dies before storing"
    """The process dies where something is stored after no call: at the end of a wait, say, or of a group."""
    DIES_AFTER_STORING = "dies after storing"
    """The process dies where something is stored and no call follows: before a wait, say."""

    STORE_FAILS = "store fails"
    """A write of the journal raises, and nothing of it is stored."""
    STORE_ANSWER_LOST = "store answer lost"
    """A write of the journal is stored, and then raises."""
    STORE_GONE_BEFORE = "store gone before"
    """As ``store fails``, and so does all else that its process asks of the store."""
    STORE_GONE_AFTER = "store gone after"
    """As ``store answer lost``, and then all else fails that its process asks of the store."""
    STORE_SLOW = "store slow"
    """A write takes until the saga's timeout is over."""

    GOES_FIRST = "goes first"
    """Of calls that run at the same time, this one ends before those declared before it: no fault, but another order."""

    SIGNAL_EARLY = "signal early"
    """The signal comes before the step waits for it."""
    SIGNAL_TWICE = "signal twice"
    """The signal comes twice."""
    SIGNAL_LATE = "signal late"
    """The signal comes when the step's time is over."""
    NO_SIGNAL = "no signal"
    """The signal never comes."""
    OTHER_SIGNAL = "other signal"
    """Not this signal comes, but the next of those that the step waits for: no fault, but another way."""

    SECOND_OWNER = "second owner"
    """``execute`` takes effect, and then others take this process to be dead and go on, while it goes on too."""
    STALLS = "stalls"
    """As ``second owner``, but ``execute`` takes effect when the others have finished; only the other system can prevent it."""
    CANCELLED = "cancelled"
    """A person cancels the execution before ``execute`` is called; it is obeyed when that has ended."""
    PAUSED = "paused"
    """A person pauses the execution before ``execute`` is called, and resumes it when it is paused."""
    RETRIED = "retried"
    """A person who has to decide about a step in the end has it tried again: its compensation, or its ``execute``."""
    SKIPPED = "skipped"
    """A person who has to decide about a step in the end skips it: what it has done is seen to elsewhere."""
    BLOCK_FAILS = "block fails"
    """A block's own code raises :class:`InjectedError` after this step, before another begins or the block ends."""
    BLOCK_INTERRUPTED = "block interrupted"
    """Ctrl-C strikes a block's own code there."""
    WRONG_INPUT = "wrong input"
    """The input lacks this key: here ``step`` is the key. In a dataclass it is ``None``."""


START: Final = "start"
SIGNAL: Final = "signal"
WHICH: Final = "which signal"
STORED: Final = "stored"
STORE: Final = "store"
AWAIT: Final = "await"
PERSON: Final = "person"
ORDER: Final = "order"
INPUT: Final = "input"
BLOCK: Final = "block"

PLACE_OF: Final = {
    Kind.UNDO_FAILS: COMPENSATE,
    Kind.UNDO_FAILS_FOR_GOOD: COMPENSATE,
    Kind.UNDO_FAILS_ODDLY: COMPENSATE,
    Kind.UNDO_NEVER_RUN: COMPENSATE,
    Kind.UNDO_OVERDUE: COMPENSATE,
    Kind.UNDO_ANSWER_LOST: COMPENSATE,
    Kind.UNDO_LATE: COMPENSATE,
    Kind.UNDO_HANGS: COMPENSATE,
    Kind.DIES_BEFORE_UNDO: COMPENSATE,
    Kind.DIES_AFTER_UNDO: COMPENSATE,
    Kind.VERIFY_FAILS: VERIFY,
    Kind.DIES_IN_VERIFY: VERIFY,
    Kind.DIES_BEFORE_STORING: STORED,
    Kind.DIES_AFTER_STORING: STORED,
    Kind.STORE_FAILS: STORE,
    Kind.STORE_ANSWER_LOST: STORE,
    Kind.STORE_GONE_BEFORE: STORE,
    Kind.STORE_GONE_AFTER: STORE,
    Kind.STORE_SLOW: STORE,
    Kind.DIES_AT_AWAIT: AWAIT,
    Kind.CANCELLED_AT_AWAIT: AWAIT,
    Kind.RETRIED: PERSON,
    Kind.SKIPPED: PERSON,
    Kind.GOES_FIRST: ORDER,
    Kind.SIGNAL_EARLY: START,
    Kind.SIGNAL_TWICE: SIGNAL,
    Kind.SIGNAL_LATE: SIGNAL,
    Kind.NO_SIGNAL: SIGNAL,
    Kind.OTHER_SIGNAL: WHICH,
    Kind.BLOCK_FAILS: BLOCK,
    Kind.BLOCK_INTERRUPTED: BLOCK,
    Kind.WRONG_INPUT: INPUT,
}
"""Where a kind strikes, if not in an ``execute``."""

PERSISTENT: Final = {Kind.FAILS_FOR_GOOD: EXECUTE, Kind.UNDO_FAILS_FOR_GOOD: COMPENSATE}
"""What strikes each later call of its step, too."""

DEATHS: Final = frozenset(
    {
        Kind.DIES_BEFORE,
        Kind.DIES_AFTER,
        Kind.HANGS,
        Kind.UNDO_HANGS,
        Kind.DIES_BEFORE_UNDO,
        Kind.DIES_AFTER_UNDO,
        Kind.DIES_IN_VERIFY,
        Kind.DIES_BEFORE_STORING,
        Kind.DIES_AFTER_STORING,
        Kind.DIES_AT_AWAIT,
        Kind.STORE_FAILS,
        Kind.STORE_ANSWER_LOST,
        Kind.STORE_GONE_BEFORE,
        Kind.STORE_GONE_AFTER,
        Kind.STORE_SLOW,
        Kind.SECOND_OWNER,
        Kind.STALLS,
        Kind.CANCELLED,
        Kind.PAUSED,
        Kind.RETRIED,
        Kind.SKIPPED,
    }
)
"""What only an execution with a store outlives, or hears of."""

EACH: Final = frozenset(Kind)
OF_STORE: Final = (
    Kind.STORE_FAILS,
    Kind.STORE_ANSWER_LOST,
    Kind.STORE_GONE_BEFORE,
    Kind.STORE_GONE_AFTER,
    Kind.STORE_SLOW,
)
NEVER_RUN: Final = frozenset({Kind.NEVER_RUN, Kind.UNDO_NEVER_RUN})
"""What is nothing wrong where coroutines are awaited."""
AT_AWAIT: Final = frozenset({Kind.DIES_AT_AWAIT, Kind.CANCELLED_AT_AWAIT})

USUAL: Final = EACH - {
    Kind.FAILS_ODDLY,
    Kind.UNDO_FAILS_ODDLY,
    *NEVER_RUN,
    Kind.UNDO_OVERDUE,
    *OF_STORE,
    Kind.INTERRUPTED,
    Kind.BLOCK_INTERRUPTED,
    Kind.CANCELLED_AT_AWAIT,
    Kind.SECOND_OWNER,
    Kind.STALLS,
    Kind.CANCELLED,
    Kind.PAUSED,
    Kind.RETRIED,
    Kind.SKIPPED,
    Kind.WRONG_INPUT,
}
"""What is tried where nothing else is said: failures, lost answers, deaths, timeouts, orders and signals."""


class InjectedError(Exception):
    """What a call raises that fails by a fault: it has done nothing."""


class OddError(InjectedError):
    """What a call raises that fails oddly: it has done nothing, and its texts, its truth and its attributes raise."""

    def _refuse(self, *args: Any) -> Any:
        raise InjectedError("an odd error refuses that")

    __str__ = __repr__ = __bool__ = __setattr__ = __eq__ = _refuse
    __hash__ = InjectedError.__hash__


class AnswerLostError(ConnectionResetError):
    """What a call raises whose answer a fault has lost: it has taken effect."""


class Died(BaseException):
    """The process is gone."""


class Fault(NamedTuple):
    """One fault: ``kind`` strikes at the ``call``-th call of that step and method in the history, over all its attempts."""

    step: str
    kind: str
    call: int = 1

    @property
    def place(self) -> tuple[str, str, int]:
        return self.step, PLACE_OF.get(Kind(self.kind), EXECUTE), self.call

    def __repr__(self) -> str:
        call = f", {self.call}" if self.call > 1 else ""
        return f"({self.step!r}, {str(self.kind)!r}{call})"


def kinds_of(kinds: Iterable[str] | None, has_store: bool, awaits: bool) -> frozenset[Kind]:
    """Return the kinds that are to be tried.

    :param awaits: the saga awaits what its tasks return.
    :raises SagaDefinitionError: there is no such kind.
    """
    if isinstance(kinds, str):
        kinds = [kinds]
    found = USUAL if kinds is None else frozenset(_kind(kind) for kind in kinds)
    found -= NEVER_RUN if awaits else AT_AWAIT
    return found if has_store else found - DEATHS


def faults_of(faults: Iterable[Any], names: Collection[str] | None) -> tuple[Fault, ...]:
    """Return faults as they were given to :func:`replay`.

    :param names: the steps'; ``None``: they are not known.

    :raises SagaDefinitionError: one is none.
    """
    if isinstance(faults, str) or (isinstance(faults, tuple) and faults and isinstance(faults[0], str)):
        faults = [faults]
    return tuple(_faults(faults, names))


def _faults(faults: Iterable[Any], names: Collection[str] | None) -> Iterator[Fault]:
    for one in faults:
        try:
            fault = Fault(*one)
        except TypeError:
            raise SagaDefinitionError(f"{one!r} is no fault; give (step, kind), such as ('Charge', 'answer lost')") from None
        kind = _kind(fault.kind)
        if names is not None and kind is not Kind.WRONG_INPUT and fault.step not in names:
            raise SagaDefinitionError(
                f"fault {one!r}: there is no step {fault.step!r}{near(str(fault.step), names)}; steps: {', '.join(names)}"
            )
        if type(fault.call) is not int or fault.call < 1:
            raise SagaDefinitionError(f"fault {one!r}: its call is {fault.call!r}; calls are counted from 1")
        yield fault._replace(kind=kind)


def _kind(kind: Any) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        known = ", ".join(Kind)
        raise SagaDefinitionError(f"there is no kind of fault {kind!r}{near(str(kind), list(Kind))}; kinds: {known}") from None


_OF_EXECUTE: Final = (Kind.FAILS, Kind.ANSWER_LOST, Kind.DIES_BEFORE, Kind.DIES_AFTER)
_OF_OURS: Final = (Kind.FAILS_ODDLY, Kind.NEVER_RUN)
_OF_OTHERS: Final = (Kind.INTERRUPTED, Kind.SECOND_OWNER, Kind.STALLS, Kind.CANCELLED, Kind.PAUSED)
_OF_COMPENSATE: Final = (Kind.UNDO_FAILS, Kind.UNDO_ANSWER_LOST, Kind.DIES_BEFORE_UNDO, Kind.DIES_AFTER_UNDO)

_ROLLED_BACK: Final = frozenset(
    {
        Kind.ANSWER_LOST,
        Kind.DIES_AFTER,
        Kind.LATE,
        Kind.HANGS,
        Kind.INTERRUPTED,
        Kind.UNDO_OVERDUE,
        Kind.UNDO_ANSWER_LOST,
        Kind.DIES_AFTER_UNDO,
        Kind.SECOND_OWNER,
        Kind.STALLS,
    }
)
"""What leaves no doubt of a transactional call: what it did is rolled back, as if the process had died before it."""


def kinds_at(step: PlannedStep, phase: str, limited: bool, timed: bool, kinds: frozenset[Kind]) -> tuple[Kind, ...]:
    """Return what can go wrong at a call.

    :param limited: its time is.
    :param timed: it undoes, and the saga's timeout may be over before it ends.
    """
    retry = step.compensation_retry if phase is COMPENSATE else step.retry
    return _kinds_at(phase, retry.max_attempts != 1, limited, timed, step.transactional, kinds)


@cache  # it is asked at each call of each history
def _kinds_at(
    phase: str, retried: bool, limited: bool, timed: bool, transactional: bool, kinds: frozenset[Kind]
) -> tuple[Kind, ...]:
    if phase == EXECUTE:
        found = [*_OF_EXECUTE]
        if retried:
            found.insert(1, Kind.FAILS_FOR_GOOD)
        if limited:
            found += [Kind.LATE, Kind.HANGS]
        found += _OF_OURS
        found += _OF_OTHERS
    elif phase == COMPENSATE:
        found = [*_OF_COMPENSATE, Kind.UNDO_FAILS_ODDLY, Kind.UNDO_NEVER_RUN]
        if retried:
            found.insert(1, Kind.UNDO_FAILS_FOR_GOOD)
        if limited:
            found += [Kind.UNDO_LATE, Kind.UNDO_HANGS]
        if timed:
            found.append(Kind.UNDO_OVERDUE)
    else:
        found = [Kind.VERIFY_FAILS, Kind.DIES_IN_VERIFY]
    if transactional and phase != VERIFY:
        kinds -= _ROLLED_BACK
    return tuple(kind for kind in found if kind in kinds)
