"""What a saga's class declares: its options, each of which can be given when a saga is made, too. No flow is compiled here.

A misspelt option would have no effect, and nobody would notice before the day on which it is needed: what is near the name of
an option and is none is refused, in a class and on a saga that is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from saga.awaitables import check_callable, refuse_unrun
from saga.composing import Composing
from saga.definition import NO_PLAN, Definition
from saga.errors import SagaDefinitionError
from saga.flow.policies import DEFAULTS, defaults_of
from saga.names import several
from saga.observers import Loggers, observers_of
from saga.policy import Seconds, seconds_of
from saga.typed_context import kind_in, kind_of

if TYPE_CHECKING:
    from saga.context import Context
    from saga.definition import ContextFunction, Observer
    from saga.durable.codec import Codec
    from saga.machine.compile import Resolver
    from saga.policy import ErrorKinds, OnError, Retry
    from saga.storage.protocol import StoreLike

__all__ = ["Declared", "refuse_unmade"]


class Declared(Composing):
    """What every saga has: see :class:`saga.Saga`, whose parameters these are."""

    flow: Any = None
    name: str
    context: type[Context] | None = None
    logger: Loggers | None = None
    observers: Observer | Iterable[Observer] | None = None
    timeout: Seconds | None = None
    stop_on_compensation_failure: bool = False
    on_compensation_failure: Callable[..., None] | None = None  # or a method, which takes the saga, too
    store: StoreLike | None = None
    codec: Codec | None = None
    resolver: Resolver | None = None
    version: str = "1"
    compatible_with: Iterable[str] = ()
    undoable_for: Seconds | None = None
    retry: Retry | None = None
    step_timeout: Seconds | None = None
    on_error: OnError | None = None
    unknown_on: ErrorKinds | None = None
    compensation_retry: Retry | None = None
    compensation_timeout: Seconds | None = None
    verification_retry: Retry | None = None
    lease: Seconds = 30.0
    limit: int | None = None
    rate: float | None = None
    exclusive: ContextFunction | None = None
    tags: ContextFunction | Iterable[str] | None = None

    _facade = False  # whether it is the class that users make a saga of, and none of their own
    _misspelt: str | None = None
    _draft: Definition
    _defaults: Mapping[str, Any]
    _definition: Definition | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._facade = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        for kind in cls.__mro__:
            if kind is cls or not issubclass(kind, Declared):
                cls._misspelt = next(filter(None, (_misspelt(cls, *one) for one in vars(kind).items())), cls._misspelt)

    def _take_options(self, given: Mapping[str, Any]) -> None:
        """Have each option as an attribute: what was given, or else what the class declares.

        :raises SagaDefinitionError: the class has a misspelt one.
        """
        if self._misspelt is not None:
            raise SagaDefinitionError(self._misspelt)
        own = {option: _declared(self, option) if value is None else value for option, value in given.items()}
        self.__dict__.update(own, name=type(self).__name__ if own["name"] is None else own["name"])

    def _draft_of_options(self) -> Definition:
        """Return what executions are run by, but for the plan.

        :raises SagaDefinitionError: an option is wrong.
        """
        where = f"saga {self.name!r}"
        if isinstance(self.name, Mapping):
            raise SagaDefinitionError(f"the saga's name is {self.name!r}; give a context to execute(...), and here a str")
        if isinstance(self.name, Composing | type):
            raise SagaDefinitionError(f"the saga's name is {self.name!r}; give tasks to add_task(...), and here a str")
        if self.resolver is not None:
            check_callable(self.resolver, f"{where}: resolver", "a task class", 1)
        refuse_unrun(
            self.resolver, f"{where}: resolver", "give a plain function; what it returns may be an async context manager"
        )
        if self.store is not None:
            from saga.storage.opened import check_store, pinned

            check_store(self.store, f"{where}: store")
            self.store = pinned(self.store)
        self._defaults = defaults_of(vars(self), where)
        limits: Any = {"timeout": self.timeout, "lease": self.lease}  # seconds, once they are checked
        draft = Definition(
            name=self.name,
            plan=NO_PLAN,
            context=self.context,
            version=self.version,
            **limits,
            stop_on_compensation_failure=self.stop_on_compensation_failure,
            on_compensation_failure=self.on_compensation_failure,
            observers=observers_of(self.name, self.logger, self.observers),
            codec=self.codec,
            compatible_with=frozenset(several(self.compatible_with, f"{where}: compatible_with")),
            undoable_for=seconds_of(self.undoable_for, f"{where}: undoable_for"),
            limit=self.limit,
            rate=self.rate,
            exclusive=self.exclusive,
            tags=self.tags,
        )
        draft.check()
        self.name, self.version = draft.name, draft.version
        return draft

    def _context_kind(self) -> type[Context] | None:
        """Return the class of its contexts: what was given, or what stands in brackets where it was made, or by its class."""
        return self.context or kind_in(vars(self).get("__orig_class__")) or kind_of(type(self))

    def _refuse_what_is_the_outer_sagas(self) -> None:
        """Refuse to be a step of another saga with options that would have no effect there.

        :raises SagaDefinitionError: there are some.
        """
        own = [option for option in _OUTERMOST if getattr(self, option) is not getattr(Declared, option)]
        if not self._draft.observers:
            own = [option for option in own if option not in ("logger", "observers")]
        if own:
            raise SagaDefinitionError(
                f"saga {self.name!r} is a step of another saga, where its {' and '.join(own)} would have no effect; give "
                f"{'it' if len(own) == 1 else 'them'} to the outer saga"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if "_draft" in self.__dict__ and not name.startswith("_"):  # it is made
            _refuse_late(self, name)
            if name == "flow":
                self._definition = None
        object.__setattr__(self, name, value)


def refuse_unmade(saga: object) -> None:
    """Refuse what a method was called on, where it is no saga that is made.

    :raises SagaDefinitionError: it is none.
    """
    if not isinstance(saga, Declared):
        raise SagaDefinitionError(
            f"a saga's method was called on its class, with {type(saga).__name__}; make one first: Order()"
        )
    if "_draft" not in saga.__dict__:
        kind = type(saga).__name__
        raise SagaDefinitionError(f"{kind}: its __init__ does not call super().__init__(); call it before anything else")


OPTIONS: Final = frozenset(Declared.__annotations__) - {"flow", "_misspelt", "_draft", "_defaults", "_definition"}
"""What can be given when a saga is made, and declared by its class."""

_OUTERMOST: Final = sorted(OPTIONS - {"name", "context", "timeout", *DEFAULTS, "version", "compatible_with", "lease"})
"""The options that hold for a whole execution. Of a saga that is a step of another, its name, its timeout and what it says for
all its steps hold for these; the rest is about executions of its own."""

_ARGUMENTS: Final = {
    "logger": 2,
    "observers": 2,
    "on_compensation_failure": 3,
    "resolver": 1,
    "unknown_on": 1,
    "exclusive": 1,
    "tags": 1,
}
"""With how many arguments an option that is a function is called."""

_MEANT: Final = {
    "steps": "flow",
    "tasks": "flow",
    "flows": "flow",
    "deadline": "timeout",
    "time_limit": "timeout",
    "context_type": "context",
}
"""What other libraries call an option."""


def _declared(saga: Declared, option: str) -> Any:
    """Return what a class says of an option. A function there that takes no ``self`` is no method."""
    if option == "name" and not hasattr(type(saga), option) and option not in vars(saga):
        return None
    found = getattr(saga, option)  # no default: the error of a property is the class's own
    if isinstance(found, MethodType) and option in _ARGUMENTS and not _takes(found, _ARGUMENTS[option]):
        return found.__func__
    return found


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True


def _meant(name: str) -> str | None:
    """Return the option that was meant by a name, or ``None``."""
    import difflib  # nearly nobody needs it

    return _MEANT.get(name) or next(iter(difflib.get_close_matches(name, OPTIONS - {"context"}, n=1, cutoff=0.85)), None)


def _could_be(value: Any, name: str, option: str) -> bool:
    """Whether a value is of an option's kind: what only has a name that is near may well be the user's own."""
    if option in ("timeout", "step_timeout", "compensation_timeout", "lease", "undoable_for"):
        return isinstance(value, int | float | timedelta)
    if option == "store":
        return hasattr(value, "append") or (isinstance(value, str) and not value.isidentifier())
    if option == "codec":
        return hasattr(value, "encode") and not isinstance(value, str)
    if option in ("name", "version"):
        return sorted(name) == sorted(option)
    return not isinstance(value, str | int | float) or isinstance(value, bool)


def _misspelt(kind: type[Declared], name: str, value: Any) -> str | None:
    """Return what is wrong with an attribute of a class, or ``None``. Methods and flows have names of their own."""
    if name.startswith("_") or name in OPTIONS or name == "flow":
        return None
    of_its_own = isinstance(value, FunctionType | Composing | type) or hasattr(value, "__get__")
    if of_its_own and not name.startswith("on_") and (name not in _MEANT or kind.flow is not None):
        return None
    option = _meant(name)
    if option is None or (option == "flow" and kind.flow is not None) or not _could_be(value, name, option):
        return None
    return f"{kind.__name__}: a saga has no {name!r}, which would have no effect; did you mean {option!r}?"


def _refuse_late(saga: Declared, name: str) -> None:
    """Refuse an attribute that would have no effect on a saga that is made, or would look as if it had one."""
    where = f"saga {saga.name!r}"
    if name in OPTIONS:
        raise SagaDefinitionError(
            f"{where} is made, and its {name} stays as it is; give it when it is made: {type(saga).__name__}({name}=...)"
        )
    if hasattr(type(saga), name):
        return
    option = _meant(name)
    if option == "flow" and type(saga).flow is not None:
        return
    hint = f"; did you mean {option!r}?" if option else "; a subclass may have more"
    its_own = not type(saga)._facade and (option is None or name.startswith(option) or option.startswith(name))
    if not its_own:
        raise SagaDefinitionError(f"{where}: a saga has no {name!r}, which would have no effect{hint}")
