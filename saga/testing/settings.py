"""What is given to explore, checked: what all histories of an exploration have in common."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from typing import Any, Final

from saga.context import Context
from saga.definition import Definition, as_context
from saga.errors import SagaDefinitionError, near
from saga.flow import refusal
from saga.plain import one_line, repr_of
from saga.policy import is_seconds
from saga.saga import Saga
from saga.testing.blocks import Block, entered
from saga.testing.faults import kinds_of
from saga.testing.records import Setting
from saga.testing.stand_ins import StandIn
from saga.testing.worlds import UNKNOWN, state_of

__all__ = ["check_bounds", "check_progress", "setting_of"]


def check_bounds(faults: Any, kinds: Any, seconds: Any, histories: Any, progress: Any) -> None:
    """Refuse what does not bound an exploration.

    :raises SagaDefinitionError: one is wrong.
    """
    if type(faults) is not int or faults < 0:
        raise SagaDefinitionError(f"faults is {faults!r}; give how many a history has at most: a whole number of 0 or more")
    if isinstance(kinds, Sized) and not kinds:
        raise SagaDefinitionError("kinds is empty; name those that are to be tried, or leave it out")
    if histories is not None and (type(histories) is not int or histories < 1):
        raise SagaDefinitionError(f"histories is {histories!r}; give how many are run at most: a whole number of 1 or more")
    if seconds is not None and not is_seconds(seconds):
        raise SagaDefinitionError(f"seconds is {seconds!r}; give a number of 0 or more")
    check_progress(progress, "histories run, histories known to be left")


def check_progress(progress: Any, what: str) -> None:
    """Refuse what cannot be told how far something has come.

    :raises SagaDefinitionError: it is no function.
    """
    if progress is not None and not callable(progress):
        raise SagaDefinitionError(f"progress is {progress!r}; give a function of ({what})")


def setting_of(
    saga: Any,
    context: Any,
    world: Callable[[], Any] | None,
    invariant: Callable[[Any], Any] | None,
    at_end: Callable[[Any, Any], Any] | None,
    kinds: Iterable[str] | None,
    signals: Mapping[str, Any] | None,
    may_fail: Iterable[str],
    durable: bool | None,
    check: bool = True,
) -> Setting:
    """Return what histories have in common.

    :raises SagaDefinitionError: something is wrong with what is given.
    """
    if world is not None and not callable(world):
        raise SagaDefinitionError(
            f"world is {world!r}; give what makes a new one for each history: a class, or a function that resets it and "
            "returns it"
        )

    for name, function, what in (("invariant", invariant, "the world"), ("at_end", at_end, "(the world, the result)")):
        if function is not None and not callable(function):
            raise SagaDefinitionError(f"{name} is {function!r}; give a function of {what}")
    for name, value in (("durable", durable), ("check", check)):
        if value is not None and type(value) is not bool:
            raise SagaDefinitionError(f"{name} is {value!r}; give True or False")
    if signals is not None and not isinstance(signals, Mapping):
        raise SagaDefinitionError(f"signals is {signals!r}; give a mapping of their names to their values")

    def define(world: Any) -> Definition:
        return block.recovery() if block is not None else replace(_made(saga, world).definition, **_ALONE)

    def make() -> tuple[Any, Definition, Context]:
        made = None if world is None else world()
        definition = define(made)
        if block is not None:
            return made, definition, Context()
        given = context() if callable(context) and not isinstance(context, Context) else _copied(context)
        begun = as_context({} if given is None else given, definition.name, definition.context, definition.plan.needs)
        return made, definition, begun

    block: Block | None = None
    first = None if world is None else world()
    found = _made_or_run(saga, first)
    if isinstance(found, Block):
        block = found
        if context is not None:
            raise SagaDefinitionError(
                f"transaction {block.definition.name!r}: a block makes its own context; leave it out, and give a function that "
                "knows its input: lambda world: place_order(world, order)"
            )
    first, definition, _ = make()
    if first is not None and state_of(first) is UNKNOWN:
        raise SagaDefinitionError(
            f"the world is {repr_of(first)}, whose states cannot be compared; give its class a method state() that returns "
            "a snapshot, or make it a dataclass; where nothing is to be compared, let world return None"
        )
    stored = block.stored if block is not None else _made(saga, first).store is not None
    plan = definition.plan
    if plan.asynchronous and asyncio._get_running_loop() is not None:
        raise SagaDefinitionError(
            f"saga {definition.name!r} has async tasks and an event loop runs here: explore it in a plain function, or with "
            "await asyncio.to_thread(explore, ...)"
        )
    received = plan.signals
    for name in signals or ():
        if name not in received:
            known = ", ".join(sorted(received)) or "none"
            raise SagaDefinitionError(
                f"saga {definition.name!r} receives no signal {name!r}{near(str(name), received)}; signals: {known}"
            )
    for name in received:
        refused = refusal(plan.accepts, name, (signals or {}).get(name))
        if refused is not None:
            raise SagaDefinitionError(f"saga {definition.name!r}: {refused}; give signals={{{name!r}: a value that fits}}")
    needs_one = plan.receives or plan.asks is not None or plan.transacts is not None
    has_store = durable if durable is not None else stored or needs_one
    names = [may_fail] if isinstance(may_fail, str) else list(may_fail)
    for name in () if block is not None else names:
        plan.step(name)
    if block is not None and has_store:
        block.check_durable()
    transacts = next((step for step in plan.steps if step.transactional and not isinstance(step.task, StandIn)), None)
    if transacts is not None:
        raise SagaDefinitionError(
            f"saga {definition.name!r}: step {transacts.name!r} is transactional, and histories have no database; explore "
            "saga.testing.with_stand_ins(the saga, ...), with one for that step"
        )
    named = {
        "world": world,
        "invariant": invariant,
        "at_end": at_end,
        "signals": signals,
        "may_fail": names,
        "durable": durable,
    }
    asked = _asked(saga, context, named)
    return Setting(
        make,
        define,
        has_store,
        kinds_of(kinds, has_store, plan.asynchronous or (block is not None and block.in_loop)),
        invariant,
        signals or {},
        frozenset(names),
        asked,
        block,
    )


def _copied(context: Any) -> Any:
    try:
        return copy.deepcopy(context)
    except Exception as error:
        raise SagaDefinitionError(
            f"the context cannot be copied for each history: {one_line(error)}; give a function that makes one"
        ) from error


def _asked(saga: Any, context: Any, named: Mapping[str, Any]) -> str:
    """Return arguments as they would be written, and ``{}`` for the faults."""
    more = [f"{name}={_written(value)}" for name, value in named.items() if value not in (None, [], {})]
    given = [_written(saga), "{}", *([] if context is None else [_written(context)]), *more]
    return ", ".join(given[:1] + given[1:2] + [one.replace("{", "{{").replace("}", "}}") for one in given[2:]])


def _written(value: Any) -> str:
    """Return how a value is written: by its name, where it has one."""
    if isinstance(value, Saga):
        return "saga"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr_of(value)


def _made(saga: Any, world: Any) -> Saga[Any]:
    """Return a saga for a world."""
    found = _made_or_run(saga, world)
    assert isinstance(found, Saga), "a function makes what it made before"
    return found


def _made_or_run(saga: Any, world: Any) -> Saga[Any] | Block:
    """Return a saga for a world, or the block that a function runs in it."""
    if isinstance(saga, Saga):
        return saga
    if not callable(saga):
        raise SagaDefinitionError(
            f"{saga!r} is no saga, and makes none; give a Saga, a function that returns one, or one that runs a block"
        )
    with_world = not isinstance(saga, type) and _takes_one(saga)
    found = entered(saga if with_world else lambda world: saga(), world)
    if not isinstance(found, Saga | Block):
        raise SagaDefinitionError(f"{saga!r} returned {found!r}, which is no saga, and ran no block")
    return found


def _takes_one(function: Callable[..., Any]) -> bool:
    return any(parameter.kind not in _KEYWORDS for parameter in inspect.signature(function).parameters.values())


_KEYWORDS: Final = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
_ALONE: Final[dict[str, Any]] = {
    "observers": (),
    "limit": None,
    "rate": None,
    "exclusive": None,
    "tags": None,
    "on_compensation_failure": None,
}
"""What of a definition is not so in histories: nobody is told of them, and they wait for no turn."""
