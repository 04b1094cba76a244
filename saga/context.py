"""The context: what the tasks of one execution share. It knows nothing of the engine.

Parallel branches, and steps that may outlive their timeout, work on a *view*: a copy whose changes are merged back when
the work ended well. ``fork`` and ``merge`` are the whole of that.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from saga.errors import ContextKeyError, MergeConflictError, SagaDefinitionError
from saga.task import StepInfo, Task

if TYPE_CHECKING:
    from threading import Event as Flag

    from saga.plan import Call, Plan

__all__ = ["Context"]

T = TypeVar("T")
_MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<deleted>"})()


class Run:
    """What the engine keeps of an execution beside the user's keys, for one view of the context.

    :ivar plan: the compiled flow; :ivar saga_id: the execution's id.
    :ivar results: what the steps returned, by name; :ivar previous: the result of the step before.
    :ivar call: the call that runs.
    :ivar limit: its deadline, and what tells that nobody waits for it any more.
    :ivar texts: how each key was recorded last; ``None`` where the execution has no store.
    """

    results: dict[str, Any]
    # Most views never have another value than these.
    plan: Plan | None = None
    saga_id = ""
    previous: Any = None
    call: Call | None = None
    limit: tuple[float | None, Flag | None] = (None, None)
    texts: dict[str, tuple[Any, str]] | None = None


class _Slots:
    # In a slot, so that ``__dict__`` holds the user's keys alone.
    __slots__ = ("_run",)

    _run: Run


set_run = _Slots.__dict__["_run"].__set__  # Context.__setattr__ is for the user's keys, and costs more


class Context(_Slots, MutableMapping[str, Any]):
    """A mutable mapping whose keys are attributes too: ``context["total"]`` is ``context.total``.

    Subclass it with ``@dataclass`` to give the keys types. Names of the mapping's own methods (``items``, ``get``, ...)
    cannot be keys.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("__slots__"):
            raise SagaDefinitionError(f"{cls.__name__}: a context keeps its keys in __dict__; leave out slots")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        self._begin(None, "")
        return self

    def __init__(self, values: Mapping[str, Any] | None = None, /, **keys: Any) -> None:
        if values or keys:
            self.update(values or {}, **keys)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in _RESERVED:
            raise ContextKeyError(f"{key!r} is an attribute of Context itself, so it cannot be a key; use {key + '_'!r}")
        object.__setattr__(self, key, value)

    def __getattr__(self, key: str) -> Any:
        # Only reached where the normal look-up failed. Dunder look-ups (copy, pickle, ...) want a plain AttributeError.
        if key.startswith("__"):
            raise AttributeError(key)
        raise self._unknown(key)

    def __delattr__(self, key: str) -> None:
        del self[key]

    def __getitem__(self, key: str) -> Any:
        try:
            return self.__dict__[key]
        except KeyError:
            raise self._unknown(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise ContextKeyError(f"a context key is a string, not {key!r} ({type(key).__name__})")
        if key in _RESERVED:
            self.__setattr__(key, value)  # says why not
        self.__dict__[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self.__dict__:
            raise self._unknown(key)
        del self.__dict__[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __contains__(self, key: object) -> bool:
        return key in self.__dict__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Context):
            return self.__dict__ == other.__dict__
        return self.__dict__ == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.__dict__.items())})"

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), dict(self.__dict__)))

    @property
    def step(self) -> StepInfo:
        """The running call: saga id, step name, attempt, idempotency key, deadline, cancelled."""
        if self._run.call is None:
            raise RuntimeError("context.step is there only while a task runs in a saga")
        return StepInfo(self._run.saga_id, self._run.call.step.name, self._run.call.attempt, *self._run.limit)

    @overload
    def result_of(self, step: type[Task[T]], /) -> T: ...
    @overload
    def result_of(self, step: Task[T], /) -> T: ...
    @overload
    def result_of(self, step: str, /) -> Any: ...
    def result_of(self, step: Any, /) -> Any:
        """Return what a step's ``execute`` returned.

        :param step: the task's class, the task, or the step's name.
        :raises ContextKeyError: where no such step exists, or it has no result (yet).
        """
        run, plan = self._run, self._run.plan
        if isinstance(step, str) and step in run.results:
            return self._own(run.results[step])
        names = [step] if isinstance(step, str) and plan is None else plan.find(step) if plan else []
        if len(names) > 1:
            raise ContextKeyError(f"{len(names)} steps match {_say(step)}: {', '.join(names)}; ask by name")
        if not names:
            known = plan.names if plan else ()
            raise ContextKeyError(
                f"no step matches {_say(step)}{_near(_say(step), known)}; steps: {', '.join(known) or 'none'}"
            )
        if names[0] not in run.results:
            raise ContextKeyError(f"step {names[0]!r} has no result: it has not succeeded (yet)")
        return self._own(run.results[names[0]])

    def _own(self, result: Any) -> Any:
        """Return a step's result as a caller gets it: a copy, where a recovery would read it from a store."""
        return result if self._run.texts is None else _isolate(result, {})

    def _unknown(self, key: str) -> ContextKeyError:
        return ContextKeyError(
            f"the context has no key {key!r}{_near(key, self.__dict__)}; keys: {', '.join(map(str, self.__dict__)) or 'none'}"
        )

    def _begin(self, plan: Plan | None, saga_id: str) -> None:
        """Make this the context of a new execution of ``plan``."""
        run = Run()
        run.plan = plan
        run.saga_id = saga_id
        run.results = {}
        set_run(self, run)

    def _become(self, other: Context) -> Any:
        """Take over the keys of a context that a step returned. Return its result: ``None``."""
        if other is not self:
            self.__dict__.clear()
            self.__dict__.update(other.__dict__)
        return None

    def _fork(self) -> Self:
        """Return a view: the same keys, containers copied, so that changes to it are not seen here."""
        view = type(self).__new__(type(self))
        memo: dict[int, Any] = {}
        view.__dict__.update((key, _isolate(value, memo)) for key, value in self.__dict__.items())
        run, own = self._run, view._run
        own.plan, own.saga_id, own.previous = run.plan, run.saga_id, run.previous
        own.results = dict(run.results)
        own.texts = None if run.texts is None else dict(run.texts)
        return view

    def _beside(self) -> Self:
        """Return the same view for one more call at the same time: the same keys, and a ``step`` of its own."""
        twin = object.__new__(type(self))
        object.__setattr__(twin, "__dict__", self.__dict__)
        run, own = self._run, Run()
        own.plan, own.saga_id, own.previous, own.results, own.texts = (
            run.plan,
            run.saga_id,
            run.previous,
            run.results,
            run.texts,
        )
        set_run(twin, own)
        return twin

    def _merge(self, views: Iterable[tuple[str, Context]]) -> None:
        """Take over, in order, what each named view changed since it was forked (nothing changes here meanwhile).

        :raises MergeConflictError: two views changed a key to different values; nothing is taken over then.
        """
        changed: dict[str, tuple[str, Any]] = {}
        results: dict[str, Any] = {}
        texts: dict[str, tuple[Any, str]] = {}
        for name, view in views:
            for key, value in _changes(self.__dict__, view.__dict__).items():
                if key in changed and not _agree(changed[key][1], value):
                    raise MergeConflictError(
                        f"branches {changed[key][0]!r} and {name!r} changed context key {key!r} to different values: "
                        f"{changed[key][1]!r} and {value!r}; give each branch a key of its own"
                    )
                changed.setdefault(key, (name, value))
                if view._run.texts is not None and key in view._run.texts:
                    texts[key] = view._run.texts[key]
            results.update(view._run.results)
        for key, (_, value) in changed.items():
            if value is _MISSING:
                self.__dict__.pop(key, None)
                if self._run.texts is not None:
                    self._run.texts.pop(key, None)
            else:
                self.__dict__[key] = value
        if self._run.texts is not None:
            self._run.texts.update(texts)
        self._run.results.update(results)


