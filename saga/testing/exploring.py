"""Exploring: a saga is run through every history with up to so many faults, those with the fewest first.

Which histories there are is found by running them. A history without a fault tells where something can go wrong; each of these
places makes a history with one fault, and that one tells where another can follow; and so on. A fault only follows those that
come before it, so each set of faults is tried once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saga.errors import SagaDefinitionError
from saga.events import Status
from saga.saga import Saga
from saga.testing.block_histories import BlockHistory
from saga.testing.faults import EACH, Fault, Kind, faults_of
from saga.testing.histories import History
from saga.testing.laws import LawBrokenError, Laws
from saga.testing.loops import VirtualLoop, quietly
from saga.testing.records import Setting
from saga.testing.reports import counted, end_of, report
from saga.testing.settings import check_bounds, setting_of
from saga.testing.watchdog import watched
from saga.testing.worlds import UNKNOWN, differences

__all__ = ["Exploration", "explore", "replay", "setting_of"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exploration:
    """What was explored.

    :ivar saga: the saga's name.
    :ivar steps: how many steps it has.
    :ivar faults: how many faults a history had at most.
    :ivar kinds: the kinds of faults that struck, in the order of :class:`Kind`.
    :ivar histories: how many histories were run, by their number of faults: the first had none.
    :ivar complete: whether these were all; else time or number was over.
    :ivar has_store: whether deaths were tried, which only an execution with a store outlives.
    :ivar sees_world: whether the world could be compared.
    :ivar failure: how it ended, and why, though nothing went wrong; ``None``: it completed.
    :ivar seconds: how long it took.
    :ivar awaits: how often its coroutine functions wait in a history without a fault, as far as that is looked at.
    :ivar broken: the first history that broke a law, where :func:`explore` was told not to raise it.
    """

    saga: str
    steps: int
    faults: int
    kinds: tuple[Kind, ...]
    histories: tuple[int, ...]
    complete: bool
    has_store: bool
    sees_world: bool
    failure: str | None
    seconds: float
    awaits: int = 0
    broken: History | None = None

    @property
    def count(self) -> int:
        """How many histories were run."""
        return sum(self.histories)

    def __str__(self) -> str:
        some = "" if self.complete else ", and there are more"
        text = f"{self.count} histor{'y' if self.count == 1 else 'ies'} of {self.saga}{some}: {counted(self.steps, 'step')}, "
        if self.awaits:
            text += f"{counted(self.awaits, 'await')}, "
        text += f"{counted(len(self.kinds), 'kind')} of faults, up to {self.faults} in each"
        notes = [] if self.failure is None else [f"though nothing goes wrong, it ends as {self.failure}"]
        if not self.has_store:
            notes.append("it has no store, so no process died")
        if not self.sees_world:
            notes.append("no world was given, so its state was not compared")
        return "; ".join((text, *notes))


def explore(
    saga: Saga[Any] | Callable[..., Any],
    context: Any = None,
    *,
    world: Callable[[], Any] | None = None,
    invariant: Callable[[Any], Any] | None = None,
    at_end: Callable[[Any, Any], Any] | None = None,
    faults: int = 2,
    kinds: Iterable[str] | None = None,
    signals: Mapping[str, Any] | None = None,
    may_fail: Iterable[str] = (),
    durable: bool | None = None,
    seconds: float | None = None,
    histories: int | None = None,
    progress: Progress | None = None,
    check: bool = True,
) -> Exploration:
    """Run a saga through every history with up to ``faults`` faults, and see that each of them keeps the laws.

    The tasks are the real ones, so what they act on is to be a stand-in, or a database of its own that ``world`` resets.
    Executions are stored in memory alone, nothing is waited for, and the saga's loggers and observers are told nothing.

    :param saga: the saga; or a function that makes one for a world, new for each history, and with a ``world`` once more
        for a process that takes one up, where its tasks keep something: that dies with their process. Or a function, a
        coroutine function too, that runs a block once in a world: after a death a recovery undoes it, by the functions of the
        modules that its codec names; with ``again=True`` the function is called once more.
    :param context: its input, copied for each history; or a function that makes one. A block has none but its own.
    :param world: makes what the saga acts on, new for each history, or resets it and returns it. Where it has a ``state()``,
        or is a mapping, a sequence, a set or a dataclass, its states are compared.
    :param invariant: called with the world after each call: what must hold always. It is broken where it raises
        ``AssertionError``, or returns anything but ``None`` and ``True``.
    :param at_end: called with the world and the :class:`~saga.SagaResult` at the end of each history, by the same rules.
    :param kinds: the kinds of faults: see :class:`Kind`. All but interrupts, second owners, persons and wrong inputs where
        not given.
    :param signals: the values of the signals that it receives, by name; ``None`` where not given.
    :param may_fail: the names of steps whose ``compensate`` or ``verify`` may fail by themselves.
    :param durable: whether it has a store, and so outlives the death of its process; as the saga says where not given.
    :param seconds: stop after so many, with :attr:`Exploration.complete` false. Of a plain call that then goes on for more than
        5 s it is taken that it never returns; in another thread than the main one it is waited for, and that is said on stderr.
    :param histories: stop after so many.
    :param progress: called with the number of histories that are run, and of those that are known to be left.
    :param check: raise the first history that breaks a law; else it is :attr:`Exploration.broken`.
    :raises LawBrokenError: a history breaks a law; its text tells the shortest one, and has a test to paste.
    :raises SagaDefinitionError: something is wrong with what is given.
    """
    __tracebackhide__ = True
    began = time.perf_counter()
    check_bounds(faults, kinds, seconds, histories, progress)
    setting = setting_of(saga, context, world, invariant, at_end, kinds, signals, may_fail, durable, check)
    laws = Laws(at_end)
    run = [0]
    struck: set[Kind] = set()
    broken: History | None = None
    complete = True
    first: History | None = None
    explorer = _Explorer(setting, laws)
    with quietly() as explorer.loop, watched(seconds, explorer.under_way):
        level: list[tuple[Fault, ...]] = [()]
        while level and broken is None and complete:
            following: list[tuple[Fault, ...]] = []
            for number, planned in enumerate(level):
                spent = time.perf_counter() - began
                over = (seconds is not None and spent > seconds) or (histories is not None and sum(run) >= histories)
                if over and first is not None:
                    complete = False
                    break
                history = explorer.run(planned)
                run[-1] += 1
                if planned:
                    struck.add(Kind(planned[-1].kind))
                if progress is not None:
                    progress(sum(run), len(level) - number - 1 + len(following))
                if history.broken is not None:
                    broken = history
                    break
                if first is None:
                    first, history = history, explorer.run(planned)  # which knows by now what changes what
                    _check_same(first, history)
                if len(run) <= faults:
                    following += _followers(history)
            if following and broken is None and complete:
                run.append(0)
            level = following
    if broken is not None and check:
        raise LawBrokenError(report(broken), broken)
    seen = first or broken
    assert seen is not None
    return Exploration(
        saga=seen.definition.name,
        steps=len(seen.definition.plan.steps or seen.plan.steps),
        faults=faults,
        kinds=tuple(kind for kind in Kind if kind in struck),
        histories=tuple(run),
        complete=complete and broken is None,
        has_store=setting.has_store,
        sees_world=seen.before is not UNKNOWN,
        failure=None if seen.status is Status.COMPLETED else end_of(seen),
        seconds=time.perf_counter() - began,
        awaits=seen.awaits,
        broken=broken,
    )


def replay(
    saga: Saga[Any] | Callable[..., Any],
    faults: Iterable[Any] = (),
    context: Any = None,
    *,
    world: Callable[[], Any] | None = None,
    invariant: Callable[[Any], Any] | None = None,
    at_end: Callable[[Any, Any], Any] | None = None,
    signals: Mapping[str, Any] | None = None,
    may_fail: Iterable[str] = (),
    durable: bool | None = None,
    check: bool = True,
) -> History:
    """Run one history, with these faults, and return it: what :func:`explore` has found is run again so.

    :param faults: each ``(step, kind)`` or ``(step, kind, n)``, for the n-th call of that step and method.
    :param check: raise what breaks a law; else it is :attr:`History.broken`.

    The others are as :func:`explore`'s.

    :raises LawBrokenError: it breaks a law.
    :raises SagaDefinitionError: something is wrong with what is given, or a fault never came to strike.
    """
    __tracebackhide__ = True
    setting = setting_of(saga, context, world, invariant, at_end, EACH, signals, may_fail, durable, check)
    planned = faults_of(faults, setting.make()[1].plan.names if setting.block is None else None)
    explorer = _Explorer(setting, Laws(at_end))
    with quietly() as explorer.loop:
        if planned:
            explorer.run(())  # what completed leaves without a fault
        history = explorer.run(planned)
    if history.unstruck:
        why = "" if setting.has_store else " (deaths need a store, or durable=True)"
        left = ", ".join(map(repr, history.unstruck))
        raise SagaDefinitionError(
            f"saga {history.definition.name!r}: the history never came to where these can strike{why}: {left}"
        )
    if history.broken is not None and check:
        raise LawBrokenError(report(history), history)
    return history


class _Explorer:
    """Runs histories, one after the other."""

    loop: Callable[[], VirtualLoop]

    def __init__(self, setting: Setting, laws: Laws) -> None:
        self._setting = setting
        self._laws = laws
        self._history: History | None = None

    def under_way(self) -> History | None:
        """Return the history that runs."""
        return self._history

    def run(self, faults: tuple[Fault, ...]) -> History:
        kind = History if self._setting.block is None else BlockHistory
        history = self._history = kind(self._setting, faults, self.loop)
        history.run()
        if history.wrong is not None:
            raise history.wrong
        self._laws.check(history)
        history.close()
        return history


def _followers(history: History) -> Iterator[tuple[Fault, ...]]:
    """Yield the faults of the histories that have one fault more than this one."""
    for point in history.points[history.open_from :]:
        for kind in point.kinds:
            yield (*history.faults, Fault(point.step, kind, point.call))


def _check_same(one: History, other: History) -> None:
    """See that a history is the same each time.

    :raises SagaDefinitionError: the world differs.
    """
    for before, after in ((one.before, other.before), (one.after, other.after)):
        if before is UNKNOWN:
            return
        lines = differences(before, after)
        if lines:
            raise SagaDefinitionError(
                f"saga {one.definition.name!r}: its world is another each time, though nothing failed: {lines[0]}; leave out "
                "of its state what is random or a time, and begin each history with a new world"
            )
