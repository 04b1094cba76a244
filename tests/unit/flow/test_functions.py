"""Functions as tasks: what an action and a compensation are called with."""

from __future__ import annotations

import functools
import operator
from typing import Any

import pytest

from saga import Context, Saga, Skip, Status, parallel, sequence, step
from saga.errors import SagaDefinitionError
from saga.flow import Step


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
        (step(two, args=(4,)), -6),
        (step(two, args=(9, 4)), 5),
        (step(two, kwargs={"b": 4}), 6),
        (step(two, args=(9, 4, 2)), 10),
        (step(two, args=(4,), kwargs={"scale": 2, "add": 1}), -11),
        (step(middle, args=(1,)), (1, 3, 10)),
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


def test_a_step_after_a_group_gets_the_branches_results_in_order() -> None:
    group = parallel(step(lambda: "a", name="a"), sequence(step(lambda: 0, name="b0"), step(lambda: "b", name="b")))
    assert value_of(group, step(lambda both: both, name="after")) == ("a", "b")


def test_a_step_after_a_skipped_one_gets_what_that_one_would_have_got() -> None:
    # The skipped step's result is None, and so is not there for the next one: it sees the result before it.
    assert value_of(step(fail, on_error=Skip), step(lambda previous: previous, name="after")) == 10


# -- how a compensation is called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "heard"),
    [
        (lambda heard: step(lambda: 5, lambda: heard.append("none"), name="a"), "none"),
        (lambda heard: step(lambda: 5, heard.append, name="a"), 5),
        (lambda heard: step(lambda: 5, lambda own, context: heard.append((own, context.n)), name="a"), (5, 3)),
        (lambda heard: step(lambda: 5, lambda context: heard.append(context.n), name="a"), 3),
        (lambda heard: step(lambda: 5, lambda *, context: heard.append(context.n), name="a"), 3),
        (lambda heard: step(lambda: 5, lambda own, x: heard.append((own, x)), name="a", compensate_args=(7,)), (5, 7)),
        (lambda heard: step(lambda: 5, lambda x: heard.append(x), name="a", compensate_args=(7,)), 7),
        (lambda heard: step(lambda: 5, lambda own, x: heard.append((own, x)), name="a", compensate_kwargs={"x": 7}), (5, 7)),
        (lambda heard: step(lambda: 5, functools.partial(heard.append, "fixed"), name="a"), "fixed"),
        (lambda heard: step(fail, heard.append, name="a", compensate_on_failure=True), None),
    ],
)
def test_a_compensation_gets_its_arguments_its_own_result_and_the_context(build: Any, heard: Any) -> None:
    got: list[Any] = []
    saga = Saga("s").add_task(build(got)).add_task(step(fail))
    assert saga.try_execute(Context(n=3)).status is Status.COMPENSATED
    assert got == [heard]


# -- what is refused ----------------------------------------------------------------------------------------------------


def needs_two(a: int, b: int) -> None:
    """Cannot be called with what the flow gives alone."""


def needs_keyword(*, key: int) -> None:
    """Cannot be called without its keyword."""


UNDOES_NOTHING = "step 'noop': compensate_args or compensate_kwargs, but no compensate="
FROM_THE_FLOW = (
    "but only one comes from the flow (the previous step's result, or the step's own in a compensation); give the others "
    "with args= or kwargs="
)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: step(3), "step 'int': action is 3 (int), which cannot be called; give a function"),
        (lambda: step(None), "step 'NoneType': action is None (NoneType), which cannot be called; give a function"),
        (lambda: step(noop, 3), "step 'noop': compensation is 3 (int), which cannot be called; give a function"),
        (lambda: step(needs_two), f"step 'needs_two': action needs_two needs 'a', 'b', {FROM_THE_FLOW}"),
        (lambda: step(noop, needs_two), f"step 'noop': compensation needs_two needs 'a', 'b', {FROM_THE_FLOW}"),
        (
            lambda: step(noop, args=(1,)),
            "step 'noop': action noop cannot be called with these args and kwargs: too many positional arguments",
        ),
        (
            lambda: step(noop, kwargs={"b": 1}),
            "step 'noop': action noop cannot be called with these args and kwargs: got an unexpected keyword argument 'b'",
        ),
        (
            lambda: step(needs_two, args=(1,), kwargs={"a": 1}),
            "step 'needs_two': action needs_two cannot be called with these args and kwargs: multiple values for argument 'a'",
        ),
        (
            lambda: step(noop, noop, compensate_args=(1,)),
            "step 'noop': compensation noop cannot be called with these compensate_args and compensate_kwargs: too many "
            "positional arguments",
        ),
        (lambda: step(noop, compensate_args=(1,)), "step 'noop': compensate_args or compensate_kwargs, but no compensate="),
        (
            lambda: step(noop, compensate_kwargs={"a": 1}),
            "step 'noop': compensate_args or compensate_kwargs, but no compensate=",
        ),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_with_this_text(build: Any, text: str) -> None:
    assert refused(build) == text


def test_a_keyword_nobody_gives_is_refused() -> None:
    said = refused(lambda: step(needs_keyword))  # Python 3.12 and later say that it is keyword-only
    assert said.startswith("step 'needs_keyword': action needs_keyword cannot be called: missing a required ")
    assert said.endswith("argument: 'key'")


def test_a_function_task_shows_its_name() -> None:
    assert repr(step(noop).task) == "<function task 'noop'>"
