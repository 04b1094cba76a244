"""The machine: plan + events -> commands. No clock, thread, disk, logging or asyncio import lives here.

Theory of operation
-------------------
State is a fold over events: ``_FOLDS`` says what each kind of event does to it, and nothing else changes it. So an
execution's journal, folded by a fresh machine, gives the state its process had.

:meth:`Machine.send` takes a fact the driver has seen (a call returned, raised, took too long), folds it and *decides*:
it adds the events that follow (the next step's intent, a retry, the undo, the end) to ``events`` and what to do to
``commands``. The driver stores and shows the new events and only then does what ``commands`` say.

An execution goes forward until it completes or ``SagaCompensating`` is recorded; then running calls may end, and what
happened is undone, last first. A step that outlived its timeout is a *straggler*: it is undone when it has ended, and
until then the execution is not terminal.

The idea is from Garcia-Molina and Salem, "Sagas", SIGMOD 1987; the shape (events in, commands out) from sans-IO
protocol libraries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from saga.errors import ActionRefusedError, CrashError, SagaCancelledError, SagaTimeoutError, StepTimeoutError
from saga.events import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    RUNNING,
    STUCK,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    Event,
    FallbackChosen,
    GroupJoined,
    OperatorActed,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaRecovered,
    SagaStarted,
    SagaStuck,
    SignalReceived,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
)
from saga.plan import Call, Group, Plan, PlannedStep
from saga.policy import ExponentialBackoff, InDoubt, Retry, Skip

__all__ = ["ACTIONS", "Call", "Join", "Machine", "Pass", "Pause", "Wait"]

T = TypeVar("T")
_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})

ACTIONS: Final = ("cancel", "compensate", "resume", "retry", "skip")


class Wait:
    """Command: call :meth:`Machine.wake` with this after ``delay`` seconds."""

    __slots__ = ("attempt", "compensation", "delay", "step")

    def __init__(self, step: PlannedStep, attempt: int, delay: float, compensation: bool) -> None:
        self.step = step
        self.attempt = attempt
        self.delay = delay
        self.compensation = compensation


class Pause:
    """Command: call :meth:`Machine.end_pause` with this after ``delay`` seconds."""

    __slots__ = ("delay", "step")

    def __init__(self, step: PlannedStep, delay: float) -> None:
        self.step = step
        self.delay = delay


class Pass:
    """Command: a step that waited has come to its end with ``value``; it ends as a call does that returned it."""

    __slots__ = ("step", "value")

    def __init__(self, step: PlannedStep, value: Any) -> None:
        self.step = step
        self.value = value


class Join:
    """Command: merge the views of a group's branches, then send ``GroupJoined``, or call :meth:`Machine.give_up`."""

    __slots__ = ("group",)

    def __init__(self, group: Group) -> None:
        self.group = group


