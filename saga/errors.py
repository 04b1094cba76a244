"""What can go wrong, one class each; the message says how to mend it.

::

    SagaError
    ├── SagaDefinitionError            a saga, a flow or a policy is wrong: nothing ran
    ├── SagaExecutionException         an execution failed, and was undone
    │   └── SagaCompensationError      ... and could not be wholly undone
    ├── ContextKeyError                (KeyError, AttributeError) the context has no such key
    │   └── MissingKeyError            ... which a step says that it requires, or that it provides
    ├── MergeConflictError             two branches changed one key
    ├── StepTimeoutError               (TimeoutError) a step took too long
    ├── SagaTimeoutError               (TimeoutError) an execution took too long
    ├── SagaCancelledError             a person gave an execution up
    ├── NoWayError                     (LookupError) a choice has no way for what was decided
    ├── OutcomeUnknownError            a task does not know whether its work was done
    ├── NotReadyError                  what a call returned is not what its retry waits for
    ├── CrashError                     nobody stored what came of a call
    ├── CircuitOpenError               a circuit breaker let no call through
    ├── SagaHeldError                  a person holds the saga: nothing of it is begun
    ├── RecordedError                  an exception of another process
    ├── EncodingError                  a value cannot be stored, or not be read back
    ├── ActionRefusedError             (ValueError) a person's action does not fit where the execution stands
    └── StorageError                   a store could not do what it was asked to
        ├── UnknownExecutionError      it has no execution with this id
        ├── SagaIdTakenError           it has another execution with this id
        ├── LeaseLostError             another process has taken the execution over
        ├── UnreadMessagesError        an execution cannot end before it has read what came
        ├── UnreadableJournalError     (EncodingError) an execution's journal is damaged, or cannot be read here
        └── DefinitionChangedError     the execution began under another definition
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from saga.result import CompensationError, SagaResult
    from saga.task import Task

__all__ = [
    "ActionRefusedError",
    "CircuitOpenError",
    "ContextKeyError",
    "CrashError",
    "DefinitionChangedError",
    "EncodingError",
    "LeaseLostError",
    "MergeConflictError",
    "MissingKeyError",
    "NoWayError",
    "NotReadyError",
    "OutcomeUnknownError",
    "RecordedError",
    "SagaCancelledError",
    "SagaCompensationError",
    "SagaDefinitionError",
    "SagaError",
    "SagaExecutionException",
    "SagaHeldError",
    "SagaIdTakenError",
    "SagaTimeoutError",
    "StepTimeoutError",
    "StorageError",
    "UnknownExecutionError",
    "UnreadMessagesError",
    "UnreadableJournalError",
]


class SagaError(Exception):
    """The root of everything this package raises."""


class SagaDefinitionError(SagaError):
    """A saga, a flow or a policy is wrong. Raised before anything runs."""


class ContextKeyError(SagaError, KeyError, AttributeError):
    """The context has no such key, or the key cannot be used. The text names near misses.

    :param text: what is wrong; or it lacks the key ``missing`` among those ``known``.
    """

    def __init__(self, text: str = "", *, missing: str | None = None, known: Iterable[str] = ()) -> None:
        super().__init__(text if missing is None else missing)
        self._missing, self._known = missing, tuple(known)

    def __str__(self) -> str:
        # Made when somebody reads it: most misses are caught unseen, by get(), pop() or hasattr().
        if self._missing is None:
            return str(self.args[0])
        keys = ", ".join(map(str, self._known)) or "none"
        hint = f"; write {_WRITTEN[self._missing]}" if self._missing in _WRITTEN else near(self._missing, self._known)
        return f"the context has no key {self._missing!r}{hint}; keys: {keys}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self),)


class MissingKeyError(ContextKeyError):
    """The context lacks a key that a step requires, and so the step was not called; or one that a step says that it provides.

    No other attempt is made. The text names the step, the key and what there is, and no values.
    """


_SET, _RESULT, _DICT = "context.key = value", "context.result_of(step)", "dict(context)"
_WRITTEN = {"set": _SET, "put": _SET, "add": _SET, "result": _RESULT, "results": _RESULT, "get_result": _RESULT}
_WRITTEN |= {"to_dict": _DICT, "as_dict": _DICT, "asdict": _DICT, "dict": _DICT}
"""What is written here for what other libraries' contexts have methods for."""