def _rebuild(kind: type[Context], values: dict[str, Any]) -> Context:
    context = kind.__new__(kind)
    context.__dict__.update(values)
    return context


def _say(step: Any) -> str:
    return step if isinstance(step, str) else step.__name__ if isinstance(step, type) else repr(step)


def _near(key: str, known: Iterable[str]) -> str:
    import difflib  # only an error needs it

    close = difflib.get_close_matches(str(key), list(map(str, known)), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _changes(base: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    changes = {key: value for key, value in now.items() if key not in base or not _same(base[key], value)}
    changes.update((key, _MISSING) for key in base if key not in now)
    return changes


def _agree(one: Any, other: Any) -> bool:
    try:
        return _same(one, other) or (type(one) is type(other) and bool(one == other))
    except Exception:  # an array has no single truth value: what cannot be compared differs
        return False


def _same(one: Any, other: Any) -> bool:
    # Stricter than ==: who writes Decimal("1.00") over Decimal("1.0"), or [True] over [1], has changed it.
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    try:
        if kind in (set, frozenset):
            return bool(one == other)
        if is_dataclass(one):
            return all(_same(getattr(one, f.name, None), getattr(other, f.name, None)) for f in fields(one)) and one == other
        if isinstance(one, list | tuple):  # [1] == [True], and yet it was changed
            return len(one) == len(other) and all(map(_same, one, other))
        if isinstance(one, dict):
            return list(one) == list(other) and all(map(_same, one.values(), other.values()))
        return bool(one == other) and repr(one) == repr(other)
    except RecursionError:  # a container that holds itself
        return repr(one) == repr(other)
    except Exception:  # an array has no single truth value: what cannot be compared counts as changed
        return False


def _isolate(value: Any, memo: dict[int, Any]) -> Any:
    # Built-in containers and dataclasses are copied. Other objects (connections, locks, models) are shared: a copy of
    # those is seldom possible and never what was meant.
    kind = type(value)
    if kind in _ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    twin: Any
    if kind is list:
        memo[id(value)] = twin = []
        twin.extend(_isolate(item, memo) for item in value)
    elif kind in (dict, OrderedDict, defaultdict, Counter):
        memo[id(value)] = twin = copy.copy(value)
        for key, item in value.items():
            twin[key] = _isolate(item, memo)
    elif kind is deque:
        memo[id(value)] = twin = deque(maxlen=value.maxlen)
        twin.extend(_isolate(item, memo) for item in value)
    elif kind is set or kind is bytearray:
        twin = kind(value)
    elif kind is tuple:
        twin = tuple(_isolate(item, memo) for item in value)
    elif isinstance(value, tuple) and hasattr(kind, "_make"):  # a named tuple
        twin = kind._make(_isolate(item, memo) for item in value)
    elif is_dataclass(value) and not isinstance(value, (type, Context)):
        memo[id(value)] = twin = copy.copy(value)
        for field in fields(value):
            if hasattr(value, field.name):
                object.__setattr__(twin, field.name, _isolate(getattr(value, field.name), memo))
    else:
        twin = value
    return twin


_ATOMS = frozenset({int, float, str, bytes, bool, type(None)})
_RESERVED = frozenset(name for name, _ in inspect.getmembers_static(Context) if not name.startswith("__"))
