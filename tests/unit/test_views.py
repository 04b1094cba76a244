"""Views: which keys each call of an execution sees, and what becomes of what it changed."""

from __future__ import annotations

from typing import Any

from saga import Context, fallback, parallel, step
from saga import events as e
from saga.drivers.outcomes import Outcomes
from saga.drivers.views import Views
from saga.errors import MergeConflictError
from tests.kit.engine import Engine, failing, returning


def test_a_plain_plan_has_one_view() -> None:
    engine = Engine(returning(1), failing("b", ValueError()))
    assert engine.outcomes.plain
    assert [engine.call() is engine.context for _ in range(3)] == [True] * 3


def test_an_execute_that_is_limited_works_on_a_view_of_its_own_until_it_returned() -> None:
    engine = Engine(returning(1, timeout=9.0))
    view = engine.call(lambda view: view.update(a=[1]))
    assert view is not engine.context
    assert dict(engine.context) == {"a": [1]}


def test_a_saga_with_a_timeout_limits_every_execute() -> None:
    engine = Engine(returning(1), timeout=9.0)
    assert not engine.outcomes.plain
    assert engine.call() is not engine.context


def test_what_a_failed_attempt_changed_is_seen_by_its_compensation_alone() -> None:
    seen: list[Any] = []

    def fail(view: Context) -> None:
        view["half"] = True
        raise ValueError

    engine = Engine(returning(1, undo=lambda context: seen.append(dict(context)), timeout=9.0, compensate_on_failure=True))
    engine.call(fail)
    engine.run()
    assert seen == [{"half": True}]
    assert dict(engine.context) == {}


def test_a_view_beside_another_call_shares_the_keys_and_has_a_call_of_its_own() -> None:
    engine = Engine(returning(1), failing("b", ValueError()))
    engine.call()
    engine.call()
    call = engine.take()
    view = engine.outcomes.view_beside(call)
    assert view is not engine.context
    view["a"] = 1
    assert engine.context["a"] == 1
    assert view.__binding__ is not engine.context.__binding__


def test_branches_are_merged_into_the_view_their_group_stands_in() -> None:
    def put(name: str, value: Any) -> Any:
        return step(lambda context: context.update({name: value}), name=name)

    engine = Engine(parallel(put("a", 1), put("b", 2)))
    engine.run()
    assert dict(engine.context) == {"a": 1, "b": 2}
    assert isinstance(engine.last, e.SagaCompleted)


def test_branches_that_do_not_agree_are_undone() -> None:
    def put(name: str, value: Any) -> Any:
        return step(lambda context: context.update(key=value), lambda: None, name=name)

    engine = Engine(parallel(put("a", 1), put("b", 2)))
    events = engine.run()
    (gave_up,) = [event for event in events if isinstance(event, e.SagaCompensating)]
    assert isinstance(gave_up.error, MergeConflictError)
    assert gave_up.step is None
    assert isinstance(engine.last, e.SagaCompensated)
    assert dict(engine.context) == {}


def test_an_execution_that_another_process_began_has_its_views() -> None:
    engine = Engine(returning(1))
    views = Views(engine.machine.plan, engine.context, False)
    taken_up = Outcomes(engine.definition, engine.machine, engine.context, None, views)
    assert taken_up.views is views
    assert taken_up.plain  # whatever views there are of a plain plan, all are the context itself


def test_what_a_step_changed_before_it_failed_is_not_seen_by_its_fallback() -> None:
    seen: list[Any] = []
    engine = Engine(fallback(returning(1), step(lambda context: seen.append(dict(context)), name="b")))

    def fail(view: Context) -> None:
        view["half"] = True
        raise ValueError

    engine.call(fail)
    engine.run()
    assert seen == [{}]
    assert isinstance(engine.last, e.SagaCompleted)
