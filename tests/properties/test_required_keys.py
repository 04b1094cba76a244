"""Random flows whose steps say which keys they require and provide: what is found of them before they run is what happens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from saga import Context, Flow, Saga, SagaResult, Skip, choose, each, fallback, parallel, sequence, step
from saga.errors import MergeConflictError, MissingKeyError
from saga.events import StepFailed, StepStarted

KEYS: Final = ("k", "l", "m")
KINDS: Final = ("step", "skip", "sequence", "parallel", "choose", "fallback", "each")
some_keys = st.sets(st.sampled_from(KEYS), max_size=2)


@dataclass
class Drawn:
    """A flow, and what there is to know of its steps.

    :ivar called: the steps whose function was called.
    :ivar untold: whether one says nothing of what it sets.
    """

    draw: Any
    called: set[str] = field(default_factory=set)
    untold: bool = False
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def step(self, may_fail: bool = True, **policies: Any) -> Flow:
        """Return a step that sets what it provides, each time to another value, or fails."""
        name = f"s{next(self.numbers)}"
        fails = may_fail and self.draw(st.integers(0, 5)) == 0
        requires, provides = self.draw(some_keys), self.draw(some_keys)
        says = {"requires": requires, "provides": provides}
        if self.draw(st.integers(0, 7)) == 0:
            says, self.untold = {}, True

        def act(context: Context) -> None:
            self.called.add(context.step.name)
            assert not says or requires <= context.keys()
            if fails:
                raise ValueError(name)
            context.update(dict.fromkeys(provides, context.step.name))

        return step(act, name=name, **says, **policies)

    def flow(self, depth: int) -> Flow:
        """Return a flow."""
        kind = self.draw(st.sampled_from(KINDS if depth else ["step"]))
        if kind == "step":
            return self.step()
        if kind == "skip":
            return self.step(on_error=Skip)
        if kind == "fallback":
            return fallback(self.step(), self.flow(depth - 1))
        if kind == "each":
            items = ["x"] * self.draw(st.integers(0, 2))
            return each(lambda context: items, self.flow(depth - 1), name=f"each{next(self.numbers)}")
        children = [self.flow(depth - 1) for _ in range(self.draw(st.integers(2, 3)))]
        if kind == "choose":
            way = self.draw(st.integers(0, len(children) - 1))
            return choose(lambda context: way, dict(enumerate(children)), name=f"choose{next(self.numbers)}")
        return sequence(*children) if kind == "sequence" else parallel(*children)


@st.composite
def drawn(draw: Any) -> tuple[Saga[Any], Drawn]:
    """Return a saga, and what is known of it."""
    known = Drawn(draw)
    saga = Saga[Any]("s")
    for _ in range(draw(st.integers(1, 4))):
        saga.add_task(known.flow(2))
    return saga, known


def errors_of(result: SagaResult[Any]) -> dict[str, BaseException]:
    """Return what steps have failed with, by name."""
    return {event.step: event.error for event in result.events if isinstance(event, StepFailed)}


def template_of(step: str) -> str:
    """Return what a finding calls the step of an item."""
    return step.replace("[0]", "[]").replace("[1]", "[]")


@given(drawn(), some_keys, st.booleans())
def test_what_is_found_is_what_happens(made: tuple[Saga[Any], Drawn], has: set[str], in_loop: bool) -> None:
    saga, known = made
    context = dict.fromkeys(has, "input")
    found = saga.check(given=context)
    needs = saga.plan.needs
    if needs.keys() - has:
        assert {(needs[key], key) for key in needs.keys() - has} <= {
            (one.step, one.key) for one in found if one.what == "missing"
        }
        return
    result = asyncio.run(saga.atry_execute(context)) if in_loop else saga.try_execute(context)
    lacking = {template_of(step) for step, error in errors_of(result).items() if isinstance(error, MissingKeyError)}
    begun = {template_of(event.step) for event in result.events if isinstance(event, StepStarted)}
    told = {one.step for one in found if one.what in ("missing", "perhaps missing")}
    assert lacking <= told, "what lacks a key was told of"
    assert {one.step for one in found if one.what == "missing"} & begun <= lacking, "what was said to lack a key does"
    assert not lacking & {template_of(step) for step in known.called}, "what lacks a key is not called"
    if isinstance(result.error, MergeConflictError) and not known.untold:
        assert any(one.what == "in conflict" and f"{one.key!r}" in str(result.error) for one in found)
