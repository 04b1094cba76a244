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
_NO_LIMIT = (None, None)
_MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<deleted>"})()


class _Slots:
    # What the engine keeps beside the user's keys lives in slots, so that ``__dict__`` holds the user's keys alone.
    __slots__ = ("_call", "_limit", "_plan", "_previous", "_results", "_saga_id", "_texts")

    _saga_id: str
    _plan: Plan | None
    _results: dict[str, Any]
    _previous: Any  # the result of the step before
    _call: Call | None  # the call that runs
    _limit: tuple[float | None, Flag | None]  # its deadline and what tells that nobody waits for it any more
    _texts: dict[str, tuple[Any, str]] | None  # how each key was recorded last; None where the execution has no store


# The slots' own setters: Context.__setattr__ is for the user's keys, and costs more.
_set_plan, _set_saga_id, _set_results, _set_previous, _set_call, _set_limit, _set_texts = (
    _Slots.__dict__[name].__set__ for name in ("_plan", "_saga_id", "_results", "_previous", "_call", "_limit", "_texts")
)


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
        if self._call is None:
            raise RuntimeError("context.step is there only while a task runs in a saga")
        return StepInfo(self._saga_id, self._call.step.name, self._call.attempt, *self._limit)

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
        if isinstance(step, str) and step in self._results:
            return self._own(self._results[step])
        names = [step] if isinstance(step, str) and self._plan is None else self._plan.find(step) if self._plan else []
        if len(names) > 1:
            raise ContextKeyError(f"{len(names)} steps match {_say(step)}: {', '.join(names)}; ask by name")
        if not names:
            known = self._plan.names if self._plan else ()
            raise ContextKeyError(
                f"no step matches {_say(step)}{_near(_say(step), known)}; steps: {', '.join(known) or 'none'}"
            )
        if names[0] not in self._results:
            raise ContextKeyError(f"step {names[0]!r} has no result: it has not succeeded (yet)")
        return self._own(self._results[names[0]])

    def _own(self, result: Any) -> Any:
        """Return a step's result as a caller gets it: a copy, where a recovery would read it from a store."""
        return result if self._texts is None else _isolate(result, {})

    def _unknown(self, key: str) -> ContextKeyError:
        return ContextKeyError(
            f"the context has no key {key!r}{_near(key, self.__dict__)}; keys: {', '.join(map(str, self.__dict__)) or 'none'}"
        )

    def _begin(self, plan: Plan | None, saga_id: str) -> None:
        """Make this the context of a new execution of ``plan``."""
        _set_plan(self, plan)
        _set_saga_id(self, saga_id)
        _set_results(self, {})
        _set_previous(self, None)
        _set_call(self, None)
        _set_limit(self, _NO_LIMIT)
        _set_texts(self, None)

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
        _set_plan(view, self._plan)
        _set_saga_id(view, self._saga_id)
        _set_results(view, dict(self._results))
        _set_previous(view, self._previous)
        _set_texts(view, None if self._texts is None else dict(self._texts))
        return view

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
                if view._texts is not None and key in view._texts:
                    texts[key] = view._texts[key]
            results.update(view._results)
        for key, (_, value) in changed.items():
            if value is _MISSING:
                self.__dict__.pop(key, None)
                if self._texts is not None:
                    self._texts.pop(key, None)
            else:
                self.__dict__[key] = value
        if self._texts is not None:
            self._texts.update(texts)
        self._results.update(results)


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
