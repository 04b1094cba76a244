"""Traces, by OpenTelemetry: a span for each stint of an execution, and one for each of its calls. Nothing is exported here."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

try:
    from opentelemetry import context as surroundings
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"traces need {error.name}: pip install 'saga-tasks[otel]'", name=error.name) from error

from saga import events as e
from saga.errors import SagaDefinitionError, exc_info_of
from saga.integrations.failures import failed_for, type_of
from saga.integrations.outcomes import OUTCOMES, still_runs
from saga.plain import repr_of, text_of

if TYPE_CHECKING:
    from saga.definition import ExecutionInfo
    from saga.machine import PlannedStep

__all__ = ["OpenTelemetry"]


class OpenTelemetry:
    """An observer that makes spans: ``Saga("place-order", observers=[OpenTelemetry()])``.

    * ``saga place-order``: one for each *stint*, the time for which one process has an execution in hand. It is a child of the
      span that is current where the execution begins; one that a worker or a recovery takes up begins a trace of its own. It is
      linked to where the execution was started or submitted from (``saga.link`` is ``starter``), to the stint before
      (``stint``), and to where the signals that it gets were sent from (``sender``).
    * ``execute charge``, ``verify charge``, ``compensate charge``: one for each attempt of a call, a child of the stint. It is
      current in the call.

    Attributes: ``saga.name``, ``saga.id``; of a call ``saga.step``, ``saga.attempt``, ``saga.phase`` and ``saga.outcome``
    (``done``, ``not_done`` or ``unknown``); of a stint ``saga.status``: where the execution stood when it ended. What failed is
    an error, with ``error.type``. Nothing of the context and no result is told; of errors their texts and tracebacks are.

    A process that dies ends no span. The stint that goes on says, as an event, whose call it left in doubt.

    :param tracer_provider: where spans are made; the global one where not given.
    :param errors: whether texts and tracebacks of errors are told, as events named ``exception``.
    :raises SagaDefinitionError: what is given makes no spans.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None, *, errors: bool = True) -> None:
        makes = callable(getattr(tracer_provider, "get_tracer", None)) and not isinstance(tracer_provider, type)
        if tracer_provider is not None and not makes:
            given = repr_of(tracer_provider)
            raise SagaDefinitionError(
                f"OpenTelemetry: tracer_provider is {given}; give a TracerProvider, or none for the global one"
            )
        self._tracer = trace.get_tracer("saga", tracer_provider=tracer_provider)
        self._errors = errors

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        """Do nothing: each stint has an observer of its own."""

    def stint(self, info: ExecutionInfo) -> _Stint:
        """Return what makes the spans of an execution that begins here, or goes on here."""
        return _Stint(self._tracer, info, self._errors)

    def carry(self) -> Mapping[str, str]:
        """Return the ids of the current span, for whoever takes up what is submitted or sent."""
        return _ids(surroundings.get_current())


