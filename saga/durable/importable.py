"""Steps that another process can find again: functions and task classes at the top level of a module."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import new_class
from typing import Any, Final, NamedTuple

from saga.durable.codec import Codec
from saga.durable.codec.names import NotNamedError
from saga.durable.lengths import check_length
from saga.errors import EncodingError, SagaDefinitionError
from saga.flow import FunctionTask, Step, step
from saga.flow.tasks import CALLS
from saga.policy import ExponentialBackoff, InDoubt, Retry
from saga.storage.protocol import Store
from saga.task import Task

__all__ = ["KEPT", "OF_EXECUTE", "called", "is_nothing", "read_step", "text_of_step", "write_step"]


def text_of_step(found: Step, codec: Codec, store: Store, name: str) -> str:
    """Return what a block's journal keeps of a step.

    :param name: the block's.
    :raises SagaDefinitionError: it could not be found again, or is too long for the store.
    """
    text = write_step(found, codec)
    try:
        check_length(text, store, "its arguments", codec, [text])
    except EncodingError as error:
        raise SagaDefinitionError(f"transaction {name!r}: step {found.name!r}: {error}") from error
    return text


def write_step(found: Step, codec: Codec) -> str:
    """Return what finds a step again, as JSON.

    :raises SagaDefinitionError: it could not be found again; the text says why.
    """
    where = f"step {found.name!r} in a transaction with a store"
    written: dict[str, Any] = {"policies": _write_policies(found.policies, where, codec)}
    task = found.task
    if isinstance(task, FunctionTask):
        compensation = task.compensation
        written["action"] = _name_of(task.action.function, where)
        written["undo"] = None if compensation is None else _called(compensation.function, where, codec)
        arguments = (compensation.args, dict(compensation.kwargs)) if compensation is not None else ((), {})
        text = _encoded(arguments, "compensation", where, codec)
        if task.verification is not None:
            written["verify"] = _called(task.verification.function, where, codec)
            asked = _encoded((task.verification.args, dict(task.verification.kwargs)), "verification", where, codec)
            text += f',"asked_with":{asked}'
    else:
        if isinstance(task, Task) and vars(task):
            raise SagaDefinitionError(
                f"{where}: {task!r} has attributes ({', '.join(vars(task))}), which are not stored; give the class, and what "
                "differs in the context or as arguments of functions"
            )
        written["class"] = _called(task if isinstance(task, type) else type(task), where, codec)
        text = "null"
    return f'{json.dumps(written, separators=(",", ":"))[:-1]},"arguments":{text}}}'


def _encoded(arguments: Any, role: str, where: str, codec: Codec) -> str:
    try:
        return codec.encode(arguments, f"arguments of the {role}")
    except EncodingError as error:
        raise SagaDefinitionError(f"{where}: {error}") from error


def _called(value: Any, where: str, codec: Codec) -> str:
    """Return the name of a function or a task class that a recovery calls."""
    name = _name_of(value, where)
    if codec.names.modules is not None:  # else a recovery has another codec
        try:
            codec.names.check_called(value.__module__)
        except NotNamedError as error:
            raise SagaDefinitionError(f"{where}: a recovery would not call {value!r}: {error}") from error
    return name


def _name_of(value: Any, where: str) -> str:
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    name = f"{module}:{path}"
    if value is None or _imported(name) is not value:
        raise SagaDefinitionError(
            f"{where}: a recovery could not find {value!r} again; give a function or a task class that is defined at the top "
            "level of a module"
        )
    return name


def called(name: str, beside: Any, where: str) -> Any:
    """Return the function of a name: ``module:function``, or one of the module of the function ``beside``.

    :raises SagaDefinitionError: there is none.
    """
    module, _, path = name.rpartition(":")
    if not module:
        module = str(getattr(beside, "__module__", None))
    try:
        if not path.isidentifier():
            raise ValueError("it is not of the form 'module:name'")
        found = getattr(sys.modules.get(module) or import_module(module), path)
    except (ImportError, AttributeError, ValueError) as error:
        why = f"it is not found: {error}" if not isinstance(error, ValueError) else error
        raise SagaDefinitionError(f"{where} is {name!r}: {why}; give 'module:function', or the function itself") from None
    if not callable(found):
        raise SagaDefinitionError(f"{where} is {name!r}, which is {found!r}; give the name of a function")
    return found


def _imported(name: str) -> Any:
    """Return what is called "module:name" in what the program has imported, or ``None``."""
    module, _, path = name.partition(":")
    return getattr(sys.modules.get(module), "__dict__", {}).get(path)


def _kind(name: str) -> Any:
    """Return the class of errors that is called "module:name": nobody can have raised one that is not imported."""
    found = _imported(name)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise LookupError(f"there is no class of errors {name!r} in what is imported")
    return found


_Find = Callable[[str], Any]  # a function, by its name


def _write_retry(retry: Retry | None, where: str, codec: Codec) -> dict[str, Any] | None:
    if retry is None:
        return None
    backoff = retry.backoff
    if isinstance(backoff, ExponentialBackoff):
        waits: Any = [backoff.initial, backoff.factor, backoff.cap, backoff.jitter]
    elif isinstance(backoff, int | float):
        waits = backoff
    else:
        raise SagaDefinitionError(f"{where}: a retry has {backoff!r}, which is not stored; give seconds")
    kinds = retry.retry_on if isinstance(retry.retry_on, tuple) else (retry.retry_on,)
    return {
        "max_attempts": retry.max_attempts,
        "backoff": waits,
        "retry_on": [_name_of(kind, where) for kind in kinds if isinstance(kind, type)],
        "retry_when": [_called(kind, where, codec) for kind in kinds if not isinstance(kind, type)],
        "max_elapsed": retry.max_elapsed,
    }


def _read_retry(written: Mapping[str, Any] | None, find: _Find) -> Retry | None:
    if written is None:
        return None
    backoff = written["backoff"]
    waits = ExponentialBackoff(*backoff) if isinstance(backoff, list) else backoff
    kinds = (*(_kind(kind) for kind in written["retry_on"]), *(find(name) for name in written.get("retry_when", ())))
    return Retry(written["max_attempts"], waits, kinds, written.get("max_elapsed"))


class _Kept(NamedTuple):
    write: Callable[[Any, str, Codec], Any] = lambda value, where, codec: value
    read: Callable[[Any, _Find], Any] = lambda value, find: value


#: The policies that an undo goes by: how each is written as JSON, for what place in an error's text, and read back, with
#: what finds a function.
KEPT: Final = {
    "compensation_retry": _Kept(_write_retry, _read_retry),
    "compensation_timeout": _Kept(),
    "verification_retry": _Kept(_write_retry, _read_retry),
    "compensate_on_failure": _Kept(),
    "in_doubt": _Kept(lambda value, where, codec: value.value, lambda value, find: InDoubt(value)),
    "pivot": _Kept(),
    "transactional": _Kept(),
}
#: Those that only an execute goes by: none is called again in a block whose process died.
OF_EXECUTE: Final = frozenset({"retry", "timeout", "on_error", "unknown_on", "requires", "provides"})


def _write_policies(policies: Mapping[str, Any], where: str, codec: Codec) -> dict[str, Any]:
    lost = sorted(policies.keys() - KEPT.keys() - OF_EXECUTE)
    if lost:
        raise SagaDefinitionError(f"{where}: {', '.join(lost)} is not stored; leave it out, or use a saga")
    return {name: kept.write(policies[name], where, codec) for name, kept in KEPT.items() if name in policies}


def _read_policies(written: Mapping[str, Any], find: _Find) -> dict[str, Any]:
    lost = sorted(written.keys() - KEPT.keys())
    if lost:
        raise LookupError(f"this version knows no {', '.join(lost)}")
    return {name: KEPT[name].read(value, find) for name, value in written.items()}


def _to_look_at(name: str) -> Any:
    """Return what stands for a function or a task class that is not to be called: it says so where it is."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        module = name.partition(":")[0]
        raise EncodingError(f"{name!r} is called by those alone who name its module: Codec(modules=[{module!r}])")

    found = _imported(name)
    if not isinstance(found, type) or not issubclass(found, Task):
        return refuse
    calls: dict[str, Any] = {call: refuse for call in CALLS if getattr(found, call) is not getattr(Task, call)}
    return new_class(found.__name__, (found,), exec_body=lambda made: made.update(calls, __init__=lambda task: None))


