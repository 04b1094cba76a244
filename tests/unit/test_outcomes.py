"""Outcomes alone, as an engine would use them that makes the calls by other means: no driver, no clock, no thread is here."""

from __future__ import annotations

import ast
import inspect
import logging
from typing import Any

import pytest

from saga import Context, Retry, Skip, parallel, receive, step, timer
from saga import events as e
from saga.drivers import outcomes
from saga.drivers.outcomes import struck_here
from saga.errors import EncodingError, SagaDefinitionError, StepTimeoutError
from saga.machine import Finish
from tests.kit.engine import Engine, failing, returning


def test_nothing_here_looks_at_a_clock_or_begins_a_thread() -> None:
    tree = ast.parse(inspect.getsource(outcomes))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in imported} & {"time", "threading", "asyncio", "datetime", "concurrent"}


# -- a call that returned -----------------------------------------------------------------------------------------------


def test_an_execution_is_driven_to_its_end_with_the_times_that_are_told() -> None:
    engine = Engine(returning(1), returning(2, "b"))
    assert engine.run() == [
        e.SagaStarted("s", "id", 0.0),
        e.StepStarted("a", 1, 0.0),
        e.StepSucceeded("a", 1, 1.0, 0.5, 1),
        e.StepStarted("b", 1, 1.0),
        e.StepSucceeded("b", 1, 2.0, 0.5, 2),
        e.SagaCompleted(2.0),
    ]
    assert engine.context.__binding__.results == {"a": 1, "b": 2}
    assert engine.outcomes.interrupt is None


def test_a_result_is_the_next_steps_and_is_found_by_name() -> None:
    seen: list[Any] = []
    engine = Engine(returning("one"), step(lambda previous, context: seen.append((previous, context.result_of("a"))), name="b"))
    engine.run()
    assert seen == [("one", "one")]


def test_a_context_that_a_step_returned_is_taken_over() -> None:
    engine = Engine(step(lambda context: Context(b=2), name="a"), context=Context(a=1))
    engine.run()
    assert dict(engine.context) == {"b": 2}
    assert engine.context.__binding__.results == {"a": None}


async def coroutine() -> None: ...


def test_a_coroutine_that_nobody_awaits_is_closed_and_not_done() -> None:
    never = coroutine()
    engine = Engine(step(lambda: never, lambda: None, name="a"))
    engine.call()
    failed = engine.machine.events[2]
    assert isinstance(failed, e.StepFailed)
    assert (failed.executed, failed.in_doubt) == (False, False)
    assert str(failed.error) == (
        "execute of step 'a' returned a coroutine, which nobody awaits: execute the saga with aexecute(), a block as "
        "`async with`, or make the function that calls it an `async def` which awaits it"
    )
    assert inspect.getcoroutinestate(never) == inspect.CORO_CLOSED
    engine.run()
    assert isinstance(engine.last, e.SagaCompensated)


def test_a_coroutine_that_a_compensation_returned_is_a_failed_compensation() -> None:
    engine = Engine(returning(1, undo=coroutine), failing("b", ValueError()))
    engine.call()
    engine.call()
    engine.call(lambda context: coroutine())
    assert isinstance(engine.machine.events[-2], e.CompensationFailed)
    assert isinstance(engine.machine.events[-2].error, SagaDefinitionError)
    assert isinstance(engine.last, e.SagaStuck)


# -- a call that raised -------------------------------------------------------------------------------------------------


def test_an_error_is_the_steps_failure_and_what_was_done_is_undone() -> None:
    error = ValueError("no")
    events = Engine(returning(1), failing("b", error)).run()
    assert [type(event) for event in events[4:]] == [
        *(e.StepFailed, e.SagaCompensating, e.CompensationStarted),
        *(e.CompensationSucceeded, e.SagaCompensated),
    ]
    failed: Any = events[4]
    assert (failed.error, failed.in_doubt, failed.executed, failed.at, failed.elapsed) == (error, False, False, 2.0, 0.5)


def test_the_first_interrupt_is_kept_and_leaves_its_step_in_doubt() -> None:
    first, second = KeyboardInterrupt(), SystemExit()

    def undo() -> None:
        raise second

    engine = Engine(returning(1, undo=undo), failing("b", first))
    events = engine.run()
    assert [event.in_doubt for event in events if isinstance(event, e.StepFailed)] == [True]
    assert engine.outcomes.interrupt is first
    assert isinstance(engine.last, e.SagaStuck)


def test_an_interrupt_that_did_not_reach_a_compensation_makes_it_again() -> None:
    engine = Engine(returning(1), failing("b", ValueError()))
    engine.call()
    engine.call()
    call = engine.take()
    before = list(engine.machine.events)
    engine.outcomes.raised(call, engine.context, KeyboardInterrupt(), 0.0, engine.at)  # without a line of the user's
    assert engine.machine.commands == [call]
    assert engine.machine.events == before
    assert isinstance(engine.outcomes.interrupt, KeyboardInterrupt)


