"""What holds of the state after every event of any history: flows of every kind, signals, persons, and processes that die."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from saga import Ask, Status, choose, fallback, parallel, receive, sequence, timer, unit
from saga import events as e
from saga.errors import ActionRefusedError
from saga.machine import (
    Call,
    Machine,
    Plan,
    State,
    Wait,
    act,
    contradiction,
    operators,
    recover,
    standing_of,
    status_after,
    time_out,
    waits,
)
from saga.machine.folds import fold
from tests.kit.histories import Drive, build, policies, state, unit_policies
from tests.unit.machine.notation import STOP, P, plan_of, told

leaves = st.one_of(
    policies.map(lambda chosen: ("step", chosen)),
    st.sampled_from([("timer", None), ("receive", None), ("receive", 9.0)]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("seq", parts)),
        st.tuples(st.booleans(), st.sampled_from([None, 1, 2]), st.lists(inner, min_size=2, max_size=3)).map(
            lambda part: ("par", part)
        ),
        st.tuples(policies, inner).map(lambda part: ("else", part)),
        st.tuples(unit_policies, inner).map(lambda part: ("unit", part)),
        st.tuples(inner, inner).map(lambda part: ("unit else", part)),
        st.lists(st.one_of(inner, st.just(("seq", []))), min_size=1, max_size=3).map(lambda parts: ("one of", parts)),
    ),
    max_leaves=6,
)


def flow_of(tree: Any, names: Any) -> Any:
    """Return a flow with everything that there is in flows."""
    kind, what = tree
    if kind == "step":
        return build(tree, names)[0]
    if kind == "timer":
        return timer(5.0, name=f"t{next(names)}")
    if kind == "receive":
        return receive("go", name=f"r{next(names)}", timeout=what)
    if kind == "else":
        return fallback(build(("step", what[0]), names)[0], flow_of(what[1], names))
    if kind == "unit":
        return unit(flow_of(what[1], names), name=f"u{next(names)}", **what[0])
    if kind == "unit else":
        return fallback(unit(flow_of(what[0], names), name=f"u{next(names)}"), flow_of(what[1], names))
    if kind == "one of":
        first, *others = [flow_of(part, names) for part in what]
        return choose("k", dict(enumerate(others)) or {9: sequence()}, first, name=f"c{next(names)}")
    if kind == "seq":
        return sequence(*(flow_of(part, names) for part in what))
    return parallel(*(flow_of(part, names) for part in what[2]), compensate_together=what[0], limit=what[1])


@st.composite
def plans(draw: Any) -> Plan:
    """Return the plan of up to three flows, with a pivot somewhere between them."""
    names, pivot = itertools.count(), draw(st.booleans())
    flows = [flow_of(tree, names) for tree in draw(st.lists(trees, min_size=1, max_size=3))]
    if pivot:
        flows.insert(draw(st.integers(0, len(flows))), P)
    return plan_of(tuple(flows))


HAPPENINGS = ("deadline", "give up", "signal", "act", "act", "die", "hold")


@dataclass
class Life(Drive):
    """As a drive, with signals, a person's actions, and processes that die or hand over."""

    happenings: int = 6

    def live(self) -> None:
        try:
            self.go()
        finally:
            note(f"{self.machine.plan._shape}: {told(self.machine.events)}")

    def go(self) -> None:
        self.machine.start(0.0)
        self.obey()
        while self.pool or self.happenings:
            self.at += 1
            if self.pool and not (self.happenings and self.data.draw(st.integers(0, 4), label="befalls") == 4):
                self.go_on(self.pool[self.data.draw(st.integers(0, len(self.pool) - 1), label="next")])
            else:
                self.happenings -= 1
                self.befall(self.data.draw(st.sampled_from(HAPPENINGS), label="what"))
            self.obey()
            self.hand_over()

    def go_on(self, what: Call | Wait) -> None:
        if not (isinstance(what, Wait) and self.machine.state.held):  # else it waits on elsewhere
            super().go_on(what)

    def hand_over(self) -> None:
        """Where it is held and no call runs, let it rest or let another process go on."""
        machine = self.machine
        if machine.state.held and not machine.ended and not any(isinstance(one, Call) for one in self.pool):
            if machine.pause(self.at):
                self.pool.clear()
            else:
                self.die()

    def obey(self) -> None:
        super().obey()
        if self.machine.status is Status.PAUSED:  # where what was cut off is left to whoever goes on
            return
        state, calls = self.machine.state, [one for one in self.pool if isinstance(one, Call)]
        made = sorted((call.step.index, call.phase) for call in calls)
        waiting = {(one.step.index, one.phase) for one in self.pool if isinstance(one, Wait)}
        executing = {index for index in state.executing | state.stragglers if self.machine.plan.steps[index].pause is None}
        phases = {
            "execute": (executing, state.retries.keys() if self.machine.halt is None else set()),
            "verify": (state.verifying - state.verification_retries.keys(), state.verification_retries.keys()),
            "compensate": (
                state.compensating - state.compensation_retries.keys() | state.compensation_stragglers,
                state.compensation_retries.keys(),
            ),
        }
        assert made == sorted((index, phase) for phase, (running, _) in phases.items() for index in running)
        assert waiting >= {(index, phase) for phase, (_, scheduled) in phases.items() for index in scheduled}

    def befall(self, what: str) -> None:
        if what == "deadline":
            time_out(self.machine, 9, self.at)
            self.late.update(self.machine.state.stragglers)
        elif what == "give up":
            self.machine.give_up(KeyboardInterrupt(), self.at)
        elif what == "signal":
            waits.receive(self.machine, e.SignalReceived("go", self.at, self.at))
        elif what == "act":
            action = self.data.draw(
                st.sampled_from(["cancel", "compensate", "pause", "resume", "retry", "skip"]), label="action"
            )
            step = self.data.draw(st.sampled_from(self.machine.plan.names), label="of") if action == "skip" else None
            order = e.OperatorActed(action, step, "me", "", self.at)
            elsewhere = self.data.draw(st.booleans(), label="elsewhere") or self.machine.status is Status.PAUSED
            with suppress(ActionRefusedError):
                if elsewhere:  # recorded first, and obeyed by who takes the execution up
                    operators.check(action, step, standing_of(self.machine.state))
                    self.machine.record(order)
                    self.die()
                else:
                    act(self.machine, order)
        elif what == "hold":
            self.machine.hold(self.at)
        elif not self.machine.status.terminal:
            self.die()

    def die(self) -> None:
        """Let another process take the execution up."""
        self.machine = self.machine.replayed()
        self.pool.clear()
        self.late.clear()
        recover(self.machine, "other", 2, self.at)
        self.obey()

    def end(self, *orders: str) -> None:
        """Let every call return from here, every signal come, and a person give these orders where one is needed."""
        machine, rounds, self.conflicts = self.machine, 0, False
        while not (machine.ended and machine.status not in (Status.STUCK, Status.PAUSED)):
            rounds += 1
            assert rounds < 200, "it has no end"
            self.at += 1
            if machine.status is Status.STUCK:
                self.decide(orders)
            elif machine.status is Status.PAUSED:
                machine.record(e.OperatorActed("resume", None, "me", "", self.at))
                self.die()
            elif any(
                step.pause and step.pause.signals for step in map(machine.plan.steps.__getitem__, machine.state.executing)
            ):
                waits.receive(machine, e.SignalReceived("go", self.at, self.at))
            elif self.pool:
                what = self.pool.pop(0)
                if isinstance(what, Wait):
                    machine.wake(what, self.at)
                else:
                    machine.send(returned(what, self.at))
            else:
                assert machine.halted, "it waits for nothing"
                self.die()
            self.obey()
            self.hand_over()
            machine = self.machine

    def decide(self, orders: Sequence[str]) -> None:
        """Do the first of these that fits; the last is done for every step that a person is asked about."""
        standing = standing_of(self.machine.state)
        for order in orders:
            for step in standing.undecided or () if order == "skip" else (None,):
                with suppress(ActionRefusedError):
                    act(self.machine, e.OperatorActed(order, step, "me", "", self.at))
                    return
        raise AssertionError(f"nothing that a person does fits: {standing}")


