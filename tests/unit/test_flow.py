"""Flows: what can be composed, and how a function becomes a step."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest

from saga import Context, Flow, Saga, Skip, Status, Task, parallel, sequence, step
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


def fail() -> None:
    raise OSError("no")


def value_of(*flows: Any, **keys: Any) -> Any:
    """Run the flows after a step that returns 10, and return what the last returned."""
    saga = Saga("s").add_task(step(lambda: 10, name="ten"))
    for flow in flows:
        saga.add_task(flow)
    return list(saga.execute(Context(n=3, **keys)).results.values())[-1]


def refused(build: Any) -> str:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    return str(caught.value)


# -- how an action is called --------------------------------------------------------------------------------------------


def plus(previous: int, context: Context) -> int:
    return previous + int(context.n)


def context_first(context: Context, previous: int) -> int:
    return previous + int(context.n)


def keyword_only(previous: int, *, context: Context) -> int:
    return previous + int(context.n)


def middle(a: int, context: Context, b: int) -> tuple[int, int, int]:
    return a, context.n, b


def positional_only(previous: int, context: Context, /) -> int:
    return previous + int(context.n)


def optional(previous: int = 7) -> int:
    return previous


def context_alone(context: Context) -> int:
    return int(context.n)


def optional_context(context: Context | None = None) -> int:
    return int(context.n) if context is not None else -1


def stars(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def star_context(*context: Any, **more: Any) -> tuple[Any, Any]:
    return context, more


def two(a: int, b: int, scale: int = 1, *, add: int = 0) -> int:
    return (a - b) * scale + add


class Calls:
    def __init__(self, by: int) -> None:
        self.by = by

    def times(self, previous: int) -> int:
        return previous * self.by

    @classmethod
    def build(cls, previous: int) -> int:
        return previous + 100

    @staticmethod
    def static(previous: int, context: Context) -> int:
        return previous + int(context.n)

    def __call__(self, previous: int, context: Context) -> int:
        return previous * self.by + int(context.n)


@pytest.mark.parametrize(
    ("flow", "value"),
    [
        (step(lambda: 1), 1),
        (step(lambda previous: previous + 1), 11),
        (step(plus), 13),
        (step(context_first), 13),
        (step(keyword_only), 13),
        (step(positional_only), 13),
        (step(context_alone), 3),
        (step(optional_context), 3),
        (step(optional), 7),
        (step(optional, args=(8,)), 8),
        (step(stars), ((), {})),
        (step(stars, args=(1,), kwargs={"k": 2}), ((1,), {"k": 2})),
        (step(star_context), ((), {})),
        (step(two, args=(4,)), 6),
        (step(two, args=(9, 4)), 5),
        (step(two, kwargs={"b": 4}), 6),
        (step(two, args=(9, 4, 2)), 10),
        (step(two, args=(4,), kwargs={"scale": 2, "add": 1}), 13),
        (step(middle, args=(1,)), (10, 3, 1)),
        (step(middle, args=(1, 2)), (1, 3, 2)),
        (step(middle, kwargs={"b": 2}), (10, 3, 2)),
        (step(middle, kwargs={"a": 1, "b": 2}), (1, 3, 2)),
        (step(plus, args=(1,)), 4),
        (step(context_first, kwargs={"previous": 1}), 4),
        (step(keyword_only, args=(1,)), 4),
        (step(functools.partial(two, 30)), 20),
        (step(functools.partial(two, b=1)), 9),
        (step(functools.partial(two, 30, 20)), 10),
        (step(functools.partial(plus, context=Context(n=1))), 13),
        (step(Calls(2).times), 20),
        (step(Calls.build), 110),
        (step(Calls.static), 13),
        (step(Calls(2)), 23),
        (step(len, args=("four",)), 4),
        (step(operator.neg), -10),
        (step(str, name="str"), ""),
        (step(operator.itemgetter("n"), args=({"n": 1},)), 1),
        (step(print, args=("",)), None),
    ],
    ids=lambda value: value.name if isinstance(value, Step) else "",
)
def test_an_action_gets_its_arguments_the_result_before_and_the_context(flow: Step, value: Any) -> None:
    assert value_of(flow) == value


def test_the_first_step_gets_none_as_the_result_before() -> None:
    result = Saga("s").add_task(step(lambda previous: previous, name="first")).execute()
    assert result.results == {"first": None}


def test_a_step_after_a_group_gets_the_branches_results_in_order() -> None:
    group = parallel(step(lambda: "a", name="a"), sequence(step(lambda: 0, name="b0"), step(lambda: "b", name="b")))
    assert value_of(group, step(lambda both: both, name="after")) == ("a", "b")


def test_a_step_after_a_skipped_one_gets_what_that_one_would_have_got() -> None:
    # The skipped step's result is None, and so is not there for the next one: it sees the result before it.
    assert value_of(step(fail, on_error=Skip), step(lambda previous: previous, name="after")) == 10


# -- how a compensation is called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda told: step(lambda: 5, lambda: told.append("none"), name="a"), "none"),
        (lambda told: step(lambda: 5, told.append, name="a"), 5),
        (lambda told: step(lambda: 5, lambda own, context: told.append((own, context.n)), name="a"), (5, 3)),
        (lambda told: step(lambda: 5, lambda context: told.append(context.n), name="a"), 3),
        (lambda told: step(lambda: 5, lambda *, context: told.append(context.n), name="a"), 3),
        (lambda told: step(lambda: 5, lambda own, x: told.append((own, x)), name="a", compensate_args=(7,)), (5, 7)),
        (lambda told: step(lambda: 5, lambda x: told.append(x), name="a", compensate_args=(7,)), 7),
        (lambda told: step(lambda: 5, lambda own, x: told.append((own, x)), name="a", compensate_kwargs={"x": 7}), (5, 7)),
        (lambda told: step(lambda: 5, functools.partial(told.append, "fixed"), name="a"), "fixed"),
        (lambda told: step(fail, told.append, name="a", compensate_on_failure=True), None),
    ],
)
def test_a_compensation_gets_its_arguments_its_own_result_and_the_context(build: Any, told: Any) -> None:
    got: list[Any] = []
    saga = Saga("s").add_task(build(got)).add_task(step(fail))
    assert saga.try_execute(Context(n=3)).status is Status.COMPENSATED
    assert got == [told]


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
    assert Saga("s").add_task(flow).plan.names == (name,)


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


def test_a_function_task_shows_its_name() -> None:
    assert repr(step(noop).task) == "<function task 'noop'>"


# -- what is refused ----------------------------------------------------------------------------------------------------


def needs_two(a: int, b: int) -> None:
    """Cannot be called with what the flow gives alone."""


def needs_keyword(*, key: int) -> None:
    """Cannot be called without its keyword."""


FROM_THE_FLOW = (
    "but only one comes from the flow (the previous step's result, or the step's own in a compensation); give the others "
    "with args= or kwargs="
)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: step(3), "step 'int': action is 3 (int), which cannot be called"),
        (lambda: step(None), "step 'NoneType': action is None (NoneType), which cannot be called"),
        (lambda: step(noop, 3), "step 'noop': compensation is 3 (int), which cannot be called"),
        (lambda: step(needs_two), f"step 'needs_two': action needs_two needs 'a', 'b', {FROM_THE_FLOW}"),
        (lambda: step(noop, needs_two), f"step 'noop': compensation needs_two needs 'a', 'b', {FROM_THE_FLOW}"),
        (lambda: step(noop, args=(1,)), "step 'noop': action noop cannot be called: too many positional arguments"),
        (
            lambda: step(noop, kwargs={"b": 1}),
            "step 'noop': action noop cannot be called: got an unexpected keyword argument 'b'",
        ),
        (
            lambda: step(needs_two, args=(1,), kwargs={"a": 1}),
            "step 'needs_two': action needs_two cannot be called: multiple values for argument 'a'",
        ),
        (
            lambda: step(noop, noop, compensate_args=(1,)),
            "step 'noop': compensation noop cannot be called: too many positional arguments",
        ),
        (lambda: step(noop, compensate_args=(1,)), "step 'noop': arguments for a compensation, but no compensate="),
        (lambda: step(noop, compensate_kwargs={"a": 1}), "step 'noop': arguments for a compensation, but no compensate="),
        (
            lambda: step(noop, retries=3, after=1),
            f"step() knows no after, retries; policies are {', '.join(POLICIES)}",
        ),
        (
            lambda: step(Charge, noop),
            f"step({Charge!r}): a task brings its own compensate and arguments; give these only with a function",
        ),
        (
            lambda: step(Charge(), args=(1,)),
            "step(<Charge task>): a task brings its own compensate and arguments; give these only with a function",
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
        (lambda: Saga("s").plan, "saga 's': saga 's' has no steps; add at least one task"),
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
            "saga 's': task <function task 'noop'>: its name is ' '; give a non-empty string",
        ),
        (
            lambda: Saga("s").add_task(step(noop, name=3)).plan,  # type: ignore[arg-type]
            "saga 's': task <function task 'noop'>: its name is 3; give a non-empty string",
        ),
        (
            lambda: Saga("s").add_task(type("Idle", (Task,), {})).plan,
            "saga 's': step 'Idle': Idle has no execute(context); write one",
        ),
        (lambda: Saga("s").add_task(Flow()).plan, None),
    ],
)
def test_a_wrong_definition_is_refused_with_this_text(build: Any, text: str | None) -> None:
    told = refused(build)
    if text is None:
        assert told.endswith("is not a flow; give a task, sequence() or parallel()")
    else:
        assert told == text


def test_a_keyword_nobody_gives_is_refused() -> None:
    told = refused(lambda: step(needs_keyword))  # Python 3.12 and later say that it is keyword-only
    assert told.startswith("step 'needs_keyword': action needs_keyword cannot be called: missing a required ")
    assert told.endswith("argument: 'key'")