def test_an_interrupt_struck_here_where_none_of_its_lines_is_the_users() -> None:
    assert struck_here(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        raise KeyboardInterrupt
    assert not struck_here(caught.value)


# -- the handler of failed compensations --------------------------------------------------------------------------------


def unmendable() -> None:
    raise OSError("gone")


def test_the_handler_gets_the_view_the_step_and_the_error_once_it_has_failed_for_good() -> None:
    told: list[Any] = []
    engine = Engine(
        returning(1, undo=unmendable, compensation_retry=Retry(2)),
        failing("b", ValueError()),
        on_compensation_failure=lambda *given: told.append((*given[:2], str(given[2]))),
    )
    engine.call()
    engine.call()
    engine.call()
    assert told == []
    engine.run()
    assert told == [(engine.context, "a", "gone")]


def test_a_handler_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def handler(context: Context, name: str, error: BaseException) -> None:
        raise RuntimeError

    engine = Engine(returning(1, undo=unmendable), failing("b", ValueError()), on_compensation_failure=handler)
    assert isinstance(engine.run()[-1], e.SagaStuck)
    assert [record.getMessage() for record in caplog.records] == ["the handler of failed compensations raised at step 'a'"]


# -- time is up ---------------------------------------------------------------------------------------------------------


def test_a_call_that_was_cut_off_has_timed_out_and_runs_no_more() -> None:
    engine = Engine(returning(1, timeout=9.0))
    call = engine.take()
    error = StepTimeoutError("late")
    engine.outcomes.cut_off(call, engine.outcomes.view_for(call), error, 9.0, engine.at)
    timed_out: Any = engine.machine.events[2]
    assert timed_out == e.StepTimedOut("a", 1, 1.0, 9.0, error, running=False)
    engine.run()
    assert isinstance(engine.last, e.SagaCompensated)


def test_a_late_success_of_a_step_that_was_left_behind_stays_out_of_the_context() -> None:
    engine = Engine(returning("late", undo=lambda context: context.step.name, on_error=Skip, timeout=9.0), returning(2, "b"))
    call = engine.take()
    view = engine.outcomes.view_for(call)
    engine.machine.send(e.StepTimedOut("a", 1, engine.at, 9.0, StepTimeoutError()))
    view["a"] = 1
    engine.outcomes.returned(call, view, "late", 10.0, engine.at)
    assert dict(engine.context) == {}
    engine.run()
    assert isinstance(engine.last, e.SagaCompleted)
    assert engine.context.__binding__.results == {"b": 2}


# -- waits and messages -------------------------------------------------------------------------------------------------


def test_a_wait_that_ended_is_as_a_call_that_returned() -> None:
    engine = Engine(timer(5.0, name="t"), receive("go", name="r"))
    wait = engine.take()
    engine.machine.wake(wait, engine.at)
    engine.outcomes.finished(engine.take(), 6.0)
    assert engine.machine.events[2] == e.StepSucceeded("t", 1, 6.0, 6.0, None)
    engine.outcomes.take_messages([lambda at: e.SignalReceived("go", "value", at)], 7.0)
    engine.outcomes.finished(engine.take(), 8.0)
    assert engine.machine.events[-2] == e.StepSucceeded("r", 1, 8.0, 2.0, "value")
    assert engine.context.__binding__.results == {"t": None, "r": "value"}


def test_a_wait_that_ended_when_its_step_had_is_nothing() -> None:
    engine = Engine(parallel(timer(5.0, name="t"), returning(1)))
    engine.machine.give_up(ValueError(), 0.0)
    before = list(engine.machine.events)
    engine.outcomes.finished(Finish(engine.machine.plan.steps[0], None), 5.0)
    assert engine.machine.events == before


def test_what_a_person_decided_is_obeyed_and_what_does_not_fit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(returning(1), returning(2, "b"))
    engine.call()
    acts = [lambda at, what=what: e.OperatorActed(what, None, "me", "why", at) for what in ("retry", "cancel")]
    with caplog.at_level(logging.WARNING, logger="saga"):
        engine.outcomes.take_messages(acts, 9.0)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [
        "an operator's action on saga id: the execution is not stuck (running): there is nothing to retry"
    ]
    assert [type(event) for event in engine.machine.events[-2:]] == [e.OperatorActed, e.SagaCompensating]


# -- what is stored of values -------------------------------------------------------------------------------------------


class Values:
    """Says what is stored, without a store; a result of ``"bad"`` cannot be."""

    def take_result(self, step: str, view: Context, value: Any) -> tuple[Any, str]:
        if value == "bad":
            raise EncodingError("the result cannot be stored")
        return f"read back {value}", f",result of {step}"

    def take_changes(self, view: Context) -> str:
        return f",changes of {view.__binding__.call.step.name}"  # type: ignore[union-attr]


def encoded(events: list[e.Event]) -> dict[str, str]:
    return {type(event).__name__: text for event in events if (text := getattr(event, "encoded", ""))}


def test_a_result_is_what_will_be_read_and_its_text_is_the_events() -> None:
    engine = Engine(returning(1), values=Values())
    assert encoded(engine.run()) == {"StepSucceeded": ",result of a"}
    assert engine.context.__binding__.results == {"a": "read back 1"}


def test_a_result_that_cannot_be_stored_is_a_step_that_was_executed_and_is_undone() -> None:
    engine = Engine(returning("bad"), values=Values())
    events = engine.run()
    failed: Any = events[2]
    assert (type(failed), failed.executed, failed.encoded) == (e.StepFailed, True, "")
    assert encoded(events) == {"CompensationSucceeded": ",changes of a"}


def test_what_calls_changed_is_stored_with_how_they_ended() -> None:
    engine = Engine(returning(1, undo=unmendable), failing("b", ValueError()), values=Values())
    assert encoded(engine.run()) == {
        "StepSucceeded": ",result of a",
        "StepFailed": ",changes of b",
        "CompensationFailed": ",changes of a",
    }
