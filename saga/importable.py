"""Steps that another process can find again: functions and task classes at the top level of a module."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from saga.codec import Codec
from saga.errors import EncodingError, SagaDefinitionError
from saga.flow import FunctionTask, Step, step
from saga.task import Task

__all__ = ["read_step", "write_step"]


def write_step(found: Step, codec: Codec) -> str:
    """Return what finds a step again, as JSON.

    :raises SagaDefinitionError: it could not be found again; the text says why.
    """
    where = f"step {found.name!r} in a transaction with a store"
    kept = {key: found.policies[key] for key in ("compensate_on_failure",) if key in found.policies}
    told: dict[str, Any] = {"policies": kept}
    task = found.task
    if isinstance(task, FunctionTask):
        undo = task.compensation
        told["action"] = _name_of(task.action.function, where)
        told["undo"] = None if undo is None else _name_of(undo.function, where)
        arguments = (undo.args, undo.kwargs) if undo is not None else ((), {})
        text = _encoded(arguments, where, codec)
    else:
        if isinstance(task, Task) and vars(task):
            raise SagaDefinitionError(
                f"{where}: {task!r} has attributes ({', '.join(vars(task))}), which are not stored; give the class, and what "
                "differs in the context or as arguments of functions"
            )
        told["class"] = _name_of(task if isinstance(task, type) else type(task), where)
        text = "null"
    return f'{json.dumps(told, separators=(",", ":"))[:-1]},"arguments":{text}}}'


def _encoded(arguments: Any, where: str, codec: Codec) -> str:
    try:
        return codec.encode(arguments, "arguments of the compensation")
    except EncodingError as error:
        raise SagaDefinitionError(f"{where}: {error}") from error


def _name_of(value: Any, where: str) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    told = f"{module}:{name}"
    try:
        found = _find(told)
    except LookupError:
        found = None
    if found is not value:
        raise SagaDefinitionError(
            f"{where}: a recovery could not find {value!r} again; give a function or a task class that is defined at the top "
            "level of a module"
        )
    return told


def _find(name: str) -> Any:
    module, _, path = name.partition(":")
    if not path.isidentifier():
        raise LookupError(f"{name!r} is not of the form 'module:name'")
    try:
        found = sys.modules.get(module) or import_module(module)
        return getattr(found, path)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{name!r} is not found: {error}") from error


def read_step(name: str, told: Mapping[str, Any]) -> Step:
    try:
        if "class" in told:
            return step(_find(told["class"]), name=name, **told["policies"])
        args, kwargs = told["arguments"]
        undo = _find(told["undo"]) if told["undo"] is not None else None
        made = step(_nothing, undo, name=name, compensate_args=args, compensate_kwargs=kwargs, **told["policies"])
    except LookupError as error:
        raise EncodingError(f"step {name!r} cannot be undone: {error}; put it back") from error
    return made


def _nothing() -> None:
    """Stands for an action that is never called again."""
