"""A history: one run of a saga over all its processes' lives, with the faults that were put into it, and what it did. It is the
same each time: nothing in it depends on the time, on threads or on chance, as long as the tasks do not either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import cached_property
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeVar

from saga.blobs import MemoryBlobs
from saga.context import Context
from saga.definition import Definition, inputs
from saga.durable.journal import Journal
from saga.durable.leases import claim, owner
from saga.durable.rebuild import codec_of, journal_of, rebuild
from saga.durable.submit import new_execution
from saga.durable.values import encode_input
from saga.errors import EncodingError, LeaseLostError, StorageError
from saga.events import Event, Status, StepFailed
from saga.in_use import claim as claim_context
from saga.in_use import let_go
from saga.machine import Call, Machine, Plan, recover
from saga.machine.commands import COMPENSATE, EXECUTE
from saga.plain import names_of, one_line
from saga.result import SagaResult
from saga.storage.records import Lease
from saga.testing.failing import FailingStore
from saga.testing.faults import INPUT, AnswerLostError, Died, Fault, InjectedError, Kind, OddError
from saga.testing.laws import times_undone
from saga.testing.loops import NeverEndsError, VirtualLoop, was_interrupted
from saga.testing.persons import Persons
from saga.testing.processes import process_class
from saga.testing.records import ID, Broken, Line, Setting, apart, objection
from saga.testing.reports import drawn
from saga.testing.signals import Signals
from saga.testing.simulated import Process
from saga.testing.struck import Struck
from saga.testing.worlds import UNKNOWN, footprint, keeps_the_same, kept, state_of

if TYPE_CHECKING:
    from saga.diagram import Diagram

__all__ = ["History"]

P = TypeVar("P", bound=Process)

_MOST_LINES: Final = 1000
_MOST_LIVES: Final = 200


class History(Struck):
    """One run of a saga.

    :ivar lines: what happened.
    :ivar broken: the first law that it breaks, or ``None``.
    :ivar world: what the saga acted on.
    :ivar saga_id: the execution's id.
    :ivar number: which run of a block it came to, of those under one id.
    :ivar before: the world's state before, :ivar after: and after it.
    """

    def __init__(self, setting: Setting, faults: Sequence[Fault], loop: Callable[[], VirtualLoop]) -> None:
        super().__init__(faults, setting)
        self.lines: list[Line] = []
        self.broken: Broken | None = None
        self.wrong: BaseException | None = None  # what was raised that is of no call: an invariant's own fault, a Ctrl-C
        self.time = time.time()
        self.lives = 0
        self.number = 1
        self.endless = False  # it was not run to its end
        self._keys: dict[tuple[str, int], tuple[str, str, str]] = {}
        self._loop = loop
        self._left: list[Coroutine[Any, Any, Any]] = []
        self._last: Process
        self.blobs = MemoryBlobs()
        self.world, definition, self._context = setting.make()
        self.definition = apart(definition, self.blobs)
        self._kept = [kept(step.inner_task) for step in self.definition.plan.steps]
        self.before = state_of(self.world)
        self.after: Any = self.before
        self.saga_id = ID
        self.store = FailingStore(clock=self.now) if setting.has_store else None
        self.signals = Signals(self, self.store)
        self._persons = None if self.store is None else Persons(self, self.store)

    def __repr__(self) -> str:
        return f"<history of {self.definition.name!r} with {list(self.faults)!r}: {self.status}>"

    @property
    def loop(self) -> VirtualLoop:
        return self._loop()

    def now(self) -> float:
        """Return seconds since the epoch, by the history's own clock."""
        return self.time

    def pass_until(self, due: float) -> None:
        """Let time pass."""
        self.time = max(self.time, due)

    def breaks(self, law: str, how: str) -> None:
        """Take that the history breaks a law."""
        if self.broken is None:
            self.broken = Broken(law, how)

    # -- calls --------------------------------------------------------------------------------------------------------

    def make(self, process: Process, call: Call, method: Any, view: Context, fault: Kind | None) -> Any:
        """Make a call, and write down what came of it."""
        step = call.step.name
        self.time += 0.001
        if len(self.lines) >= _MOST_LINES:
            self.endless = True
            raise Died
        self._check_call(process, call, view)
        line = Line(self.lives, step, call.phase, call.attempt, "", fault)
        self.lines.append(line)
        try:
            value = process.struck(call, method, view, fault)
        except Died:
            line.came = "the process dies"
            raise
        except NeverEndsError:
            line.came = "never returns"
            raise
        except BaseException as error:
            line.came = f"raises {names_of(type(error))[1]}" + ("" if type(error) is OddError else f": {one_line(error)}")
            raise
        line.came = "returns, when the others have finished" if fault is Kind.STALLS else "returns"
        return value

    def made(self, process: Process, call: Call, method: Any, view: Context) -> Any:
        """Make the call itself, and look at the world afterwards."""
        seen = self.seen() if process.machine.plan.groups else UNKNOWN
        try:
            return process.complete(call, method(view))
        except Exception as error:
            self._failed(call, error)
            raise
        except KeyboardInterrupt as error:
            self.wrong = error if was_interrupted() else self.wrong
            raise
        finally:
            if seen is not UNKNOWN:
                changed = footprint(seen, self.seen())
                self.setting.footprints.setdefault(call.step.name, set()).update(changed)
            self._check_invariant(f"after {call.phase} of {call.step.name}")

    def seen(self) -> Any:
        """Return the world's state as it is now."""
        try:
            return state_of(self.world)
        except Exception as error:  # no call's
            self.wrong = self.wrong or error
            return UNKNOWN

    def keep(self, work: Coroutine[Any, Any, Any]) -> None:
        """Keep what is left of a call that does not end, so that it does not clean up while anybody looks at the world."""
        self._left.append(work)

    def close(self) -> None:
        """Take that nobody looks at it any more."""
        for work in self._left:
            with suppress(Exception):  # it may go on waiting
                work.close()
        self._left.clear()

    def never_ends(self, call: Call) -> Died:
        """Take that a call waits for what never comes, and that nothing limits its time. Return what ends its process."""
        self.breaks("it comes to an end", f"{call.phase} of {call.step.name} waits for what never comes")
        self.endless = True
        return Died()

    def _failed(self, call: Call, error: Exception) -> None:
        """Take that a call has failed by itself."""
        step, phase = call.step.name, call.phase
        if phase is EXECUTE or step in self.setting.may_fail or isinstance(error, InjectedError | AnswerLostError):
            return
        how = f"{phase} of {step} raised {names_of(type(error))[1]}: {one_line(error)}"
        self.breaks(f"{phase} fails only where a fault makes it fail", how)

    def _check_call(self, process: Process, call: Call, view: Context) -> None:
        step = call.step
        if call.phase is COMPENSATE and any(late.call.step is step for late in process.late):
            self.breaks("nothing is undone while it still runs", f"compensate of {step.name} was called")
        binding = view.__binding__
        key = (binding.saga, binding.saga_id, str((binding.rounds or {}).get(step.name, 1)))
        if (known := self._keys.setdefault((step.name, times_undone(step, self.events)), key)) != key:
            self.breaks("each attempt has the same idempotency key", f"step {step.name} had {known}, then {key}")

    def _check_invariant(self, when: str) -> None:
        if self.setting.invariant is None or self.broken is not None:
            return
        try:
            wrong = objection(self.setting.invariant, self.world)
        except Exception as error:
            wrong, self.wrong = None, self.wrong or error
        if wrong is not None:
            self.breaks(f"the invariant {getattr(self.setting.invariant, '__name__', 'given')} holds", f"{when}: {wrong}")

    # -- what comes from outside --------------------------------------------------------------------------------------

    def act(self, process: Process, action: str) -> None:
        """Let a person act while a call runs."""
        assert self._persons is not None
        self._persons.act(process, action)

    def others_go_on(self) -> None:
        """Let others take the process that runs to be dead, and finish its work."""
        self._live(self._take_up())

    def goes_first(self, step: str) -> None:
        """Take that of several calls at the same time, this one ends first."""
        self.write_down(step, "ends first", Kind.GOES_FIRST)

    def death(self, step: str, fault: Kind) -> Died:
        """Return the death of a process between two calls."""
        self.write_down(step, "the process dies", fault)
        return Died()

    def write_down(self, step: str, came: str, fault: Kind) -> None:
        """Write down what a fault brings about between two calls."""
        self.lines.append(Line(self.lives, step, "", came=came, fault=fault))

    # -- lives --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run it to its end."""
        self._run()
        if self._last.awaits:
            self.loop.let_end()
        self.after = state_of(self.world)

    def _run(self) -> None:
        self.lives = 1
        self._spoil_input()
        definition = self.definition
        context, _, _, binding = inputs(definition, self._context, self.saga_id, self.store)
        claim_context(context, binding, get_ident())
        process = self._begin(process_class(definition.plan), definition, definition.machine(self.saga_id), context)
        if self.store is not None:
            self.signals.send_early(process)
        self._live(process)

    def _begin(self, kind: type[P], definition: Definition, machine: Machine, context: Context) -> P:
        """Return the process that runs a new execution, which is stored by then."""
        if self.store is None:
            machine.start(self.time)
            return kind(self, definition, machine, context)
        codec, saga_id = codec_of(definition), machine.saga_id
        encoded, digest = encode_input(context, codec, definition.version, self.store)
        new = new_execution(definition, saga_id, digest, context, Status.RUNNING)
        journal = Journal(self.store, codec, Lease(saga_id, owner(), 1), Status.RUNNING)
        process = kind(self, definition, machine, context, journal)
        machine.start(self.time, encoded)
        journal.create(new, machine, definition.lease)
        return process

    def _spoil_input(self) -> None:
        if Kind.WRONG_INPUT not in self.setting.kinds or self.definition.context is not None:  # which refuses it
            return
        context = self._context
        for key in list(context):
            if key not in self.definition.plan.needs and self.at(key, INPUT, (Kind.WRONG_INPUT,)) is not None:
                if type(context) is Context:
                    del context[key]
                else:
                    context[key] = None
                self.lines.append(Line(0, key, "input", came="is missing", fault=Kind.WRONG_INPUT))

    def _live(self, process: Process) -> None:
        """Let a process live, and after it those that take up what it leaves."""
        while True:
            self._last = process
            try:
                process.live()
            except LeaseLostError:  # others go on, or have finished
                return
            except StorageError as error:
                if self.store is None or not self.store.failed:
                    self.breaks("whatever a call comes to is stored", one_line(error))
                    return
            finally:
                let_go(process.context, process.context.__binding__)
            if not self._leaves_it(process):
                return
            process = self._take_up()

    def _leaves_it(self, process: Process) -> bool:
        """Whether another process takes up what this one, which is over, has left."""
        if self.store is not None and self.store.failed:
            self.store.mend()
        if process.dead and process.awaits:
            self.loop.cut_off()
        return process is self._last and self._goes_on(process)

    def _goes_on(self, process: Process) -> bool:
        """Whether another process takes up what this one leaves; it may have to be waited for."""
        if self.lives >= _MOST_LIVES:
            self.endless = True
        if self.store is None or self.endless:
            return False
        row = self.store.get(self.saga_id)
        assert row is not None
        if row.status in (Status.PAUSED, Status.STUCK):
            assert self._persons is not None
            return self._persons.decide(process, Status(row.status))
        if process.dead or process.abandoned:
            return not Status(row.status).terminal
        if not process.parked:
            return False
        if not self.signals.send(process):
            if row.due - self.time > _YEAR / 2:
                return False
            self.pass_until(row.due)
        return True

    def _take_up(self) -> Process:
        """Return what takes up what a process has left."""
        assert self.store is not None
        self.time += self.definition.lease + 1.0
        self.lives += 1
        (row,) = claim(self.store, self.definition.lease, saga_id=self.saga_id)
        definition = self._definition_of_another()
        rebuilt = rebuild(definition, row, self.store.journal(self.saga_id))
        journal = journal_of(definition, row, self.store, rebuilt)
        kind = process_class(rebuilt.machine.plan)
        process = kind(self, definition, rebuilt.machine, rebuilt.views.context, journal, rebuilt.views)
        process.recovers = True
        recover(rebuilt.machine, owner(), row.epoch, self.time)
        if self.store.inbox(self.saga_id):
            process.notify()
        return process

    def _definition_of_another(self) -> Definition:
        """Return what another process runs the execution by: what task objects came to keep meanwhile, its own do not."""
        steps = self.definition.plan.steps
        if self.world is None or all(
            keeps_the_same(step.inner_task, before) for step, before in zip(steps, self._kept, strict=True)
        ):
            return self.definition
        return apart(self.setting.define(self.world), self.blobs)

    # -- what it came to ----------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """The steps that were executed."""
        return self._last.machine.plan

    @property
    def status(self) -> Status:
        """The execution's status in the end."""
        return self._last.machine.status

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be done, but by a person."""
        return self._last.machine.ended

    @property
    def stopped_past_pivot(self) -> bool:
        """Whether it is a block that is past its pivot, so that nobody can go on with it or undo it where its process dies."""
        return self.plan.open and self._last.machine.state.past_pivot

    @property
    def events(self) -> Sequence[Event]:
        """The execution's events, over all lives."""
        return self._last.machine.log.events

    @cached_property
    def result(self) -> SagaResult:
        """What a program would have got."""
        machine = self._last.machine
        return SagaResult(machine.plan, machine.log, self._last.context)

    def diagram(self) -> Diagram:
        """Draw how it went, with its faults, and the law that it breaks."""
        return drawn(self, self.definition, self.result)

    def is_stored_otherwise(self) -> bool:
        """Whether it has ended, and the store says that it has not."""
        if self.store is None or not self.ended:
            return False
        row = self.store.get(self.saga_id)
        return row is None or row.status != self.status

    def unstorable(self) -> StepFailed | None:
        """Return a step that failed because its result cannot be stored, if one did."""
        if self.store is None:
            return None
        failures = (event for event in self.events if isinstance(event, StepFailed))
        return next((event for event in failures if isinstance(event.error, EncodingError)), None)


_YEAR: Final = 365 * 24 * 3600.0
