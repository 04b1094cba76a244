"""What a user writes: a task, what its verification answers, the view of its own call that it gets. No engine lives here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from saga.composing import Composing
from saga.policy import ErrorKinds, InDoubt, OnError, Retry, Seconds

if TYPE_CHECKING:
    from saga.events import OperatorActed

__all__ = ["Done", "NotDone", "StepInfo", "Task"]

T_co = TypeVar("T_co", covariant=True)


class Done(Generic[T_co]):
    """What ``verify`` returns where the work was done; ``result``: what ``execute`` would have returned."""

    __slots__ = ("result",)

    def __init__(self, result: T_co = None) -> None:  # type: ignore[assignment]
        self.result = result

    def __repr__(self) -> str:
        return f"Done({self.result!r})"


class NotDone:
    """What ``verify`` returns where the work was not done."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NotDone()"


class Task(Composing, Generic[T_co]):
    """A unit of work that can be undone.

    Subclass it with ``execute(context)`` and, where there is something to undo, ``compensate(context)``. ``T`` in
    ``Task[T]`` is the type ``execute`` returns, which ``context.result_of(TheTask)`` then has. One task object may serve
    many executions at once, so keep nothing about an execution on ``self``: that is what the context is for.

    Its policies are attributes, of the class or of the object; :func:`saga.step` gives a step others. What neither says, its
    :class:`saga.Saga` may say for all its steps.

    :ivar name: the step's name, unique within a saga; the class's name where ``None``.
    :ivar retry: when and how often ``execute`` is attempted again, a :class:`Retry`; once where ``None``.
    :ivar timeout: the seconds an attempt of ``execute`` may take; any where ``None``.
    :ivar on_error: what follows when ``execute`` failed for good: ``Compensate``, ``Skip``, ``Ask``, or
        ``Retry(..., then=...)``; what the saga says where ``None``.
    :ivar compensation_retry: when and how often ``compensate`` is attempted again.
    :ivar compensation_timeout: the seconds an attempt of ``compensate`` may take; any where ``None``. A coroutine function is
        cancelled then, and the attempt has failed with a :class:`~saga.errors.StepTimeoutError`. Another cannot be killed: what
        else there is to undo is undone meanwhile, and how it ends in the end counts.
    :ivar compensate_on_failure: whether the step is compensated too when its own ``execute`` raised.
    :ivar pivot: whether the saga cannot be undone once this step has succeeded: from then on steps are retried until they
        succeed.
    :ivar transactional: whether ``execute`` and ``compensate`` are made in a transaction of the store's own database, whose
        open connection is ``context.step.connection``: what they do with it and their journal entries are one commit. Coroutine
        functions have an asynchronous one, where the store has such.
    :ivar in_doubt: what to do when nobody knows whether ``execute`` took effect: ``InDoubt.COMPENSATE``, ``InDoubt.RERUN`` or
        ``InDoubt.ASK``.
    :ivar unknown_on: the errors of ``execute`` after which nobody knows whether it took effect: an exception class, a function
        of the error, or a tuple of these such as ``(LOST_ANSWERS, MyError)``; the saga's where ``None``.
    :ivar verification_retry: when and how often ``verify`` is attempted again, where it raises or does not know.
    :ivar requires: the keys of the context that ``execute`` reads, such as ``("order_id",)``: it is not called where one is
        missing, and :meth:`saga.Saga.check` tells where that may be. ``None``: nothing is said of what it reads.
    :ivar provides: the keys that it has set when it returns; a saga whose step has not set one is undone. ``None``: nothing is
        said of what it sets, unless it says what it requires; then that it sets none.
    """

    name: str | None = None
    retry: Retry | None = None
    timeout: Seconds | None = None
    on_error: OnError | Retry | None = None
    compensation_retry: Retry | None = None
    compensation_timeout: Seconds | None = None
    compensate_on_failure: bool = False
    pivot: bool = False
    transactional: bool = False
    in_doubt: InDoubt = InDoubt.COMPENSATE
    unknown_on: ErrorKinds | None = None
    verification_retry: Retry | None = None
    requires: Iterable[str] | None = None
    provides: Iterable[str] | None = None

    def execute(self, context: Any) -> T_co | Coroutine[Any, Any, T_co]:
        """Do the work and return its result."""
        raise NotImplementedError(f"{type(self).__name__} has no execute(context); write one")

    def verify(self, context: Any) -> Coroutine[Any, Any, Done[T_co] | NotDone | None] | Done[T_co] | NotDone | None:
        """Say whether the work was done, where nobody knows: ``Done(result)``, ``NotDone()``, or ``None`` for "still unknown".

        Optional. Asked before anything else is decided of a step in doubt: ask the other system under
        ``context.step.idempotency_key``. What it raises leaves the step in doubt.
        """
        return None

    def compensate(self, context: Any) -> Coroutine[Any, Any, None] | None:
        """Undo the work. May run when ``execute`` is in doubt, so it must tolerate that nothing happened."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} task>"


class StepInfo:
    """What a running call may know about itself: ``context.step``.

    :ivar saga: the saga's name.
    :ivar saga_id: the execution's id.
    :ivar name: the step's name.
    :ivar attempt: 1 for the first attempt of this call.
    :ivar deadline: seconds since the epoch when the attempt is timed out, or ``None``.
    :ivar round: 1, and one more each time that the step was undone on request and is executed again:
        :meth:`saga.Saga.undo`.
    :ivar cause: what a ``compensate`` undoes for. It is the exception that the saga gave up for (a step's, a timeout, an
        interrupt), or what a person did: a :class:`~saga.events.OperatorActed` with ``action`` (``cancel``, ``compensate``,
        ``undo``), ``who`` and ``why``. Where the saga goes on without the step, it is the step's own exception. ``None`` in
        other calls. After a crash, an exception that cannot be made again is a :class:`~saga.errors.RecordedError`.
    :ivar failed_step: the name of the step that raised the ``cause``; ``None`` where no step did, and in other calls.
    :ivar previous_error: what the attempt before this one has ended with, in any call; ``None`` at the first. Where its
        process died in it, it is a :class:`~saga.errors.CrashError`.
    """

    __slots__ = (
        "_cancelled",
        "_connection",
        "_item",
        "attempt",
        "cause",
        "deadline",
        "failed_step",
        "name",
        "previous_error",
        "round",
        "saga",
        "saga_id",
    )

    round: int
    cause: BaseException | OperatorActed | None
    failed_step: str | None
    previous_error: BaseException | None

    def __init__(
        self,
        saga: str,
        saga_id: str,
        name: str,
        attempt: int,
        deadline: float | None = None,
        cancelled: Flag | None = None,
    ) -> None:
        self.saga = saga
        self.saga_id = saga_id
        self.name = name
        self.attempt = attempt
        self.deadline = deadline
        self._cancelled = cancelled
        self.round = 1
        self.cause = self.failed_step = self.previous_error = None
        self._connection: Any = None
        self._item: Callable[[], Any] | None = None

    @property
    def item(self) -> Any:
        """The item that the step is done for, where it is one of :func:`saga.each`; otherwise ``None``."""
        return None if self._item is None else self._item()

    @property
    def idempotency_key(self) -> str:
        """The same text for every call of this step in this execution: give it to services that deduplicate.

        It is ``saga/saga_id/step``, each percent-encoded as in a URL's path, so that no other step of any execution has it.
        What is done anew after it was undone on request has another, which ends with ``#`` and the :attr:`round`: a service
        would take it for what is undone.
        """
        from urllib.parse import quote  # not every process that imports this package asks for a key

        saga, saga_id = (quote(text, safe="", errors="surrogatepass") for text in (self.saga, self.saga_id))
        again = f"#{self.round}" if self.round > 1 else ""
        return f"{saga}/{saga_id}/{quote(self.name, safe='/', errors='surrogatepass')}{again}"

    @property
    def compensation_key(self) -> str:
        """The key of the undo's own call, where the service deduplicates that too. It is no step's :attr:`idempotency_key`.

        A service that got the refund under the charge's own key would take it for the charge, made again.
        """
        return f"{self.idempotency_key}#compensate"  # a "#" in a name is encoded

    @property
    def connection(self) -> Any:
        """The open connection of a transactional step's call: psycopg's, SQLAlchemy's or sqlite3's, as the store has it.

        A coroutine function has psycopg's ``AsyncConnection`` or SQLAlchemy's.

        It is in a transaction, which this package commits and rolls back, and the call's own until it has ended.

        :raises RuntimeError: the step is not transactional.
        """
        if self._connection is None:
            raise RuntimeError(
                f"step {self.name!r} has no connection: it is there in execute and compensate of a transactional step; write "
                "transactional = True in the task"
            )
        return self._connection

    @property
    def cancelled(self) -> bool:
        """Whether the saga no longer waits for this call: a long task may stop early by raising.

        The call timed out, or the execution is left to a recovery, which waits until the call has ended.
        """
        return self._cancelled is not None and self._cancelled.is_set()

    def __repr__(self) -> str:
        return f"<step {self.name!r} attempt {self.attempt} of {self.saga_id}>"
