"""The steps of the sagas that are killed: what each does, and what can be asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crashkit.flows import beside, local
from crashkit.world import World, until
from saga import Done, NotDone, Task

ALWAYS = 99
LONGEST = 60.0
"""Seconds that nothing takes which is cancelled before."""


class Refused(Exception):
    """What a task that fails raises."""


@dataclass(frozen=True)
class Doing:
    """What a step does.

    :ivar fails: attempts of execute that raise, but for those that are lost;
    :ivar fails_after: they raise after their effect rather than before.
    :ivar hangs: what execute waits for before its effect: ``cancelled``, or a line of the log such as ``undid a``.
    :ivar hangs_after: what it waits for after its effect.
    :ivar undo_fails: attempts of compensate that raise, before their effect; those after the flag "mended" was raised do not.
    :ivar undo_hangs: what compensate waits for before that, as execute does; one in a loop, at the attempts that fail.
    :ivar odd: it returns what cannot be stored.
    :ivar unready: attempts that return, have their effect, and are not what is waited for.
    :ivar sets: what it sets in the context, besides.
    :ivar signals: a signal that it sends to its own execution.
    :ivar lost: attempts of which the answer is lost; :ivar lost_before: not the answer, but the request.
    :ivar verify: what asking does: ``tells``, ``raises`` at its first attempt and then tells, or ``knows nothing`` before the
        flag "mended" was raised.
    """

    fails: int = 0
    fails_after: bool = False
    hangs: str | None = None
    hangs_after: str | None = None
    undo_fails: int = 0
    undo_hangs: str | None = None
    compensates: bool = True
    odd: bool = False
    unready: int = 0
    sets: dict[str, Any] = field(default_factory=dict)
    signals: str | None = None
    lost: int = 0
    lost_before: bool = False
    verify: str | None = None
    policies: dict[str, Any] = field(default_factory=dict)

    @property
    def tells(self) -> bool:
        """Whether asking tells in the end what came of it."""
        return self.verify in ("tells", "raises")


def asked(world: World, answer: Callable[[int], Any], asynchronous: bool) -> Callable[[Any], Any]:
    """Return a function of the context that is asked what there is, or where it goes on, and dies there when it is told to.

    :param answer: returns what it says the so manieth time.
    """

    def ask(context: Any) -> Any:
        me = context.step
        before = sum(line.verb == "asked" and line.step == me.name for line in world.lines())
        world.log("asked", me.name, me.attempt)
        world.point(f"{me.name} execute {me.attempt} before")
        said = answer(before)
        world.point(f"{me.name} execute {me.attempt} after")
        return said

    async def ask_in_loop(context: Any) -> Any:
        await asyncio.sleep(0)
        return ask(context)

    return ask_in_loop if asynchronous else ask


class Effect(Task[Any]):
    """Writes its effect into the log, and dies there when it is told to."""

    def __init__(self, name: str, doing: Callable[[str], Doing], needs: frozenset[str], world: World) -> None:
        self.name = name
        self.doing = doing
        self.needs = needs
        self.world = world

    def execute(self, context: Any) -> Any:
        me, world, name, attempt = context.step, self.world, context.step.name, context.step.attempt
        doing = self.doing(name)
        world.log("start", name, attempt)
        if me.item is not None:
            world.log(f"for-{me.item}", name, attempt)
        for need in (beside(need, name) for need in self.needs):
            if context.get(need) != {"of": need, "at": (1, 2)} and not world.flagged(f"skipped-{need}"):  # a tuple stays one
                world.log("bad", name, attempt)
        self._wait(doing.hangs, me)
        world.point(f"{name} execute {attempt} before")
        failing, lost = doing.lost < attempt <= doing.fails, attempt <= doing.lost
        try:
            if lost and doing.lost_before:
                raise TimeoutError(f"nobody heard of attempt {attempt} of {name}")
            if failing and not doing.fails_after:
                raise Refused(f"{name} refuses attempt {attempt}")
            context[name] = {"of": name, "at": (1, 2)}
            context.update(doing.sets)
            world.log("did", name, attempt)
            if doing.signals is not None:
                world.signal(me.saga_id, doing.signals, attempt)
            world.point(f"{name} execute {attempt} after")
            self._wait(doing.hangs_after, me)
            if failing:
                raise Refused(f"{name} refuses attempt {attempt}")
            if lost:
                raise TimeoutError(f"nobody heard what came of attempt {attempt} of {name}")
        finally:
            world.log("end", name, attempt)
        return object() if doing.odd else {"receipt": name, "attempt": attempt, "ready": attempt > doing.unready}

    def _wait(self, what: str | None, me: Any) -> None:
        if what == "cancelled":
            until(lambda: me.cancelled)
        elif what is not None:
            verb, step = what.split()
            until(lambda: any(line.verb == verb and line.step == step for line in self.world.lines()))

    def ask(self, context: Any) -> Done[Any] | NotDone | None:
        """Look into the log."""
        me, world, name = context.step, self.world, context.step.name
        verify = self.doing(name).verify
        world.log("asking", name, me.attempt)
        world.point(f"{name} verify {me.attempt} before")
        if verify == "knows nothing" and not world.flagged("mended"):
            return None
        if verify == "raises" and me.attempt == 1:
            raise OSError(f"nobody answers about {name}")
        last = [line.verb for line in world.lines() if line.step == name and line.verb in ("did", "undid")][-1:]
        if last == ["did"]:
            context[name] = {"of": name, "at": (1, 2)}
        world.point(f"{name} verify {me.attempt} after")
        return Done({"receipt": name, "attempt": 0}) if last == ["did"] else NotDone()


class Undoable(Effect):
    def compensate(self, context: Any) -> None:
        self._begin_undo(context.step)
        self._wait(self.doing(context.step.name).undo_hangs, context.step)
        self._undo(context.step)

    def _begin_undo(self, me: Any) -> None:
        self.world.log("undoing", me.name, me.attempt)

    def _undo(self, me: Any) -> None:
        world = self.world
        world.point(f"{me.name} compensate {me.attempt} before")
        if me.attempt <= self.doing(me.name).undo_fails and not world.flagged("mended"):
            raise Refused(f"{me.name} cannot be undone at attempt {me.attempt}")
        world.log("undid", me.name, me.attempt)
        world.point(f"{me.name} compensate {me.attempt} after")


class AsyncUndoable(Undoable):
    async def execute(self, context: Any) -> Any:
        await asyncio.sleep(0)
        return super().execute(context)

    async def compensate(self, context: Any) -> None:
        me, doing = context.step, self.doing(context.step.name)
        await asyncio.sleep(0)
        self._begin_undo(me)
        if doing.undo_hangs == "cancelled" and me.attempt <= doing.undo_fails:
            await asyncio.sleep(LONGEST)  # until it is cancelled
        self._undo(me)


class Verifiable(Undoable):
    def verify(self, context: Any) -> Done[Any] | NotDone | None:
        return self.ask(context)


class AsyncVerifiable(AsyncUndoable):
    async def verify(self, context: Any) -> Done[Any] | NotDone | None:
        await asyncio.sleep(0)
        return self.ask(context)


class OnlyVerifiable(Effect):
    """Nothing undoes it."""

    def verify(self, context: Any) -> Done[Any] | NotDone | None:
        return self.ask(context)


def task(name: str, doings: Callable[[str], Doing], needs: frozenset[str], world: World, asynchronous: bool) -> Effect:
    """Return a task.

    :param doings: returns what a step of some name does: those of each item of a list have this task, too.
    :param needs: the steps whose changes of the context it has to see.
    """
    kind: type[Effect]
    doing = doings(name)
    if doing.verify is None:
        kind = AsyncUndoable if asynchronous else Undoable if doing.compensates else Effect
    else:
        kind = AsyncVerifiable if asynchronous else Verifiable if doing.compensates else OnlyVerifiable
    return kind(local(name), doings, needs, world)
