"""Tasks as they are written: what cannot be called, or has a name that nobody looks for, is found when one is put into a flow.

An undo that cannot be called would show at the first failure, which is too late; and a member that is spelt in another way than
:class:`~saga.task.Task` has it would never show at all.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache, partial
from types import FunctionType, MethodType
from typing import Any, Final

from saga.errors import SagaDefinitionError
from saga.flow.policies import KEYS, MEANT, POLICIES, checked
from saga.policy import OnError, Retry
from saga.task import Task

__all__ = ["CALLS", "check_task"]

CALLS: Final = ("execute", "compensate", "verify")
_EXECUTES: Final = ("run", "invoke", "action", "perform", "handle")
_NEAR: Final = 0.8
"""How near two words are, by difflib: "compansate" is near, and so is "executor", which is no method that takes a context."""


def check_task(task: Task[Any] | type[Task[Any]]) -> None:
    """Refuse a task or a task class that could not be run, or has a member that is misspelt.

    :raises SagaDefinitionError: the text says what to write.
    """
    kind = task if isinstance(task, type) else type(task)
    if not issubclass(kind, Task):  # what stands for a task in a test
        return
    _check_class(kind)  # type: ignore[arg-type]
    for name in () if kind is task else CALLS:
        if name in getattr(task, "__dict__", ()):
            _check_call(kind, name, getattr(task, name))


@lru_cache(512)  # in a block the same classes are made steps of again and again
def _check_class(kind: Any) -> None:
    for name in CALLS:
        call = inspect.getattr_static(kind, name, None)
        if name == "execute" and call is Task.execute:
            near = [f"; is it {other!r}?" for other in _methods(kind) if other in _EXECUTES or _is_near(other, name)]
            raise SagaDefinitionError(f"{kind.__name__} has no execute(context); write one{(*near, '')[0]}")
        if isinstance(call, staticmethod):
            call = call.__func__
        elif isinstance(call, FunctionType | classmethod):
            call = MethodType(call.__func__ if isinstance(call, classmethod) else call, kind)
        elif isinstance(call, partial):
            call = MethodType(call, kind) if sys.version_info >= (3, 14) else call
        elif hasattr(type(call), "__get__"):
            continue  # a descriptor says what it is when there is an object
        _check_call(kind, name, call)
    found = {policy: getattr(kind, policy, None) for policy in POLICIES}
    try:
        checked({policy: value for policy, value in found.items() if not hasattr(type(value), "__get__")})
    except SagaDefinitionError as error:
        raise SagaDefinitionError(f"{kind.__name__}: {error}") from None
    for misspelt, meant in _misspelt(kind):
        raise SagaDefinitionError(
            f"{kind.__name__} has {misspelt!r}, which nobody looks at; call it {meant!r}, or, if it is your own, _{misspelt}"
        )


def _check_call(kind: type, name: str, call: Any) -> None:
    """Refuse an ``execute``, ``compensate`` or ``verify`` that cannot be called with the context."""
    where, write = f"{kind.__name__}.{name}", f"write def {name}(self, context)"
    if call is None and name != "execute":
        return  # there is none
    if not callable(call):
        raise SagaDefinitionError(f"{where} is {call!r}; {write}{', or leave it out' if name != 'execute' else ''}")
    try:
        inspect.signature(call, follow_wrapped=False).bind(None)  # what a decorator adds is its own
    except TypeError as error:
        more = f", and ask context.result_of({kind.__name__}) for its result" if name == "compensate" else ""
        raise SagaDefinitionError(f"{where} cannot be called with the context alone ({error}); {write}{more}") from None
    except ValueError:
        if isinstance(call, MethodType):
            raise SagaDefinitionError(f"{where} takes no self; {write}") from None
        # some built-ins tell no signature


def _misspelt(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the members of a task class that are surely meant to be others, each with what is meant.

    That is so where it is near what the class itself leaves out, and is of its kind: a method that can be called with a
    context, or a value that such a policy could have. Other methods and values are the user's own, and so are fields of a
    dataclass.
    """
    missing = [name for name in CALLS if inspect.getattr_static(kind, name) is getattr(Task, name)]
    for name in _methods(kind):
        for meant in missing:
            if MEANT.get(name) == meant or _is_near(name, meant):
                yield name, meant
    default = [policy for policy in POLICIES if getattr(kind, policy) is getattr(Task, policy)]
    for name, value in _values(kind):
        for policy in default:
            if (MEANT.get(name) == policy or _is_near(name, policy)) and _could_be(value, policy):
                yield name, policy


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a task class and those that it is made of, which are tasks too, have of their own that is public."""
    for one in kind.__mro__:
        if issubclass(one, Task) and one is not Task:
            own = {field.name for field in fields(one)} if is_dataclass(one) else ()
            for name, value in vars(one).items():
                if not name.startswith("_") and not name.isupper() and not hasattr(Task, name) and name not in own:
                    yield name, value


def _methods(kind: type) -> Iterator[str]:
    for name, value in _members(kind):
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(function, FunctionType):
            try:
                inspect.signature(function).bind(*[None] * (1 if isinstance(value, staticmethod) else 2))
            except TypeError:
                continue
            yield name


def _values(kind: type) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in _members(kind) if not callable(value) and not hasattr(type(value), "__get__"))


def _could_be(value: Any, policy: str) -> bool:
    """Whether a value is of a policy's kind, or of one that other libraries have there."""
    if policy == "unknown_on":
        parts = value if isinstance(value, tuple) else (value,)
        return bool(parts) and all(isinstance(part, type) and issubclass(part, Exception) for part in parts)
    if policy == "on_error":
        return isinstance(value, Retry | OnError)
    if policy in KEYS:
        return isinstance(value, tuple | list | set | frozenset) and bool(value) and all(isinstance(key, str) for key in value)
    default = getattr(Task, policy)
    if isinstance(default, bool):
        return isinstance(value, bool)
    return isinstance(value, Retry | type(default)) if isinstance(default, Enum) else isinstance(value, Retry | int | float)


def _is_near(name: str, member: str) -> bool:
    import difflib  # most classes have no name that it is asked about

    return difflib.SequenceMatcher(None, name.lower(), member).ratio() >= _NEAR
