"""What follows from a fact: the machine folds it into the state and decides. No clock, thread, disk or logging lives here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from saga.events import (
    COMPENSATING,
    RUNNING,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    Event,
    GroupMerged,
    SagaCompensated,
    SagaCompleted,
    SagaHeld,
    SagaPaused,
    SagaStarted,
    SagaStuck,
    SagaSubmitted,
    Status,
    StepFailed,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine import back, choices, failures, waits
from saga.machine.commands import COMPENSATE, VERIFY, Call, Command, Finish, Merge, Wait
from saga.machine.folds import FOLDS
from saga.machine.log import Log
from saga.machine.plan import Content, Each, Group, Plan, PlannedStep, Then
from saga.machine.state import State
from saga.machine.timeout import time_out_unit
from saga.machine.undo import STRANDED, next_to_compensate, paused_by, reason_to_ask
from saga.plain import repr_of

__all__ = ["DECISIONS", "Machine"]


class Machine:
    """One execution: what has happened, what that makes of it, and what to do next.

    :ivar log: what has happened.
    :ivar state: what that makes of it, made when it is first asked for.
    :ivar commands: what the driver must do, in order; it takes them out.
    :ivar deciding: it is recovered: when all that is left to do is begun, it ends, or undoes the next step, not before.
    :ivar halt: what stopped the execution past its pivot.
    :ivar closed: nothing more is added to its open plan. Not folded: whoever takes it up goes on, or undoes a block that died.
    """

    state: State
    deciding = False
    halt: BaseException | None = None
    closed = False

    def __init__(self, plan: Plan, saga: str, saga_id: str, stop_on_compensation_failure: bool = False) -> None:
        self.plan = plan
        self.saga = saga
        self.saga_id = saga_id
        self.stop_on_compensation_failure = stop_on_compensation_failure
        self.log = Log(plan)
        self.record: Callable[[Event], None] = self.log.record  #: adds an event, and decides nothing
        self.commands: list[Command] = []

    def replayed(self, events: Iterable[Event] | None = None) -> Machine:
        """Return the machine that ``events`` (or its own) lead to, with no commands."""
        twin = Machine(self.plan, self.saga, self.saga_id, self.stop_on_compensation_failure)
        for event in self.log.events if events is None else events:
            twin.record(event)
        return twin

    def __getattr__(self, name: str) -> Any:
        # The first time that somebody asks for the state: see the theory of the log.
        if name != "state":
            raise AttributeError(name)
        state = self.state = self.log.state()
        return state

    @property
    def status(self) -> Status:
        """Where the execution stands."""
        return self.log.end or self.state.status

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.log.end is not None or self.state.status.terminal

    @property
    def started(self) -> bool:
        """Whether the execution has started."""
        return bool(self.log.entries)

    @property
    def events(self) -> list[Event]:
        """Every event so far, in order."""
        return self.log.events

    def submit(self, at: float, encoded: str = "", carried: Mapping[str, str] | None = None) -> None:
        """Leave the execution to be begun by whoever takes it up; ``encoded``: what its journal keeps of its input."""
        self.record(SagaSubmitted(self.saga, self.saga_id, at, encoded, carried))

    def start(self, at: float, encoded: str = "", carried: Mapping[str, str] | None = None) -> None:
        """Begin the execution, with its first steps.

        :param encoded: what its journal keeps of its input; empty where that was submitted.
        """
        self.record(SagaStarted(self.saga, self.saga_id, at, encoded, carried))
        self.start_steps(self.plan.entry, at)

    def send(self, event: Event) -> None:
        """Take a fact the driver saw, and decide what follows."""
        log, state, kind = self.log, self.state, type(event)
        if log.unfolded is not None:
            log.state()
        FOLDS[kind](state, event)
        log.entries.append(event)
        if not state.held:
            DECISIONS[kind](self, event)

    def decide_late(self, outcomes: Sequence[Event], at: float) -> None:
        """Decide what follows outcomes that came while it was held, as if they had come now."""
        for event in outcomes:
            DECISIONS[type(event)](self, replace(event, at=at))

    def finish(self, at: float) -> None:
        """Nothing more is added to an open plan: complete, once nothing is under way."""
        self.closed = True
        self.progress(at)

    def wake(self, wait: Wait, at: float) -> None:
        """Do what ``wait`` stood for, unless that is decided otherwise meanwhile."""
        step, state = wait.step, self.state
        if state.held:  # who takes the execution up waits for what is left of it
            return
        if step.pause is not None:
            waits.end(self, step, at)
        elif step.index in state.units:
            time_out_unit(self, wait, at)
        elif wait.phase == COMPENSATE:
            self.compensate_again(step, wait.attempt, at)
        elif wait.phase == VERIFY:
            self.verify(step, at, wait.attempt)
        elif state.status is RUNNING and self.halt is None:
            scheduled = state.retries.get(step.index)
            if scheduled is not None and scheduled.attempt == wait.attempt:  # else the time of a unit that has ended is over
                self.execute_again(step, wait.attempt, at)

    def give_up(self, error: BaseException, at: float, step: str | None = None) -> None:
        """Go no further forward: let running calls end, then undo. Does nothing where that is decided already.

        Past the pivot there is no way back: running calls end, and the execution stops where it is.
        """
        if self.state.status is RUNNING:
            if self.state.past_pivot:
                self.halt = error if self.halt is None else self.halt
                return
            back.turn_back(self, step, error, at)
        self.progress(at)

    def hold(self, at: float) -> None:
        """Begin nothing new: running calls end, and whoever takes the execution up decides what follows from their outcomes."""
        if not (self.state.held or self.ended):
            self.record(SagaHeld(at))

    def pause(self, at: float) -> bool:
        """Let the execution rest, where a person said so and it goes forward. Return whether it does."""
        action = self.state.pausing
        if action is None or self.state.status is not RUNNING:
            return False
        self.record(SagaPaused(paused_by(action), at))
        return True

    def stop(self, at: float) -> None:
        """End a halted execution that nobody can take up."""
        self.record(SagaStuck(f"past its pivot the saga only goes forward, and it was stopped: {repr_of(self.halt)}", at))

    def reopen(self) -> None:
        """Take back the end that was recorded last, and is not stored: something came before it."""
        if self.log.end is not None:
            self.take_back(len(self.log.entries) - 1)

    def take_back(self, kept: int) -> None:
        """Forget all but so many events: what the others tell is rolled back. The driver says what is commanded then."""
        self.log.take_back(kept)
        self.__dict__.pop("state", None)

    def go_on(self, at: float) -> None:
        """Decide what follows what came from outside, where that commands nothing itself."""
        if not self.commands:
            self.progress(at)

    @property
    def halted(self) -> bool:
        """Whether the execution was stopped past its pivot, and no call runs any more."""
        state = self.state
        undone = state.compensating or state.compensation_stragglers
        if self.halt is None or state.status.terminal or undone or state.verifying or state.stragglers:
            return False
        return all(self.plan.steps[index].pause is not None for index in state.executing)  # which wait on elsewhere

    @property
    def at_rest(self) -> bool:
        """Whether nothing goes on but calls that outlived their timeout and that nobody waits for."""
        state = self.state
        if state.executing or state.verifying or state.compensating or self.commands:
            return False
        late = state.stragglers | state.compensation_stragglers
        if state.status is RUNNING and not (state.past_end or self.closed):
            return self.plan.open and not (state.retries or state.falling_back or late - state.skipped)
        return bool(late)

    @property
    def stranded(self) -> bool:
        """Whether nothing is left to do, or to wait for, though this is not the end."""
        state = self.state
        if state.status.terminal or self.commands or state.calls_under_way():
            return False
        return not (self.plan.open and state.status is RUNNING)  # which may grow

    def strand(self, at: float) -> None:
        """End a stranded execution: nobody would ever go on with it."""
        self.record(SagaStuck(STRANDED, at))

    # -- forward ------------------------------------------------------------------------------------------------------

    def start_steps(self, steps: tuple[PlannedStep, ...], at: float, encoded: str = "") -> None:
        """Begin the first attempts of these steps."""
        for step in steps:
            self.record(StepStarted(step.name, 1, at, encoded))
            if step.pause is None and step.content is None:
                self.commands.append(step.first)
            else:
                self._begin(step, step.first, at)

    def execute_again(self, step: PlannedStep, attempt: int, at: float) -> None:
        """Make another attempt of a step's execute."""
        self.record(StepStarted(step.name, attempt, at))
        self._begin(step, Call(step, attempt), at)

    def _begin(self, step: PlannedStep, call: Call, at: float) -> None:
        if step.pause is not None:
            waits.begin(self, step, at, at)
        elif step.content is None:
            self.commands.append(call)
        else:
            if step.timeout is not None:
                self.commands.append(Wait(step, call.attempt, step.timeout))
            self.follow(step.content.entry, at)

    def follow(self, steps: tuple[PlannedStep, ...], at: float) -> None:
        """Begin what follows something; what was undone on request is attempted again."""
        for step in steps:
            if step.index in self.state.again:
                self.execute_again(step, self.state.attempt(step.index) + 1, at)
            else:
                self.start_steps((step,), at)

    def advance(self, then: Then, at: float) -> None:
        """Something ended well: begin what follows it."""
        if self.halt is not None:
            return
        if type(then) is tuple:
            if self.state.again:
                self.follow(then, at)
            else:
                self.start_steps(then, at)
        elif then is None:
            self.progress(at)
        elif isinstance(then, Each):
            self.advance(then.then if then.group is None else then.group, at)  # where there is none, no items are listed
        elif isinstance(then, Content):
            self.end_unit(then.step)
        else:
            assert isinstance(then, Group)
            if self.state.branches_ended.get(then.index) == len(then.scopes):
                self.merge(then)
            elif not self.begin_branches(then, at):
                self.progress(at)  # it may be that nothing is left but branches a person must decide about

    def begin_branches(self, group: Group, at: float) -> bool:
        """Begin as many of the branches of a group that have not begun as its limit allows. Return whether one has."""
        begun, ended = (counts.get(group.index, 0) for counts in (self.state.branches_begun, self.state.branches_ended))
        most = len(group.entries) if group.limit is None else ended + group.limit
        for entry in group.entries[begun:most]:
            self.follow(entry, at)
        return begun < min(most, len(group.entries))

    def end_unit(self, unit: PlannedStep, error: BaseException | None = None) -> None:
        """End a unit whose steps have all ended, or, where it gave up for an error, are undone; once, as a group is merged."""
        if not any(type(command) is Finish and command.step is unit for command in self.commands):
            self.commands.append(Finish(unit, error=error))

    def merge(self, group: Group) -> None:
        """Merge the branches of a group, which have all ended; once, however many of them ended while it was held."""
        if not any(type(command) is Merge and command.group is group for command in self.commands):
            self.commands.append(Merge(group))

    def _step_succeeded(self, event: StepSucceeded) -> None:
        step, state = self.plan.by_name[event.step], self.state
        if state.skipped and step.index in state.skipped:  # a late success of a step the saga went on without
            failures.ended_late(self, step, event.at)
        elif not state.goes_forward(step):
            self.progress(event.at)
        elif step.ways is None:
            self.advance(step.then, event.at)
        else:
            choices.choose(self, step, step.ways, event)

    def _group_merged(self, event: GroupMerged) -> None:
        group = self.plan.groups[event.group]
        if self.state.goes_forward(group):
            self.advance(group.then, event.at)
        else:
            self.progress(event.at)

    # -- back ---------------------------------------------------------------------------------------------------------

    def compensate(self, step: PlannedStep, at: float) -> None:
        """Begin a step's compensation."""
        failed_before = self.state.compensation_attempts.get(step.index)
        if failed_before is not None:  # and a person said to try again
            self.compensate_again(step, failed_before + 1, at)
            return
        self.record(CompensationStarted(step.name, 1, at))
        self.commands.append(step.first_compensation)

    def compensate_again(self, step: PlannedStep, attempt: int, at: float) -> None:
        """Make another attempt of a step's compensation."""
        self.record(CompensationStarted(step.name, attempt, at))
        self.commands.append(Call(step, attempt, COMPENSATE))

    def verify(self, step: PlannedStep, at: float, attempt: int = 1) -> None:
        """Ask what came of a step."""
        self.record(VerificationStarted(step.name, attempt, at))
        self.commands.append(Call(step, attempt, VERIFY))

    def progress(self, at: float) -> None:
        """Undo the next step, or end the execution, where nothing is under way that must end first."""
        state = self.state
        if state.undoing and self.halt is None and not (state.held or self.deciding):
            back.undo(self, at)
        if state.executing or state.status.terminal or state.held or self.deciding:
            return
        if state.to_verify and state.status is COMPENSATING:
            for index in sorted(state.to_verify):
                self.verify(self.plan.steps[index], at)
        if state.verifying:  # what that tells decides what is undone
            return
        if state.status is COMPENSATING:
            if state.compensating and not self.plan.compensate_together:
                return
            bad = state.compensations_failed or state.compensation_stragglers
            if state.to_compensate and not (bad and self.stop_on_compensation_failure):
                if not self.plan.compensate_together:
                    self.compensate(self.plan.steps[state.to_compensate[-1]], at)
                    return
                for step in next_to_compensate(state):
                    self.compensate(step, at)
            if state.compensating:
                return
        elif state.compensating:
            return
        elif not (state.past_end or self.closed):
            undecided = state.asking or (state.compensations_failed and (state.undoing or state.falling_back))
            late = state.stragglers or state.compensation_stragglers
            if undecided and not (state.retries or late or self.commands or state.to_skip):
                self.record(SagaStuck(reason_to_ask(state), at))
            return
        if state.stragglers or state.compensation_stragglers:
            return
        if state.compensations_failed or state.asking:
            self.record(SagaStuck(reason_to_ask(state), at))
        elif state.status is not COMPENSATING:
            self.record(SagaCompleted(at))
        elif state.undone_to is None:
            self.record(SagaCompensated(at))
        else:
            back.rewind(self, state.undone_to, at)


DECISIONS: Final[dict[type, Callable[[Machine, Any], None]]] = {
    StepSucceeded: Machine._step_succeeded,
    StepFailed: failures.step_failed,
    StepTimedOut: failures.step_timed_out,
    StepVerified: failures.step_verified,
    VerificationFailed: failures.verification_failed,
    GroupMerged: Machine._group_merged,
    CompensationSucceeded: failures.compensation_succeeded,
    CompensationFailed: failures.compensation_failed,
    CompensationTimedOut: failures.compensation_timed_out,
}
