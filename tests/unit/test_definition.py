"""Definitions: all that an execution is run by, refused where it is wrong, and used without any facade."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest

import saga
from saga import Compensate, Context, ExecutionInfo, Saga, Skip, Status, step, transaction
from saga.definition import NO_PLAN, Definition
from saga.drivers.results import result_of
from saga.drivers.threads import Execution
from saga.drivers.views import bind
from saga.errors import SagaDefinitionError
from saga.logging import SagaLogger
from saga.machine import OpenPlan, compile_flow
from saga.observers import observers_of
from tests.kit import Watch


def definition(**parts: Any) -> Definition:
    return Definition(**{"name": "s", "plan": compile_flow(step(lambda: 1, name="a"), "s")} | parts)


# -- what is wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"name": ""}, "the saga's name is ''; give a str that is not blank"),
        ({"name": " \n"}, "the saga's name is ' \\n'; give a str that is not blank"),
        ({"name": None}, "the saga's name is None (NoneType); give a str, such as str(...) of it"),
        ({"timeout": 0}, "saga 's': timeout is 0; give seconds as a number above 0, or None for no limit"),
        ({"timeout": -1.0}, "saga 's': timeout is -1.0; give seconds as a number above 0, or None for no limit"),
        ({"timeout": True}, "saga 's': timeout is True; give seconds as a number above 0, or None for no limit"),
        ({"timeout": float("nan")}, "saga 's': timeout is nan; give seconds as a number above 0, or None for no limit"),
        ({"lease": 0}, "saga 's': lease is 0; give seconds as a number above 0"),
        ({"lease": None}, "saga 's': lease is None; give seconds as a number above 0"),
        (
            {"timeout": timedelta(0)},
            "saga 's': timeout is datetime.timedelta(0); give seconds as a number above 0, or None for no limit",
        ),
        ({"stop_on_compensation_failure": "no"}, "saga 's': stop_on_compensation_failure is 'no'; give a bool"),
        ({"codec": 3}, "saga 's': codec is 3; give a Codec(), of saga.durable.codec"),
        ({"lease": "30"}, "saga 's': lease is '30'; give seconds as a number above 0"),
        (
            {"on_compensation_failure": 3},
            "saga 's': on_compensation_failure is 3; give a function of (context, step name, error)",
        ),
        ({"version": ""}, "saga 's': version is ''; give a str that is not blank"),
        ({"version": 2}, "saga 's': version is 2 (int); give a str, such as str(...) of it"),
        (
            {"compatible_with": frozenset([2])},
            "saga 's': one of compatible_with is 2 (int); give a str, such as str(...) of it",
        ),
        ({"compatible_with": frozenset([""])}, "saga 's': one of compatible_with is ''; give a str that is not blank"),
    ],
)
def test_what_is_wrong_is_refused_with_this_text(parts: dict[str, Any], text: str) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        definition(**parts).check()
    assert str(caught.value) == text


def test_what_is_right_is_not_refused() -> None:
    definition().check()
    definition(timeout=1, lease=0.5, version="2", compatible_with=frozenset(["1"]), on_compensation_failure=print).check()


def test_nobody_changes_a_definition() -> None:
    with pytest.raises(FrozenInstanceError):
        definition().name = "other"  # type: ignore[misc]
    assert replace(definition(), version="2").version == "2"


def test_it_says_what_it_is() -> None:
    assert repr(definition(version="2")) == "<definition of saga 's', version '2'>"


# -- what it makes ------------------------------------------------------------------------------------------------------


def test_a_machine_is_made_of_its_plan_for_one_execution() -> None:
    made = definition(stop_on_compensation_failure=True)
    machine = made.machine("id")
    assert (machine.plan, machine.saga, machine.saga_id) == (made.plan, "s", "id")
    assert machine.stop_on_compensation_failure
    assert not machine.started
    assert made.machine("id") is not machine


def test_a_plan_that_grows_is_made_anew_for_each_execution() -> None:
    made = definition(plan=OpenPlan("s"))
    one, other = made.machine("1"), made.machine("2")
    one.plan.extend(step(str, name="a"))  # type: ignore[attr-defined]
    assert (one.plan.names, other.plan.names, made.plan.names) == (("a",), (), ())


def test_an_execution_needs_a_definition_and_no_saga() -> None:
    made, context = definition(), Context()
    bind(context, made.plan, made.name, "id")
    execution = Execution(made, made.machine("id"), context)
    execution.run()
    result = result_of(execution)
    assert (result.status, result.results) == (Status.COMPLETED, {"a": 1})


def test_a_saga_makes_one_and_keeps_it_until_it_grows() -> None:
    saga = Saga("s", version="2", timeout=9.0, lease=3.0, compatible_with=["1"]).add_task(step(str, name="a"))
    first = saga.definition
    assert saga.definition is first
    assert (first.name, first.version, first.timeout, first.lease) == ("s", "2", 9.0, 3.0)
    assert first.compatible_with == {"1"}
    assert saga.add_task(step(str, name="b")).definition is not first
    assert (first.plan.names, saga.definition.plan.names) == (("a",), ("a", "b"))


# -- observers ----------------------------------------------------------------------------------------------------------


def one(event: Any, info: Any) -> None: ...


def two(event: Any, info: Any) -> None: ...


class Callable:
    """An observer that could be iterated over, too."""

    def __call__(self, event: Any, info: Any) -> None: ...

    def __iter__(self) -> Any:
        raise AssertionError("it is an observer")


@pytest.mark.parametrize(
    ("logger", "more", "found"),
    [
        (None, (), ()),
        (one, (), (one,)),
        ([one, two], (), (one, two)),
        ((each for each in (one, two)), (), (one, two)),
        (None, [two], (two,)),
        (one, [two, one], (one, two, one)),
        ([one], (each for each in [two]), (one, two)),
    ],
)
def test_observers_are_those_of_the_logger_and_then_the_others(logger: Any, more: Any, found: tuple[Any, ...]) -> None:
    assert observers_of("s", logger, more) == found


def test_an_observer_that_can_be_called_is_one() -> None:
    observer = Callable()
    assert observers_of("s", observer, ()) == (observer,)


@pytest.mark.parametrize(
    ("logger", "more", "what", "shown"),
    [
        (3, (), "logger", "3"),
        (None, "ab", "observers", "'ab'"),
        ([one, None], (), "logger", "None"),
        (one, [3], "observers", "3"),
        (one, 3, "observers", "3"),
        (b"ab", (), "logger", "b'ab'"),
        ({}, (), "logger", "{}"),
    ],
)
def test_what_cannot_be_called_is_no_observer(logger: Any, more: Any, what: str, shown: str) -> None:
    text = rf"^saga 's': {what} has {shown}; give a .*function of \(event, info\)"
    with pytest.raises(SagaDefinitionError, match=text):
        observers_of("s", logger, more)


def no_keyword(event: Any, info: Any, *, level: int) -> None:
    """It needs more than an observer gets."""


class OneParameter:
    def __call__(self, event: Any) -> None: ...

    def watch(self, event: Any) -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: None,
        lambda event: None,
        lambda event, info, more: None,
        no_keyword,
        OneParameter(),
        OneParameter().watch,
        partial(one, 1),
    ],
)
def test_what_cannot_be_called_with_an_event_is_no_observer(wrong: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"^saga 's': logger is .*, which cannot be called with \(event, info\): "):
        observers_of("s", wrong, ())


@pytest.mark.parametrize(
    "right",
    [lambda event, info, more=1: None, lambda *events: None, print, Mock(), Callable(), Callable().__call__, partial(one)],
)
def test_what_can_be_called_with_an_event_is_an_observer(right: Any) -> None:
    assert observers_of("s", right, ()) == (right,)


@pytest.mark.parametrize("wrong", [SagaLogger, Callable, Exception, int])
def test_a_class_is_no_observer(wrong: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=rf", a class; give an object of it, {wrong.__name__}\(\.\.\.\)$"):
        observers_of("s", wrong, ())


@pytest.mark.parametrize("given", [logging.getLogger("app"), logging.LoggerAdapter(logging.getLogger("app"), {}), "app"])
def test_a_logger_of_pythons_is_given_to_ours(given: Any) -> None:
    ours, observer = observers_of("s", [given, one], ())
    assert isinstance(ours, SagaLogger)
    assert ours.logger is (logging.getLogger("app") if given == "app" else given)
    assert observer is one
    with pytest.raises(SagaDefinitionError, match=r"^saga 's': observers has .*, or SagaLogger\(\.\.\.\) of a logger$"):
        observers_of("s", None, given)


def test_every_observer_is_told_of_every_event() -> None:
    watches = [Watch() for _ in range(3)]
    Saga("s", logger=watches[0], observers=watches[1:]).add_task(step(lambda: 1, name="a")).execute()
    with transaction("s", logger=watches[0], observers=watches[1:]) as tx:
        tx.step(lambda: 1, name="a")
    told = ["SagaStarted", "StepStarted a", "StepSucceeded a", "SagaCompleted"]
    assert [watch.told() for watch in watches] == [told * 2] * 3


# -- what observers get -------------------------------------------------------------------------------------------------


def test_an_observer_finds_the_step_of_an_event_with_its_policies() -> None:
    found: list[Any] = []

    def observer(event: Any, info: ExecutionInfo) -> None:
        if getattr(event, "step", None):
            found.append((event.step, info.step(event.step)))

    saga = Saga("s", observers=[observer]).add_task(step(lambda: 1, name="a", timeout=5.0)).add_task(step(str, name="b"))
    saga.execute()
    assert [(name, planned.name, planned.timeout) for name, planned in found] == [("a", "a", 5.0)] * 2 + [("b", "b", None)] * 2
    assert found[0][1] is saga.plan.steps[0]


def test_an_observer_finds_a_blocks_steps_as_it_grows() -> None:
    found: list[str] = []

    def observer(event: Any, info: ExecutionInfo) -> None:
        if getattr(event, "step", None):
            found.append(info.step(event.step).name)

    with transaction("s", observers=[observer]) as tx:
        tx.step(lambda: 1, name="a")
        tx.step(lambda: 1, name="b")
    assert found == ["a", "a", "b", "b"]


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match=r"^there is no step 'a'; steps: none$"):
        ExecutionInfo("s", "id", Context()).step("a")
    assert ExecutionInfo("s", "id", Context()).plan is NO_PLAN


# -- the package --------------------------------------------------------------------------------------------------------


def test_the_version_is_the_installed_one() -> None:
    assert saga.__version__ == importlib.metadata.version("saga-tasks")


def test_no_two_public_names_are_told_apart_by_case_alone() -> None:
    words = [name.replace("_", "").lower() for name in saga.__all__]
    assert {word for word in words if words.count(word) > 1} == {"transaction"}  # a class, and the function that makes one


def test_a_policy_is_taken_back_by_its_opposite() -> None:
    def fail() -> None:
        raise ValueError

    assert Saga("s").add_task(step(fail) | Skip | Compensate).try_execute().status is Status.COMPENSATED
    assert Saga("s").add_task(step(fail) | Compensate | Skip).try_execute().status is Status.COMPLETED
