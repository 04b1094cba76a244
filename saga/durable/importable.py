"""Steps that another process can find again: functions and task classes at the top level of a module."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from saga.durable.codec import Codec
from saga.errors import EncodingError, SagaDefinitionError
from saga.flow import FunctionTask, Step, step
from saga.policy import ExponentialBackoff, InDoubt, Retry
from saga.task import Task

__all__ = ["read_step", "write_step"]


def write_step(found: Step, codec: Codec) -> str:
    """Return what finds a step again, as JSON.

    :raises SagaDefinitionError: it could not be found again; the text says why.
    """
    where = f"step {found.name!r} in a transaction with a store"
    kept = {key: found.policies[key] for key in ("compensate_on_failure", "pivot") if key in found.policies}
    if "in_doubt" in found.policies:
        kept["in_doubt"] = found.policies["in_doubt"].value
    retry = found.policies.get("compensation_retry")
    if retry is not None:
        kept["compensation_retry"] = _write_retry(retry, where)
    written: dict[str, Any] = {"policies": kept}
    task = found.task
    if isinstance(task, FunctionTask):
        compensation = task.compensation
        written["action"] = _name_of(task.action.function, where)
        written["undo"] = None if compensation is None else _name_of(compensation.function, where)
        arguments = (compensation.args, compensation.kwargs) if compensation is not None else ((), {})
        text = _encoded(arguments, where, codec)
    else:
        if isinstance(task, Task) and vars(task):
            raise SagaDefinitionError(
                f"{where}: {task!r} has attributes ({', '.join(vars(task))}), which are not stored; give the class, and what "
                "differs in the context or as arguments of functions"
            )
        written["class"] = _name_of(task if isinstance(task, type) else type(task), where)
        text = "null"
    return f'{json.dumps(written, separators=(",", ":"))[:-1]},"arguments":{text}}}'


def _encoded(arguments: Any, where: str, codec: Codec) -> str:
    try:
        return codec.encode(arguments, "arguments of the compensation")
    except EncodingError as error:
        raise SagaDefinitionError(f"{where}: {error}") from error


def _name_of(value: Any, where: str) -> str:
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    name = f"{module}:{path}"
    try:
        found = _find(name)
    except LookupError:
        found = None
    if found is not value:
        raise SagaDefinitionError(
            f"{where}: a recovery could not find {value!r} again; give a function or a task class that is defined at the top "
            "level of a module"
        )
    return name


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    if not path.isidentifier():
        raise LookupError(f"{name!r} is not of the form 'module:name'")
    try:
        found = sys.modules.get(module) or import_module(module)
        return getattr(found, path)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{name!r} is not found: {error}") from error


def _write_retry(retry: Retry, where: str) -> dict[str, Any]:
    backoff = retry.backoff
    if isinstance(backoff, ExponentialBackoff):
        waits: Any = [backoff.initial, backoff.factor, backoff.cap, backoff.jitter]
    elif isinstance(backoff, int | float):
        waits = backoff
    else:
        raise SagaDefinitionError(f"{where}: compensation_retry has {backoff!r}, which is not stored; give seconds")
    kinds = retry.retry_on if isinstance(retry.retry_on, tuple) else (retry.retry_on,)
    return {"max_attempts": retry.max_attempts, "backoff": waits, "retry_on": [_name_of(kind, where) for kind in kinds]}


def _read_retry(written: Mapping[str, Any]) -> Retry:
    backoff = written["backoff"]
    kinds = tuple(_find(kind) for kind in written["retry_on"])
    return Retry(written["max_attempts"], ExponentialBackoff(*backoff) if isinstance(backoff, list) else backoff, kinds)


def read_step(name: str, written: Mapping[str, Any]) -> Step:
    try:
        policies = dict(written["policies"])
        if "in_doubt" in policies:
            policies["in_doubt"] = InDoubt(policies["in_doubt"])
        if "compensation_retry" in policies:
            policies["compensation_retry"] = _read_retry(policies["compensation_retry"])
        if "class" in written:
            return step(_find(written["class"]), name=name, **policies)
        args, kwargs = written["arguments"]
        compensation = _find(written["undo"]) if written["undo"] is not None else None
        made = step(_nothing, compensation, name=name, compensate_args=args, compensate_kwargs=kwargs, **policies)
    except LookupError as error:
        raise EncodingError(f"step {name!r} cannot be undone: {error}; put it back") from error
    return made


def _nothing() -> None:
    """Stands for an action that is never called again."""
