"""The smallest case that still breaks the law: whatever can be left out of a failing one is left out, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.properties.doubtkit.cases import Case, Instead, Leaf, Many, Node


def shrunk(case: Case, fails: Callable[[Case], bool], most: int = 2000) -> Case:
    """Return the smallest case found that fails too, after ``most`` tries."""
    tries = 0
    again = True
    while again:
        again = False
        for smaller in smaller_cases(case):
            tries += 1
            if tries > most:
                return case
            if fails(smaller):
                case, again = smaller, True
                break
    return case


def smaller_cases(case: Case) -> Iterator[Case]:
    """Every case that has a bit less."""
    block = "block" in case.front
    for flow in smaller_flows(case.flow, block, top=True):
        yield replace(case, flow=flow)
    for at in range(len(case.deaths)):
        yield replace(case, deaths=(*case.deaths[:at], *case.deaths[at + 1 :]))
        if case.deaths[at] is not None:
            yield replace(case, deaths=(*case.deaths[:at], None, *case.deaths[at + 1 :]))
    for at in range(len(case.people)):
        yield replace(case, people=(*case.people[:at], *case.people[at + 1 :]))
    simple: dict[str, Any] = {"timeout": None, "stop": False, "unknown_on": "default", "late": False, "body": False}
    simple |= {"knows": True, "watched": True}
    for name, value in simple.items():
        if getattr(case, name) != value:
            yield replace(case, **{name: value})
    fronts = {"loop": "threads", "ablock": "block", "block": "threads"}
    if case.front in fronts and not any(map(any, colours_of(case.flow))):
        yield replace(case, front=fronts[case.front])


def colours_of(node: Node) -> Iterator[tuple[bool, bool, bool]]:
    """The colours of a flow's steps."""
    if isinstance(node, Leaf):
        yield node.colours
    elif isinstance(node, Instead):
        yield node.primary.colours
        yield from colours_of(node.alternative)
    else:
        for child in node.children:
            yield from colours_of(child)


def smaller_flows(node: Node, block: bool, top: bool = False) -> Iterator[Node]:
    """Every flow that has a bit less. That of a case stays a sequence, that of a block one of steps."""
    if isinstance(node, Leaf):
        yield from smaller_leaves(node)
        return
    if isinstance(node, Instead):
        yield node.alternative
        yield node.primary
        for primary in smaller_leaves(node.primary):
            yield replace(node, primary=primary)
        for alternative in smaller_flows(node.alternative, block):
            yield replace(node, alternative=alternative)
        return
    assert isinstance(node, Many)
    children = node.children
    if not top:
        yield from children
    least = 2 if node.kind in ("parallel", "together") else 1
    for at in range(len(children)):
        if len(children) > least:
            yield replace(node, children=(*children[:at], *children[at + 1 :]))
        child = children[at]
        if isinstance(child, Many) and node.kind in ("sequence", "saga") and child.kind == "sequence":
            yield replace(node, children=(*children[:at], *child.children, *children[at + 1 :]))
        for smaller in smaller_flows(child, block):
            yield replace(node, children=(*children[:at], smaller, *children[at + 1 :]))
    if node.kind == "together":
        yield replace(node, kind="parallel")
    if node.kind == "saga":
        yield replace(node, kind="sequence", name="", unknown_on="")


def smaller_leaves(leaf: Leaf) -> Iterator[Leaf]:
    """Every step that has a bit less go wrong."""
    if leaf.execute:
        yield replace(leaf, execute=())
    for at in range(len(leaf.execute)):
        yield replace(leaf, execute=(*leaf.execute[:at], *leaf.execute[at + 1 :]))
    for name in leaf.policies:
        if not (name == "timeout" and any(act.startswith("hang") for act in leaf.execute)):
            yield replace(leaf, policies={key: value for key, value in leaf.policies.items() if key != name})
    if leaf.verify is not None:
        yield replace(leaf, verify=None)
        for at in range(len(leaf.verify) - 1):
            yield replace(leaf, verify=(*leaf.verify[:at], *leaf.verify[at + 1 :]))
        if leaf.verify[-1] != "truth":
            yield replace(leaf, verify=(*leaf.verify[:-1], "truth"))
    if leaf.undo is None:
        yield replace(leaf, undo=("ok",))
    elif leaf.undo != ("ok",):
        yield replace(leaf, undo=("ok",))
        for at in range(len(leaf.undo) - 1):
            yield replace(leaf, undo=(*leaf.undo[:at], *leaf.undo[at + 1 :]))
    if leaf.unknown_on:
        yield replace(leaf, unknown_on="")
    if any(leaf.colours):
        yield replace(leaf, colours=(False, False, False))
        for at in range(3):
            if leaf.colours[at]:
                yield replace(leaf, colours=tuple(one and place != at for place, one in enumerate(leaf.colours)))  # type: ignore[arg-type]
