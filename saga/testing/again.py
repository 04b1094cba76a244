"""A call of the past made again, and what would follow from it. Nothing is stored: its store is not even asked.

What a call comes to becomes an event as a driver makes it one (:mod:`saga.drivers.outcomes`), which machines that have read the
journal take: one as it was then, one as it is now.
"""

from __future__ import annotations

import json
import threading
from bdb import BdbQuit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import extract_tb, format_list
from typing import Any, Final, cast

from saga.awaitables import is_awaitable, unrun
from saga.clocks import host_time
from saga.context import Context
from saga.drivers.calls import Made, make, make_async, make_rest
from saga.drivers.outcomes import Outcomes
from saga.drivers.timers import own_limit
from saga.durable.importable import is_nothing
from saga.durable.values import encode_changes, encode_result
from saga.errors import ActionRefusedError, traceback_of
from saga.events import COMPENSATING, RUNNING, SUBMITTED
from saga.flow.functions import FunctionTask
from saga.flow.wrapped import WrappedTask
from saga.looking.foreseen import Outcome
from saga.looking.offers import known_standing, offers_of, what_follows, what_it_does
from saga.looking.shown import Offer
from saga.machine import Call
from saga.machine.commands import EXECUTE, VERIFY
from saga.plain import one_line
from saga.result import error_line
from saga.storage.protocol import Store, StoreLike
from saga.testing.effects import EffectRefusedError, Refusing
from saga.testing.past import Past, PastCall, opened
from saga.testing.stepping import stepping

__all__ = ["Again", "Calling"]

_HERE: Final = str(Path(__file__).parents[1])


@dataclass(frozen=True, slots=True)
class Again:
    """What came of a call that was made again.

    :ivar returned: whether it returned, and what it returned could be stored.
    :ivar result: what it returned.
    :ivar error: what it raised, or what is wrong with what it returned; ``None``: nothing.
    :ivar left: whether the debugger was left before it had ended.
    :ivar context: the context as it was afterwards.
    :ivar changes: the keys of the context that it changed, with their values as they would be stored.
    :ivar removed: those that it removed.
    :ivar refused: the effects that it was kept from, each once. Where there are any, nothing else here tells what it would do.
    :ivar elapsed: seconds.
    :ivar follows: what would have followed then, in a sentence; ``None``: that cannot be told.
    :ivar offer: the action that makes the call for real, now; ``None``: none does.
    :ivar does: what that would do if the call came to the same, in a sentence.
    """

    returned: bool
    result: Any
    error: BaseException | None
    left: bool
    context: Context
    changes: dict[str, Any]
    removed: tuple[str, ...]
    refused: tuple[str, ...]
    elapsed: float
    follows: str | None = None
    offer: Offer | None = None
    does: str | None = None

    @property
    def said(self) -> str | None:
        """What it raised, in a line: ``Class: text``; ``None``: nothing."""
        return None if self.error is None else one_line(error_line(self.error))

    @property
    def traceback(self) -> str | None:
        """Where the error was raised, as Python writes it, but for this package's own lines; ``None``: there is none."""
        if self.error is None:
            return None
        frames = [frame for frame in extract_tb(traceback_of(self.error)) if not frame.filename.startswith(_HERE)]
        return "".join(format_list(frames)).rstrip() or None


