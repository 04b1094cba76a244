"""SagaLogger: events become lines of a log. Importing this configures nothing.

One line per event, a message and then ``key=value`` pairs, from the logger ``saga``. A library's user decides where it goes.
What a line says is in the record's fields too, for formatters that write JSON. How other loggers take it is known by
:mod:`saga.loggers`, and what a person must know of a stuck execution by :mod:`saga.hindsight`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from saga import events as e
from saga.awaitables import refuse_unrun
from saga.errors import SagaDefinitionError, exc_info_of
from saga.hindsight import cause_in, decision_before, is_tried_again, told_of_stuck, whole_time_ms
from saga.loggers import Line, LoggerLike, writer_to
from saga.plain import one_line, repr_of, text_of
from saga.shown_keys import ShownKeys

if TYPE_CHECKING:
    from saga.definition import ExecutionInfo

__all__ = ["SagaLogger"]


class SagaLogger:
    """Write each event of an execution as one log line.

    Levels tell outcomes. A failed attempt is a warning, because a retry may mend it; that the saga gave up is an error.

    ============================  ========  ============================================================
    method and event              level     what it says
    ============================  ========  ============================================================
    ``saga_submitted``            INFO      the execution was stored, for somebody to begin it
    ``saga_started``              INFO      the execution began
    ``step_started``              DEBUG     ``execute`` is about to be called
    ``step_succeeded``            INFO      ``execute`` returned
    ``step_failed``               WARNING   an attempt of ``execute`` raised, or was interrupted
    ``step_timed_out``            WARNING   an attempt of ``execute`` took longer than it may
    ``retry_scheduled``           WARNING   another attempt follows, of any of the three calls
    ``step_skipped``              WARNING   the step failed for good and the saga goes on without it
    ``person_asked``              WARNING   the step failed for good and a person is to say how the saga goes on
    ``verification_started``      DEBUG     ``verify`` is about to be called, of a step in doubt
    ``step_verified``             WARNING   ``verify`` said what came of the step
    ``verification_failed``       WARNING   an attempt of ``verify`` raised, or did not know
    ``group_merged``              DEBUG     all branches of a parallel group ended well
    ``saga_compensating``         ERROR     the saga gave up, with the traceback of the cause
    ``compensation_started``      DEBUG     ``compensate`` is about to be called
    ``compensation_succeeded``    INFO      ``compensate`` returned
    ``compensation_failed``       ERROR     ``compensate`` raised for the last time, with its traceback; a WARNING, without,
                                            where another attempt follows
    ``compensation_timed_out``    WARNING   an attempt of ``compensate`` took longer than it may, and still runs
    ``saga_completed``            INFO      every step ended well
    ``saga_compensated``          WARNING   the saga failed and is wholly undone
    ``saga_rewound``              WARNING   what came after a step is undone, as a person said; it is paused there
    ``saga_stuck``                CRITICAL  the saga ended and a person must act: on which steps, why, and what can be done
    ``saga_held``                 INFO      what runs ends, and another process goes on
    ``saga_paused``               WARNING   the execution rests until a person lets it go on
    ``saga_recovered``            WARNING   another process took the execution over; what a person has decided meanwhile
    ``operator_acted``            WARNING   a person decided, and why
    ``fallback_chosen``           WARNING   a step failed and its fallback is executed instead
    ``way_chosen``                INFO      a step decided how the saga goes on
    ``unit_compensating``         WARNING   a unit gave up, and is undone before its policies say what follows
    ``signal_received``           INFO      a signal came from outside
    ``message_refused``           DEBUG     what came from outside is not obeyed
    ============================  ========  ============================================================

    Each method is called as ``method(event, info)``. Override one to change what is written for its event, or
    :meth:`write` for all.

    A record has fields: ``saga``, ``saga_id``, ``saga_event`` (the message), and the line's other pairs by their names with
    ``saga_`` before: ``saga_step``, ``saga_attempt``, ``saga_status``, ``saga_elapsed_ms``, ``saga_reason`` and so on. A field
    has the text or number itself, unquoted. The record's template (``msg``) has the saga's name in it, so that what groups
    records by that keeps sagas apart. A logger of structlog gets the message and the fields, one of loguru the line and, as
    its ``extra``, the fields.

    The lines that end an execution have ``elapsed_ms``, the time since it began, in processes before this one too. That of a
    stuck one says more: ``steps``, that wait for a person, ``errors``, what came of each, ``cause``, why the saga gave up,
    ``result.<step>`` and ``key.<step>``, the result and the idempotency key of each step that may have to be undone by hand,
    and ``actions``, what an operator can do.

    :param logger: a logger of :mod:`logging`, an adapter of one, the name of one, or a logger of structlog or loguru.
    :param show: context keys to add to the lines that begin and end an execution, ``"order.id"`` for one within a value; and
        what is shown of results where it is stuck: ``"result"`` for all of each, ``"result.charge"`` of one step,
        ``"result.charge.id"`` within that. Other results are written as ``***`` there, and nowhere else at all.
    :param mask: those of them, or those within their values (``"order.card"``), that are written as ``***``. Where one
        within a value is not found, all of that value is hidden, and that is said once.
    :raises SagaDefinitionError: one of ``mask`` hides nothing that is shown, or ``logger`` can log nothing.
    """

    def __init__(self, logger: LoggerLike = "saga", *, show: Iterable[str] = (), mask: Iterable[str] = ()) -> None:
        writer = writer_to(logger)
        if writer is None:
            raise SagaDefinitionError(
                f"SagaLogger: logger is {logger!r}, which can log nothing; give logging.getLogger(...), an adapter or the name "
                "of one, or a logger of structlog or loguru; for others, give a function of (event, info) as the saga's logger"
            )
        self.logger: Any = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._writer = writer
        self._shown = ShownKeys(show, mask)
        self.mask = self._shown.mask
        self._told: set[str] = set()
        self._overridden = any(getattr(type(self), name) is not getattr(SagaLogger, name) for name in _OWN)
        if self._overridden:
            for name in sorted(_OWN):
                refuse_unrun(getattr(self, name), f"{type(self).__name__}.{name}", "make it a plain method")

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        getattr(self, _METHODS[type(event)])(event, info)

    def listening(self) -> bool:
        """Return whether an event can have any effect here now: an execution leaves out a logger that does not listen.

        It is false where the logger would not even write ``CRITICAL``. It is always true where a subclass overrides a
        method, or one is replaced on this object, because that may do more than log.
        """
        return self._overridden or self._writer.listens(logging.CRITICAL) or not _OWN.isdisjoint(vars(self))

    def write(
        self, level: int, info: ExecutionInfo, message: str, *, exc_info: BaseException | None = None, **pairs: Any
    ) -> None:
        """Write one line: the message, saga, id, then ``pairs`` (those that are ``None`` left out).

        :param exc_info: the exception whose traceback the record carries.
        """
        if self._writer.listens(level):
            named = {"id": info.saga_id, **{key: value for key, value in pairs.items() if value is not None}}
            template = [_beginning(message, info.saga), *map(_place, named)]
            values = [_quoted(_rounded(key, value)) for key, value in named.items()]
            fields = {"saga": info.saga, "saga_event": message}
            fields |= {f"saga_{key}": _field(key, value) for key, value in named.items()}
            told = exc_info_of(exc_info) if exc_info is not None else None
            self._writer.write(level, Line(message, " ".join(template), values, fields, told))

    def _writes(self, level: int) -> bool:
        """Whether anything may come of a line of that level: what it says is looked for only then."""
        return self._writer.listens(level) or self._overridden or "write" in vars(self)

    def _context(self, info: ExecutionInfo) -> dict[str, Any]:
        return self._found("context.", self._shown.of(info.context))

    def _found(self, prefix: str, shown: Iterable[tuple[str, Any, str | None]]) -> dict[str, Any]:
        found = {}
        for key, value, missed in shown:
            found[f"{prefix}{key}"] = value
            if missed is not None and missed not in self._told:
                self._told.add(missed)
                said = f"SagaLogger: mask %s is not found in {_literal(prefix + key)}, so all of that is hidden"
                self._writer.write(logging.WARNING, Line(said % repr(missed), said, [repr(missed)], {}))
        return found

    def _end(self, level: int, message: str, event: Any, info: ExecutionInfo, **pairs: Any) -> None:
        """Write a line that ends an execution."""
        self.write(level, info, message, **pairs, elapsed_ms=whole_time_ms(event, info.events), **self._context(info))

    def saga_submitted(self, event: e.SagaSubmitted, info: ExecutionInfo) -> None:
        """The execution was stored, for somebody to begin it."""
        if self._writes(logging.INFO):
            self.write(logging.INFO, info, "saga submitted", status="submitted", **self._context(info))

    def saga_started(self, event: e.SagaStarted, info: ExecutionInfo) -> None:
        """The execution began."""
        if self._writes(logging.INFO):
            self.write(logging.INFO, info, "saga started", status="running", **self._context(info))

    def saga_compensating(self, event: e.SagaCompensating, info: ExecutionInfo) -> None:
        """The saga gave up."""
        self.write(
            logging.ERROR,
            info,
            "saga compensating",
            step=event.step,
            status="compensating",
            error=event.error,
            exc_info=event.error,
        )

    def saga_completed(self, event: e.SagaCompleted, info: ExecutionInfo) -> None:
        """Every step ended well."""
        if self._writes(logging.INFO):
            self._end(logging.INFO, "saga completed", event, info, status="completed")

    def saga_compensated(self, event: e.SagaCompensated, info: ExecutionInfo) -> None:
        """The saga failed and is wholly undone."""
        if self._writes(logging.WARNING):
            cause = cause_in(info.events)
            self._end(logging.WARNING, "saga compensated", event, info, status="compensated", cause=cause)

    def saga_stuck(self, event: e.SagaStuck, info: ExecutionInfo) -> None:
        """The saga ended and a person must act."""

        def shown(step: str, result: Any) -> dict[str, Any]:
            return self._found("", self._shown.of_result(step, result, info.plan.names))

        pairs = {"status": "stuck", "reason": event.reason, "cause": cause_in(info.events), **told_of_stuck(info, shown)}
        self._end(logging.CRITICAL, "saga stuck", event, info, **pairs)

    def saga_rewound(self, event: e.SagaRewound, info: ExecutionInfo) -> None:
        """What came after a step is undone, as a person said: the execution is paused there."""
        self.write(logging.WARNING, info, "saga rewound", step=event.step, status="paused", reason=event.reason)

    def saga_held(self, event: e.SagaHeld, info: ExecutionInfo) -> None:
        """What runs ends, nothing new begins, and another process goes on."""
        self.write(logging.INFO, info, "saga held")

    def saga_paused(self, event: e.SagaPaused, info: ExecutionInfo) -> None:
        """The execution rests until a person lets it go on."""
        self.write(logging.WARNING, info, "saga paused", status="paused", reason=event.reason)

    def saga_recovered(self, event: e.SagaRecovered, info: ExecutionInfo) -> None:
        """Another process took the execution over, or this one does as a person said."""
        acted = decision_before(event, info.events)
        told: dict[str, Any] = {"owner": event.owner, "epoch": event.epoch}
        if acted is not None:
            told |= {"step": acted.step, "action": acted.action, "who": acted.who, "why": acted.why}
        self.write(logging.WARNING, info, "saga recovered", **told)

    def fallback_chosen(self, event: e.FallbackChosen, info: ExecutionInfo) -> None:
        """A step failed and its fallback is executed instead."""
        self.write(logging.WARNING, info, "fallback chosen", step=event.step, status="failed")

    def way_chosen(self, event: e.WayChosen, info: ExecutionInfo) -> None:
        """A step decided how the saga goes on."""
        self.write(logging.INFO, info, "way chosen", step=event.step, way=event.way)

    def unit_compensating(self, event: e.UnitCompensating, info: ExecutionInfo) -> None:
        """A unit gave up: it is undone before its policies say what follows."""
        failed = event.failed_step
        self.write(logging.WARNING, info, "unit compensating", step=event.step, failed_step=failed, error=event.error)

    def signal_received(self, event: e.SignalReceived, info: ExecutionInfo) -> None:
        """A signal came from outside."""
        self.write(logging.INFO, info, "signal received", signal=event.name, who=event.who, why=event.why)

    def message_refused(self, event: e.MessageRefused, info: ExecutionInfo) -> None:
        """Something that came from outside is not obeyed; a warning of it is logged in any case."""
        self.write(logging.DEBUG, info, "message refused", reason=event.reason)

    def operator_acted(self, event: e.OperatorActed, info: ExecutionInfo) -> None:
        """A person decided, and why."""
        action = event.action
        self.write(logging.WARNING, info, "operator acted", step=event.step, action=action, who=event.who, why=event.why)

    def step_started(self, event: e.StepStarted, info: ExecutionInfo) -> None:
        """``execute`` is about to be called."""
        self.write(logging.DEBUG, info, "step started", step=event.step, attempt=event.attempt, status="running")

    def step_succeeded(self, event: e.StepSucceeded, info: ExecutionInfo) -> None:
        """``execute`` returned."""
        self._outcome(logging.INFO, info, "step succeeded", event, "succeeded")

    def step_failed(self, event: e.StepFailed, info: ExecutionInfo) -> None:
        """An attempt of ``execute`` raised, or was interrupted."""
        status = "in_doubt" if event.in_doubt else "failed"
        self._outcome(logging.WARNING, info, "step failed", event, status, error=event.error)

    def step_timed_out(self, event: e.StepTimedOut, info: ExecutionInfo) -> None:
        """An attempt of ``execute`` took longer than it may."""
        self._outcome(logging.WARNING, info, "step timed out", event, "timed_out", error=event.error)

    def step_skipped(self, event: e.StepSkipped, info: ExecutionInfo) -> None:
        """The step failed for good and the saga goes on without it."""
        self.write(logging.WARNING, info, "step skipped", step=event.step, status="skipped")

    def person_asked(self, event: e.PersonAsked, info: ExecutionInfo) -> None:
        """The step failed for good and a person is to say how the saga goes on."""
        self.write(logging.WARNING, info, "person asked", step=event.step, status="failed")

    def retry_scheduled(self, event: e.RetryScheduled, info: ExecutionInfo) -> None:
        """Another attempt, of ``execute``, ``verify`` or ``compensate``, follows."""
        self.write(
            logging.WARNING,
            info,
            _RETRIES[event.phase],
            step=event.step,
            attempt=event.attempt,
            status="waiting",
            delay_ms=event.delay * 1000,
        )

    def group_merged(self, event: e.GroupMerged, info: ExecutionInfo) -> None:
        """All branches of a parallel group ended well."""
        self.write(logging.DEBUG, info, "parallel group merged", group=event.group)

    def verification_started(self, event: e.VerificationStarted, info: ExecutionInfo) -> None:
        """``verify`` is about to be called."""
        self.write(logging.DEBUG, info, "verification started", step=event.step, attempt=event.attempt, status="in_doubt")

    def step_verified(self, event: e.StepVerified, info: ExecutionInfo) -> None:
        """``verify`` said what came of the step."""
        status = "succeeded" if event.done else "failed"
        self._outcome(logging.WARNING, info, "step verified", event, status, done=event.done)

    def verification_failed(self, event: e.VerificationFailed, info: ExecutionInfo) -> None:
        """An attempt of ``verify`` raised, or did not know."""
        self._outcome(logging.WARNING, info, "verification failed", event, "in_doubt", error=event.error)

    def compensation_started(self, event: e.CompensationStarted, info: ExecutionInfo) -> None:
        """``compensate`` is about to be called."""
        self.write(logging.DEBUG, info, "compensation started", step=event.step, attempt=event.attempt, status="compensating")

    def compensation_succeeded(self, event: e.CompensationSucceeded, info: ExecutionInfo) -> None:
        """``compensate`` returned."""
        self._outcome(logging.INFO, info, "compensation succeeded", event, "compensated")

    def compensation_failed(self, event: e.CompensationFailed, info: ExecutionInfo) -> None:
        """An attempt of ``compensate`` raised."""
        level, status = logging.ERROR, "compensation_failed"
        error: BaseException | None = event.error
        if is_tried_again(event, info.events):
            level, error = logging.WARNING, None
        self._outcome(level, info, "compensation failed", event, status, error=event.error, exc_info=error)

    def compensation_timed_out(self, event: e.CompensationTimedOut, info: ExecutionInfo) -> None:
        """An attempt of ``compensate`` took longer than it may, and still runs."""
        self._outcome(logging.WARNING, info, "compensation timed out", event, "compensating", error=event.error)

    def _outcome(
        self,
        level: int,
        info: ExecutionInfo,
        message: str,
        event: Any,
        status: str,
        **more: Any,
    ) -> None:
        elapsed = event.elapsed * 1000
        self.write(level, info, message, step=event.step, attempt=event.attempt, status=status, elapsed_ms=elapsed, **more)


_METHODS: Final = {kind: re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in e.Event.__args__}
_RETRIES: Final = {
    "execute": "retry scheduled",
    "verify": "verification retry scheduled",
    "compensate": "compensation retry scheduled",
}


_OWN: Final = frozenset({"__call__", "write", *_METHODS.values()})
_DIGITS: Final = {"elapsed_ms": 3, "delay_ms": 1}


@lru_cache(1024)
def _beginning(message: str, saga: str) -> str:
    return _literal(f"{message} saga={_quoted(saga)}")


@lru_cache(1024)
def _place(key: str) -> str:
    return f"{_literal(key)}=%s"


def _literal(text: str) -> str:
    return one_line(text).replace("%", "%%")


def _rounded(key: str, value: Any) -> Any:
    return f"{value:.{_DIGITS[key]}f}" if key in _DIGITS and isinstance(value, float) else value


def _field(key: str, value: Any) -> Any:
    """Return a value as a record's field: what a formatter, a queue or another process can take."""
    if key in _DIGITS and type(value) is float:
        return round(value, _DIGITS[key])
    if any(type(value) is kind for kind in (str, int, float, bool)):  # which a class has no say in
        return value
    return repr_of(value) if isinstance(value, BaseException) else text_of(value)


def _quoted(value: Any) -> str:
    text = repr_of(value) if isinstance(value, BaseException) else text_of(value)
    if text.isprintable() and text and not any(c in text for c in ' ="\\'):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{one_line(text)}"'  # a line break in a value must not begin another line of the log