def returned(call: Call, at: float) -> Any:
    """Return the event of a call that returned."""
    facts = (call.step.name, call.attempt, at, 0.0)
    if call.phase == "verify":
        return e.StepVerified(*facts, True)
    return e.StepSucceeded(*facts, None) if call.phase == "execute" else e.CompensationSucceeded(*facts)


class Books:
    """What is known of an execution, kept naively: by looking through all its events for each question."""

    def __init__(self, plan: Plan, events: Sequence[Any]) -> None:
        self.plan, self.events = plan, events

    @property
    def fresh(self) -> list[Any]:
        """Return the events, but those of steps in a unit from before it was undone, and what it gave up with."""
        found: list[Any] = []
        for event in self.events:
            found.append(event)
            step = self.plan.by_name.get(getattr(event, "step", None) or "")
            if step is None or step.content is None:
                continue
            inside = {one.name for one in self.plan.within(step)}
            if isinstance(event, e.StepFailed):
                found = [one for one in found if getattr(one, "step", None) not in inside]
            elif isinstance(event, e.UnitCompensating):
                found = [one for one in found if not self.is_void(one, inside)]
        return found

    def is_void(self, event: Any, inside: set[str]) -> bool:
        """Whether a unit's giving up makes it not count: an attempt that is not made, a unit within, what was asked."""
        if getattr(event, "step", None) not in inside:
            return False
        content = self.plan.by_name[event.step].content
        return (
            isinstance(event, e.PersonAsked)
            or (isinstance(event, e.RetryScheduled) and event.phase == "execute")
            or (content is not None and isinstance(event, e.StepStarted | e.UnitCompensating))
        )

    def indexes(self, *kinds: type) -> set[int]:
        return {self.plan.by_name[event.step].index for event in self.fresh if isinstance(event, kinds)}

    def last(self, *kinds: type, phase: str = "execute") -> dict[int, Any]:
        """Return, for each step, the last of its events of these kinds."""
        found = {}
        for event in self.fresh:
            if isinstance(event, e.RetryScheduled) and event.phase != phase:
                continue
            if isinstance(event, kinds):
                found[self.plan.by_name[event.step].index] = event
        return found

    def of_executes(self) -> dict[int, Any]:
        return self.last(e.StepStarted, e.StepSucceeded, e.StepFailed, e.StepTimedOut, e.RetryScheduled)

    def of_compensations(self) -> dict[int, Any]:
        ends = (e.CompensationSucceeded, e.CompensationFailed, e.CompensationTimedOut)
        return self.last(e.CompensationStarted, *ends, e.RetryScheduled, phase="compensate")

    def of_verifications(self) -> dict[int, Any]:
        kinds = (e.VerificationStarted, e.StepVerified, e.VerificationFailed, e.RetryScheduled)
        return self.last(*kinds, phase="verify")

    def in_doubt(self) -> set[int]:
        """Return the steps of which an execute may have been done, and nothing that came after it has settled that."""
        found: set[str] = set()
        for event in self.events:
            cut_off = isinstance(event, e.StepTimedOut) and not event.running
            if (isinstance(event, e.StepFailed) and event.in_doubt) or (
                cut_off and self.plan.by_name[event.step].pause is None
            ):
                found.add(event.step)
            elif isinstance(event, SETTLING) and (not isinstance(event, e.StepFailed) or event.executed):
                found.discard(event.step)
            elif isinstance(event, e.OperatorActed) and event.action == "skip":
                found.discard(event.step or "")
        return {self.plan.by_name[name].index for name in found}

    def places(self) -> dict[int, int]:
        """Return, for each step, when it was known that there may be something to undo."""
        ends: dict[int, tuple[int, Any]] = {}
        for place, event in enumerate(self.fresh):
            if isinstance(event, ENDS):
                index = self.plan.by_name[event.step].index
                again = isinstance(event, e.VerificationFailed) and isinstance(ends[index][1], e.VerificationFailed)
                ends[index] = ends[index] if again else (place, event)
        return {index: place for index, (place, _) in ends.items()}

    @property
    def past_pivot(self) -> bool:
        for event in self.events:
            done = isinstance(event, e.StepSucceeded) or (isinstance(event, e.StepVerified) and event.done)
            if isinstance(event, e.SagaCompensating) or (done and self.plan.by_name[event.step].pivot):
                return done
        return False

    @property
    def gave_up(self) -> Any:
        return next((event for event in self.events if isinstance(event, e.SagaCompensating)), None)


