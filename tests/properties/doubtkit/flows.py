"""The sagas and steps of a case, which act on the world outside."""

from __future__ import annotations

from typing import Any

from saga import Saga, fallback, parallel, sequence, step
from tests.properties.doubtkit import world as outside
from tests.properties.doubtkit.cases import UNKNOWN_ON, Case, Instead, Leaf, Many, Node


def of_leaf(leaf: Leaf) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of ``step`` for a step."""
    in_loop = leaf.colours
    options = dict(leaf.policies, name=leaf.name)
    if leaf.unknown_on:
        options["unknown_on"] = UNKNOWN_ON[leaf.unknown_on][0]
    if leaf.verify is not None:
        options["verify"] = outside.averify if in_loop[1] else outside.verify
    compensate = (outside.aundo if in_loop[2] else outside.undo) if leaf.undo is not None else None
    return (outside.aexecute if in_loop[0] else outside.execute, compensate), options


def flow_of(node: Node) -> Any:
    if isinstance(node, Leaf):
        action, options = of_leaf(node)
        return step(*action, **options)
    if isinstance(node, Instead):
        return fallback(flow_of(node.primary), flow_of(node.alternative))
    parts = [flow_of(child) for child in node.children]
    if node.kind == "sequence":
        return sequence(*parts)
    if node.kind == "saga":
        inner = Saga(node.name, unknown_on=UNKNOWN_ON[node.unknown_on][0] if node.unknown_on else None)
        for part in parts:
            inner.add_task(part)
        return inner
    return parallel(*parts, compensate_together=node.kind == "together")


def saga_of(case: Case, name: str, store: Any, observers: list[Any]) -> Saga:
    """Return the saga of a case."""
    saga = Saga(
        name,
        store=store,
        timeout=case.timeout,
        stop_on_compensation_failure=case.stop,
        unknown_on=UNKNOWN_ON[case.unknown_on][0],
        observers=observers,
    )
    return saga.add_task(flow_of(case.flow))


def block_leaves(case: Case) -> list[Leaf]:
    assert isinstance(case.flow, Many)
    return [one for one in case.flow.children if isinstance(one, Leaf)]