class Machine:
    """One execution's state, and what to do next.

    :ivar commands: what the driver must do, in order; it takes them out.
    """

    # What most executions never have is kept here until they do.
    error: BaseException | None = None
    failed: PlannedStep | None = None
    went_through = False  # the flow's end was reached
    past_pivot = False  # nothing is undone any more
    halt: BaseException | None = None  # stopped past the pivot, by what; not folded: whoever takes it up goes on
    cancelled: OperatorActed | None = None  # a person said to give up
    attempts: Mapping[int, int] = _NONE  # of executes that were attempted again
    undo_attempts: Mapping[int, int] = _NONE  # of compensations that failed or were attempted again
    waiting: Mapping[int, RetryScheduled] = _NONE  # executes waiting for another attempt
    undo_waiting: Mapping[int, RetryScheduled] = _NONE  # compensations waiting for another attempt
    unfinished_undo: Mapping[int, BaseException] = _NONE  # compensations that failed for good
    stragglers: frozenset[int] = frozenset()  # executes still running after their timeout
    skipped: frozenset[int] = frozenset()  # steps the saga went on without
    asked: frozenset[int] = frozenset()  # a person must decide: in doubt, and the task says ASK
    to_rerun: frozenset[int] = frozenset()  # to be executed again: a person said so, or it was cut off past the pivot
    to_skip: frozenset[int] = frozenset()  # a person said to go on without it
    falling: frozenset[int] = frozenset()  # failed, and their fallbacks are to start
    merged: frozenset[int] = frozenset()  # groups that are joined
    signals: Mapping[str, tuple[Any, ...]] = _NONE  # those that came and no step has taken
    _told = 0  # how much of the log is events for sure
    _settled = 0  # how much of the log the state knows of

    def __init__(self, plan: Plan, saga: str, saga_id: str, *, stop_on_compensation_failure: bool = False) -> None:
        self.plan = plan
        self.saga = saga
        self.saga_id = saga_id
        self.stop_on_compensation_failure = stop_on_compensation_failure
        self._log: list[Event | tuple[Any, ...]] = []  # events, and notes that are made into events when somebody looks
        #: Take the success of a first attempt that one step follows, as ``(step, next step, started, ended, epoch, result)``,
        #: or of a compensation where :meth:`downward` told the next, as ``(step, next step, started, ended, epoch)``;
        #: ``started`` and ``ended`` are seconds since ``epoch``. What :meth:`send` would make of it is made later: most
        #: executions end well and are never looked at. It is the log's own append, so it happens wholly or not at all,
        #: whenever an interrupt strikes.
        self.note: Callable[[tuple[Any, ...]], None] = self._log.append
        self.commands: list[Call | Wait | Join | Pause | Pass] = []
        self.status = RUNNING
        self.open: set[int] = set()  # executes running that the saga waits for
        self.undoing: set[int] = set()  # compensations running or waiting for another attempt
        self.undo: list[int] = []  # what there is to undo, in order of completion
        self.joined = [0] * len(plan.groups)  # branches that ended well

    @classmethod
    def replay(cls, plan: Plan, events: Iterable[Event], saga: str, saga_id: str, **policies: Any) -> Machine:
        """Return the machine that ``events`` lead to, with no commands."""
        machine = cls(plan, saga, saga_id, **policies)
        for event in events:
            machine.record(event)
        return machine

    @property
    def begun(self) -> bool:
        """Whether the execution has started."""
        return bool(self._log)

    @property
    def events(self) -> list[Event]:
        """Every event so far, in order."""
        log = self._log
        if self._told != len(log):
            if type(log[-1]) is tuple:
                self._settle()
            new = log[self._told :]
            log[self._told :] = [event for entry in new for event in (_tell(entry) if type(entry) is tuple else (entry,))]
            self._told = self._settled = len(log)
        return log  # type: ignore[return-value]

    # -- facts in -----------------------------------------------------------------------------------------------------

    def start(self, at: float) -> None:
        """Begin the execution."""
        self.record(SagaStarted(self.saga, self.saga_id, at))
        self._start_steps(self.plan.entry, at)

    def downward(self) -> list[PlannedStep]:
        """Return the steps to compensate, last first, as long as each compensation succeeds at once."""
        self._settle()
        steps = self.plan.steps
        return [] if self.unfinished_undo else [steps[index] for index in self.undo]

    def _settle(self) -> None:
        """Bring the state up to the notes at the log's end."""
        log = self._log
        first, self._settled = self._settled, len(log)
        while first < self._settled and type(log[first]) is not tuple:
            first += 1
        if first == self._settled:
            return
        notes: list[tuple[Any, ...]] = log[first:]  # type: ignore[assignment]
        following: PlannedStep = notes[-1][1]
        if len(notes[-1]) == _EXECUTED:
            self.undo.extend([note[0].index for note in notes if note[0].compensates])
            self.open = {following.index}
        else:
            del self.undo[-len(notes) :]
            self.undoing = {following.index}

    def add(self, entry: tuple[PlannedStep, ...], at: float) -> None:
        """Start what the plan has grown by."""
        self.grow()
        self._start_steps(entry, at)

    def grow(self) -> None:
        """Take note that the plan has grown."""
        self.joined += [0] * (len(self.plan.groups) - len(self.joined))

    def finish(self, at: float) -> None:
        """Nothing more is added to the plan: complete, once nothing is under way."""
        self.went_through = True
        self._progress(at)

    def send(self, event: Event) -> None:
        """Take a fact the driver saw and decide what follows."""
        if type(self._log[-1]) is tuple:
            self._settle()
        self._log.append(event)
        kind = type(event)
        _FOLDS[kind](self, event)
        _DECISIONS[kind](self, event)

    def wake(self, wait: Wait, at: float) -> None:
        """Make the attempt that ``wait`` stood for, unless the execution gave up meanwhile."""
        step = wait.step
        if wait.compensation:
            self._compensate_again(step, wait.attempt, at)
        elif step.index in self.waiting and self.status is RUNNING and self.halt is None:
            self._execute_again(step, wait.attempt, at)

    def give_up(self, error: BaseException, at: float, step: str | None = None) -> None:
        """Go no further forward: let running calls end, then undo. Does nothing where that is decided already.

        Past the pivot there is no way back: running calls end, and the execution stops where it is.
        """
        if self.status is RUNNING:
            if self.past_pivot:
                self.halt = self.halt or error
                return
            event = SagaCompensating(step, error, at)
            self._log.append(event)
            self._fold_compensating(event)
            if self.open:
                self._cut_pauses(error, at)
        self._progress(at)

    @property
    def halted(self) -> bool:
        """Whether the execution was stopped past its pivot, and no call runs any more."""
        if self.halt is None or self.undoing or self.stragglers or self.status.terminal:
            return False
        return all(self.plan.steps[index].pause is not None for index in self.open)  # what waits goes on waiting elsewhere

    def stop(self, at: float) -> None:
        """End a halted execution that nobody can take up."""
        self.record(SagaStuck(f"past its pivot the saga only goes forward, and it was stopped: {self.halt!r}", at))

    def end_pause(self, pause: Pause, at: float) -> None:
        """The time of a step that waits has come, unless it does not wait any more."""
        step = pause.step
        if step.index not in self.open or step.pause is None:
            return
        if step.pause.signal is None:
            self.commands.append(Pass(step, None))
        else:
            text = f"step {step.name!r}: signal {step.pause.signal!r} did not come within {step.pause.seconds:g} s"
            elapsed = at - self.started_at(step.name)
            self.send(StepTimedOut(step.name, 1, at, elapsed, StepTimeoutError(text), running=False))

    def receive(self, signal: SignalReceived) -> None:
        """Take a signal from outside: a step that waits for it goes on, or the next that asks for it has it at once."""
        self.record(signal)
        given = self._given(signal.name)
        for index in sorted(self.open):
            step = self.plan.steps[index]
            if step.pause is not None and step.pause.signal == signal.name and index not in given:
                self.commands.append(Pass(step, self.signals[signal.name][len(given)]))
                return

    def _given(self, signal: str) -> set[int]:
        """Return the steps that a signal of this name was given to and that have not ended yet."""
        passes = [command.step for command in self.commands if isinstance(command, Pass)]
        return {step.index for step in passes if step.pause is not None and step.pause.signal == signal}

    def reach_timeout(self, seconds: float, at: float, cancelled: Collection[int] = ()) -> SagaTimeoutError | None:
        """The execution's own deadline has come: running steps count as timed out, and the undo starts.

        :param cancelled: steps that will be cancelled now: they time out when they have ended.
        :return: what running calls time out with, or ``None`` where it does not matter.
        """
        if self.status.terminal or self.past_pivot or self.went_through:
            return None
        error = SagaTimeoutError(f"saga {self.saga!r} took longer than its timeout of {seconds:g} s")
        for index in sorted(self.open):
            step = self.plan.steps[index]
            if step.pause is None and index not in cancelled:
                elapsed = at - self.started_at(step.name)
                self.record(StepTimedOut(step.name, self.attempts.get(index, 1), at, elapsed, error))
        self.give_up(error, at)
        return error

    def act(self, action: OperatorActed) -> None:
        """Take what a person decided while the execution runs here.

        :raises ActionRefusedError: the action is not one for where the execution stands; nothing is recorded.
        """
        self.check(action.action, action.step)
        self.record(action)
        self._obey(action.at)

    def check(self, action: str, step: str | None) -> None:
        """Refuse an operator's action that does not fit where the execution stands.

        :raises ActionRefusedError: the text says why.
        """
        status = self.status
        if action not in ACTIONS:
            raise ActionRefusedError(f"there is no action {action!r}; give one of {', '.join(ACTIONS)}")
        if status in (COMPLETED, COMPENSATED):
            raise ActionRefusedError(f"the execution has ended ({status}); there is nothing to {action}")
        if action in ("cancel", "compensate") and self.past_pivot:
            raise ActionRefusedError("the saga is past its pivot: nothing is undone any more")
        if action == "cancel" and status is not RUNNING:
            raise ActionRefusedError(f"the execution does not go forward ({status}): there is nothing to cancel")
        if action in ("resume", "retry") and status is not STUCK:
            raise ActionRefusedError(f"the execution is not stuck ({status}): there is nothing to {action}")
        if action == "retry" and not self.unfinished_undo:
            raise ActionRefusedError("no compensation has failed: there is nothing to retry")
        if action == "resume" and self.unfinished_undo:
            raise ActionRefusedError("a compensation has failed; use retry, or skip the step once it is undone by hand")
        if action == "resume" and self.error is not None and self.asked and not (self.open or self.undo or self.undoing):
            raise ActionRefusedError(
                "the undo has begun, so no step is executed again; use compensate, or skip the step in doubt"
            )
        if action == "skip":
            if status is not STUCK:
                raise ActionRefusedError(f"the execution is not stuck ({status}): there is nothing to skip")
            left = [self.plan.steps[index].name for index in sorted(self.asked | self.unfinished_undo.keys())]
            if step not in left:
                raise ActionRefusedError(
                    f"step {step!r} waits for no decision of a person; those that do: {', '.join(left) or 'none'}"
                )

    def recover(self, owner: str, epoch: int, at: float) -> None:
        """Go on from what the events tell: whoever recorded them is gone, and so is every call it had under way.

        What was under way is in doubt; a compensation is made again; what waited goes on waiting.
        """
        self.record(SagaRecovered(owner, epoch, at))
        steps = self.plan.steps
        lost = [steps[index] for index in sorted(self.open | self.stragglers) if steps[index].pause is None]
        waited_for = [step for step in lost if step.index not in self.skipped]
        self._obey_cancel(at)
        going = self.status is RUNNING and not self.plan.open  # what would follow an open plan died with its process
        goes_on = going and (self.past_pivot or all(step.in_doubt is not InDoubt.COMPENSATE for step in waited_for))
        cause: tuple[str, CrashError] | None = None
        for step in lost:
            attempt = self.attempts.get(step.index, 1)
            if goes_on and (self.past_pivot or step.in_doubt is InDoubt.RERUN) and step in waited_for:
                self._execute_again(step, attempt + 1, at)
                continue
            error = CrashError(f"the process died while step {step.name!r} ran (attempt {attempt}): it is in doubt")
            self.record(StepFailed(step.name, attempt, at, 0.0, error, True))
            if cause is None and step in waited_for and (self.plan.open or step.in_doubt is InDoubt.COMPENSATE):
                cause = step.name, error
        if cause is not None and self.status is RUNNING:
            self.record(SagaCompensating(*cause, at))
            self._cut_pauses(cause[1], at)
        for index in sorted(self.undoing - self.undo_waiting.keys()):
            self._compensate_again(steps[index], self.undo_attempts.get(index, 1) + 1, at)
        for scheduled in (*self.waiting.values(), *self.undo_waiting.values()):
            left = max(0.0, scheduled.at + scheduled.delay - at)
            self.commands.append(Wait(self.plan.by_name[scheduled.step], scheduled.attempt, left, scheduled.compensation))
        if self.status is RUNNING:
            self.commands.extend(
                Join(group)
                for group in self.plan.groups
                if self.joined[group.index] == len(group.scopes) and group.index not in self.merged
            )
            for index in sorted(self.skipped & set(self.undo)):  # a straggler that nobody waited for
                self._compensate(steps[index], at)
            for index in sorted(self.falling):
                self._fall_back(steps[index], at)
            for index in sorted(self.open):
                self._go_on_waiting(steps[index], at)
            if self.past_pivot:
                self._start_steps(self._owed(), at)
            if self.plan.open:
                self.give_up(CrashError("the process died in the block, between two steps"), at)
        self._obey(at)

    def _owed(self) -> tuple[PlannedStep, ...]:
        """Return the steps that nobody started though what they follow ended well: the saga was stopped past its pivot."""
        started = {event.step for event in self.events if isinstance(event, StepStarted)}
        fell = {event.step for event in self.events if isinstance(event, FallbackChosen)}
        owed: dict[str, PlannedStep] = {}
        for event in self.events:
            if isinstance(event, GroupJoined):
                then = self.plan.groups[event.group].then
            elif isinstance(event, StepSucceeded | StepSkipped) and event.step not in fell:
                then = self.plan.by_name[event.step].then
            else:
                continue
            owed.update((step.name, step) for step in (then if isinstance(then, tuple) else ()) if step.name not in started)
        return tuple(owed.values())

    # -- what follows -------------------------------------------------------------------------------------------------

    def _obey(self, at: float) -> None:
        """Do what a person decided, then go on."""
        steps = self.plan.steps
        self._obey_cancel(at)
        if self.status is RUNNING:
            for index in sorted(self.to_rerun):
                self._execute_again(steps[index], self.attempts.get(index, 1) + 1, at)
            for index in sorted(self.to_skip):
                self.record(StepSkipped(steps[index].name, at))
                self._advance(steps[index].then, at)
        if not self.commands:
            self._progress(at)

    def _obey_cancel(self, at: float) -> None:
        action = self.cancelled
        if action is not None and self.status is RUNNING and not self.past_pivot:
            error = SagaCancelledError(f"{action.action} by {action.who}: {action.why}")
            self.record(SagaCompensating(None, error, at))
            self._cut_pauses(error, at)

    def _execute_again(self, step: PlannedStep, attempt: int, at: float) -> None:
        self.record(StepStarted(step.name, attempt, at))
        self.commands.append(Call(step, attempt))

    def _compensate_again(self, step: PlannedStep, attempt: int, at: float) -> None:
        self.record(CompensationStarted(step.name, attempt, at))
        self.commands.append(Call(step, attempt, True))

    def record(self, event: Event) -> None:
        """Fold an event, and decide nothing."""
        self._log.append(event)
        _FOLDS[type(event)](self, event)

    def _start_steps(self, steps: tuple[PlannedStep, ...], at: float) -> None:
        for step in steps:
            self._log.append(StepStarted(step.name, 1, at))
            self.open.add(step.index)
            if step.instead_of is not None:
                self.falling -= {step.instead_of.index}
            if step.pause is None:
                self.commands.append(step.first)
            else:
                self._wait(step, step.pause.seconds)

    def _wait(self, step: PlannedStep, seconds: float | None) -> None:
        assert step.pause is not None
        signal = step.pause.signal
        come = self.signals.get(signal, ())[len(self._given(signal)) :] if signal is not None else ()
        if come:
            self.commands.append(Pass(step, come[0]))
        elif seconds is not None:
            self.commands.append(Pause(step, seconds))

    def _go_on_waiting(self, step: PlannedStep, at: float) -> None:
        if step.pause is not None:
            seconds = step.pause.seconds
            left = None if seconds is None else max(0.0, self.started_at(step.name) + seconds - at)
            self._wait(step, left)

    def _cut_pauses(self, error: BaseException, at: float) -> None:
        """Nothing waits any more where the saga gave up."""
        for index in sorted(self.open):
            step = self.plan.steps[index]
            if step.pause is not None:
                self.record(StepFailed(step.name, 1, at, at - self.started_at(step.name), error))

    def _step_succeeded(self, event: StepSucceeded) -> None:
        step = self.plan.by_name[event.step]
        if self.skipped and step.index in self.skipped:  # a late success of a step the saga went on without
            self._ended_late(step, event.at)
        elif self.status is RUNNING:
            self._advance(step.then, event.at)
        else:
            self._progress(event.at)

    def _advance(self, then: tuple[PlannedStep, ...] | Group | None, at: float) -> None:
        if self.halt is not None:
            return
        if type(then) is tuple:
            self._start_steps(then, at)
        elif then is None:
            self._progress(at)
        else:
            assert isinstance(then, Group)
            if self.joined[then.index] == len(then.scopes):
                self.commands.append(Join(then))
            else:
                self._progress(at)  # it may be that nothing is left but branches a person must decide about

    def _group_joined(self, event: GroupJoined) -> None:
        if self.status is RUNNING:
            self._advance(self.plan.groups[event.group].then, event.at)
        else:
            self._progress(event.at)

    def _step_failed(self, event: StepFailed) -> None:
        step = self.plan.by_name[event.step]
        if step.index in self.skipped and not (event.in_doubt and self.status is RUNNING):
            self._ended_late(step, event.at)  # a straggler the saga went on without ended by raising
        elif self.status is not RUNNING or (self.past_pivot and step.index in self.asked):
            self._progress(event.at)
        elif event.in_doubt or event.executed:
            self.give_up(event.error, event.at, step.name)
        elif self._may_retry(step, event.attempt, event.error):
            self._retry(step, event.attempt, event.error, event.at, False)
        else:
            self._fail(step, event.error, event.at)

    def _step_timed_out(self, event: StepTimedOut) -> None:
        step = self.plan.by_name[event.step]
        if self.status is not RUNNING:
            self._progress(event.at)
        elif step.pause is not None or not self._may_retry(step, event.attempt, event.error):
            self._fail(step, event.error, event.at)
            if not event.running and step.index in self.skipped:
                self._ended_late(step, event.at)
        elif not event.running:
            self._retry(step, event.attempt, event.error, event.at, False)
        # Otherwise the straggler has attempts left: another one waits until this one has ended, and if it ends well,
        # that is the step's success.

    def _may_retry(self, step: PlannedStep, attempt: int, error: BaseException) -> bool:
        if self.past_pivot and isinstance(error, Exception) and step.on_error is not Skip and not step.fallback:
            return True
        return step.retry.allows(attempt, error)

    def _fail(self, step: PlannedStep, error: BaseException, at: float) -> None:
        if step.fallback and isinstance(error, step.fallback_on):
            if step.index in self.asked:  # what a person knows of it decides whether anything is done instead
                self._progress(at)
                return
            self.record(FallbackChosen(step.name, at))
            self._fall_back(step, at)
        elif step.on_error is Skip and isinstance(error, Exception):
            self.record(StepSkipped(step.name, at))
            if step.index in self.undo:  # the task says so
                self._compensate(step, at)
            self._advance(step.then, at)
        else:
            self.give_up(error, at, step.name)

    def _retry(self, step: PlannedStep, attempt: int, error: BaseException, at: float, compensation: bool) -> None:
        policy = step.compensation_retry if compensation else step.retry
        # Spread without randomness: a replay of the same execution waits the same time.
        fraction = zlib.crc32(f"{self.saga_id}/{step.name}/{attempt}/{compensation}".encode()) / 2**32
        if self.past_pivot and not compensation and not policy.allows(attempt, error):
            policy = _PAST_PIVOT
        try:
            delay = policy.delay(attempt, fraction)
        except Exception as wrong:  # the user's own backoff
            wrong.add_note(f"raised by the backoff of step {step.name!r}, after: {error!r}")
            if compensation:
                self._progress(at)
            else:
                self._fail(step, wrong, at)
            return
        self.record(RetryScheduled(step.name, attempt + 1, at, delay, compensation))
        self.commands.append(Wait(step, attempt + 1, delay, compensation))

    def _compensation_ended(self, event: CompensationSucceeded) -> None:
        if self.falling and self.status is RUNNING:
            step = self.plan.by_name[event.step]
            if step.index in self.falling:
                self._fall_back(step, event.at)
                return
        self._progress(event.at)

    def _compensation_failed(self, event: CompensationFailed) -> None:
        step = self.plan.by_name[event.step]
        if step.compensation_retry.allows(event.attempt, event.error):
            self._retry(step, event.attempt, event.error, event.at, True)
        elif step.index in self.falling:  # what may be left of it is not to be mixed with what its fallback does
            self.give_up(event.error, event.at, step.name)
        else:
            self._progress(event.at)

    def _ended_late(self, step: PlannedStep, at: float) -> None:
        """A step that the saga goes on without, or falls back from, has ended."""
        if self.status is RUNNING and step.index in self.falling:
            self._fall_back(step, at)
        elif self.status is RUNNING and step.index in self.undo:
            self._compensate(step, at)
        else:
            self._progress(at)

    def _fall_back(self, step: PlannedStep, at: float) -> None:
        """Start the step's fallback, once it has ended and nothing of it is left."""
        if step.index in self.stragglers or step.index in self.undoing:
            return
        if step.index in self.undo:
            self._compensate(step, at)
        else:
            self._start_steps(step.fallback, at)

    def _compensate(self, step: PlannedStep, at: float) -> None:
        if step.index in self.undo_attempts:  # it failed, and a person said to try again
            self._compensate_again(step, self.undo_attempts[step.index] + 1, at)
            return
        self._log.append(CompensationStarted(step.name, 1, at))
        if self.undo[-1] == step.index:
            del self.undo[-1]
        else:
            self.undo.remove(step.index)
        self.undoing.add(step.index)
        self.commands.append(step.first_undo)

    def _progress(self, at: float) -> None:
        """Undo the next step, or end the execution, where nothing is under way that must end first."""
        if self.open or self.status.terminal:
            return
        if self.status is COMPENSATING:
            if self.undoing and not self.plan.compensate_together:
                return
            if self.undo and not (self.unfinished_undo and self.stop_on_compensation_failure):
                if not self.plan.compensate_together:
                    self._compensate(self.plan.steps[self.undo[-1]], at)
                    return
                for step in self._next_to_undo():
                    self._compensate(step, at)
            if self.undoing:
                return
        elif self.undoing:
            return
        elif not self.went_through:
            if self.asked and not (self.waiting or self.stragglers or self.commands or self.to_skip):
                self.record(SagaStuck(self._stuck_because(), at))
            return
        if self.stragglers:
            return
        if self.unfinished_undo or self.asked:
            self.record(SagaStuck(self._stuck_because(), at))
        elif self.status is COMPENSATING:
            self.record(SagaCompensated(at))
        else:
            self.record(SagaCompleted(at))

    def _next_to_undo(self) -> list[PlannedStep]:
        """Return the step that completed last, and those of branches that are undone together with it."""
        steps = self.plan.steps
        chosen, before = [], [steps[index] for index in self.undoing]
        for index in reversed(self.undo):
            step = steps[index]
            if all(_undone_together(step, other) for other in before):
                chosen.append(step)
            before.append(step)
        return chosen

    def gave_up_on(self, step: PlannedStep) -> bool:
        """Whether the step outlived its timeout and nobody waits for it any more."""
        return step.index in self.stragglers and (step.index in self.skipped or self.status is not RUNNING)

    @property
    def at_rest(self) -> bool:
        """Whether nothing goes on but executes that outlived their timeout and that nobody waits for."""
        if self.open or self.undoing or self.commands:
            return False
        if self.status is RUNNING and not self.went_through:
            return self.plan.open and not (self.waiting or self.falling or self.stragglers - self.skipped)
        return bool(self.stragglers)

    def _stuck_because(self) -> str:
        steps = self.plan.steps
        reasons = []
        if self.unfinished_undo:
            reasons.append("compensation failed: " + ", ".join(steps[i].name for i in sorted(self.unfinished_undo)))
            left = [steps[i].name for i in self.undo]
            if left:
                reasons.append("not compensated: " + ", ".join(reversed(left)))
        asked = [steps[i] for i in sorted(self.asked)]
        unkept = [step.name for step in asked if self.past_pivot and step.in_doubt is not InDoubt.ASK]
        doubtful = [step.name for step in asked if step.name not in unkept]
        if doubtful:
            reasons.append("in doubt, and the task says ASK: " + ", ".join(doubtful))
        if unkept:
            reasons.append("done past the pivot, and what came of it could not be stored: " + ", ".join(unkept))
        return "; ".join(reasons)

    def started_at(self, name: str) -> float:
        """Return when the step's last attempt started."""
        for event in reversed(self.events):
            if isinstance(event, StepStarted) and event.step == name:
                return event.at
        raise LookupError(name)

    # -- the fold: what each event does to the state ------------------------------------------------------------------

    def _fold_nothing(self, event: Event) -> None:
        """An event that tells and changes nothing."""

    def _fold_step_started(self, event: StepStarted) -> None:
        index = self.plan.by_name[event.step].index
        self.open.add(index)
        instead_of = self.plan.steps[index].instead_of
        if instead_of is not None:
            self.falling -= {instead_of.index}
        if event.attempt > 1:
            self.attempts = {**self.attempts, index: event.attempt}
            self.stragglers -= {index}
            self.waiting = _without(self.waiting, index)
            self.asked -= {index}
            self.to_rerun -= {index}
            if index in self.undo:  # what the attempt before left is this attempt's to answer for
                self.undo.remove(index)

    def _fold_step_succeeded(self, event: StepSucceeded) -> None:
        step = self.plan.by_name[event.step]
        index = step.index
        self.open.discard(index)
        if self.stragglers:
            self.stragglers -= {index}
        if step.compensates:
            self.undo.append(index)
        if step.pivot:
            self.past_pivot = True
        if step.pause is not None and step.pause.signal is not None:
            self.signals = {**self.signals, step.pause.signal: self.signals[step.pause.signal][1:]}
        if index not in self.skipped:
            self._fold_passed(step.then)

    def _fold_passed(self, then: tuple[PlannedStep, ...] | Group | None) -> None:
        """Something ended well that ``then`` follows."""
        if self.status is not RUNNING or type(then) is tuple:
            return
        if then is None:
            self.went_through = True
        else:
            assert isinstance(then, Group)
            self.joined[then.index] += 1

    def _fold_step_failed(self, event: StepFailed) -> None:
        step = self.plan.by_name[event.step]
        index = step.index
        self.open.discard(index)
        if self.stragglers:
            self.stragglers -= {index}
        if self.past_pivot and index not in self.skipped:  # from here there is only forward
            if event.executed:
                self.asked |= {index}  # done, and its outcome cannot be kept: another attempt would do it twice
            else:
                self.to_rerun |= {index}  # unless what follows says otherwise
        elif event.in_doubt:
            self._doubt(step)
        elif (step.compensate_on_failure or event.executed) and step.compensates:
            self.undo.append(index)

    def _fold_step_timed_out(self, event: StepTimedOut) -> None:
        step = self.plan.by_name[event.step]
        self.open.discard(step.index)
        if event.running:
            self.stragglers |= {step.index}
        elif self.past_pivot:
            self.to_rerun |= {step.index}
        else:
            self._doubt(step)

    def _doubt(self, step: PlannedStep) -> None:
        if step.in_doubt is InDoubt.ASK:
            self.asked |= {step.index}
        elif step.compensates:
            self.undo.append(step.index)

    def _fold_step_skipped(self, event: StepSkipped) -> None:
        step = self.plan.by_name[event.step]
        self.to_rerun -= {step.index}
        self.skipped |= {step.index}
        self.to_skip -= {step.index}
        self._fold_passed(step.then)

    def _fold_fallback_chosen(self, event: FallbackChosen) -> None:
        index = self.plan.by_name[event.step].index
        self.to_rerun -= {index}
        self.skipped |= {index}
        self.falling |= {index}

    def _fold_signal_received(self, event: SignalReceived) -> None:
        self.signals = {**self.signals, event.name: (*self.signals.get(event.name, ()), event.value)}

    def _fold_group_joined(self, event: GroupJoined) -> None:
        self.merged |= {event.group}
        self._fold_passed(self.plan.groups[event.group].then)

    def _fold_retry_scheduled(self, event: RetryScheduled) -> None:
        index = self.plan.by_name[event.step].index
        if event.compensation:
            self.undoing.add(index)
            self.undo_waiting = {**self.undo_waiting, index: event}
            self.unfinished_undo = _without(self.unfinished_undo, index)
            return
        self.waiting = {**self.waiting, index: event}
        self.to_rerun -= {index}

    def _fold_compensating(self, event: SagaCompensating) -> None:
        self.status = COMPENSATING
        self.error = event.error
        self.failed = self.plan.by_name[event.step] if event.step is not None else None
        self.waiting = _NONE

    def _fold_compensation_started(self, event: CompensationStarted) -> None:
        index = self.plan.by_name[event.step].index
        if index in self.undo:  # not there where this is another attempt
            self.undo.remove(index)
        self.undoing.add(index)
        if event.attempt > 1:
            self.undo_attempts = {**self.undo_attempts, index: event.attempt}
            self.undo_waiting = _without(self.undo_waiting, index)

    def _fold_compensation_succeeded(self, event: CompensationSucceeded) -> None:
        index = self.plan.by_name[event.step].index
        self.undoing.discard(index)

    def _fold_compensation_failed(self, event: CompensationFailed) -> None:
        index = self.plan.by_name[event.step].index
        self.undoing.discard(index)
        self.undo_attempts = {**self.undo_attempts, index: event.attempt}
        self.unfinished_undo = {**self.unfinished_undo, index: event.error}

    def _fold_completed(self, event: SagaCompleted) -> None:
        self.status = COMPLETED

    def _fold_compensated(self, event: SagaCompensated) -> None:
        self.status = COMPENSATED

    def _fold_stuck(self, event: SagaStuck) -> None:
        self.status = STUCK

    def _fold_operator_acted(self, event: OperatorActed) -> None:
        if self.status is STUCK:
            self.status = RUNNING if self.error is None else COMPENSATING
        if event.action in ("cancel", "compensate"):
            if self.past_pivot:  # who recorded it did not know; nothing is undone any more
                return
            self.cancelled = event
            self.undo.extend(index for index in sorted(self.asked) if self.plan.steps[index].compensates)
            self.undo.extend(reversed(tuple(self.unfinished_undo)))  # they were tried last first
            self.asked = frozenset()
            self.unfinished_undo = _NONE
        elif event.action == "resume":
            if self.status is RUNNING:
                self.to_rerun |= self.asked
                self.asked = frozenset()
        elif event.action == "retry":
            self.undo.extend(reversed(tuple(self.unfinished_undo)))
            self.unfinished_undo = _NONE
        elif event.action == "skip" and event.step is not None:
            index = self.plan.by_name[event.step].index
            if self.status is RUNNING and index in self.asked:
                self.to_skip |= {index}
            self.asked -= {index}
            self.unfinished_undo = _without(self.unfinished_undo, index)


