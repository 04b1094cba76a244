"""The machine on sequences, with any outcomes at all, against a model of a dozen lines; and replay at every prefix."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from hypothesis import event, given
from hypothesis import strategies as st

from saga import Retry, Saga, Skip, Status, step
from saga.events import CompensationFailed, CompensationSucceeded, StepFailed, StepSucceeded
from saga.machine import Call, Machine, State, Wait

OK, FAIL, FATAL, STOP = "ok", "fail", "fatal", "stop"  # FAIL is worth a retry, FATAL is not, STOP is an interrupt
ERRORS: dict[str, type[BaseException]] = {FAIL: ConnectionError, FATAL: ValueError, STOP: KeyboardInterrupt}


class Script(NamedTuple):
    """What a step will do: the outcome of each attempt, and its policies."""

    executes: list[str]
    compensates: list[str]
    attempts: int
    undo_attempts: int
    skip: bool
    undo_own: bool
    undoable: bool


outcomes = st.lists(st.sampled_from([OK, OK, FAIL, FAIL, FATAL, STOP]), min_size=4, max_size=4)
scripts = st.builds(
    Script,
    outcomes,
    outcomes,
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
).map(lambda script: script._replace(undo_own=script.undo_own and not script.skip))  # undone at once: not in this model


def tries(name: str, outcomes: list[str], most: int, calls: list[tuple[str, int]]) -> str:
    """The model of one call with its attempts: log them, and return how the last one ended."""
    outcome = OK
    for attempt, outcome in enumerate(outcomes[:most], 1):
        calls.append((name, attempt))
        if outcome is not FAIL:
            break
    return outcome


def model(flow: list[Script], stop_on_failed_undo: bool) -> tuple[list[tuple[str, int]], Status, str | None, set[str]]:
    """Return the calls made, the status, the failed step and the steps whose undo failed."""
    calls: list[tuple[str, int]] = []
    undo: list[int] = []
    failed: str | None = None
    bad: set[str] = set()
    for i, script in enumerate(flow):
        outcome = tries(f"s{i}", script.executes, script.attempts, calls)
        if script.undoable and (outcome in (OK, STOP) or script.undo_own):
            undo.append(i)
        if outcome is STOP or (outcome is not OK and not script.skip):
            failed = f"s{i}"
            break
    while failed and undo and not (bad and stop_on_failed_undo):
        i = undo.pop()
        if tries(f"-s{i}", flow[i].compensates, flow[i].undo_attempts, calls) is not OK:
            bad.add(f"s{i}")
    return calls, Status.COMPLETED if failed is None else Status.STUCK if bad else Status.COMPENSATED, failed, bad


def plan_of(flow: list[Script]) -> Any:
    saga = Saga("s")
    for i, script in enumerate(flow):
        saga.add_task(
            step(
                lambda: None,
                (lambda: None) if script.undoable else None,
                name=f"s{i}",
                retry=Retry(script.attempts, retry_on=ConnectionError),
                compensation_retry=Retry(script.undo_attempts, retry_on=ConnectionError),
                compensate_on_failure=script.undo_own,
                **({"on_error": Skip} if script.skip else {}),
            )
        )
    return saga.plan


def state(machine: Machine) -> dict[str, Any]:
    """What is folded from the events."""
    known = {name: getattr(machine.state, name) for name in State.__slots__ if name != "plan"}
    return {name: value.copy() if hasattr(value, "copy") else value for name, value in known.items()}


@dataclass
class Drive:
    """Does what a machine commands, as the scripts say, one call at a time."""

    flow: list[Script]
    machine: Machine
    calls: list[tuple[str, int]] = field(default_factory=list)
    seen: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    at: float = 0.0

    def run(self) -> None:
        self.machine.start(self.at)
        self.note()
        while self.machine.commands:
            self.at += 1
            command = self.machine.commands.pop(0)
            assert not self.machine.commands, "a sequence has one thing to do at a time"
            if isinstance(command, Wait):
                self.machine.wake(command, self.at)
            else:
                assert isinstance(command, Call)
                self.call(command)
            self.note()

    def call(self, call: Call) -> None:
        name, attempt = call.step.name, call.attempt
        script = self.flow[call.step.index]
        self.calls.append((("-" if call.compensation else "") + name, attempt))
        outcome = (script.compensates if call.compensation else script.executes)[attempt - 1]
        error = ERRORS[outcome](name) if outcome is not OK else None
        if call.compensation:
            fact: Any = CompensationSucceeded(name, attempt, self.at, 0.0)
            if error is not None:
                fact = CompensationFailed(name, attempt, self.at, 0.0, error)
        elif error is None:
            fact = StepSucceeded(name, attempt, self.at, 0.0, name)
        else:
            fact = StepFailed(name, attempt, self.at, 0.0, error, outcome is STOP)
        self.machine.send(fact)

    def note(self) -> None:
        self.seen.append((len(self.machine.events), state(self.machine)))


@given(st.lists(scripts, min_size=1, max_size=5), st.booleans())
def test_the_machine_does_what_the_model_does(flow: list[Script], stop: bool) -> None:
    drive = Drive(flow, Machine(plan_of(flow), "s", "id", stop_on_compensation_failure=stop))
    drive.run()
    machine = drive.machine
    calls, status, failed, bad = model(flow, stop)
    event(str(status))
    assert drive.calls == calls
    assert machine.status is status
    assert (machine.state.failed and machine.state.failed.name) == failed
    assert {machine.plan.steps[i].name for i in machine.state.compensations_failed} == bad
    assert not any([machine.state.executing, machine.state.compensating, machine.state.retries])


def saga_of(flow: list[Script], stop: bool, logger: Any, calls: list[tuple[str, int]]) -> Saga:
    """A saga whose tasks do as the scripts say, and log their calls."""

    def act(name: str, outcomes: list[str]) -> None:
        attempt = sum(called == name for called, _ in calls) + 1
        calls.append((name, attempt))
        if outcomes[attempt - 1] is not OK:
            raise ERRORS[outcomes[attempt - 1]](name)

    saga = Saga("s", logger=logger, stop_on_compensation_failure=stop)
    for planned, script in zip(plan_of(flow).steps, flow, strict=True):
        undo = partial(act, f"-{planned.name}", script.compensates) if script.undoable else None
        policies = {"retry": planned.retry, "compensation_retry": planned.compensation_retry, "on_error": planned.on_error}
        policies["compensate_on_failure"] = script.undo_own
        saga.add_task(step(partial(act, planned.name, script.executes), undo, name=planned.name, **policies))
    return saga


@given(st.lists(scripts, min_size=1, max_size=5), st.booleans())
def test_an_execution_does_what_the_model_does_and_is_told_alike_whoever_looks(flow: list[Script], stop: bool) -> None:
    calls, status, failed, bad = model(flow, stop)
    told = []
    for logger in (None, lambda event, info: None):
        made: list[tuple[str, int]] = []
        try:
            result = saga_of(flow, stop, logger, made).try_execute(saga_id="id")
        except KeyboardInterrupt as interrupt:
            told.append("".join(interrupt.__notes__).partition("\n")[0])
        else:
            assert (result.status, result.failed_step) == (status, failed)
            assert {e.step for e in result.compensation_errors} == bad
            told.append(str([(type(e).__name__, getattr(e, "step", None), getattr(e, "attempt", 0)) for e in result.events]))
        assert made == calls
    assert told[0] == told[1]


@given(st.lists(scripts, min_size=1, max_size=4), st.booleans())
def test_replaying_any_prefix_gives_the_state_of_that_moment(flow: list[Script], stop: bool) -> None:
    plan = plan_of(flow)
    drive = Drive(flow, Machine(plan, "s", "id", stop_on_compensation_failure=stop))
    drive.run()
    for length, was in drive.seen:
        replayed = Machine(plan, "s", "id", stop_on_compensation_failure=stop).replayed(drive.machine.events[:length])
        assert state(replayed) == was
        assert replayed.commands == []
        assert replayed.events == drive.machine.events[:length]
