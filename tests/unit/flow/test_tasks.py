"""Tasks as they are written: what cannot be called, or is spelt in another way, is refused when it is put into a flow."""

from __future__ import annotations

import functools
import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, Task, fallback, parallel, sequence, step, transaction
from saga.errors import SagaDefinitionError
from saga.flow import POLICIES
from saga.flow.tasks import CALLS, check_task


def refused(build: Any) -> str:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    return str(caught.value)


def execute(self: Any, context: Any) -> str:
    return "r-1"


def made(base: type = Task, **members: Any) -> Any:
    """Return a task class with these members."""
    return type("Charge", (base,), {"execute": execute, **members})


# -- what cannot be called ------------------------------------------------------------------------------------------------

CALLABLE = {
    "a method": lambda self, context: None,
    "with more that has a default": lambda self, context, more=1, *rest, **others: None,
    "with stars": lambda *args: None,
    "a static method": staticmethod(lambda context: None),
    "a class method": classmethod(lambda cls, context: None),
    "a partial": staticmethod(functools.partial(lambda first, context: None, 1)),
    "a partial method": functools.partialmethod(lambda self, first, context: None, 1),
    "a mock": Mock(),
    "an async mock": AsyncMock(),
    "an object": type("Call", (), {"__call__": lambda self, context: None})(),
    "a class": dict,
    "of C": operator.itemgetter("x"),
    "of C without a signature": max,
    "wrapped": functools.wraps(execute)(lambda *args: None),
    "given more by a decorator": functools.wraps(lambda self, context, session: None)(lambda *args, **kwargs: None),
}
NOT_CALLABLE = {
    "without the context": lambda self: None,
    "with too much": lambda self, context, result: None,
    "with a keyword of its own": lambda self, context, *, result: None,
    "without self": lambda context: None,
    "without anything": lambda: None,
    "a static method without the context": staticmethod(lambda: None),
    "a class method without the context": classmethod(lambda cls: None),
    "a partial that is full": staticmethod(functools.partial(lambda context: None, 1)),
    "false": False,
    "a name": "refund",
    "a number": 3,
}


async def later(self: Any, context: Any) -> None: ...


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("call", CALLABLE)
def test_what_can_be_called_with_the_context_is_taken(call: str, name: str) -> None:
    kind = made(**{name: CALLABLE[call]})
    assert Saga("s").add_task(kind).plan.steps
    assert Saga("s").add_task(kind()).plan.steps


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("call", NOT_CALLABLE)
def test_what_cannot_is_refused_wherever_the_task_stands(call: str, name: str) -> None:
    kind = made(**{name: NOT_CALLABLE[call]})
    flows = [
        lambda task: Saga("s").add_task(task),
        lambda task: step(task, name="a"),
        lambda task: sequence(task),
        lambda task: parallel(made(), task),
        lambda task: fallback(made(), task),
        lambda task: task & made() if not isinstance(task, type) else made()() & task,
        lambda task: type("Declared", (Saga,), {"flow": task})().plan,
        lambda task: in_a_block(task),
    ]
    for task in (kind, kind()):
        for flow in flows:
            said = refused(lambda flow=flow, task=task: flow(task))
            assert said.startswith(f"Charge.{name} ")
            assert f"; write def {name}(self, context)" in said


def in_a_block(task: Any) -> None:
    with transaction("s") as tx:
        tx.step(task)


def test_an_objects_own_methods_are_looked_at_too() -> None:
    task = made()()
    task.compensate = lambda: None
    assert "Charge.compensate cannot be called with the context alone" in refused(lambda: Saga("s").add_task(task))
    task.compensate = Mock()
    Saga("s").add_task(task).add_task(step(lambda: 1 / 0, name="fail")).try_execute()
    assert task.compensate.call_count == 1


def test_a_class_that_a_resolver_makes_is_looked_at_before_it_is_made() -> None:
    kind = made(compensate=lambda self: None)
    assert "Charge.compensate" in refused(lambda: Saga("s", resolver=lambda kind: 1 / 0).add_task(kind))


def test_the_error_says_what_to_write() -> None:
    assert refused(lambda: step(made(compensate=lambda self, context, receipt: None))) == (
        "Charge.compensate cannot be called with the context alone (missing a required argument: 'receipt'); write def "
        "compensate(self, context), and ask context.result_of(Charge) for its result"
    )
    assert refused(lambda: step(made(execute=Task.execute, run=execute))) == (
        "Charge has no execute(context); write one; is it 'run'?"
    )


