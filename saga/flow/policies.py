"""Policies of a step: which there are, and what of them is refused. What they do is :mod:`saga.machine`'s affair."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any, Final, TypedDict

from saga.errors import SagaDefinitionError, near
from saga.flow.keys import keys_of
from saga.policy import ErrorKinds, InDoubt, OnError, Retry, Seconds, checked_on_error, seconds_of, unknown_on
from saga.task import Task

__all__ = [
    "DEFAULTS",
    "KEYS",
    "MEANT",
    "POLICIES",
    "Policies",
    "check_policies",
    "check_unit_policies",
    "checked",
    "defaults_of",
    "policies_of",
    "unsaid",
]


class Policies(TypedDict, total=False):
    """How a step behaves when it fails, takes long or is left in doubt, and which keys of the context it reads and sets.

    See the attributes of :class:`~saga.task.Task`.
    """

    retry: Retry | None
    timeout: Seconds | None
    on_error: OnError | Retry | None
    compensation_retry: Retry | None
    compensation_timeout: Seconds | None
    compensate_on_failure: bool
    in_doubt: InDoubt
    pivot: bool
    transactional: bool
    unknown_on: ErrorKinds | None
    verification_retry: Retry | None
    requires: Iterable[str] | None
    provides: Iterable[str] | None


POLICIES: Final = tuple(Policies.__annotations__)
_UNSAID: Final = {policy: getattr(Task, policy) for policy in POLICIES}
_RETRIES: Final = ("retry", "compensation_retry", "verification_retry")

KEYS: Final = ("requires", "provides")
"""What of them names keys of the context."""

#: What a saga says for the steps that say nothing themselves, by its own name for it: which policy of theirs that is.
DEFAULTS: Final = {
    "retry": "retry",
    "step_timeout": "timeout",
    "on_error": "on_error",
    "unknown_on": "unknown_on",
    "compensation_retry": "compensation_retry",
    "compensation_timeout": "compensation_timeout",
    "verification_retry": "verification_retry",
}
_LEFT_TO_THE_SAGA: Final = ("on_error", "unknown_on")  # where a step says None

#: What the same is called elsewhere.
MEANT: Final = {
    **dict.fromkeys(("retries", "max_retries", "max_attempts", "attempts", "retry_policy", "retry_count", "tries"), "retry"),
    **dict.fromkeys(("deadline", "time_limit", "timeout_seconds", "timeout_s", "max_time"), "timeout"),
    **dict.fromkeys(("undo_timeout", "compensate_timeout", "rollback_timeout"), "compensation_timeout"),
    **dict.fromkeys(("on_failure", "error_policy"), "on_error"),
    **dict.fromkeys(("compensation", "compensator", "undo", "rollback", "roll_back", "revert"), "compensate"),
    **dict.fromkeys(("needs", "reads"), "requires"),
    **dict.fromkeys(("produces", "writes"), "provides"),
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


def check_unit_policies(where: str, policies: Mapping[str, Any]) -> None:
    """Refuse values that are none of a unit's policies.

    :raises SagaDefinitionError: with ``where`` in the text.
    """
    check_policies(where, policies)
    for policy in policies.values():
        if isinstance(policy, Retry) and policy.retry_if is not None:
            raise SagaDefinitionError(
                f"{where}: retry has retry_if, which is asked about what one step returns; give it to that"
            )


def policies_of(task: Task[Any] | type[Task[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policies of a task in a step that are not the default: its own, and instead of these what the step is given.

    :raises SagaDefinitionError: one is wrong.
    """
    return checked({policy: getattr(task, policy) for policy in POLICIES} | _own_unknown_on(task) | dict(given))


def defaults_of(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return by policy what a saga's or a block's options say for the steps that say nothing themselves.

    :raises SagaDefinitionError: one is wrong; ``where`` is in the text.
    """
    found = {policy: options[option] for option, policy in DEFAULTS.items() if options.get(option) is not None}
    if not found:
        return found
    checked_on_error(found.get("on_error"), where)
    for option in ("step_timeout", "compensation_timeout"):
        if DEFAULTS[option] in found:
            found[DEFAULTS[option]] = seconds_of(found[DEFAULTS[option]], f"{where}: {option}")
    try:
        checked(found)
    except SagaDefinitionError as error:
        raise SagaDefinitionError(f"{where}: {error}") from None
    if "retry" in found and found["retry"].retry_if is not None:
        raise SagaDefinitionError(
            f"{where}: retry has retry_if, which is asked about what one step returns; give it to that step"
        )
    return found


def unsaid(task: Task[Any] | type[Task[Any]], given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those defaults of a saga of which neither a step nor its task says anything: ``None`` says that there is none."""
    kind = task if isinstance(task, type) else type(task)
    said = {*given, *getattr(task, "__dict__", ()), *(name for one in kind.__mro__ if one is not Task for name in vars(one))}
    return {policy: value for policy, value in defaults.items() if policy in _LEFT_TO_THE_SAGA or policy not in said}


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
    policies = {policy: value for policy, value in given.items() if value is not _UNSAID[policy]}
    if not policies:
        return policies
    for policy in _RETRIES:
        if policy in policies:
            _check_retry(policy, policies[policy])
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
        if policy in policies:
            policies[policy] = seconds_of(policies[policy], policy)
    for policy in KEYS:
        if policy in policies:
            policies[policy] = keys_of(policies[policy], policy)
    return policies


def _check_retry(policy: str, retry: Any) -> None:
    if not isinstance(retry, Retry):
        raise SagaDefinitionError(f"{policy} is {retry!r}; give Retry(max_attempts, ...)")
    if retry.then is not None:
        raise SagaDefinitionError(
            f"{policy} has then={retry.then}, which has no effect there; give on_error=Retry(..., then=...)"
        )
    if retry.retry_if is not None and policy != "retry":
        raise SagaDefinitionError(f"{policy} has retry_if, and only execute returns what it is asked about; leave it out")
