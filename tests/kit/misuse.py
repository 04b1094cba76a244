"""Wrong values for every parameter of what is public: generated from the signatures, so that no new parameter is forgotten.

A call that is given a wrong value says so before anything happens: its error names the parameter, and is none of Python's own
from somewhere within. What is right after all is named, of each parameter, by whoever says how the call is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

from saga.errors import SagaError

__all__ = ["WRONG", "Call", "misuse", "public_calls", "tried"]


class Nothing:
    """A class that has nothing to do with anything."""


async def coroutine() -> None:
    """An async function."""


#: By name, what makes a value that few parameters take.
WRONG: Final[dict[str, Callable[[], Any]]] = {
    "None": lambda: None,
    "0": lambda: 0,
    "-1": lambda: -1,
    "True": lambda: True,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "''": lambda: "",
    "'x'": lambda: "x",
    "surrogate": lambda: "x\ud800",
    "b'x'": lambda: b"x",
    "[]": list,
    "[5]": lambda: [5],
    "{}": dict,
    "object": object,
    "class": lambda: Nothing,
    "lambda": lambda: lambda: None,
    "async def": lambda: coroutine,
    "timedelta": lambda: timedelta(seconds=5),
}


#: Parameters that take a number of seconds, and so a ``timedelta``.
SECONDS: Final = {
    *("timeout", "step_timeout", "compensation_timeout", "lease", "undoable_for", "backoff", "max_elapsed", "initial", "cap"),
    *("grace", "unfit_after", "interval", "group", "older_than", "newer_than", "idle_for", "patience", "busy_timeout", "wait"),
}


@dataclass(frozen=True)
class Call:
    """How something public is called.

    :ivar call: it, or what calls it; :ivar right: the arguments that it needs, by parameter.
    :ivar takes: of each parameter, the wrong values that are right for it.
    :ivar called: how errors speak of a parameter, where it is not by its name.
    """

    call: Callable[..., Any]
    right: Mapping[str, Any] = field(default_factory=dict)
    takes: Mapping[str, Collection[str]] = field(default_factory=dict)
    called: Mapping[str, Collection[str]] = field(default_factory=dict)

    def is_right(self, parameter: str, value: str) -> bool:
        """Whether a value that is wrong elsewhere is right for a parameter."""
        return value in self.takes.get(parameter, ()) or (value == "timedelta" and parameter in SECONDS)

    def parameters(self) -> Iterator[str]:
        """Yield the parameters that may be given a value each."""
        for name, parameter in inspect.signature(self.call).parameters.items():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                yield name

    def __call__(self, **arguments: Any) -> Any:
        """Call it with these arguments and those it needs besides."""
        given = {**self.right, **arguments}
        positional = [
            given.pop(name)
            for name, parameter in inspect.signature(self.call).parameters.items()
            if parameter.kind is parameter.POSITIONAL_ONLY and name in given
        ]
        return self.call(*positional, **given)


def misuse(calls: Mapping[str, Any], call_of: Callable[[str], Call]) -> list[tuple[str, str, str]]:
    """Return each public name, each of its parameters, and the name of each wrong value."""
    return [(name, parameter, value) for name in calls for parameter in call_of(name).parameters() for value in WRONG]


def tried(call: Call, parameter: str, value: str) -> str | None:
    """Give a parameter a wrong value. Return what is wrong with what came of it, or ``None``."""
    right = call.is_right(parameter, value)
    try:
        made = call(**{parameter: WRONG[value]()})
        if callable(close := getattr(made, "close", None)):  # of a store that was opened
            close()
    except (SagaError, ValueError, TypeError) as error:
        if right:
            return f"{parameter}={value} is right, and was refused: {error!r}"
        # Python's own errors tell where they are from by not telling what was given.
        named = any(name in str(error) for name in call.called.get(parameter, [parameter]))
        return None if named else f"the error of {parameter}={value} does not name it: {error!r}"
    except BaseException as error:
        return f"{parameter}={value} raised {error!r}"
    return None if right else f"{parameter}={value} was taken"


def public_calls(*modules: ModuleType) -> set[str]:
    """Return the names of the functions, classes and classes' methods that modules make public, errors and enums aside."""
    found = set()
    for module in modules:
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and not issubclass(value, BaseException):
                found.add(name)
                methods = [key for key in dir(value) if not key.startswith("_") and inspect.isfunction(getattr(value, key))]
                ours = [key for key in methods if getattr(value, key).__module__.partition(".")[0] == "saga"]
                found |= {f"{name}.{method}" for method in ours}
            elif inspect.isfunction(value):
                found.add(name)
    return found
