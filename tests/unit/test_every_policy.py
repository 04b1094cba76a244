"""Every policy of a step has its place everywhere that policies are named: what fails here names the place."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from saga import ExponentialBackoff, InDoubt, Retry, Saga, Skip, Task, step
from saga.diagram import words
from saga.durable.codec import Codec
from saga.durable.importable import KEPT, OF_EXECUTE, read_step, write_step
from saga.errors import EncodingError, SagaDefinitionError
from saga.flow import POLICIES, Step
from saga.machine import PlannedStep

DOCS: Final = Path(__file__).parents[2] / "docs"

#: A value of each policy that is not its default.
VALUES: Final[dict[str, Any]] = {
    "retry": Retry(2, 0.5, (OSError,)),
    "timeout": 2.5,
    "on_error": Skip,
    "compensation_retry": Retry(4, ExponentialBackoff(0.1, 3.0, 9.0, True), (ValueError, OSError)),
    "compensation_timeout": 7.5,
    "compensate_on_failure": True,
    "in_doubt": InDoubt.ASK,
    "unknown_on": (OSError,),
    "verification_retry": Retry(3, 0.25, (KeyError,)),
    "pivot": True,
    "transactional": True,
    "requires": ("order_id",),
    "provides": ("receipt",),
}

CODEC: Final = Codec(modules=[__name__])

every = pytest.mark.parametrize("policy", POLICIES)


#: Fields of a retry that mean nothing where ``compensate`` or ``verify`` is attempted again, and are refused there.
OF_NO_UNDO: Final = ("then", "retry_if")


def is_busy(error: Exception) -> bool:
    return "busy" in str(error)


def charge() -> None:
    pass


def refund() -> None:
    pass


class Charge(Task[None]):
    compensation_retry = Retry(9)

    def execute(self, context: Any) -> None:
        pass


def look_up() -> None:
    pass


def planned(**policies: Any) -> PlannedStep:
    return Saga("order").add_task(step(charge, refund, name="charge", verify=look_up, **policies)).plan.step("charge")


@every
def test_it_has_a_value_here(policy: str) -> None:
    assert policy in VALUES, f"tests/unit/test_every_policy.py: VALUES has no {policy}"


@every
def test_a_task_has_it_as_an_attribute(policy: str) -> None:
    assert policy in vars(Task), f"saga/task.py: Task has no {policy}"
    assert VALUES[policy] != getattr(Task, policy), f"tests/unit/test_every_policy.py: VALUES has the default of {policy}"
    annotated = inspect.get_annotations(Task)
    assert policy in annotated, f"saga/task.py: Task.{policy} has no type"


def test_a_task_has_no_attribute_that_is_no_policy() -> None:
    other = set(inspect.get_annotations(Task)) - {"name", *POLICIES}
    assert not other, f"saga/flow/policies.py: Policies lacks {other}, which Task has"


@every
def test_a_planned_step_has_it(policy: str) -> None:
    assert policy in vars(PlannedStep), f"saga/machine/plan.py: PlannedStep has no default of {policy}"
    found = getattr(planned(**{policy: VALUES[policy]}), policy)
    if policy == "unknown_on":  # a plan has the function that is meant
        found = tuple(kind for kind in (OSError, ValueError) if found(kind()))
    assert found == VALUES[policy], f"saga/machine/compile.py loses {policy}"


@every
def test_a_wrong_value_is_refused(policy: str) -> None:
    why = ""
    try:
        planned(**{policy: object()})
    except SagaDefinitionError as refused:
        why = str(refused)
    assert f"{policy} is <object" in why, f"saga/flow/policies.py: checked takes anything as {policy}"


@every
def test_a_diagram_tells_it(policy: str) -> None:
    said = words.policies(planned(**{policy: VALUES[policy]}))
    assert said != words.policies(planned()), f"saga/diagram/words.py: policies() says nothing of {policy}"


@every
def test_a_stored_block_keeps_it_or_its_undo_does_not_ask_for_it(policy: str) -> None:
    assert (policy in KEPT) != (policy in OF_EXECUTE), f"saga/durable/importable.py: {policy} is in one of KEPT and OF_EXECUTE"


def back(found: Step) -> Step:
    """Return a step as a recovery finds it again."""
    return read_step(found.name, CODEC.decode(write_step(found, CODEC)), CODEC)


def test_all_policies_of_an_undo_come_back() -> None:
    policies = back(Step(step(charge, refund).task, "charge", VALUES)).policies
    for policy in POLICIES:
        if policy not in OF_EXECUTE:
            assert policies.get(policy) == VALUES[policy], f"saga/durable/importable.py loses {policy}"


def test_that_a_step_has_less_than_its_task_comes_back() -> None:
    assert back(step(Charge, name="charge", compensation_retry=None)).policies == {"compensation_retry": None}


def test_a_policy_that_cannot_be_stored_is_refused_by_name() -> None:
    with pytest.raises(SagaDefinitionError, match="step 'charge' in a transaction with a store: color, tone is not stored"):
        write_step(Step(step(charge).task, "charge", {"tone": 1, "color": 2, "pivot": True}), CODEC)


def test_a_stored_policy_that_is_not_known_is_refused_by_name() -> None:
    written = CODEC.decode(write_step(step(charge, refund), CODEC))
    written["policies"]["color"] = 1
    with pytest.raises(EncodingError, match="step 'charge' cannot be undone: this version knows no color"):
        read_step("charge", written, CODEC)


@every
def test_the_documentation_names_it(policy: str) -> None:
    rows = re.findall(r"^``(\w+)``  ", (DOCS / "guide" / "tasks.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert policy in rows, f"docs/guide/tasks.rst: the table of policies has no {policy}"
    assert f"* ``{policy}``: " in (step.__doc__ or ""), f"saga/flow/build.py: the docstring of step() does not explain {policy}"
    assert f":ivar {policy}: " in (Task.__doc__ or ""), f"saga/task.py: the docstring of Task does not explain {policy}"


def test_every_field_of_a_retry_is_kept_in_a_stored_block() -> None:
    retry = Retry(7, ExponentialBackoff(0.5, factor=3.0, cap=9.0, jitter=True), (OSError, is_busy), 90.0)
    for one in (retry, retry.backoff):
        for field in dataclasses.fields(one):
            different = getattr(one, field.name) != field.default
            assert different or field.name in OF_NO_UNDO, (
                f"give {type(one).__name__}.{field.name} here another value than its default"
            )
    write, read = KEPT["compensation_retry"]
    written = json.loads(json.dumps(write(retry, "here", Codec(modules=[__name__]))))
    found = read(written, {f"{__name__}:is_busy": is_busy}.__getitem__)  # as functions are found that an undo calls
    assert found == retry, "saga/durable/importable.py: _write_retry, _read_retry"


def test_a_function_that_a_recovery_would_not_call_is_refused_in_a_stored_block() -> None:
    retry = Retry(7, retry_on=is_busy)
    with pytest.raises(SagaDefinitionError, match="a recovery would not call <function is_busy"):
        write_step(step(charge, compensation_retry=retry), Codec(modules=["shop"]))