def read_step(name: str, written: Mapping[str, Any], codec: Codec) -> Step:
    """Return a step that is undone as the one that was written, or, where the codec has no modules, to be looked at alone.

    :raises EncodingError: what it names is gone, or in none of the codec's modules.
    """
    find = _to_look_at if codec.names.modules is None else codec.names.callable_of
    try:
        policies: Any = _read_policies(written["policies"], find)
        if "class" in written:
            task = find(written["class"])
            if not isinstance(task, type):
                raise LookupError(f"{written['class']!r} is no task class that is imported here")
            return step(task, name=name, **policies)
        args, kwargs = written["arguments"]
        compensation = find(written["undo"]) if written["undo"] is not None else None
        beside: dict[str, Any] = {"compensate_args": args, "compensate_kwargs": kwargs}
        if "verify" in written:
            beside["verify"] = find(written["verify"])
            beside["args"], beside["kwargs"] = written["asked_with"]
        made = step(_nothing, compensation, name=name, **beside, **policies)
    except NotNamedError as error:
        raise EncodingError(f"step {name!r} cannot be undone: {error}") from error
    except LookupError as error:
        raise EncodingError(f"step {name!r} cannot be undone: {error}; put it back") from error
    return made


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stands for an action that is never called again."""


def is_nothing(function: object) -> bool:
    """Whether a function stands for one that is never called again: its arguments were not kept."""
    return function is _nothing