def check(state: State, books: Books) -> None:
    """The words beside the state's fields are true."""
    plan = state.plan
    steps, gave_up, executes, undos = plan.steps, books.gave_up, books.of_executes(), books.of_compensations()
    verifications = books.of_verifications()
    assert (state.cause is None) == (gave_up is None)
    assert state.cause is getattr(gave_up, "error", None)
    assert getattr(state.failed, "name", None) == getattr(gave_up, "step", None)
    assert state.past_pivot == books.past_pivot

    # What is under way.
    started = {index for index, event in executes.items() if isinstance(event, e.StepStarted)}
    units = {index for index in started if steps[index].content is not None}
    assert state.executing == started - units
    assert state.units == (set() if gave_up else units)
    assert state.units_ended <= state.units
    ups = books.last(e.UnitCompensating, e.StepFailed)
    undoing = {index for index, event in ups.items() if isinstance(event, e.UnitCompensating)}
    assert state.undoing.keys() == (set() if gave_up else undoing)
    assert all(state.undoing[index] is ups[index] for index in state.undoing)
    assert not any(state.is_undoing(steps[index]) for index in (*state.units, *state.retries))
    assert state.stragglers == {i for i, event in executes.items() if isinstance(event, e.StepTimedOut) and event.running}
    scheduled = {index for index, event in executes.items() if isinstance(event, e.RetryScheduled)}
    assert state.retries.keys() == (set() if gave_up else scheduled)
    assert state.compensating == {i for i, one in undos.items() if isinstance(one, (e.CompensationStarted, e.RetryScheduled))}
    assert state.compensation_retries.keys() == {i for i, one in undos.items() if isinstance(one, e.RetryScheduled)}
    assert state.compensation_stragglers == {i for i, one in undos.items() if isinstance(one, e.CompensationTimedOut)}
    assert state.verifying == {
        i for i, one in verifications.items() if isinstance(one, (e.VerificationStarted, e.RetryScheduled))
    }
    assert state.verification_retries.keys() == {i for i, one in verifications.items() if isinstance(one, e.RetryScheduled)}
    under_way = [*state.executing, *state.stragglers, *state.retries, *state.compensating, *state.verifying]
    under_way += state.compensation_stragglers
    assert len(under_way) == len(set(under_way)), "a step is in one of these at the most"

    # What is in doubt.
    assert state.in_doubt == books.in_doubt()
    assert state.verifying | state.to_verify <= state.in_doubt
    assert all(steps[index].verifies for index in state.verifying | state.to_verify)
    assert not state.to_verify & set(under_way)
    if isinstance(books.events[-1], e.CompensationStarted):
        index = plan.by_name[books.events[-1].step].index
        assert index not in state.to_verify | state.verifying, "what verify tells comes first"
        assert state.status is Status.RUNNING or books.events[-1].attempt > 1 or not state.verifying, (
            "it decides what is undone"
        )
    if isinstance(books.events[-1], e.SagaCompleted | e.SagaCompensated):
        assert not any(steps[index].compensates for index in state.in_doubt), "forgotten"
        assert not state.to_verify | state.to_rerun
        assert not set(state.to_compensate) & (state.skipped if state.status is Status.COMPLETED else set(range(len(steps))))
        assert not under_way
        assert not state.asking
    if isinstance(books.events[-1], e.SagaStuck):
        assert not under_way

    # What there is to undo.
    assert len(state.to_compensate) == len(set(state.to_compensate))
    assert all(steps[index].compensates for index in state.to_compensate)
    assert not set(state.to_compensate) & (state.compensating | state.executing | state.stragglers)
    assert not set(state.to_compensate) & state.compensation_stragglers
    if not any(isinstance(event, e.OperatorActed) for event in books.events):
        assert not set(state.to_compensate) & undos.keys(), "its compensation has not begun"
        assert state.to_compensate == sorted(state.to_compensate, key=books.places().__getitem__), "in order of completion"
    assert not state.compensations_failed.keys() & (state.compensating | set(state.to_compensate))
    assert all(undos[index].error is error for index, error in state.compensations_failed.items())

    # What is decided and not done yet.
    assert not (state.asking | state.to_rerun | state.to_skip) & (state.executing | state.stragglers)
    assert not state.asking & (state.to_rerun | state.to_skip)
    assert not (state.asking - state.exhausted) & set(state.to_compensate)
    assert state.exhausted <= state.asking - state.in_doubt | {i for i in state.in_doubt if steps[i].on_error is Ask}
    asked = books.last(e.PersonAsked, e.StepStarted)
    assert state.exhausted <= {index for index, event in asked.items() if isinstance(event, e.PersonAsked)}
    for index in books.in_doubt() - state.to_verify - set(under_way):
        decided = state.asking | state.to_rerun | set(state.to_compensate) | state.compensations_failed.keys()
        assert index in decided or not steps[index].compensates, "nothing is decided of what is in doubt"
    assert state.falling_back <= state.skipped == books.indexes(e.StepSkipped, e.FallbackChosen)
    begun = books.indexes(e.StepStarted)
    assert not {step.instead_of.index for step in steps if step.instead_of and step.index in begun} & state.falling_back

    # What is counted.
    begun_last = {plan.by_name[event.step].index: event for event in books.events if isinstance(event, e.StepStarted)}
    for index, event in begun_last.items():
        assert state.tries_before.get(index, 0) <= state.attempt(index) == event.attempt
    assert state.attempts.keys() | state.again <= begun_last.keys()
    for group in plan.groups:
        ended, begun = state.branches_ended.get(group.index, 0), state.branches_begun.get(group.index, 0)
        assert ended <= begun <= min(len(group.scopes), ended + (group.limit or len(group.scopes)))
    assert all(state.branches_ended[index] == len(plan.groups[index].scopes) for index in state.merged)
    ended_well = (plan.by_name[event.step] for event in books.events if isinstance(event, e.StepSucceeded))
    taken = sum(step.pause is not None and "go" in step.pause.signals for step in ended_well)
    came = [(event.name, event.value) for event in books.events if isinstance(event, e.SignalReceived)]
    assert state.signals == came[taken:]


