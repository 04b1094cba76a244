"""A step's task as it is called, and its policies, worked out: its own, its task's, and then its saga's. Nothing runs here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga.awaitables import is_generator_function
from saga.errors import SagaDefinitionError
from saga.flow import FunctionTask, PauseTask, Step, UnitTask
from saga.flow.functions import function_name
from saga.flow.keys import requiring
from saga.flow.policies import policies_of, unsaid
from saga.flow.tasks import check_task
from saga.flow.wrapped import Resolver, WrappedTask, are_async, compensates, guarded, resolved, verifies
from saga.policy import unknown_on
from saga.task import Task

__all__ = ["task_and_policies"]


def task_and_policies(flow: Step, resolver: Resolver | None, defaults: Mapping[str, Any]) -> tuple[Task[Any], dict[str, Any]]:
    """Return a step's task, as it is called, and what is not the default of a :class:`PlannedStep`.

    :param defaults: policies that it has where it says nothing of them itself.
    :raises SagaDefinitionError: a policy is wrong.
    """
    task = flow.task if isinstance(flow.task, Task) else _made(flow.task, resolver)
    if type(task) not in (PauseTask, UnitTask):  # which nobody calls
        _refuse_unrunnable(task)
    policies: dict[str, Any] = {}
    if flow.policies or type(task) is not FunctionTask:  # which has no policies of its own
        given = dict(flow.policies)
        breaker = given.pop("breaker", None)
        source = task.kind if isinstance(task, WrappedTask) else task
        policies = policies_of(source, given)
        if breaker is not None:
            task = guarded(task, breaker)
    if compensates(task):
        policies["compensates"] = True
    if verifies(task):
        policies["verifies"] = True
    if defaults:
        _add_defaults(policies, unsaid(flow.task, flow.policies, defaults))
    async_execute, async_compensate, async_verify = are_async(task)
    if async_execute or async_compensate or async_verify:
        policies["asynchronous"] = True
        policies |= {"async_execute": async_execute, "async_compensate": async_compensate, "async_verify": async_verify}
    if policies.get("requires"):
        task = requiring(task, policies["requires"])
    return task, policies


def _add_defaults(policies: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Add to a step's own policies those of its saga, as far as they mean something for it."""
    undone, cut_off = "compensates" in policies, not policies.get("transactional")  # nobody cuts off a transaction
    needed = {"timeout": cut_off, "compensation_timeout": undone and cut_off}
    needed |= {"compensation_retry": undone, "verification_retry": "verifies" in policies}
    for policy, value in defaults.items():
        if policy not in policies and needed.get(policy, True):
            policies[policy] = unknown_on(value) if policy == "unknown_on" else value


def _made(kind: type[Task[Any]], resolver: Resolver | None) -> Task[Any]:
    if resolver is not None:
        return resolved(kind, resolver)
    try:
        return kind()
    except TypeError as error:
        raise SagaDefinitionError(
            f"{kind.__name__} cannot be made without arguments ({error}); give {kind.__name__}(...), or the saga a resolver"
        ) from error


def _refuse_unrunnable(task: Task[Any]) -> None:
    if isinstance(task, FunctionTask):
        for function in (task.action, task.compensation, task.verification):
            if function is not None and function.facts.yields:
                raise SagaDefinitionError(f"{function_name(function.function)} yields; a task returns its result")
        return
    check_task(task.kind if isinstance(task, WrappedTask) else task)
    for call in (task.execute, task.compensate, task.verify):
        if is_generator_function(call):
            raise SagaDefinitionError(f"{function_name(call)} yields; a task returns its result")
