"""The log: notes stand for events, and whoever looks cannot tell."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from saga import Context, Retry, Saga, Status, step
from saga import events as e
from saga.drivers.threads import Execution
from saga.drivers.views import bind
from saga.machine import Machine, State
from saga.machine.folds import fold
from saga.machine.log import Log
from tests.kit.histories import state
from tests.kit.scripts import Script, saga_of, scripts
from tests.unit.machine.notation import A, B, C, X, clauses, event_of, plan_of

# -- by hand ------------------------------------------------------------------------------------------------------------

PLAN = plan_of((A, X, B))
a, x, b = PLAN.steps
EXECUTED = [(a, x.first, 1.0, 1.5, "one"), (x, b.first, 1.5, 2.0, "two"), (b, None, 2.0, 4.0, "three")]
UNDONE = [(b, a.first_compensation, 5.0, 5.5), (a, None, 5.5, 7.0)]
FAILED = "begins, a starts, a returns, x starts, x returns, b starts, b stops, gives up on b, -b starts"


def log_of(events: str, *notes: Any) -> Log:
    """Return a log of these events, and notes after them that count from the time 100."""
    log = Log(PLAN)
    for clause in clauses(events):
        log.record(event_of(clause, 0.0))
    log.begin_series(100.0, noted=True)
    for note in notes:
        log.note(note)
    return log


def test_a_note_of_an_execute_is_its_end_and_the_intent_that_follows() -> None:
    log = log_of("begins, a starts", *EXECUTED[:2])
    assert log.events[2:] == [
        e.StepSucceeded("a", 1, 101.5, 0.5, "one"),
        e.StepStarted("x", 1, 101.5),
        e.StepSucceeded("x", 1, 102.0, 0.5, "two"),
        e.StepStarted("b", 1, 102.0),
    ]


STARTS: dict[str, type] = {"execute": e.StepStarted, "verify": e.VerificationStarted, "compensate": e.CompensationStarted}
# Each happens a second later than the one before.
ATTEMPTS = [
    ("a starts", "execute", 1),
    ("a starts, a raises, a waits 2, b starts, a starts 2, a raises 2", "execute", 1),
    ("b starts, a starts, a returns, rewound b a, a starts 2, a raises 2, a waits 3, a starts 3", "execute", 5),
    ("a starts, -a starts, -a raises, -a waits 2, -a starts 2", "compensate", 2),
    ("a starts, ?a starts, ?a done, a starts 2, ?a starts, ?a raises, ?a waits 2, ?a starts 2", "verify", 5),
]


@pytest.mark.parametrize(("events", "phase", "at"), ATTEMPTS)
def test_when_the_first_attempt_began(events: str, phase: str, at: int) -> None:
    log = Log.of(PLAN, [event_of(clause, at) for at, clause in enumerate(clauses(events), 1)])
    assert log.attempted_since(PLAN.by_name["a"], STARTS[phase]) == at


def test_a_note_that_nothing_follows_is_the_sagas_end() -> None:
    log = log_of("begins, a starts", *EXECUTED)
    assert log.events[-2:] == [e.StepSucceeded("b", 1, 104.0, 2.0, "three"), e.SagaCompleted(104.0)]
    undone = log_of(FAILED, *UNDONE)
    assert undone.events[9:] == [
        e.CompensationSucceeded("b", 1, 105.5, 0.5),
        e.CompensationStarted("a", 1, 105.5),
        e.CompensationSucceeded("a", 1, 107.0, 1.5),
        e.SagaCompensated(107.0),
    ]


def test_a_result_of_nothing_is_a_result() -> None:
    assert log_of("begins, a starts", (a, None, 0.0, 0.0, None)).events[2] == e.StepSucceeded("a", 1, 100.0, 0.0, None)


@pytest.mark.parametrize(
    ("events", "notes", "end"),
    [
        ("", [], None),
        ("begins, a starts", [], None),
        ("begins, a starts", EXECUTED[:2], None),
        ("begins, a starts", EXECUTED, Status.COMPLETED),
        (FAILED, UNDONE[:1], None),
        (FAILED, UNDONE, Status.COMPENSATED),
    ],
)
def test_the_end_is_read_from_the_last_note(events: str, notes: list[Any], end: Status | None) -> None:
    assert log_of(events, *notes).end is end


def test_an_end_that_is_an_event_is_in_the_state_alone() -> None:
    log = log_of("begins, a starts", *EXECUTED)
    assert log.end is Status.COMPLETED
    assert log.events[-1] == e.SagaCompleted(104.0)
    assert log.end is Status.COMPLETED
    assert log.state().status is Status.COMPLETED


def test_who_looks_gets_the_logs_own_list_which_grows() -> None:
    log = log_of("begins, a starts", *EXECUTED[:1])
    events = log.events
    log.record(e.StepSucceeded("x", 1, 0.0, 0.0, None))
    log.begin_series(100.0, noted=True)
    log.note(EXECUTED[2])
    assert log.events is events
    assert len(events) == 7


def known(state: State) -> dict[str, str]:
    return {name: repr(getattr(state, name)) for name in State.__slots__ if name != "plan"}


@pytest.mark.parametrize("asked", range(4), ids=lambda asked: f"asked after {asked}")
@pytest.mark.parametrize(("events", "notes"), [("begins, a starts", EXECUTED), (FAILED, UNDONE)], ids=["forward", "back"])
def test_notes_change_the_state_as_their_events_do_whenever_it_is_first_asked_for(
    events: str, notes: list[Any], asked: int
) -> None:
    log = log_of(events)
    for number, note in enumerate(notes):
        if number == asked:  # first at the events, which leaves no notes
            log.events  # noqa: B018
            log.state()
        log.begin_series(0.0, noted=True)
        log.note(note)
    folded = State(PLAN)
    for one in log.events:
        fold(folded, one)
    assert known(log.state()) == known(folded)


def test_an_event_after_notes_finds_them_folded() -> None:
    log = log_of("begins, a starts")
    state = log.state()
    log.begin_series(0.0, noted=True)
    for note in EXECUTED[:2]:
        log.note(note)
    log.record(e.StepFailed("b", 1, 0.0, 0.0, ValueError()))
    assert (state.executing, state.to_compensate) == (set(), [0])
    assert [type(one) for one in log.entries] == [e.SagaStarted, e.StepStarted, tuple, tuple, e.StepFailed]


def test_a_state_made_late_folds_notes_between_events() -> None:
    log = log_of("begins, a starts", *EXECUTED[:2])
    log.record(event_of("b raises", 0.0))
    log.record(event_of("gives up on b", 0.0))
    log.record(event_of("-a starts", 0.0))
    log.begin_series(0.0, noted=True)
    log.note((a, None, 5.0, 6.0))
    assert known(log.state()) == known(_folded(log.events))


def _folded(events: list[e.Event]) -> State:
    state = State(PLAN)
    for one in events:
        fold(state, one)
    return state


# -- whoever looks ------------------------------------------------------------------------------------------------------

TIMES = {"at", "elapsed", "error"}


def told(events: list[Any]) -> list[tuple[Any, ...]]:
    """Return what happened, but for when; errors by their class and text."""
    return [
        (
            type(one).__name__,
            *(getattr(one, name) for name in one.__match_args__ if name not in TIMES),
            repr(getattr(one, "error", None)),
        )
        for one in events
    ]


def execution_of(flow: list[Script], stop: bool, logger: Any) -> Execution:
    definition = saga_of(flow, stop, logger, []).definition
    context = Context()
    bind(context, definition.plan, definition.name, "id")
    return Execution(definition, definition.machine("id"), context)


def comparable(machine: Machine) -> dict[str, Any]:
    """Return the state, with errors and waits as they are told."""
    known = state(machine)
    known["failed"] = getattr(known["failed"], "name", None)
    return {name: repr(value) if name in ("cause", "compensations_failed") else value for name, value in known.items()}


@given(st.lists(scripts, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_an_execution_that_notes_is_told_as_one_that_is_listened_to(flow: list[Script], stop: bool, asked: bool) -> None:
    silent = execution_of(flow, stop, None)
    heard = execution_of(flow, stop, lambda event, info: None)
    if asked:  # before anything is noted: every note is folded as it comes to an event, not all in the end
        silent.machine.state  # noqa: B018
    for execution in silent, heard:
        with suppress(KeyboardInterrupt):
            execution.run()
    entries = silent.machine.log.entries
    event(f"noted: {any(type(entry) is tuple for entry in entries)}")
    assert all(type(entry) is not tuple for entry in heard.machine.log.entries)
    assert silent.machine.status is heard.machine.status
    assert told(silent.machine.events) == told(heard.machine.events)
    assert comparable(silent.machine) == comparable(heard.machine) == comparable(silent.machine.replayed())
    assert silent.context.__binding__.results == heard.context.__binding__.results


def test_a_series_is_noted_and_a_retry_is_not() -> None:
    fails = iter([True, False])

    def flaky() -> None:
        if next(fails):
            raise OSError

    saga = Saga("s")
    for flow in (A, B, step(flaky, name="f", retry=Retry(2)), C):
        saga.add_task(flow)
    definition = saga.definition
    context = Context()
    bind(context, definition.plan, definition.name, "id")
    execution = Execution(definition, definition.machine("id"), context)
    execution.run()
    kinds = [type(entry).__name__ for entry in execution.machine.log.entries]
    assert kinds == [
        *("SagaStarted", "StepStarted", "tuple", "tuple"),
        *("StepFailed", "RetryScheduled", "StepStarted", "StepSucceeded", "StepStarted"),
        "tuple",
    ]