class Calling:
    """One call of the past, to be made again.

    :param store: where its execution is, for a transactional step that may have effects.
    :param allow_effects: whether it may have effects.
    :param debugger: whether it is made under pdb.
    :ivar view: the context as it sees it.
    """

    def __init__(self, past: Past, what: PastCall, store: StoreLike, allow_effects: bool, debugger: bool) -> None:
        self._past = past
        self._what = what
        self._store = store
        self._debugger = debugger
        self._refusing = None if allow_effects else Refusing()
        self._left = False
        rebuilt = past.rebuilt_at(what.seq)
        self._step = rebuilt.machine.plan.by_name[what.step]
        # Nobody is told of what did not happen.
        definition = replace(past.definition, observers=(), on_compensation_failure=None)
        self._outcomes = Outcomes(definition, rebuilt.machine, rebuilt.views.context, _Values(past), rebuilt.views)
        self._outcomes.awaits = rebuilt.machine.plan.asynchronous
        self._call = Call(self._step, what.attempt, what.phase)
        self.view = self._outcomes.view_for(self._call)
        self.view.__binding__.call = self._call

    @property
    def in_loop(self) -> bool:
        """Whether it is a coroutine function's."""
        return self._step.is_async(self._what.phase)

    def check(self) -> None:
        """Refuse what cannot be made.

        :raises ActionRefusedError: its arguments were not kept.
        :raises EffectRefusedError: it is nothing without effects.
        """
        step, task = self._step, self._step.task
        if self._what.phase == EXECUTE and isinstance(task, FunctionTask) and is_nothing(task.action.function):
            raise ActionRefusedError(
                f"step {step.name!r} is a function's in a block, and its journal keeps no arguments of what was executed: only "
                "its verification and its compensation can be called again"
            )
        if self._transacts and self._refusing is not None:
            raise EffectRefusedError(
                f"step {step.name!r} is transactional, so it works in a transaction of the store's database; allow effects "
                "(--allow-effects), and it is made in one that is rolled back"
            )

    @property
    def _transacts(self) -> bool:
        return self._step.transactional and self._what.phase != VERIFY

    # -- made ---------------------------------------------------------------------------------------------------------

    def made(self) -> Made:
        """Make the call of a plain function, in this thread; what it returns may still have to be awaited."""
        with self._around():
            if not self._transacts:
                return make(self._call, self.view, None)
            with opened(self._store) as store:
                lent = store.transaction()
                try:
                    lent.begin()
                    self.view.__binding__.connection = lent.connection
                    return make(self._call, self.view, None)
                finally:
                    self.view.__binding__.connection = None
                    lent.end()  # which rolls back

    async def amade(self) -> Made:
        """Make the call of a coroutine function."""
        with self._around():
            if not self._transacts:
                return await make_async(self._call, self.view, None)
            with opened(self._store) as store:
                lent = store.transaction_in_loop()
                try:
                    await lent.begin()
                    self.view.__binding__.connection = lent.connection
                    return await make_async(self._call, self.view, None)
                finally:
                    self.view.__binding__.connection = None
                    await lent.end()

    def is_left(self, made: Made) -> bool:
        """Whether what a plain function has returned is to be awaited: the rest of its call."""
        return self._outcomes.awaits and made[1] and unrun(made[2]) is not None and is_awaitable(made[2])

    async def rest_of(self, made: Made) -> Made:
        """Await the rest of a call."""
        with self._around():
            return await make_rest(made, self.view, None)

    @contextmanager
    def _around(self) -> Iterator[None]:
        """Refuse effects, and step, while the call is made."""
        step, timeout = self._step, self._past.definition.timeout
        whole = timeout if self._what.phase == EXECUTE else None
        limits = [one for one in (own_limit(self._call), whole) if one is not None]
        self.view.__binding__.limit(host_time() + min(limits) if limits else None, threading.Event())
        with ExitStack() as stack:
            if self._refusing is not None:
                stack.enter_context(self._refusing)
            # A resolver's own lines come before those of the task that it makes.
            name = self._what.phase if isinstance(step.task, WrappedTask) and step.task.inner is None else None
            debugger = stack.enter_context(stepping(name)) if self._debugger else None
            yield
        self._left = debugger is not None and bool(debugger.quitting)

    # -- told ---------------------------------------------------------------------------------------------------------

    def told(self, made: Made) -> Again:
        """Return what came of the call, and what would follow."""
        call, returned, value, elapsed = made
        if not returned and isinstance(value, KeyboardInterrupt):
            raise value
        refused = tuple(self._refusing.refused) if self._refusing is not None else ()
        if self._left or isinstance(value, BdbQuit):
            return Again(False, None, None, True, self.view, {}, (), refused, elapsed)
        machine = self._outcomes.machine
        kept = len(machine.events)
        at = self._past.entries[self._what.seq - 1].at + elapsed
        if returned:
            self._outcomes.returned(call, self.view, value, elapsed, at)
        else:
            self._outcomes.raised(call, self.view, value, elapsed, at)
        if len(machine.events) == kept:  # an interrupt that struck before the call, or after it
            raise value
        outcome = cast(Outcome, machine.events[kept])
        stored = json.loads(f"{{{outcome.encoded[1:]}}}")
        error = getattr(outcome, "error", None)
        made_again = Again(
            error is None,
            value if returned else None,
            error,
            False,
            self.view,
            dict(stored.get("changes", ())),
            tuple(stored.get("removed", ())),
            refused,
            elapsed,
        )
        return made_again if refused else self._followed(made_again, outcome)

    def _followed(self, made: Again, outcome: Outcome) -> Again:
        past = self._past
        follows = what_follows(past.reading_at(self._what.seq), outcome)
        standing = past.standing()
        if standing is None or standing.status in (SUBMITTED, RUNNING, COMPENSATING):  # whoever takes it up makes the call
            return replace(made, follows=follows)
        if past.reading.definition is None:
            standing = known_standing(past.reading)
        offers, _ = offers_of(past.reading, standing, False, {})
        for offer in offers:
            does = what_it_does(past.reading, standing, offer, outcome)
            if does is not None:
                return replace(made, follows=follows, offer=offer, does=does)
        return replace(made, follows=follows)


class _Values:
    """Does with values what a journal does, and stores nothing."""

    def __init__(self, past: Past) -> None:
        self._codec = past.codec
        self._lengths = cast(Store, _Lengths(past.longest_text))

    def read(self, text: str) -> Any:
        return self._codec.decode(text)

    def take_result(self, step: str, view: Context, value: Any) -> tuple[Any, str]:
        return encode_result(self._codec, step, view, value, self._lengths)

    def take_changes(self, view: Context) -> str:
        return encode_changes(self._codec, view, self._lengths)


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Stands for a store where only that is asked for: how long a text may be."""

    longest_text: int