def near(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean ...?``, or nothing where no known word is near."""
    import difflib  # only an error needs it

    close = difflib.get_close_matches(str(word), list(map(str, known)), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


class StepTimeoutError(SagaError, TimeoutError):
    """A step took longer than its timeout."""


class SagaTimeoutError(SagaError, TimeoutError):
    """An execution took longer than its timeout; what it had done is undone."""


class SagaCancelledError(SagaError):
    """A person gave the execution up; what it had done is undone."""


class NoWayError(SagaError, LookupError):
    """A choice has no way for what was decided. The text names that and the ways."""


class OutcomeUnknownError(SagaError):
    """Raised by a task that knows that it does not know whether its work was done: the call is in doubt."""


class NotReadyError(SagaError):
    """A step's ``execute`` returned what its retry's ``retry_if`` does not take yet. The text has a short plain value alone."""


class CrashError(SagaError):
    """The process that made a call died before its outcome was stored, or could not store it: the call is in doubt."""


class CircuitOpenError(SagaError):
    """A circuit breaker let no call through; the breaker's own error is the cause."""


class MergeConflictError(SagaError):
    """Two branches of a parallel group changed the same context key to different values.

    The text names the key, the branches and the values' types, and no values.
    """


class EncodingError(SagaError):
    """A value cannot be stored, or a stored one cannot be rebuilt. The text names its key path and type."""


class RecordedError(SagaError):
    """An exception of another process, as it was recorded, where it could not be made again.

    It can be where its class is imported here, and its ``args`` and attributes are plain values: text, numbers, ``None``.

    :ivar type_name: its class, as "module:qualname".
    :ivar text: its ``str()``.
    :ivar traceback_text: the formatted traceback.
    """

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        super().__init__(type_name, text, traceback_text)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        name = self.type_name.rpartition(":")[2]
        return f"{name}: {self.text}" if self.text else name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def is_a(error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Return whether the error is one of these; of another process's, whether its class is, where that is imported here."""
    if type(error) is not RecordedError:
        return issubclass(type(error), kinds)  # which an error cannot lie about
    module, _, path = error.type_name.partition(":")
    found: object = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return issubclass(found if isinstance(found, type) else Exception, kinds)


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

# What an error is and whence it came is read and written where Python keeps it: its class may answer otherwise, or raise.
_TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]


def is_exception(error: BaseException) -> bool:
    """Return whether it is an ``Exception``, and no interrupt."""
    return issubclass(type(error), Exception)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the error's traceback."""
    trace: TracebackType | None = _TRACEBACK.__get__(error)
    return trace


def exc_info_of(error: BaseException) -> ExcInfo | None:
    """Return what a log record has of an error: ``None`` where a handler that formats it would lose the record."""
    import traceback  # only who logs needs it

    trace = traceback_of(error)
    try:
        traceback.TracebackException(type(error), error, trace, limit=0)
    except Exception:
        return None
    return type(error), error, trace


def set_traceback(error: BaseException, trace: TracebackType) -> None:
    """Give the error another traceback."""
    _TRACEBACK.__set__(error, trace)


def add_note(error: BaseException, note: str) -> None:
    """Add a note to the error, where it takes one."""
    with suppress(Exception):
        BaseException.add_note(error, note)


class StorageError(SagaError):
    """A store could not do what it was asked to."""


class LeaseLostError(StorageError):
    """Another process has taken the execution over; this one touches nothing more."""


class UnreadMessagesError(StorageError):
    """An execution's inbox holds what it has not read, so its end is not stored. Whoever runs it reads that, and goes on."""


class UnreadableJournalError(StorageError, EncodingError):
    """A stored execution's journal lacks an entry, has one that cannot be read, or contradicts itself. The text says where.

    :ivar entry: the number of the entry; ``None`` where it is none.
    :ivar may_pass: whether another process may be able to read it: a class of a value is not found here, or a later version
        of this package wrote it.
    """

    def __init__(self, text: str = "", *, entry: int | None = None, may_pass: bool = False) -> None:
        super().__init__(text)
        self.entry = entry
        self.may_pass = may_pass


class UnknownExecutionError(StorageError):
    """There is no execution with this id in the store: it never was, or it was purged."""


class SagaIdTakenError(StorageError):
    """An execution with this id exists already, of another saga or with another input.

    :ivar saga_ids: the ids that are taken, where several were submitted.
    :ivar handles: of what was submitted with them and is stored; not there in another process.
    """

    def __init__(self, text: str = "", *saga_ids: str) -> None:
        super().__init__(text)
        self.saga_ids = saga_ids
        self.handles: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, *self.saga_ids), vars(self) | {"handles": []}


