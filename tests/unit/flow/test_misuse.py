"""Every parameter of what flows are built with, given every wrong kind of value: refused where it is written, by name.

The parameters are read from the signatures, so that a new one is tried too: ``RIGHT`` says what it takes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from saga import (
    Compensate,
    ExponentialBackoff,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Task,
    choose,
    each,
    fallback,
    parallel,
    saga_step,
    sequence,
    step,
    timer,
    transaction,
    unit,
)
from saga.block import Transaction
from saga.errors import SagaDefinitionError
from saga.flow import POLICIES, receive, receive_first

called: list[str] = []


def work() -> None:
    called.append("work")


def of_context(context: Any) -> None:
    called.append("of_context")


async def later() -> None:
    called.append("later")


class Charge(Task[None]):
    def execute(self, context: Any) -> None:
        called.append("Charge")


class Steps(Saga):
    flow = Charge


def generated() -> Iterator[Any]:
    yield Charge


VALUES: Final[dict[str, Any]] = {
    "None": None,
    "0": 0,
    "1": 1,
    "-1": -1,
    "3": 3,
    "1.5": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "huge": 10**400,
    "True": True,
    "''": "",
    "'x'": "x",
    "'5'": "5",
    "b'x'": b"x",
    "()": (),
    "[]": [],
    "{}": {},
    "('x',)": ("x",),
    "{1: 2}": {1: 2},
    "{'x'}": {"x"},
    "{'x': 1}": {"x": 1},
    "a generator": generated,
    "timedelta": timedelta(seconds=5),
    "a datetime": datetime(2100, 1, 2, tzinfo=UTC),
    "a datetime of no time zone": datetime(2100, 1, 2),
    "object": object(),
    "object's class": object,
    "a function": work,
    "a function of the context": of_context,
    "a lambda": lambda: 1,
    "an async function": later,
    "a task": Charge(),
    "a task class": Charge,
    "a list of tasks": [Charge, step(work)],
    "a flow": step(work, name="flow"),
    "a saga": Steps(),
    "a saga's class": Steps,
    "Retry": Retry(2),
    "Retry's class": Retry,
    "a backoff": ExponentialBackoff(0.1),
    "a backoff's class": ExponentialBackoff,
    "Skip": Skip,
    "Compensate": Compensate,
    "ASK": InDoubt.ASK,
    "ValueError": ValueError,
    "(ValueError,)": (ValueError,),
    "[ValueError]": [ValueError],
    "ValueError()": ValueError("x"),
    "KeyboardInterrupt": KeyboardInterrupt,
}

# What each parameter takes, by the names above. A name of a parameter stands for it wherever it is.
NAMES = {"'x'", "'5'"}
NUMBERS = {"1", "3", "1.5"}
SECONDS = NUMBERS | {"None", "timedelta"}
BOOLS = {"True"}
FUNCTIONS = {"a function", "a lambda", "an async function"}
CALLABLES = FUNCTIONS | {"a function of the context", "object's class"}
TASKS = {"a task", "a task class"}
FLOWS = TASKS | {"a flow", "a saga", "a list of tasks"}
RETRIES = {"None", "Retry"}
KEYS = {"None", "()", "[]", "('x',)", "{'x'}"}
ERRORS = {"ValueError", "(ValueError,)"}
CLASSES = {"object's class", "a task class", "a saga's class", "Retry's class", "a backoff's class"} | {
    "ValueError",
    "KeyboardInterrupt",
}
BARE = {"KeyboardInterrupt", "ValueError"}  # classes can be called, too
RIGHT: Final[dict[str, set[str]]] = {
    "retry": RETRIES,
    "compensation_retry": RETRIES,
    "verification_retry": RETRIES,
    "timeout": SECONDS,
    "compensation_timeout": SECONDS,
    "on_error": {"None", "Skip", "Compensate", "Retry"},
    "compensate_on_failure": BOOLS,
    "pivot": BOOLS,
    "transactional": BOOLS,
    "requires": KEYS,
    "provides": KEYS,
    "in_doubt": {"ASK"},
    "unknown_on": {"None", "()", "ValueError", "(ValueError,)", "a function of the context"},
    "name": NAMES | {"None"},
    "signal": NAMES,
    "wait": NUMBERS | {"timedelta", "a datetime", "a function of the context"},
    "accept": CLASSES | {"None", "a function of the context"},
    "receive_first accept": {"None", "{}"},
    "signals": NAMES,
    "args": {"()", "[]"},
    "kwargs": {"None", "{}"},
    "compensate_args": {"()", "[]"},
    "compensate_kwargs": {"None", "{}"},
    "action": CALLABLES | TASKS | BARE | {"Retry's class", "a backoff's class"},
    "function": CALLABLES | BARE | {"Retry's class", "a backoff's class", "None"},
    "compensate": CALLABLES | BARE | {"None"},
    "saga_step compensate": CALLABLES | BARE | {"Retry's class", "a backoff's class", "None"},  # more is known when it is bound
    "verify": CALLABLES | BARE | {"Retry's class", "a backoff's class", "None"},
    "flows": FLOWS | {"()", "[]"},
    "task": FLOWS | {"()", "[]"},
    "compensate_together": BOOLS,
    "limit": {"None", "1", "3", "huge"},
    "primary": FLOWS,
    "alternative": FLOWS | {"()", "[]"},
    "on": ERRORS,
    "breaker": {"None"},
    "by": NAMES | BARE | {"a function of the context", "Retry's class", "a backoff's class"},
    "ways": set(),
    "items": NAMES | BARE | {"a function of the context", "Retry's class", "a backoff's class", "a task class"},
    "task_or_flow": FLOWS | {"()", "[]"},
    "key": BARE | {"None", "a function of the context", "Retry's class", "a backoff's class"},
    "otherwise": FLOWS | {"None", "()", "[]"},
    "max_attempts": {"1", "3", "huge"},
    "max_elapsed": SECONDS,
    "retry_if": {"None", "a function of the context"},
    "backoff": NUMBERS | {"0", "timedelta", "a backoff"},
    "retry_on": ERRORS | {"()", "a function of the context"},
    "then": {"None", "Skip", "Compensate"},
    "initial": NUMBERS | {"0", "timedelta"},
    "factor": NUMBERS,
    "cap": NUMBERS | {"0", "timedelta"},
    "jitter": BOOLS,
}


def in_a_block(*args: Any, **kwargs: Any) -> Any:
    tx = transaction("s", {"x": "what it may require, and provide"})
    with tx:
        return tx.step(*args, **kwargs)


def together(flows: Any = Charge, **options: Any) -> Any:
    with transaction("s") as tx:
        return tx.parallel(flows, step(work, name="other"), **options)


def of_method(*args: Any, **kwargs: Any) -> Any:
    made = saga_step(*args, **kwargs)
    return made if args or not callable(made) else made(lambda self: None)


def compiled(flow: Any) -> Any:
    return Saga("s").add_task(flow)


# What is tried: how it is called, with what else, and where its signature is.
BUILDERS: Final[dict[str, tuple[Callable[..., Any], dict[str, Any], Any]]] = {
    "step": (step, {"action": work}, step),
    "step of a task": (lambda action=Charge, **kwargs: step(action, **kwargs), {}, step),
    "saga_step": (of_method, {}, saga_step),
    "sequence": (lambda flows: sequence(flows), {}, sequence),
    "parallel": (lambda flows=Charge, **kwargs: parallel(flows, Charge, **kwargs), {}, parallel),
    "unit": (lambda flows=Charge, **kwargs: unit(flows, step(work, name="work"), **kwargs), {}, unit),
    "fallback": (fallback, {"primary": Charge, "alternative": Charge}, fallback),
    "each": (each, {"items": "lines", "task_or_flow": Charge, "name": "all"}, each),
    "choose": (choose, {"by": "kind", "ways": {1: Charge}}, choose),
    "timer": (timer, {"wait": 1}, timer),
    "receive": (receive, {"signal": "x"}, receive),
    "receive_first": (lambda signals="z", **kwargs: receive_first(signals, "y", **kwargs), {}, receive_first),
    "Retry": (Retry, {}, Retry),
    "ExponentialBackoff": (ExponentialBackoff, {}, ExponentialBackoff),
    "add_task": (compiled, {}, Saga.add_task),
    "a block's step": (in_a_block, {"action": work}, step),
    "a block's parallel": (together, {}, Transaction.parallel),
}


def parameters() -> Iterator[tuple[str, str]]:
    """Yield each builder with each of its parameters."""
    for builder, (_, _, of) in BUILDERS.items():
        for name, parameter in inspect.signature(of).parameters.items():
            if name == "policies":
                yield from ((builder, policy) for policy in POLICIES)
            elif name != "self":
                yield builder, name
            assert parameter.kind is not parameter.VAR_KEYWORD or name == "policies"


NOT_A_TASKS = {"compensate", "verify", "args", "kwargs", "compensate_args", "compensate_kwargs", "action"}


@pytest.mark.parametrize(("builder", "parameter"), list(parameters()))
def test_a_wrong_value_is_refused_where_it_is_written(builder: str, parameter: str) -> None:
    assert parameter in RIGHT, f"say in RIGHT what {parameter} takes"
    if builder == "step of a task" and parameter in NOT_A_TASKS:
        return
    call, others, _ = BUILDERS[builder]
    wrong = []
    right = RIGHT.get(f"{builder} {parameter}", RIGHT[parameter])
    if builder.startswith("a block"):  # where flows are compiled at once
        right = (
            right
            - {"an async function"}
            - ({"True"} if parameter == "transactional" else set())
            - ({"()", "[]"} if parameter == "flows" else set())
        )
    for label, value in VALUES.items():
        value = value() if value is generated else value
        called.clear()
        given = {name: other for name, other in others.items() if name != parameter} | {parameter: value}
        if parameter.startswith("compensate_") and parameter != "compensate_together" and parameter not in POLICIES:
            given["compensate"] = work
        if builder == "saga_step" and parameter == "function":
            call, given = (lambda function: of_method(function)), {"function": value}
        try:
            call(**given) if builder != "add_task" else call(value)
            told = None
        except SagaDefinitionError as error:
            told = str(error)
        except Exception as error:
            wrong.append(f"{label}: a raw {type(error).__name__}: {error}")
            continue
        ran = builder.startswith("a block") and told is None
        if called and not ran:
            wrong.append(f"{label}: something was called")
        elif (told is None) != (label in right):
            wrong.append(f"{label}: {'taken in silence' if told is None else f'refused: {told}'}")
        elif told is not None and not any(word in told for word in names_of(parameter)):
            wrong.append(f"{label}: {told!r} does not name it")
    assert not wrong, "\n".join(wrong)


def names_of(parameter: str) -> set[str]:
    """Return the words by which an error may name a parameter."""
    same = {
        "compensate": {"compensation", "async with"},
        "verify": {"verification", "async with"},
        "ways": {"choose(): way", "a way is for"},
        "flows": {"is not a task", "parallel", "no steps"},
        "task": {"is not a task"},
        "action": {"Steps", "step"},
        "function": {"saga_step"},
        "signal": {"receive"},
    }
    return {parameter, parameter.removeprefix("compensate_")} | same.get(parameter, set())