def _without(mapping: Mapping[int, T], index: int) -> Mapping[int, T]:
    return {key: value for key, value in mapping.items() if key != index}


def _undone_together(one: PlannedStep, other: PlannedStep) -> bool:
    for (group, branch), (other_group, other_branch) in zip(one.branches, other.branches, strict=False):
        if group is not other_group:
            return False
        if branch != other_branch:
            return group.compensate_together
    return False


_PAST_PIVOT: Final = Retry(2, ExponentialBackoff(0.1, cap=60.0))  # how retries go on where the step's own are used up
_EXECUTED: Final = 6  # the length of a note that a step succeeded; that of a compensation has no result


def _tell(note: tuple[Any, ...]) -> tuple[Event, Event]:
    step, following, started, ended, epoch, *result = note
    at, elapsed = ended + epoch, ended - started
    if result:
        return StepSucceeded(step.name, 1, at, elapsed, result[0]), StepStarted(following.name, 1, at)
    return CompensationSucceeded(step.name, 1, at, elapsed), CompensationStarted(following.name, 1, at)


_FOLDS: Final[dict[type, Callable[[Machine, Any], None]]] = {
    SagaStarted: Machine._fold_nothing,
    StepStarted: Machine._fold_step_started,
    StepSucceeded: Machine._fold_step_succeeded,
    StepFailed: Machine._fold_step_failed,
    StepTimedOut: Machine._fold_step_timed_out,
    StepSkipped: Machine._fold_step_skipped,
    RetryScheduled: Machine._fold_retry_scheduled,
    GroupJoined: Machine._fold_group_joined,
    SagaCompensating: Machine._fold_compensating,
    CompensationStarted: Machine._fold_compensation_started,
    CompensationSucceeded: Machine._fold_compensation_succeeded,
    CompensationFailed: Machine._fold_compensation_failed,
    SagaCompleted: Machine._fold_completed,
    SagaCompensated: Machine._fold_compensated,
    SagaStuck: Machine._fold_stuck,
    SagaRecovered: Machine._fold_nothing,
    OperatorActed: Machine._fold_operator_acted,
    FallbackChosen: Machine._fold_fallback_chosen,
    SignalReceived: Machine._fold_signal_received,
}

_DECISIONS: Final[dict[type, Callable[[Machine, Any], None]]] = {
    StepSucceeded: Machine._step_succeeded,
    StepFailed: Machine._step_failed,
    StepTimedOut: Machine._step_timed_out,
    GroupJoined: Machine._group_joined,
    CompensationSucceeded: Machine._compensation_ended,
    CompensationFailed: Machine._compensation_failed,
}
