"""What sagas that are killed are made of: the names of steps, in flows of every kind; and what a journal makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saga.storage import Entry

_BRANCH = re.compile(r"\[[^]]*]")


@dataclass(frozen=True)
class Instead:
    """A step, and another that is done instead when it fails."""

    primary: str
    alternative: str


@dataclass(frozen=True)
class Together:
    """A parallel group, the branches of which are undone at the same time."""

    branches: tuple[Any, ...]


@dataclass(frozen=True)
class Few:
    """A parallel group, so many branches of which are under way at a time."""

    limit: int
    branches: tuple[Any, ...]


@dataclass(frozen=True)
class Pausing:
    """A wait for some seconds, or for a signal, or the first of several.

    :ivar told: a function of the context says how many seconds.
    :ivar timeout: the seconds it waits for signals; :ivar skipped: the saga goes on without one that does not come in time.
    """

    seconds: float | None = None
    signal: str | None = None
    told: bool = False
    others: tuple[str, ...] = ()
    timeout: float | None = None
    skipped: bool = False


@dataclass(frozen=True)
class Each:
    """What is done for each item of a list. Each time that it is asked for, the list is in another order.

    :ivar name: the step that lists them; :ivar items: one character each.
    :ivar flow: with the steps' names as they are declared: ``ship[]``, or ``all[]/b`` where there are several.
    :ivar keyed: branches are called by their items.
    """

    name: str
    items: str
    flow: Any
    limit: int | None = None
    together: bool = False
    keyed: bool = False

    @property
    def ends_in_a_step(self) -> bool:
        """Whether a branch's last result is that of a step with an effect."""
        return isinstance(self.flow if isinstance(self.flow, str) else self.flow[-1], str)

    def listed(self, number: int) -> list[str]:
        """Return the items, as they are the so manieth time."""
        turn = number % max(1, len(self.items))
        return [*self.items[turn:], *self.items[:turn]]


@dataclass(frozen=True)
class Choosing:
    """A step that decides, and flows by what it decides. Each time that it is asked, it decides for the next of them.

    :ivar by: the key of the context by which it decides, where it does not ask.
    :ivar otherwise: the flow for what it decides besides.
    """

    name: str
    ways: dict[str, Any]
    by: str | None = None
    otherwise: Any = None

    def decided(self, number: int) -> str:
        """Return what it decides the so manieth time."""
        decisions = [*self.ways, *(() if self.otherwise is None else ("something else",))]
        return decisions[number % len(decisions)]


# -- names in flows ---------------------------------------------------------------------------------------------------------


def local(name: str) -> str:
    """Return what a step is called where it stands: in a branch, without that one's name."""
    return name.rpartition("/")[2]


def declared(name: str) -> str:
    """Return what a step is called as it is declared: ``all[]/b``, where it is ``all[2]/b``."""
    return _BRANCH.sub("[]", name)


def beside(name: str, other: str) -> str:
    """Return what a step is called in the branches that another is in: ``all[2]/b`` beside ``all[2]/c``."""
    branches = iter(_BRANCH.findall(other))
    return re.sub(r"\[]", lambda found: next(branches), name)


def parts(flow: Any) -> tuple[Any, ...]:
    """Return the flows that a flow is made of."""
    if isinstance(flow, Together | Few):
        return flow.branches
    if isinstance(flow, Instead):
        return flow.primary, flow.alternative
    if isinstance(flow, Each):
        return (flow.flow,)
    if isinstance(flow, Choosing):
        return (*flow.ways.values(), *(() if flow.otherwise is None else (flow.otherwise,)))
    return () if isinstance(flow, Pausing) else tuple(flow)


def names_in(flow: Any) -> list[str]:
    """Return the names of a flow's steps, but for those that list or decide."""
    return [flow] if isinstance(flow, str) else [name for part in parts(flow) for name in names_in(part)]


def all_of(kind: type[Any], flow: Any) -> list[Any]:
    """Return what is of a kind in a flow, as it is declared."""
    if isinstance(flow, str):
        return []
    return [*([flow] if isinstance(flow, kind) else []), *(one for part in parts(flow) for one in all_of(kind, part))]


def alternatives(flow: Any) -> set[str]:
    """Return both steps of each fallback: a saga may complete without either."""
    return {name for one in all_of(Instead, flow) for name in (one.primary, one.alternative)}


def primaries(flow: Any) -> set[str]:
    """Return the first step of each fallback."""
    return {one.primary for one in all_of(Instead, flow)}


# -- lists and decisions, as a journal has them -------------------------------------------------------------------------------


def results_of(journal: Sequence[Entry]) -> dict[str, Any]:
    """Return what steps have returned, as it is stored."""
    return {
        entry.step or "": json.loads(entry.payload).get("result")
        for entry in journal
        if entry.kind == "StepSucceeded" and entry.step is not None
    }


def keyed(listed: Any) -> dict[Any, str]:
    """Return items by what their branches are called by."""
    return listed if isinstance(listed, dict) else dict(enumerate(listed))


def _renamed(flow: Any, rename: Callable[[str], str]) -> Any:
    """Return a flow with other names of its steps."""
    if isinstance(flow, str):
        return rename(flow)
    if isinstance(flow, tuple | list):
        return type(flow)(_renamed(part, rename) for part in flow)
    if isinstance(flow, Each):
        return replace(flow, name=rename(flow.name), flow=_renamed(flow.flow, rename))
    if isinstance(flow, Choosing):
        ways = {decision: _renamed(way, rename) for decision, way in flow.ways.items()}
        otherwise = None if flow.otherwise is None else _renamed(flow.otherwise, rename)
        return replace(flow, name=rename(flow.name), ways=ways, otherwise=otherwise)
    assert isinstance(flow, Pausing), flow
    return flow


def branches(flow: Each, listed: Any) -> list[Any]:
    """Return the flows of what was listed."""

    def of(key: Any) -> Any:
        return _renamed(flow.flow, lambda name: name.replace(f"{flow.name}[]", f"{flow.name}[{key}]", 1))

    return [of(key) for key in keyed(listed)]


def told(flow: Any, results: dict[str, Any]) -> Any:
    """Return a flow with the branches that were listed, and the ways that were taken; of others it has no steps."""
    if isinstance(flow, Each):
        done = [told(branch, results) for branch in branches(flow, results.get(flow.name, ()))]
        return Together(tuple(done)) if flow.together else done
    if isinstance(flow, Choosing):
        if flow.name not in results:
            return ()
        return told(flow.ways.get(results[flow.name], flow.otherwise), results)
    if isinstance(flow, tuple | list):
        return type(flow)(told(part, results) for part in flow)
    return flow  # what stands in other flows is steps


def instances(kind: type[Any], flow: Any, results: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the steps that list, or decide, in each branch that is listed.

    :param kind: :class:`Each` or :class:`Choosing`.
    """
    if isinstance(flow, str):
        return
    if isinstance(flow, kind):
        yield flow.name
    for part in branches(flow, results.get(flow.name, ())) if isinstance(flow, Each) else parts(flow):
        yield from instances(kind, part, results)
