"""Every action of an operator has its place everywhere that actions are named: what fails here names the place."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest

from saga import Saga, step
from saga.events import OperatorActed, SagaStuck, StepStarted
from saga.looking.offers import ORDER
from saga.machine import ACTIONS, State
from saga.machine.folds import fold
from saga.operations import Operations

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guide" / "operations.rst"
NO: Final = ValueError("no")

every = pytest.mark.parametrize("action", ACTIONS)


@every
def test_it_is_a_method_of_operations(action: str) -> None:
    method = inspect.getattr_static(Operations, action, None)
    assert inspect.isfunction(method), f"saga/operations.py: Operations has no {action}()"
    assert "why" in inspect.signature(method).parameters, f"saga/operations.py: {action}() does not ask why"


def test_every_method_that_asks_why_is_an_action() -> None:
    public = {name: method for name, method in vars(Operations).items() if inspect.isfunction(method) and name[0] != "_"}
    plain = {name: method for name, method in public.items() if not inspect.iscoroutinefunction(method)}
    others = {"each", "aeach", "signal"}
    asking = {name for name, method in plain.items() if "why" in inspect.signature(method).parameters} - others
    assert asking == set(ACTIONS), f"saga/machine/operators.py: ACTIONS lacks {asking - set(ACTIONS)}"


@every
def test_what_it_would_do_is_told(action: str) -> None:
    assert action in ORDER, f"saga/looking/offers.py: ORDER has no {action}, so it is not offered"


@every
def test_the_event_names_it(action: str) -> None:
    assert f"``{action}``" in (OperatorActed.__doc__ or ""), f"saga/events.py: the docstring of OperatorActed has no {action}"


@every
def test_the_guide_has_it(action: str) -> None:
    rows = re.findall(r"^``(\w+)\(id,", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert action in rows, f"docs/guide/operations.rst: the table of actions has no {action}"


def stuck(action: str) -> dict[str, Any]:
    """Return the state of a stuck execution, with a step to ask about and a compensation that failed, after an action."""
    plan = Saga("order").add_task(step(lambda: 1, lambda: None, name="a")).plan
    state = State(plan)
    fold(state, StepStarted("a", 1, 1.0))
    state.asking.add(0)
    state.compensations_failed[0] = NO
    fold(state, SagaStuck("...", 1.0))
    fold(state, OperatorActed(action, "a", "ann", "so", 1.0))
    return {name: repr(getattr(state, name)) for name in State.__slots__ if name not in ("plan", "cancelled")}


@every
def test_the_fold_does_something_for_it(action: str) -> None:
    assert stuck(action) != stuck("whistle"), f"saga/machine/decided.py: operator_acted does nothing for {action}"