@pytest.mark.parametrize("name", ["compensate", "verify"])
def test_none_is_no_method(name: str) -> None:
    base = made(compensate=lambda self, context: 1 / 0, verify=lambda self, context: 1 / 0)
    planned = Saga("s").add_task(made(base, **{name: None})).plan.steps[0]
    assert (planned.compensates, planned.verifies) == (name != "compensate", name != "verify")
    saga = Saga("s").add_task(made(compensate=None)).add_task(step(lambda: 1 / 0, name="fail"))
    assert saga.try_execute().status is Status.COMPENSATED


# -- what is misspelt -----------------------------------------------------------------------------------------------------

MISSPELT = {
    **dict.fromkeys(("compansate", "compensates", "Compensate", "compensation", "undo", "rollback", "revert"), "compensate"),
    **dict.fromkeys(("verfy", "verify_", "verification"), "verify"),
}
POLICY = {
    "retries": Retry(3),
    "max_retries": 3,
    "max_attempts": 3,
    "retry_": Retry(3),
    "time_out": 3,
    "timeout_": 3.0,
    "deadline": 3,
    "on_eror": Skip,
    "in_doupt": InDoubt.ASK,
    "pivots": True,
    "compensate_on_failures": True,
    "compensation_retries": Retry(2),
    "unkown_on": (OSError,),
    "verification_retrys": Retry(2),
}


@pytest.mark.parametrize("name", MISSPELT)
@pytest.mark.parametrize("method", [execute, later, staticmethod(lambda context: None), classmethod(execute)])
def test_a_misspelt_method_is_refused_and_named(name: str, method: Any) -> None:
    assert refused(lambda: step(made(**{name: method}))) == (
        f"Charge has {name!r}, which nobody looks at; call it {MISSPELT[name]!r}, or, if it is your own, _{name}"
    )


@pytest.mark.parametrize("name", POLICY)
def test_a_misspelt_policy_is_refused_and_named(name: str) -> None:
    said = refused(lambda: step(made(**{name: POLICY[name]})))
    assert said.startswith(f"Charge has {name!r}, which nobody looks at; call it ")
    assert said.split("call it '")[1].split("'")[0] in POLICIES


def test_one_in_a_base_class_is_found_too() -> None:
    assert "'compansate'" in refused(lambda: step(made(made(compansate=execute))))


@dataclass
class Configured(Task[int]):
    """Fields of a dataclass are the user's own."""

    retries: int = 3
    deadline: float = 1.0

    def execute(self, context: Context) -> int:
        return self.retries


class Own(Task[int]):
    """A task with much of its own that is near what tasks have, and is not meant."""

    MAX_RETRIES = 3
    _retries = 3
    timeouts = (1, 2)
    executor = ThreadPoolExecutor
    names = ("a", "b")
    pivot_table = "x"
    retry_after_header = "Retry-After"

    def __init__(self) -> None:
        self.retries = 3
        self.time_out = 3

    def execute(self, context: Context) -> int:
        return self.retries

    def executed(self) -> bool:
        return True

    def verified(self) -> bool:
        return True

    def undo(self, context: Context) -> None: ...

    def compensate(self, context: Context) -> None:
        self.undo(context)

    @property
    def verifies(self) -> bool:
        return True


class Mixin:
    def rollback(self, context: Any) -> None: ...


class Mixed(Mixin, Task[int]):
    def execute(self, context: Context) -> int:
        return 1


@pytest.mark.parametrize("kind", [Configured, Own, Mixed])
def test_a_users_own_members_are_left_alone(kind: Any) -> None:
    check_task(kind)
    check_task(kind())
    assert Saga("s").add_task(kind).execute().status is Status.COMPLETED


def test_a_policy_of_a_class_is_looked_at_when_it_is_added() -> None:
    assert refused(lambda: Saga("s").add_task(made(timeout="5"))) == (
        "Charge: timeout is '5'; give seconds as a number above 0, or None for no limit"
    )
    assert Saga("s").add_task(made(timeout=property(lambda self: 5.0))).plan.steps[0].timeout == 5.0
