"""A history of a block: its function is called, each of its steps is made as a saga's are, and what is left is taken up.

A process's death leaves the function as an exception that nobody catches, since Python cannot end it otherwise. What its own
``finally`` does to the world then, no killed process would do: a history in which it does anything breaks a law.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from saga.durable.runs import next_run
from saga.errors import SagaDefinitionError, SagaIdTakenError, StorageError, is_exception
from saga.events import Status
from saga.flow import Flow, sequence
from saga.machine import PlannedStep, compile_flow
from saga.plain import names_of, one_line
from saga.result import SagaResult
from saga.storage.records import StoredExecution
from saga.testing.blocks import Block, ExploredBlock, hosted
from saga.testing.faults import BLOCK, Died, Fault, InjectedError, Kind
from saga.testing.histories import History
from saga.testing.loops import NeverEndsError, VirtualLoop, was_interrupted
from saga.testing.processes import AsyncProcess, SyncProcess
from saga.testing.records import Setting
from saga.testing.reports import drawn
from saga.testing.simulated import Process
from saga.testing.worlds import UNKNOWN, differences

if TYPE_CHECKING:
    from saga.diagram import Diagram

__all__ = ["BlockHistory"]

_RAISED: Final[dict[Kind, Callable[[], BaseException]]] = {
    Kind.BLOCK_FAILS: partial(InjectedError, "a fault that was put here"),
    Kind.BLOCK_INTERRUPTED: KeyboardInterrupt,
}


class BlockHistory(History):
    """One run of a block over all its processes' lives. Parameters as :class:`~saga.testing.histories.History`'s."""

    def __init__(self, setting: Setting, faults: Sequence[Fault], loop: Callable[[], VirtualLoop]) -> None:
        super().__init__(setting, faults, loop)
        assert setting.block is not None
        self._block: Block = setting.block
        self._given_id: str | None = None
        self._own: _BlockProcess | None = None  # what runs the block in this life
        self._in_hand: Process | None = None  # what ran last in this life
        self._flows: list[Flow] = []
        self._at_death: Any = UNKNOWN

    # -- lives --------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.lives = 1
        raised = self._call()
        if self._in_hand is None:
            raise raised or SagaDefinitionError(f"{self._block.function!r} ran no block this time")
        while (process := self._in_hand) is not None:  # else the program did not come to its block again
            if process is self._last:
                self._look_at(process, raised)
            if not self._leaves_it(process):
                break
            if not self._block.again:
                self._live(self._take_up())
                break
            raised = self._call()

    def _call(self) -> BaseException | None:
        """Let a process call the function. Return what that raised."""
        self._own = self._in_hand = None
        self._at_death = UNKNOWN
        try:
            copy_context().run(self._called)
        except BaseException as error:
            raised: BaseException | None = error
        else:
            raised = None
        if self._own is not None:
            self._own.machine = self._own.known
        struck = isinstance(raised, KeyboardInterrupt) and was_interrupted()
        if struck or (isinstance(raised, SagaDefinitionError) and not self.faults):
            self.wrong = raised
        if self.wrong is not None:
            raise self.wrong
        return raised

    def _called(self) -> None:
        with hosted(self):
            returned = self._block.function(self.world)
            if inspect.iscoroutine(returned):
                self._in_loop(returned)

    def _look_at(self, process: Process, raised: BaseException | None) -> None:
        """Look at how a process has left the function."""
        if process.dead:
            lines = differences(self._at_death, self.seen()) if self._at_death is not UNKNOWN else []
            if lines:
                self.breaks("what a killed process would not clean up is a step", "\n".join(lines))
        elif isinstance(raised, SagaDefinitionError):
            self.breaks("a block's steps are right, whatever happens", one_line(raised))
        elif isinstance(raised, StorageError) and not isinstance(raised, SagaIdTakenError):  # of an earlier run
            if self.store is None or not self.store.failed:
                self.breaks("whatever a call comes to is stored", one_line(raised))
        elif raised is not None and is_exception(raised) and process.machine.status is Status.COMPLETED:
            told = f"{names_of(type(raised))[1]}: {one_line(raised)}"
            if not process.machine.state.past_pivot:
                self.breaks("who is told of an error finds all undone", f"the block completed, and its function raised {told}")

    # -- the block ----------------------------------------------------------------------------------------------------

    def earlier(self, block: ExploredBlock) -> int:
        """Bring the earlier runs to their end: see :class:`saga.testing.blocks.Host`."""
        if self._given_id not in (None, block.saga_id):
            self.breaks(
                "a block that is begun again has the same id", f"its saga_id was {self._given_id!r}, then {block.saga_id!r}"
            )
            raise self._ends()
        self._given_id = block.saga_id
        if self.store is None:
            return 1
        definition, _ = block.parts
        while isinstance(found := next_run(definition, block.saga_id, self.store), StoredExecution):
            self._take_back(self._take_up())
        self.number = found
        return found

    def _take_back(self, process: Process) -> None:
        """Undo what an earlier run has left."""
        self._last = self._in_hand = process
        process.live()
        if process.dead:
            raise self.dies()
        if process.machine.status is Status.COMPENSATED and not any(fault.kind == Kind.SKIPPED for fault in self.faults):
            lines = differences(self.before, self.seen())
            if lines:
                self.breaks("undone equals never begun", "\n".join(lines))

    def begin(self, block: ExploredBlock) -> _BlockProcess:
        """Run it: see :class:`saga.testing.blocks.Host`."""
        if self._own is not None:
            self.wrong = SagaDefinitionError(
                f"{self._block.function!r} runs block {self._own.definition.name!r} and then {block.parts[0].name!r}; explore "
                "each by a function of its own"
            )
            raise self._ends()
        definition, machine = block.parts
        self.saga_id = machine.saga_id
        self._keys.clear()
        self._flows.clear()
        kind = _AsyncBlock if self._block.in_loop else _SyncBlock
        process: _BlockProcess = self._begin(kind, definition, machine, block.context)
        self._own = self._in_hand = self._last = process
        return process

    def between(self, flow: Flow) -> None:
        """Take that another step is about to begin: see :class:`saga.testing.blocks.Host`."""
        if self._own is None or self._own.abandoned or self._own.machine.status is not Status.RUNNING:
            return  # it is refused
        raised = self._raised_after(self._own)
        if raised is not None:
            raise raised
        self._flows.append(flow)

    def diagram(self) -> Diagram:
        if not self._flows:
            raise SagaDefinitionError(f"transaction {self.definition.name!r}: this history came to no step; none is drawn")
        plan = compile_flow(sequence(*self._flows), self.definition.name)
        machine = self._last.machine
        return drawn(self, replace(self.definition, plan=plan), SagaResult(plan, machine.log, self._last.context))

    def _raised_after(self, process: Process) -> BaseException | None:
        """Return what the block's own code raises after the last step, if it does."""
        steps = process.machine.plan.steps
        kinds = tuple(kind for kind in _RAISED if kind in self.setting.kinds)
        fault = self.at(steps[-1].name, BLOCK, kinds) if steps and kinds else None
        if fault is None:
            return None
        raised = _RAISED[fault]()
        self.write_down(steps[-1].name, f"the block's own code raises {names_of(type(raised))[1]}", fault)
        return raised

    def dies(self) -> Died:
        """Return what leaves the function of a process that is dead."""
        if self._at_death is UNKNOWN:
            self._at_death = self.seen()
        return Died()

    def _ends(self) -> Died:
        self.endless = True
        return Died()

    # -- in an event loop ---------------------------------------------------------------------------------------------

    async def aearlier(self, block: ExploredBlock) -> int:
        return await self.loop.elsewhere(partial(self.earlier, block))

    async def abegin(self, block: ExploredBlock) -> _BlockProcess:
        return self.begin(block)

    def _in_loop(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine function's block to its end."""
        waits = "the block's own code waits for what never comes"
        try:
            self.loop.drive(work, lambda: self.breaks("it comes to an end", waits))
        except NeverEndsError:
            self.wrong = SagaDefinitionError(f"transaction {self.definition.name!r}: {waits}, and cannot be cancelled")


class _BlockProcess(Process):
    """What one process does of an execution whose steps its block gives it: what its driver is built on.

    :ivar known: the machine, which a block lets go of when it has ended.
    """

    history: BlockHistory

    def __init__(self, history: BlockHistory, *args: Any) -> None:
        super().__init__(history, *args)
        self.known = self.machine

    def add(self, entry: tuple[PlannedStep, ...], encoded: str = "") -> None:
        for step in self.machine.plan.steps:
            if step.transactional:
                self.history.wrong = SagaDefinitionError(
                    f"transaction {self.definition.name!r}: step {step.name!r} is transactional, and histories have no "
                    "database; explore it in a saga, with a stand-in: saga.testing.with_stand_ins"
                )
                raise self.history._ends()
        super().add(entry, encoded)

    def finish(self) -> None:
        raised = self.history._raised_after(self)
        if raised is None:
            super().finish()
        else:
            self.give_up(raised)

    def check_alive(self) -> None:
        """Leave the function, where its process is gone, or waits for what never comes.

        :raises Died: so it is.
        """
        self.known = self.machine
        if self.dead or self.stalled:
            self.abandoned = True  # nothing of it goes on here
            raise self.history.dies()


class _SyncBlock(_BlockProcess, SyncProcess):
    def advance(self, wait: bool = False, struck: BaseException | None = None) -> None:
        try:
            if not self.dead:
                super().advance(wait, struck)
        finally:
            self.check_alive()


class _AsyncBlock(_BlockProcess, AsyncProcess):
    async def advance(self, struck: BaseException | None = None) -> None:
        try:
            if not self.dead:
                await super().advance(struck)
        finally:
            self.check_alive()