ENDS = (e.StepSucceeded, e.StepFailed, e.StepTimedOut, e.StepVerified, e.VerificationFailed)
SETTLING = (e.StepSucceeded, e.StepFailed, e.StepVerified, e.CompensationSucceeded)


@given(plans(), st.data(), st.booleans())
def test_the_words_beside_the_fields_are_true_after_every_event_of_any_history(plan: Plan, data: Any, stop: bool) -> None:
    life = Life(Machine(plan, "s", "id", **(STOP if stop else {})), data)
    life.live()
    folded, status = State(plan), Status.RUNNING
    begun: set[str] = set()
    events = life.machine.events
    for number, event in enumerate(events):
        if number:
            assert contradiction(folded, begun, event) is None
        if isinstance(event, e.StepStarted):
            begun.add(event.step)
        fold(folded, event)
        status = status_after(status, type(event), folded.cause is not None and type(event) is not e.SagaCompensating)
        assert folded.status is status
        check(folded, Books(plan, events[: number + 1]))
    assert state(life.machine.replayed()) == state(life.machine)


@given(plans(), st.data(), st.booleans())
def test_what_waits_for_nothing_has_ended(plan: Plan, data: Any, stop: bool) -> None:
    life = Life(Machine(plan, "s", "id", **(STOP if stop else {})), data)
    life.live()
    machine = life.machine
    for_signals = [plan.steps[index].pause for index in machine.state.executing]
    assert machine.ended or machine.halted or (for_signals and all(for_signals))


@given(plans(), st.data(), st.booleans(), st.sampled_from([("resume", "retry", "skip"), ("retry", "skip"), ("skip",)]))
def test_a_person_brings_any_execution_to_its_end(plan: Plan, data: Any, stop: bool, orders: tuple[str, ...]) -> None:
    life = Life(Machine(plan, "s", "id", **(STOP if stop else {})), data)
    life.live()
    life.end(*orders)
    assert life.machine.status in (Status.COMPLETED, Status.COMPENSATED)
    check(life.machine.state, Books(plan, life.machine.events))
