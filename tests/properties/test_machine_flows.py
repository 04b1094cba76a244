"""The machine on any flow at all, with outcomes delivered in any order: what may never be broken, checked on the events.

Histories are :mod:`tests.kit.histories`'.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from saga import Ask, InDoubt, Saga, Skip, Status
from saga.errors import OutcomeUnknownError
from saga.events import (
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    CompensationTimedOut,
    GroupMerged,
    PersonAsked,
    RetryScheduled,
    SagaCompensated,
    SagaCompensating,
    SagaCompleted,
    SagaStarted,
    SagaStuck,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    UnitCompensating,
    VerificationFailed,
    VerificationStarted,
)
from saga.machine import Call, Machine, Wait
from tests.kit.histories import Drive, build, state, trees

ENDS = (SagaCompleted, SagaCompensated, SagaStuck)


def firsts(tree: Any) -> set[str]:
    if isinstance(tree, str):
        return {tree}
    kind, parts = tree
    return firsts(parts[0]) if kind in ("seq", "unit") else set().union(*map(firsts, parts))


def lasts(tree: Any) -> set[str]:
    if isinstance(tree, str):
        return {tree}
    kind, parts = tree
    if kind == "unit":
        return firsts(tree)
    return lasts(parts[-1]) if kind == "seq" else set().union(*map(lasts, parts))


def before(tree: Any) -> dict[str, set[str]]:
    """For each step that follows others at once, those that must be over before it starts."""
    if isinstance(tree, str):
        return {}
    kind, parts = tree
    found: dict[str, set[str]] = {}
    for part in parts:
        found.update(before(part))
    if kind == "seq":
        for one, following in itertools.pairwise(parts):
            for name in firsts(following):
                found.setdefault(name, set()).update(lasts(one))
    return found


class Ledger:
    """Walks over the events, keeps its own naive books, and checks each event against them."""

    def __init__(self, machine: Machine, tree: Any, stop: bool) -> None:
        self.plan = machine.plan
        self.stop = stop
        self.before = before(tree)
        self.running: set[str] = set()  # executes, stragglers among them
        self.late: set[str] = set()
        self.over: set[str] = set()  # steps the flow has gone on from
        self.owed: list[str] = []  # what is to be undone, in order of completion
        self.undoing: str | None = None
        self.undoing_late: set[str] = set()
        self.outlived: set[str] = set()  # undos that have outlived their timeout and still run
        self.ended_undo: dict[str, bool] = {}
        self.in_doubt: set[str] = set()
        self.to_verify: set[str] = set()
        self.verifying: set[str] = set()
        self.asked: set[str] = set()
        self.given_up: set[str] = set()  # failed for good, and a person is to say what follows
        self.skipped: set[str] = set()
        self.unready: set[str] = set()  # it has returned once, and not what its retry waits for
        self.compensating = False
        self.end: type | None = None
        self.attempts: dict[str, int] = {}
        self.before_anew: dict[str, int] = {}  # of these: those before the unit around was begun anew
        self.began: dict[str, float] = {}  # their first attempts
        self.units: set[str] = set()  # under way
        self.back: set[str] = set()  # those that gave up
        for each in machine.events:
            self.take(each)

    def take(self, each: Any) -> None:
        assert self.end is None, f"{each} after the end"
        name = getattr(each, "step", None)
        if isinstance(each, StepStarted):
            assert not self.compensating, "nothing goes forward once undo has begun"
            assert name not in self.running, "two attempts at once"
            assert self.before.get(name, set()) <= self.over, "a step starts when those before it are over"
            assert self.around(name) <= self.units - self.back, "nothing of a unit goes forward once it gave up"
            assert each.attempt == self.attempts.get(name, 0) + 1
            assert each.attempt - self.before_anew.get(name, 0) <= self.plan.by_name[name].retry.max_attempts
            assert name not in self.to_verify | self.verifying, "what verify tells comes first"
            assert name not in self.asked | self.given_up, "a person is asked first"
            self.attempts[name] = each.attempt
            self.began.setdefault(name, each.at)
            (self.running if self.plan.by_name[name].content is None else self.units).add(name)
            self.forgive(name)
        elif isinstance(each, StepTimedOut):
            assert name in self.running
            if each.running:
                self.late.add(name)
            else:
                self.ended(name)
                self.doubt(name)
        elif isinstance(each, UnitCompensating):
            assert name in self.units - self.back
            assert self.around(name) <= self.units - self.back
            assert each.failed_step is None or name in self.around(each.failed_step)
            self.units -= self.inside(name)
            self.back -= self.inside(name)
            self.back.add(name)
        elif name is not None and self.plan.by_name[name].content is not None and isinstance(each, StepSucceeded | StepFailed):
            self.unit_ended(name, isinstance(each, StepSucceeded))
        elif isinstance(each, StepSucceeded):
            self.ended(name)
            self.done(name)
        elif isinstance(each, VerificationStarted):
            assert name in self.to_verify or each.attempt > 1
            self.to_verify.discard(name)
            self.verifying.add(name)
        elif isinstance(each, StepVerified):
            self.verifying.remove(name)
            self.forgive(name)
            if each.done:
                self.done(name)
            else:
                self.in_doubt.discard(name)
                self.failed(name)
        elif isinstance(each, VerificationFailed):
            self.verifying.remove(name)
            self.undecided(name)
        elif isinstance(each, StepFailed):
            self.ended(name)
            if each.executed:  # what came of it is known: not what its retry waits for
                self.in_doubt.discard(name)
                self.unready.add(name)
            if each.in_doubt or name in self.in_doubt:
                self.doubt(name)
            else:
                self.failed(name)
        elif isinstance(each, StepSkipped):
            assert name not in self.owed, "skipped before it was undone"
            assert name not in self.undoing_late | self.outlived
            self.skipped.add(name)
            self.over.add(name)
        elif isinstance(each, SagaCompensating):
            assert not self.compensating, "the saga gives up once"
            self.compensating = True
        elif isinstance(each, CompensationStarted):
            self.undo_starts(each, name)
        elif isinstance(each, CompensationTimedOut):
            assert self.undoing == name or name in self.undoing_late
            self.outlived.add(name)
            self.undoing = None if self.undoing == name else self.undoing
            self.undoing_late.discard(name)
        elif isinstance(each, (CompensationSucceeded, CompensationFailed)):
            assert self.undoing == name or name in self.undoing_late | self.outlived
            self.outlived.discard(name)
            self.ended_undo[name] = isinstance(each, CompensationSucceeded)
            if isinstance(each, CompensationSucceeded):
                self.in_doubt.discard(name)
            if self.undoing == name:
                self.undoing = None
            self.undoing_late.discard(name)
        elif isinstance(each, RetryScheduled) and each.phase == "verify":
            self.verifying.add(name)
        elif isinstance(each, RetryScheduled) and each.phase == "compensate":
            assert not self.ended_undo.pop(name)
            if self.compensating and name not in self.undoing_late:
                self.undoing = self.undoing or name
            if self.undoing != name:
                self.undoing_late.add(name)
        elif isinstance(each, ENDS):
            self.ends(each)
        elif isinstance(each, PersonAsked):
            assert not self.compensating
            assert name not in self.running | self.late, "it has ended"
            assert self.plan.by_name[name].on_error is Ask
            self.given_up.add(name)
        elif isinstance(each, RetryScheduled):
            limit = self.plan.by_name[name].retry.max_elapsed
            assert limit is None or each.at + each.delay - self.began[name] <= limit, "there is no time for it"
        else:
            assert isinstance(each, (SagaStarted, GroupMerged))

    def around(self, name: str) -> set[str]:
        return {unit.name for unit in self.plan.by_name[name].units}

    def inside(self, unit: str) -> set[str]:
        return {name for name in self.plan.names if unit in self.around(name)}

    def unit_ended(self, name: str, well: bool) -> None:
        inside = self.inside(name)
        assert name in self.units
        assert not inside & (self.units | self.running - self.late), "its steps have ended"
        self.units.remove(name)
        if well:
            assert name not in self.back
            self.over.add(name)
            return
        self.back.remove(name)
        owed = {*self.owed, *self.undoing_late, *self.outlived, *self.late, *self.asked, self.undoing}
        assert not inside & owed, "it is undone before anything follows"
        assert all(self.ended_undo.pop(step, True) for step in inside)
        for known in (self.over, self.skipped, self.unready, self.given_up):
            known -= inside
        for step in inside:
            self.began.pop(step, None)
            self.before_anew[step] = self.attempts.get(step, 0)

    def failed(self, name: str) -> None:
        """The last attempt is known to have done nothing, or nothing that is waited for."""
        if self.plan.by_name[name].compensate_on_failure or name in self.unready:
            self.owe(name)

    def undo_starts(self, each: CompensationStarted, name: str) -> None:
        assert name not in self.running, "compensated while its execute runs"
        assert name not in self.to_verify | self.verifying, "compensated before verify has told"
        if each.attempt > 1:
            assert self.undoing == name or name in self.undoing_late
            assert each.attempt <= self.plan.by_name[name].compensation_retry.max_attempts
            return
        assert name not in self.ended_undo, "compensated twice"
        assert name in self.owed, "compensated without a reason"
        if not self.compensating and self.around(name) & self.back:
            inside = self.inside(*(self.around(name) & self.back))
            assert inside & self.running <= self.late, "its undo waits for what runs of it"
            assert not inside & self.verifying
            assert not inside & self.undoing_late, "one undo of it at a time"
            assert [one for one in self.owed if one in inside][-1] == name, "last completed, first undone"
            self.owed.remove(name)
            self.undoing_late.add(name)
            return
        if not self.compensating:
            skips = self.plan.by_name[name].on_error is Skip
            assert name in self.skipped or skips, "only what is skipped is undone while the saga goes forward"
            self.owed.remove(name)
            self.undoing_late.add(name)
            return
        assert self.running <= self.late, "undo waits for what runs"
        assert not self.verifying, "what verify tells decides what is undone next"
        assert self.undoing is None, "one undo at a time"
        assert self.undoing_late == set()
        assert self.owed[-1] == name, "last completed, first undone"
        if self.stop:
            assert all(self.ended_undo.values())
            assert not self.outlived
        self.owed.pop()
        self.undoing = name

    def ended(self, name: str) -> None:
        assert name in self.running
        self.running.discard(name)
        self.late.discard(name)

    def done(self, name: str) -> None:
        self.in_doubt.discard(name)
        self.over.add(name)
        self.owe(name)

    def owe(self, name: str) -> None:
        if self.plan.by_name[name].compensates:
            self.owed.append(name)

    def doubt(self, name: str) -> None:
        self.in_doubt.add(name)
        if self.plan.by_name[name].verifies:
            self.to_verify.add(name)
        else:
            self.undecided(name)

    def undecided(self, name: str) -> None:
        """Nothing tells whether it was done."""
        if self.plan.by_name[name].in_doubt is InDoubt.ASK:
            self.asked.add(name)
        elif name not in self.owed:
            self.owe(name)

    def forgive(self, name: str) -> None:
        """Another attempt answers for what the one before left."""
        self.asked.discard(name)
        if name in self.owed:
            self.owed.remove(name)

    def ends(self, each: Any) -> None:
        self.end = type(each)
        assert not self.running
        assert self.undoing is None
        assert not self.undoing_late | self.outlived
        assert not self.to_verify | self.verifying
        bad = [name for name, good in self.ended_undo.items() if not good]
        if isinstance(each, SagaStuck):
            given_up = set() if self.compensating else self.given_up
            assert bad or self.asked or given_up
            for name in (*bad, *self.asked, *given_up):
                assert name in each.reason
            if self.compensating and not (self.stop and bad):
                assert not self.owed
        else:
            assert not bad
            assert not self.asked
            assert self.compensating or not self.given_up
            assert isinstance(each, SagaCompensated) == self.compensating
            assert not any(self.plan.by_name[name].compensates for name in self.in_doubt), "in doubt, and forgotten"
        if isinstance(each, SagaCompensated):
            assert not self.owed, "called compensated with undo outstanding"
        if isinstance(each, SagaCompleted):
            skipped = (inside for unit in self.skipped for inside in self.inside(unit))
            assert self.over == set(self.plan.names).difference(skipped)
            assert not self.units


def drive(tree: Any, data: Any, interrupts: bool, stop: bool) -> tuple[Drive, Any]:
    flow, named = build(tree, itertools.count())
    plan = Saga("s").add_task(flow).plan
    driven = Drive(Machine(plan, "s", "id", stop_on_compensation_failure=stop), data)
    driven.run(interrupts)
    return driven, named


@given(trees, st.data(), st.booleans(), st.booleans())
def test_no_order_of_outcomes_breaks_what_may_never_be_broken(tree: Any, data: Any, interrupts: bool, stop: bool) -> None:
    driven, named = drive(tree, data, interrupts, stop)
    machine = driven.machine
    event(str(machine.status))
    assert machine.status.terminal, "nothing is under way, and the execution has not ended"
    ledger = Ledger(machine, named, stop)
    assert ledger.end is dict(zip((Status.COMPLETED, Status.COMPENSATED, Status.STUCK), ENDS, strict=True))[machine.status]


@given(trees, st.data(), st.booleans())
def test_replaying_any_prefix_gives_the_state_of_that_moment(tree: Any, data: Any, interrupts: bool) -> None:
    driven, _ = drive(tree, data, interrupts, False)
    machine = driven.machine
    for length, was in driven.seen:
        replayed = Machine(machine.plan, "s", "id").replayed(machine.events[:length])
        assert state(replayed) == was
        assert replayed.commands == []


@given(trees, st.data())
def test_an_execution_cut_at_any_prefix_is_wholly_undone(tree: Any, data: Any) -> None:
    """A recovered process that gives up at any prefix undoes all that was done: nothing depends on lost commands."""
    driven, _ = drive(tree, data, False, False)
    events = driven.machine.events
    length = data.draw(st.integers(1, len(events)), label="prefix")
    machine = Machine(driven.machine.plan, "s", "id").replayed(events[:length])
    if machine.status.terminal:
        return
    for index in sorted({*machine.state.executing, *machine.state.stragglers}):
        name = machine.plan.steps[index].name
        machine.send(StepFailed(name, machine.state.attempts.get(index, 1), 1.0, 0.0, KeyboardInterrupt(), True))
    machine.give_up(KeyboardInterrupt(), 1.0)
    for index in sorted(machine.state.verifying):
        if not any(isinstance(c, Call) and c.step.index == index for c in machine.commands):
            machine.send(VerificationFailed(machine.plan.steps[index].name, 9, 1.0, 0.0, OutcomeUnknownError()))
    for index in sorted(machine.state.compensating | machine.state.compensation_stragglers):
        if not any(isinstance(c, Call) and c.step.index == index for c in machine.commands):
            attempt = machine.state.compensation_attempts.get(index, 1)
            machine.send(CompensationSucceeded(machine.plan.steps[index].name, attempt, 1.0, 0.0))
    for _ in range(100):
        if not machine.commands:
            break
        command = machine.commands.pop(0)
        if isinstance(command, Wait):
            machine.wake(command, 2.0)
        else:
            assert isinstance(command, Call)
            ended = (command.step.name, command.attempt, 2.0, 0.0)
            if command.phase == "verify":
                machine.send(VerificationFailed(*ended, OutcomeUnknownError()))
            else:
                assert command.phase == "compensate"
                machine.send(CompensationSucceeded(*ended))
    assert machine.status.terminal
    assert machine.state.to_compensate == []
