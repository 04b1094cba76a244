"""Flows: what can be composed, what it is named, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from saga import Context, Flow, Saga, Task, parallel, sequence, step
from saga.errors import SagaDefinitionError
from saga.flow import POLICIES, Parallel, Sequence, Step


class Charge(Task[str]):
    def execute(self, context: Context) -> str:
        return "charged"


class Needy(Task[str]):
    def __init__(self, client: object) -> None:
        self.client = client

    def execute(self, context: Context) -> str:
        return "done"


def noop() -> None:
    """Stands for any work."""


class Calls:
    def __init__(self, by: int) -> None:
        self.by = by

    def times(self, previous: int) -> int:
        return previous * self.by

    def __call__(self, previous: int, context: Context) -> int:
        return previous * self.by + int(context.n)


def refused(build: Any) -> str:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    return str(caught.value)


# -- names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (step(noop), "noop"),
        (step(noop, name="other"), "other"),
        (step(functools.partial(noop)), "noop"),
        (step(Calls(2).times), "times"),
        (step(Calls(2)), "Calls"),
        (step(lambda: 1), "<lambda>"),
        (step(len, args=("",)), "len"),
        (step(Charge), "Charge"),
        (step(Charge()), "Charge"),
        (step(Charge, name="other"), "other"),
    ],
)
def test_a_step_is_named_after_what_it_calls(flow: Step, name: str) -> None:
    assert flow.name == name
    assert Saga("s").add_task(step(noop, name="first")).add_task(flow).plan.names == ("first", name)


def test_a_nested_saga_prefixes_its_steps() -> None:
    inner = Saga("inner").add_task(Charge).add_task(parallel(step(noop), Saga("deep").add_task(Charge)))
    assert Saga("outer").add_task(Charge).add_task(inner).plan.names == (
        "Charge",
        "inner/Charge",
        "inner/noop",
        "inner/deep/Charge",
    )


def test_flows_compose() -> None:
    one, other = step(noop, name="one"), Charge()
    flow = sequence(one, other, Charge, Saga("inner").add_task(one), parallel(one, other))
    assert isinstance(flow, Sequence)
    assert isinstance(flow, Flow)
    assert flow.children[0] is one
    assert [type(child) for child in flow.children] == [Step, Step, Step, Sequence, Parallel]
    first = flow.children[1]
    assert isinstance(first, Step)
    assert (first.task, first.name, first.policies) == (other, "Charge", {})


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: step(noop, retries=3, after=1),
            f"step 'noop' knows no 'retries'; did you mean 'retry'?; policies are {', '.join(POLICIES)}",
        ),
        (
            lambda: step(noop, undo=noop),
            f"step 'noop' knows no 'undo'; did you mean 'compensate'?; policies are {', '.join(POLICIES)}",
        ),
        (
            lambda: step(Charge, noop),
            f"step({Charge!r}): a task brings its own compensate, verify and arguments; give these only with a function",
        ),
        (
            lambda: step(Charge(), args=(1,)),
            "step(<Charge task>): a task brings its own compensate, verify and arguments; give these only with a function",
        ),
        (
            lambda: Saga("s").add_task(step(Needy)).plan,
            "saga 's': step 'Needy': Needy cannot be made without arguments (Needy.__init__() missing 1 required positional "
            "argument: 'client'); give Needy(...), or the saga a resolver",
        ),
        (lambda: sequence(3), "sequence(): 3 (int) is not a task; give a Task, a flow or a saga"),
        (lambda: parallel("a"), "parallel(): 'a' (str) is not a task; give a Task, a flow or a saga"),
        (
            lambda: Saga("s").add_task(noop),
            f"saga 's': add_task(): {noop!r} (function) is not a task; wrap a function as step(function, compensate=...)",
        ),
        (
            lambda: sequence(Saga),
            f"sequence(): {Saga!r} (type) is not a task; give an object of it: Saga()",
        ),
        (lambda: sequence([Charge, 3]), "sequence(): 3 (int) is not a task; give a Task, a flow or a saga"),
        (lambda: Saga("s").plan, "saga 's' has no steps; add at least one task"),
        (lambda: Saga("s").add_task(Saga("i")).plan, "saga 's': saga 'i' has no steps; add at least one task"),
        (
            lambda: Saga("s").add_task(Charge).add_task(sequence()).plan,
            "saga 's': a sequence has no steps; add at least one task",
        ),
        (lambda: Saga("s").add_task(parallel()).plan, "saga 's': a parallel group has 0 branches; give at least two"),
        (lambda: Saga("s").add_task(parallel(Charge)).plan, "saga 's': a parallel group has 1 branch; give at least two"),
        (
            lambda: Saga("s").add_task(Charge).add_task(Charge).plan,
            "saga 's': step 'Charge': the name is used twice (<Charge task> and <Charge task>); give one of them another "
            "with step(task, name=...) or the class attribute name",
        ),
        (
            lambda: Saga("s").add_task(step(noop, name=" ")).plan,
            "the step's name of <function task 'noop'> is ' '; give a str that is not blank",
        ),
        (
            lambda: Saga("s").add_task(step(noop, name=3)).plan,  # type: ignore[arg-type]
            "the step's name of <function task 'noop'> is 3 (int); give a str, such as str(...) of it",
        ),
        (
            lambda: Saga("s").add_task(type("Idle", (Task,), {})).plan,
            "Idle has no execute(context); write one",
        ),
        (lambda: Saga("s").add_task(Flow()).plan, None),
    ],
)
def test_a_wrong_definition_is_refused_with_this_text(build: Any, text: str | None) -> None:
    said = refused(build)
    if text is None:
        assert said.endswith("is not a flow; give a task, sequence() or parallel()")
    else:
        assert said == text
