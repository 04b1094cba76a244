"""Policies of a step: which there are, and what of them is refused. What they do is :mod:`saga.machine`'s affair."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MethodType
from typing import Any, Final, TypedDict

from saga.errors import SagaDefinitionError, near
from saga.policy import InDoubt, OnError, Retry, UnknownOn, check_timeout, unknown_on
from saga.task import Task

__all__ = ["MEANT", "POLICIES", "Policies", "check_policies", "checked", "policies_of"]


class Policies(TypedDict, total=False):
    """How a step behaves when it fails, takes long or is left in doubt: see the attributes of :class:`~saga.task.Task`."""

    retry: Retry | None
    timeout: float | None
    on_error: OnError | Retry | None
    compensation_retry: Retry | None
    compensation_timeout: float | None
    compensate_on_failure: bool
    in_doubt: InDoubt
    pivot: bool
    transactional: bool
    unknown_on: UnknownOn | None
    verification_retry: Retry | None


POLICIES: Final = tuple(Policies.__annotations__)
_DEFAULTS: Final = {policy: getattr(Task, policy) for policy in POLICIES}
_RETRIES: Final = ("retry", "compensation_retry", "verification_retry")

#: What the same is called elsewhere.
MEANT: Final = {
    **dict.fromkeys(("retries", "max_retries", "max_attempts", "attempts", "retry_policy", "retry_count", "tries"), "retry"),
    **dict.fromkeys(("deadline", "time_limit", "timeout_seconds", "timeout_s", "max_time"), "timeout"),
    **dict.fromkeys(("undo_timeout", "compensate_timeout", "rollback_timeout"), "compensation_timeout"),
    **dict.fromkeys(("on_failure", "error_policy"), "on_error"),
    **dict.fromkeys(("compensation", "compensator", "undo", "rollback", "roll_back", "revert"), "compensate"),
    "verification": "verify",
}


def check_policies(where: str, policies: Mapping[str, Any]) -> None:
    """Refuse what is no policy of a step, or none of its values.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    for policy in policies:
        if policy not in POLICIES:
            known = (*POLICIES, "name", "compensate", "verify")
            meant = f"; did you mean {MEANT[policy]!r}?" if policy in MEANT else near(policy, known)
            raise SagaDefinitionError(f"{where} knows no {policy!r}{meant}; policies are {', '.join(POLICIES)}")
    try:
        checked(policies)
    except SagaDefinitionError as error:
        raise SagaDefinitionError(f"{where}: {error}") from None


def policies_of(task: Task[Any] | type[Task[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policies of a task in a step that are not the default: its own, and instead of these what the step is given.

    :raises SagaDefinitionError: one is wrong.
    """
    return checked({policy: getattr(task, policy) for policy in POLICIES} | _own_unknown_on(task) | dict(given))


def _own_unknown_on(task: Any) -> dict[str, Any]:
    """Return a task's ``unknown_on`` where it is a function of the error that stands in the class, and is no method."""
    found = getattr(task, "unknown_on", None)
    if not isinstance(found, MethodType) or inspect.signature(found).parameters:
        return {}
    return {"unknown_on": found.__func__}


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policies that are not the default, as a planned step has them.

    :raises SagaDefinitionError: one is wrong.
    """
    policies = {policy: value for policy, value in given.items() if value is not _DEFAULTS[policy]}
    if not policies:
        return policies
    for policy in _RETRIES:
        if policy in policies and not isinstance(policies[policy], Retry):
            raise SagaDefinitionError(f"{policy} is {policies[policy]!r}; give Retry(max_attempts, ...)")
    on_error = policies.get("on_error")
    if isinstance(on_error, Retry):
        if "retry" in policies:
            raise SagaDefinitionError("give retry= or on_error=Retry(...), not both")
        policies["retry"] = on_error
        del policies["on_error"]
        if on_error.then is not None:
            policies["on_error"] = on_error.then
    elif "on_error" in policies and not isinstance(on_error, OnError):
        raise SagaDefinitionError(f"on_error is {on_error!r}; give Compensate, Skip, Ask or Retry(..., then=...)")
    if "in_doubt" in policies and not isinstance(policies["in_doubt"], InDoubt):
        raise SagaDefinitionError(f"in_doubt is {policies['in_doubt']!r}; give InDoubt.RERUN, COMPENSATE or ASK")
    if "unknown_on" in policies:
        policies["unknown_on"] = unknown_on(policies["unknown_on"])
    for policy in ("compensate_on_failure", "pivot", "transactional"):
        if not isinstance(policies.get(policy, False), bool):
            raise SagaDefinitionError(f"{policy} is {policies[policy]!r}; give a bool")
    for policy in ("timeout", "compensation_timeout"):
        check_timeout(policies.get(policy), policy)
    return policies
