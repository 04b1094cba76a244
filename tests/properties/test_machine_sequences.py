"""The machine on sequences, with any outcomes at all, against a model of a dozen lines; and replay at every prefix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from saga import Status
from saga.events import CompensationFailed, CompensationSucceeded, StepFailed, StepSucceeded
from saga.machine import Call, Machine, Wait
from tests.kit.histories import state
from tests.kit.scripts import ERRORS, FAIL, LOST, OK, STOP, Script, plan_of, saga_of, scripts


def tries(name: str, outcomes: list[str], most: int, calls: list[tuple[str, int]]) -> str:
    """The model of one call with its attempts: log them, and return how the last one ended."""
    outcome = OK
    for attempt, outcome in enumerate(outcomes[:most], 1):
        calls.append((name, attempt))
        if outcome not in (FAIL, LOST):
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
        attempts = calls[-1][1]
        if script.undoable and (outcome in (OK, STOP) or script.undo_own or LOST in script.executes[:attempts]):
            undo.append(i)
        if script.skip and outcome not in (OK, STOP) and i in undo:  # undone before it is skipped
            outcome = tries(f"-s{i}", script.compensates, script.undo_attempts, calls)
            undo.pop()
            if outcome is not OK:
                bad.add(f"s{i}")
        if outcome is STOP or (outcome is not OK and not script.skip):
            failed = f"s{i}"
            break
    while failed and undo and not (bad and stop_on_failed_undo):
        i = undo.pop()
        if tries(f"-s{i}", flow[i].compensates, flow[i].undo_attempts, calls) is not OK:
            bad.add(f"s{i}")
    return calls, Status.STUCK if bad else Status.COMPLETED if failed is None else Status.COMPENSATED, failed, bad


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
        self.calls.append((("-" if call.phase == "compensate" else "") + name, attempt))
        outcome = (script.compensates if call.phase == "compensate" else script.executes)[attempt - 1]
        error = ERRORS[outcome](name) if outcome is not OK else None
        if call.phase == "compensate":
            fact: Any = CompensationSucceeded(name, attempt, self.at, 0.0)
            if error is not None:
                fact = CompensationFailed(name, attempt, self.at, 0.0, error)
        elif error is None:
            fact = StepSucceeded(name, attempt, self.at, 0.0, name)
        else:
            fact = StepFailed(name, attempt, self.at, 0.0, error, outcome in (LOST, STOP))
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