class DefinitionChangedError(StorageError):
    """A stored execution began under another definition of its saga than the one at hand."""


class ActionRefusedError(SagaError, ValueError):
    """What a person wants done, or a signal, does not fit where the execution stands; the text says why, and that is all."""


class SagaHeldError(SagaError):
    """A person holds the saga, or this version of it: nothing of it is begun here and now, and nothing was stored.

    ``submit`` goes on storing executions, which begin when the person lets go.
    """


_ARGS: Any = vars(BaseException)["args"]


class SagaExecutionException(SagaError):
    """An execution failed. ``str()`` of it is short: see :meth:`~saga.SagaResult.summary`; ``report()`` has the tracebacks.

    The engine raises it with all attributes set; a task may raise one itself, with a message only. It can be pickled and
    copied, whatever was raised: an exception within that cannot be pickled is a :class:`RecordedError` then.

    :ivar result: the :class:`~saga.result.SagaResult`, or ``None`` where a task raised this itself, or another process did.
    """

    result: SagaResult | None = None

    def __init__(self, message: str = "", *, result: SagaResult | None = None) -> None:
        super().__init__(message)
        self.result = result

    # The line is made when somebody reads it: most failures are caught unread.
    @cached_property
    def message(self) -> str:
        """What happened, in one line; ``args`` has it too."""
        given: tuple[Any, ...] = _ARGS.__get__(self)
        return self.result.headline() if self.result is not None and given in ((), ("",)) else "".join(map(str, given[:1]))

    @property
    def args(self) -> tuple[Any, ...]:
        """The message."""
        given: tuple[Any, ...] = _ARGS.__get__(self)
        return given if self.result is None else (self.message, *given[1:])

    @args.setter
    def args(self, given: tuple[Any, ...]) -> None:
        _ARGS.__set__(self, given)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.args))})"

    @property
    def failed_task(self) -> Task[Any] | None:
        """The task that failed; ``None`` for the saga's timeout or an interrupt between steps."""
        return self.result.failed_task if self.result is not None else None

    @property
    def cause(self) -> BaseException | None:
        """The exception that made the execution fail."""
        return self.result.error if self.result is not None else self.__cause__

    @property
    def compensation_errors(self) -> tuple[CompensationError, ...]:
        """Each compensation that failed, in the order tried."""
        return self.result.compensation_errors if self.result is not None else ()

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """The names of steps whose effect may or may not have happened, and that are not undone yet."""
        return self.result.in_doubt if self.result is not None else ()

    def report(self) -> str:
        """Return every step with what became of it, and each error with its traceback: :meth:`saga.SagaResult.report`."""
        return self.result.report() if self.result is not None else self.message

    def __str__(self) -> str:
        return self.result.summary() if self.result is not None else self.message


class SagaCompensationError(SagaExecutionException):
    """An execution failed and could not be wholly undone: it is ``stuck`` and a person must act."""
