"""What holds of the state after every event of any history: flows of every kind, signals, persons, and processes that die."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from saga import InDoubt, Status, fallback, parallel, receive, sequence, timer
from saga import events as e
from saga.errors import ActionRefusedError
from saga.machine import Machine, Plan, State, act, recover, status_after, waits
from tests.kit.histories import Drive, build, policies, state
from tests.unit.machine.notation import STOP, P, plan_of

leaves = st.one_of(
    policies.map(lambda chosen: ("step", chosen)),
    policies.map(lambda chosen: ("step", chosen | {"in_doubt": InDoubt.RERUN})),
    st.sampled_from([("timer", None), ("receive", None), ("receive", 9.0)]),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("seq", parts)),
        st.tuples(st.booleans(), st.lists(inner, min_size=2, max_size=3)).map(lambda part: ("par", part)),
        st.tuples(policies, inner).map(lambda part: ("else", part)),
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
    if kind == "seq":
        return sequence(*(flow_of(part, names) for part in what))
    return parallel(*(flow_of(part, names) for part in what[1]), compensate_together=what[0])


@st.composite
def plans(draw: Any) -> Plan:
    """Return the plan of up to three flows, with a pivot somewhere between them."""
    names, pivot = itertools.count(), draw(st.booleans())
    flows = [flow_of(tree, names) for tree in draw(st.lists(trees, min_size=1, max_size=3))]
    if pivot:
        flows.insert(draw(st.integers(0, len(flows))), P)
    return plan_of(tuple(flows))


HAPPENINGS = ("deadline", "give up", "signal", "act", "act", "die")


@dataclass
class Life(Drive):
    """As a drive, with signals, a person's actions, and processes that die."""

    happenings: int = 6

    def live(self) -> None:
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

    def befall(self, what: str) -> None:
        if what == "deadline":
            self.machine.time_out(9, self.at)
            self.late.update(self.machine.state.stragglers)
        elif what == "give up":
            self.machine.give_up(KeyboardInterrupt(), self.at)
        elif what == "signal":
            waits.receive(self.machine, e.SignalReceived("go", self.at, self.at))
        elif what == "act":
            action = self.data.draw(st.sampled_from(["cancel", "compensate", "resume", "retry", "skip"]), label="action")
            step = self.data.draw(st.sampled_from(self.machine.plan.names), label="of") if action == "skip" else None
            with suppress(ActionRefusedError):
                act(self.machine, e.OperatorActed(action, step, "me", "", self.at))
        elif not self.machine.status.terminal:
            self.machine = self.machine.replayed()
            self.pool.clear()
            self.late.clear()
            recover(self.machine, "other", 2, self.at)


class Books:
    """What is known of an execution, kept naively: by looking through all its events for each question."""

    def __init__(self, plan: Plan, events: Sequence[Any]) -> None:
        self.plan, self.events = plan, events

    def indexes(self, *kinds: type) -> set[int]:
        return {self.plan.by_name[event.step].index for event in self.events if isinstance(event, kinds)}

    def last(self, *kinds: type, compensation: bool = False) -> dict[int, Any]:
        """Return, for each step, the last of its events of these kinds."""
        found = {}
        for event in self.events:
            if isinstance(event, e.RetryScheduled) and event.compensation is not compensation:
                continue
            if isinstance(event, kinds):
                found[self.plan.by_name[event.step].index] = event
        return found

    def of_executes(self) -> dict[int, Any]:
        return self.last(e.StepStarted, e.StepSucceeded, e.StepFailed, e.StepTimedOut, e.RetryScheduled)

    def of_compensations(self) -> dict[int, Any]:
        kinds = (e.CompensationStarted, e.CompensationSucceeded, e.CompensationFailed, e.RetryScheduled)
        return self.last(*kinds, compensation=True)

    @property
    def gave_up(self) -> Any:
        return next((event for event in self.events if isinstance(event, e.SagaCompensating)), None)


def check(state: State, books: Books) -> None:
    """The words beside the state's fields are true."""
    plan = state.plan
    steps, gave_up, executes, undos = plan.steps, books.gave_up, books.of_executes(), books.of_compensations()
    assert (state.cause is None) == (gave_up is None)
    assert state.cause is getattr(gave_up, "error", None)
    assert getattr(state.failed, "name", None) == getattr(gave_up, "step", None)
    assert state.past_pivot == any(steps[index].pivot for index in books.indexes(e.StepSucceeded))

    # What is under way.
    assert state.executing == {index for index, event in executes.items() if isinstance(event, e.StepStarted)}
    assert state.stragglers == {i for i, event in executes.items() if isinstance(event, e.StepTimedOut) and event.running}
    scheduled = {index for index, event in executes.items() if isinstance(event, e.RetryScheduled)}
    assert state.retries.keys() == (set() if gave_up else scheduled)
    assert state.compensating == {i for i, one in undos.items() if isinstance(one, (e.CompensationStarted, e.RetryScheduled))}
    assert state.compensation_retries.keys() == {i for i, one in undos.items() if isinstance(one, e.RetryScheduled)}
    under_way = [*state.executing, *state.stragglers, *state.retries, *state.compensating]
    assert len(under_way) == len(set(under_way)), "a step is in one of these at the most"

    # What there is to undo.
    assert len(state.to_compensate) == len(set(state.to_compensate))
    assert all(steps[index].compensates for index in state.to_compensate)
    assert not set(state.to_compensate) & (state.compensating | state.executing | state.stragglers)
    if not any(isinstance(event, e.OperatorActed) for event in books.events):
        assert not set(state.to_compensate) & undos.keys(), "its compensation has not begun"
        place = {plan.by_name[one.step].index: n for n, one in enumerate(books.events) if isinstance(one, ENDS)}
        assert state.to_compensate == sorted(state.to_compensate, key=place.__getitem__), "in order of completion"
    assert not state.compensations_failed.keys() & (state.compensating | set(state.to_compensate))
    assert all(undos[index].error is error for index, error in state.compensations_failed.items())

    # What is decided and not done yet.
    assert not (state.asking | state.to_rerun | state.to_skip) & (state.executing | state.stragglers)
    assert not state.asking & (state.to_rerun | state.to_skip)
    assert state.falling_back <= state.skipped == books.indexes(e.StepSkipped, e.FallbackChosen)
    begun = books.indexes(e.StepStarted)
    assert not {step.instead_of.index for step in steps if step.instead_of and step.index in begun} & state.falling_back

    # What is counted.
    for index, event in books.last(e.StepStarted).items():
        assert state.attempt(index) == event.attempt
    assert state.attempts.keys() <= begun
    for group in plan.groups:
        assert state.branches_ended.get(group.index, 0) <= len(group.scopes)
    assert all(state.branches_ended[index] == len(plan.groups[index].scopes) for index in state.merged)
    taken = sum(
        step.pause is not None and step.pause.signal == "go" for step in map(steps.__getitem__, books.indexes(e.StepSucceeded))
    )
    came = [event.value for event in books.events if isinstance(event, e.SignalReceived)]
    assert state.signals.get("go", []) == came[taken:]


ENDS = (e.StepSucceeded, e.StepFailed, e.StepTimedOut)


@given(plans(), st.data(), st.booleans())
def test_the_words_beside_the_fields_are_true_after_every_event_of_any_history(plan: Plan, data: Any, stop: bool) -> None:
    life = Life(Machine(plan, "s", "id", **(STOP if stop else {})), data)
    life.live()
    folded, status = State(plan), Status.RUNNING
    events = life.machine.events
    for number, event in enumerate(events):
        folded.apply(event)
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