class _Stint:
    """Makes the spans of one stint. Calls begin and end in any thread."""

    def __init__(self, tracer: trace.Tracer, info: ExecutionInfo, errors: bool) -> None:
        self._tracer, self._info, self._errors = tracer, info, errors
        outside = surroundings.get_current()
        self._told = {"saga.name": info.saga, "saga.id": info.saga_id}
        links = list(_links(info.events))
        self._span = tracer.start_span(f"saga {info.saga}", outside, links=links, attributes=self._told)
        self._carried = {**_ids(outside), _STINT: _ids(trace.set_span_in_context(self._span)).get(_PARENT, "")}
        self._calls: dict[tuple[str, str, int], _Call] = {}

    def carry(self) -> Mapping[str, str] | None:
        """Return the ids of this stint's span, for the next one, and of the one around it."""
        return self._carried if self._carried[_STINT] else None

    def around(self, info: ExecutionInfo, step: PlannedStep, attempt: int, phase: str) -> _Call | None:
        """Return what makes a call's span current in it; ``None``: nobody makes spans here."""
        if not self._carried[_STINT]:
            return None
        key = (step.name, phase, attempt)
        call = self._calls.get(key)
        if call is None:  # else what it has returned is awaited now, or its transaction is made again
            told: dict[str, Any] = {"saga.step": step.name, "saga.attempt": attempt, "saga.phase": phase}
            within = trace.set_span_in_context(self._span)
            span = self._tracer.start_span(f"{phase} {step.name}", within, attributes={**self._told, **told})
            call = self._calls[key] = _Call(self, key, span)
        return call

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        if isinstance(event, e.SignalReceived):
            for context in _span_contexts(event.carried, _PARENT):
                self._span.add_link(context, {"saga.link": "sender", "saga.signal": event.name})
            return
        said = OUTCOMES.get(type(event))
        if said is None:
            return
        outcome: Any = event
        phase, how = said
        call = self._calls.get((outcome.step, phase, outcome.attempt))
        if still_runs(event):
            if call is not None:
                call.span.add_event("saga.timed_out")
            return
        error = getattr(event, "error", None)
        told = {"saga.outcome": how(event)} | ({} if error is None else {"error.type": type_of(error)})
        if call is None:  # of a process that is gone
            which = {"saga.step": outcome.step, "saga.attempt": outcome.attempt, "saga.phase": phase}
            self._span.add_event(f"{phase} {outcome.step}", which | told)
            return
        call.span.set_attributes(told)
        if error is not None:
            self._fail(call.span, error)
        call.known = True
        self.end_call(call)

    def end_call(self, call: _Call) -> None:
        """End the span of a call that has ended, if its outcome is known."""
        if call.until is not None and call.known and self._calls.pop(call.key, None) is not None:
            call.span.end(call.until)

    def ended(self, status: e.Status, error: BaseException | None) -> None:
        """End the span, and those of calls whose outcome nobody has stored."""
        for call in list(self._calls.values()):
            call.span.set_attribute("saga.outcome", "unknown")
            call.span.set_status(trace.StatusCode.ERROR)
            call.known = True
            self.end_call(call)
        if error is None:
            self._span.set_attribute("saga.status", str(status))
            if status is e.Status.STUCK:  # for what another process did, perhaps
                self._span.set_status(trace.StatusCode.ERROR)
            error = failed_for(status, self._info.events)
        if error is not None:
            self._span.set_attribute("error.type", type_of(error))
            self._fail(self._span, error)
        self._span.end()

    def _fail(self, span: trace.Span, error: BaseException) -> None:
        span.set_status(trace.StatusCode.ERROR)
        if self._errors:
            span.add_event("exception", dict(_exception(error)))


class _Call(AbstractContextManager[None]):
    """A call's span: current in the call, and ended when what came of it is known.

    :ivar until: when the call has ended, in nanoseconds since the epoch.
    :ivar known: whether the span says what came of it.
    """

    def __init__(self, stint: _Stint, key: tuple[str, str, int], span: trace.Span) -> None:
        self.key, self.span = key, span
        self.until: int | None = None
        self.known = False
        self._stint = stint

    def __enter__(self) -> None:
        self.until = None
        self._token = surroundings.attach(trace.set_span_in_context(self.span))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        surroundings.detach(self._token)
        self.until = time.time_ns()
        self._stint.end_call(self)


# -- what is told -----------------------------------------------------------------------------------------------------


def _exception(error: BaseException) -> Iterator[tuple[str, str]]:
    yield "exception.type", type_of(error)
    yield "exception.message", _sendable(text_of(error))
    told = exc_info_of(error)
    if told is not None:
        yield "exception.stacktrace", _sendable(text_of("".join(traceback.format_exception(*told))))


def _sendable(text: str) -> str:
    """Return a text as UTF-8 can have it: else all that is sent with it would be lost."""
    return text.encode(errors="backslashreplace").decode()


# -- what is carried along --------------------------------------------------------------------------------------------

_W3C: Final = TraceContextTextMapPropagator()
_PARENT: Final = "traceparent"
_STINT: Final = "saga.stint"
"""Names of what is carried: the span where it comes from, and the stint that has stored it."""


def _ids(context: surroundings.Context) -> dict[str, str]:
    """Return the ids of a context's span, none where there is no span."""
    ids: dict[str, str] = {}
    _W3C.inject(ids, context)
    return ids


def _span_contexts(carried: Mapping[str, str] | None, name: str) -> Iterator[trace.SpanContext]:
    """Yield the span whose ids were carried under a name."""
    if carried is not None and name in carried:
        ids = carried if name == _PARENT else {_PARENT: carried[name]}
        found = trace.get_current_span(_W3C.extract(ids)).get_span_context()
        if found.is_valid:
            yield found


def _links(events: Iterable[e.Event]) -> Iterator[trace.Link]:
    """Yield links to where an execution was started from, and to the stint before."""
    begun = [event.carried for event in events if isinstance(event, e.SagaSubmitted | e.SagaStarted | e.SagaRecovered)]
    for context in _span_contexts(begun[0] if begun else None, _PARENT):
        yield trace.Link(context, {"saga.link": "starter"})
    stints = [carried for carried in begun if carried is not None and _STINT in carried]
    for context in _span_contexts(stints[-1] if stints else None, _STINT):
        yield trace.Link(context, {"saga.link": "stint"})
