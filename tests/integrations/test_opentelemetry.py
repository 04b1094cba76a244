"""Spans, as OpenTelemetry's own SDK exports them: which there are, whose children they are, and what they say."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from saga import (
    Ask,
    Context,
    Done,
    InDoubt,
    NotDone,
    OutcomeUnknownError,
    Retry,
    Saga,
    SagaResult,
    Skip,
    Status,
    fallback,
    parallel,
    receive,
    sequence,
    step,
    transaction,
)
from saga.errors import LeaseLostError, SagaDefinitionError
from saga.integrations.opentelemetry import OpenTelemetry
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Lease, MemoryStore
from saga.worker import Worker
from tests.kit import LONG, PATIENCE, Calls, left_at, until
from tests.kit.recoveries import left_behind


class Traces:
    """An exporter in memory, with a provider of its own.

    :ivar observer: what makes spans there; :ivar tracer: what user code makes its own spans by.
    """

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.observer = OpenTelemetry(provider, **options)
        self.tracer = provider.get_tracer("user")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> Any:
        """Return the only span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def stints(self) -> list[Any]:
        return [span for span in self.spans if span.name.startswith("saga ")]

    def calls(self) -> list[str]:
        """Return each call's span: its name, attempt and outcome, with the class of its error, in the order of their ends."""
        found = []
        for span in self.spans:
            told: Any = span.attributes
            if "saga.phase" in told:
                assert (span.status.status_code is trace.StatusCode.ERROR) == ("error.type" in told)
                error = f" {told['error.type']}" if "error.type" in told else ""
                found.append(f"{span.name} {told['saga.attempt']}: {told['saga.outcome']}{error}")
        return found

    def check(self) -> None:
        """Every call is a child of a stint of its execution, and what user code makes in a call is a child of that."""
        by_id = {span.context.span_id: span for span in self.spans}
        for span in self.spans:
            told: Any = span.attributes
            assert span.end_time >= span.start_time
            parent = by_id[span.parent.span_id] if span.parent is not None else None
            if "saga.phase" in told:
                assert parent is not None
                assert parent.name == f"saga {told['saga.name']}"
                assert parent.attributes["saga.id"] == told["saga.id"]
                assert span.name == f"{told['saga.phase']} {told['saga.step']}"
            elif "of" in told:
                assert parent is not None
                assert (parent.attributes["saga.id"], parent.name) == tuple(told["of"])


@pytest.fixture
def traces() -> Traces:
    return Traces()


def requests(traces: Traces, phase: str, context: Context, during: Any = None) -> None:
    """Do what a call does that makes a request: it has a span of its own, which says whose it should be."""
    info = context.step
    with traces.tracer.start_as_current_span("request", attributes={"of": [info.saga_id, f"{phase} {info.name}"]}):
        if during is not None:
            during()


async def arequests(traces: Traces, phase: str, context: Context, during: Any = None) -> None:
    info = context.step
    with traces.tracer.start_as_current_span("request", attributes={"of": [info.saga_id, f"{phase} {info.name}"]}):
        await asyncio.sleep(0)
        if during is not None:
            during()


class Steps:
    """Makes steps that make requests, of a kind that suits the driver."""

    def __init__(self, calls: Calls, traces: Traces) -> None:
        self._request: Any = arequests if calls.in_loop else requests
        self._traces = traces

    def __call__(self, name: str, during: Any = None, during_undo: Any = None, **policies: Any) -> Any:
        return step(self._function("execute", during), self._function("compensate", during_undo), name=name, **policies)

    def _function(self, phase: str, during: Any) -> Any:
        if self._request is arequests:

            async def acall(context: Context) -> None:
                await arequests(self._traces, phase, context, during)

            return acall

        def call(context: Context) -> None:
            requests(self._traces, phase, context, during)

        return call


@pytest.fixture
def steps(calls: Calls, traces: Traces) -> Steps:
    return Steps(calls, traces)


def fail() -> None:
    raise LookupError("no stock")


# -- whose children they are ------------------------------------------------------------------------------------------


def executed(calls: Calls, saga: Saga) -> SagaResult:
    return calls.run(saga)


def executed_with_a_store(calls: Calls, saga: Saga) -> SagaResult:
    return calls.run(saga, store=MemoryStore())


def streamed(calls: Calls, saga: Saga) -> None:
    with pytest.raises(Exception, match="no stock"):
        calls.stream(saga)


def submitted(calls: Calls, saga: Saga) -> None:
    store = MemoryStore()
    saga.submit(store=store)
    Worker(store, [saga]).run_once()


FLOWS: Final[dict[str, Callable[[Any], Any]]] = {
    "one after the other": lambda step: sequence(step("a"), step("b"), step("c", fail)),
    "at the same time": lambda step: sequence(parallel(step("a"), step("b"), compensate_together=True), step("c", fail)),
    "within a time": lambda step: sequence(step("a", timeout=LONG), step("b"), step("c", fail)),
    "instead": lambda step: sequence(fallback(step("a0", fail), step("a")), step("b"), step("c", fail)),
    "a saga within": lambda step: sequence(Saga("inner").add_task(step("a")).add_task(step("b")), step("c", fail)),
}
DOORS: Final[dict[str, tuple[Callable[[Calls, Saga], Any], dict[str, Any]]]] = {
    "executed": (executed, {}),
    "with a store": (executed_with_a_store, {}),
    "streamed": (streamed, {}),
    "submitted": (submitted, {}),
    "in its turn": (executed_with_a_store, {"limit": 1}),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("flow", FLOWS)
def test_each_call_has_a_span_that_is_current_in_it_and_a_child_of_its_stint(
    calls: Calls, traces: Traces, steps: Steps, flow: str, door: str
) -> None:
    run, options = DOORS[door]
    run(calls, Saga("s", observers=[traces.observer], **options).add_task(FLOWS[flow](steps)))
    traces.check()
    made = Counter(call.replace("inner/", "") for call in traces.calls())
    made.pop("execute a0 1: not_done LookupError", None)
    undone = {f"compensate {name} 1: done" for name in "ab"}
    assert made == Counter({"execute a 1: done", "execute b 1: done", "execute c 1: not_done LookupError", *undone})
    (stint,) = traces.stints()
    assert stint.attributes["saga.status"] == "compensated"
    assert sum(span.name == "request" for span in traces.spans) == len(traces.calls())


@pytest.mark.parametrize("stored", [False, True])
def test_a_blocks_calls_have_spans(calls: Calls, traces: Traces, stored: bool) -> None:
    store = MemoryStore() if stored else None
    if calls.in_loop:

        async def block() -> None:
            async with transaction("b", observers=[traces.observer], store=store) as tx:
                await tx.astep(nothing, name="a")
                await tx.astep(nothing, name="c")

        asyncio.run(block())
    else:
        with transaction("b", observers=[traces.observer], store=store) as tx:
            tx.step(print, name="a", args=("",), kwargs={"end": ""})
            tx.step(print, name="c", args=("",), kwargs={"end": ""})
    traces.check()
    assert traces.calls() == ["execute a 1: done", "execute c 1: done"]
    assert [span.attributes["saga.status"] for span in traces.stints()] == ["completed"]


async def nothing() -> None: ...


def test_many_at_once_are_told_apart(calls: Calls, traces: Traces, steps: Steps) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[traces.observer], store=store)
    saga.add_task(parallel(steps("a"), steps("b"))).add_task(steps("c", fail))
    ids = [handle.saga_id for handle in saga.submit_many([{}] * 20)]
    Worker(store, [saga], workers=8).run_once()
    traces.check()
    assert sorted(span.attributes["saga.id"] for span in traces.stints()) == sorted(ids)
    assert Counter(traces.calls()) == Counter(dict.fromkeys(set(traces.calls()), 20))
    assert len({span.context.trace_id for span in traces.stints()}) == 20


def test_a_stint_is_a_child_of_the_span_around_it_and_a_saga_in_a_call_of_that_call(
    calls: Calls, traces: Traces, steps: Steps
) -> None:
    inner = Saga("inner", observers=[traces.observer]).add_task(step(lambda: 1, name="x"))
    outer = Saga("outer", observers=[traces.observer]).add_task(steps("a", lambda: inner.execute()))
    with traces.tracer.start_as_current_span("web request") as around:
        calls.run(outer)
    assert traces.named("saga outer").parent.span_id == around.get_span_context().span_id
    request = traces.named("request")
    assert traces.named("saga inner").parent.span_id == request.context.span_id
    assert request.parent.span_id == traces.named("execute a").context.span_id
    assert len({span.context.trace_id for span in traces.spans}) == 1


def test_nothing_is_current_any_more_where_the_calls_were_made(calls: Calls, traces: Traces, steps: Steps) -> None:
    found: list[Any] = []
    saga = Saga("s", observers=[traces.observer]).add_task(steps("a")).add_task(steps("b"))
    if calls.in_loop:

        async def work() -> None:
            async for _ in saga.astream():
                found.append(trace.get_current_span())

        asyncio.run(work())
    else:
        found += [trace.get_current_span() for _ in saga.stream()]
    assert found == [trace.INVALID_SPAN] * 2


def test_what_a_plain_function_returns_to_be_awaited_is_in_the_same_span(traces: Traces) -> None:
    def call(context: Context) -> Any:
        requests(traces, "execute", context)
        return arequests(traces, "execute", context)

    asyncio.run(Saga("s", observers=[traces.observer]).add_task(step(call, name="a")).aexecute())
    traces.check()
    assert traces.calls() == ["execute a 1: done"]


# -- how they end -----------------------------------------------------------------------------------------------------


def raises(*errors: Any) -> Callable[[], Any]:
    """Return a function that raises each of these in turn, and then returns."""
    left = list(errors)

    def call() -> None:
        if left:
            raise left.pop(0)

    return call


def gone() -> None:
    raise ConnectionResetError("gone")


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (
            lambda step: [step("a", raises(LookupError()), retry=Retry(2))],
            ["execute a 1: not_done LookupError", "execute a 2: done", "completed"],
        ),
        (
            lambda step: [step("a"), step("b", gone)],
            [
                "execute a 1: done",
                "execute b 1: unknown ConnectionResetError",
                "compensate b 1: done",
                "compensate a 1: done",
                "compensated ConnectionResetError",
            ],
        ),
        (
            lambda step: [step("a", fail, on_error=Skip), step("b")],
            ["execute a 1: not_done LookupError", "execute b 1: done", "completed"],
        ),
        (
            lambda step: [step("a", None, raises(OSError(), OSError()), compensation_retry=Retry(3)), step("b", fail)],
            [
                "execute a 1: done",
                "execute b 1: not_done LookupError",
                "compensate a 1: unknown OSError",
                "compensate a 2: unknown OSError",
                "compensate a 3: done",
                "compensated LookupError",
            ],
        ),
        (
            lambda step: [step("a", None, raises(OSError())), step("b", fail)],
            [
                "execute a 1: done",
                "execute b 1: not_done LookupError",
                "compensate a 1: unknown OSError",
                "stuck OSError",
            ],
        ),
        (
            lambda step: [step("a", raises(OutcomeUnknownError()), in_doubt=InDoubt.RERUN, retry=Retry(2))],
            ["execute a 1: unknown saga.errors.OutcomeUnknownError", "execute a 2: done", "completed"],
        ),
    ],
)
def test_a_span_says_what_came_of_its_call(
    calls: Calls, traces: Traces, steps: Steps, flow: Any, expected: list[str], stored: bool
) -> None:
    saga = Saga("s", observers=[traces.observer], store=MemoryStore() if stored else None)
    for one in flow(steps):
        saga.add_task(one)
    calls.run(saga)
    (stint,) = traces.stints()
    how = stint.attributes.get("error.type")
    failed = stint.status.status_code is trace.StatusCode.ERROR
    assert failed == (how is not None)
    assert [*traces.calls(), " ".join(filter(None, (stint.attributes["saga.status"], how)))] == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Done(1), ["execute a 1: unknown ConnectionResetError", "verify a 1: done"]),
        (NotDone(), ["execute a 1: unknown ConnectionResetError", "verify a 1: not_done"]),
        (
            None,
            [
                "execute a 1: unknown ConnectionResetError",
                "verify a 1: unknown saga.errors.OutcomeUnknownError",
                "compensate a 1: done",
            ],
        ),
    ],
)
def test_a_verification_has_a_span_that_says_what_it_found(traces: Traces, answer: Any, expected: list[str]) -> None:
    saga = Saga("s", observers=[traces.observer]).add_task(step(gone, lambda: None, verify=lambda: answer, name="a"))
    saga.try_execute()
    traces.check()
    assert traces.calls() == expected


def test_a_step_that_is_cut_off_is_unknown(traces: Traces) -> None:
    saga = Saga("s", observers=[traces.observer]).add_task(step(lambda: asyncio.sleep(LONG), name="a", timeout=0.01))
    asyncio.run(saga.atry_execute())
    assert traces.calls() == ["execute a 1: unknown saga.errors.StepTimeoutError"]


@pytest.mark.parametrize("driver", ["threads", "loop"])
def test_a_step_that_outlives_its_timeout_has_its_span_until_it_ends(traces: Traces, driver: str) -> None:
    freed = threading.Event()
    calls = Calls(driver == "loop")
    saga = Saga("s", observers=[traces.observer])
    saga.add_task(step(lambda: freed.wait(PATIENCE), lambda: None, name="a", timeout=0.01))
    calls.run_to_end(saga, lambda first: (traces.check(), freed.set()))  # type: ignore[func-returns-value]
    until(lambda: bool(traces.stints()))
    traces.check()
    assert traces.calls() == ["execute a 1: done", "compensate a 1: done"]
    assert [event.name for event in traces.named("execute a").events] == ["saga.timed_out"]
    assert traces.named("saga s").attributes["saga.status"] == "compensated"


@pytest.mark.parametrize("driver", ["threads", "loop"])
def test_an_undo_that_outlives_its_timeout_has_its_span_until_it_ends(traces: Traces, driver: str) -> None:
    freed = threading.Event()
    calls = Calls(driver == "loop")
    saga = Saga("s", observers=[traces.observer])
    saga.add_task(step(lambda: None, lambda: freed.wait(PATIENCE), name="a", compensation_timeout=0.01))
    saga.add_task(step(raises(ValueError()), name="b"))
    calls.run_to_end(saga, lambda first: freed.set())
    until(lambda: bool(traces.stints()))
    traces.check()
    assert traces.calls() == ["execute a 1: done", "execute b 1: not_done ValueError", "compensate a 1: done"]
    assert [event.name for event in traces.named("compensate a").events] == ["saga.timed_out"]


def test_an_interrupt_is_unknown_and_undone(traces: Traces) -> None:
    saga = Saga("s", observers=[traces.observer]).add_task(step(raises(KeyboardInterrupt()), lambda: None, name="a"))
    with pytest.raises(KeyboardInterrupt):
        saga.execute()
    assert traces.calls() == ["execute a 1: unknown KeyboardInterrupt", "compensate a 1: done"]


def test_a_result_that_cannot_be_stored_was_done_and_failed(traces: Traces) -> None:
    saga = Saga("s", observers=[traces.observer]).add_task(step(lambda: object(), lambda: None, name="a"))
    saga.try_execute(store=MemoryStore())
    assert traces.calls() == ["execute a 1: done saga.errors.EncodingError", "compensate a 1: done"]


def rob(store: MemoryStore) -> None:
    """Take the execution over, as another process would that believes its owner dead."""
    row = store.get("x")
    assert row is not None
    store.release(Lease("x", str(row.owner), row.epoch))
    assert store.claim("thief", LONG, saga_id="x")


def test_what_nobody_has_stored_is_unknown(calls: Calls, traces: Traces) -> None:
    store = MemoryStore()
    saga = calls.saga(calls.step("a", partial(rob, store)), calls.step("b"), observers=traces.observer, store=store)
    with pytest.raises(LeaseLostError):
        calls.run(saga, saga_id="x")
    (call, stint) = traces.spans
    assert (call.attributes["saga.outcome"], call.status.status_code) == ("unknown", trace.StatusCode.ERROR)
    assert "saga.status" not in stint.attributes
    assert stint.attributes["error.type"] == "saga.errors.LeaseLostError"


def test_a_call_that_still_runs_when_its_stint_is_broken_off_has_its_span_until_it_ends(plain: Calls, traces: Traces) -> None:
    store, begun, freed = MemoryStore(), threading.Event(), threading.Event()
    robs = plain.step("a", lambda: begun.wait(PATIENCE) and rob(store))
    group = parallel(robs, plain.step("b", lambda: begun.set() or freed.wait(PATIENCE)))
    with pytest.raises(LeaseLostError):
        plain.run(plain.saga(group, plain.step("c"), observers=traces.observer, store=store), saga_id="x")
    assert [span.name for span in traces.spans] == ["execute a", "saga s"]
    freed.set()
    until(lambda: len(traces.spans) == 3)
    assert traces.named("execute b").attributes["saga.outcome"] == "unknown"


def test_what_a_person_had_undone_has_not_failed(traces: Traces) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[traces.observer], store=store).add_task(step(lambda: 1, lambda: None, name="a"))
    saga.execute(saga_id="x")
    saga.undo("x", "the customer called")
    assert [(span.attributes["saga.status"], span.status.is_ok) for span in traces.stints()] == [
        ("completed", True),
        ("compensated", True),
    ]


def test_what_a_person_is_asked_about_is_stuck(traces: Traces) -> None:
    saga = Saga("s", observers=[traces.observer]).add_task(step(fail, name="a", on_error=Ask))
    saga.try_execute(store=MemoryStore())
    (stint,) = traces.stints()
    assert (stint.attributes["saga.status"], stint.attributes["error.type"]) == ("stuck", "LookupError")


# -- from process to process ------------------------------------------------------------------------------------------


def linked(span: Any) -> dict[str, int]:
    """Return the spans that a span is linked to, by what they are."""
    return {link.attributes["saga.link"]: link.context.span_id for link in span.links}


def test_a_workers_stints_are_linked_to_who_submitted_to_those_before_and_to_who_signalled(traces: Traces) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[traces.observer], store=store).add_task(receive("go")).add_task(receive("on"))
    with traces.tracer.start_as_current_span("web request") as starter:
        saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    senders = []
    for signal in ("go", "on"):
        with traces.tracer.start_as_current_span("webhook") as sender:
            saga.signal("x", signal)
            senders.append(sender.get_span_context().span_id)
        Worker(store, [saga]).run_once()
    first, second, third = traces.stints()
    assert [stint.attributes["saga.status"] for stint in (first, second, third)] == ["running", "running", "completed"]
    assert first.parent is second.parent is third.parent is None
    begun = {"starter": starter.get_span_context().span_id}
    assert linked(first) == begun
    assert linked(second) == {**begun, "stint": first.context.span_id, "sender": senders[0]}
    assert linked(third) == {**begun, "stint": second.context.span_id, "sender": senders[1]}


def test_a_recovery_is_linked_to_the_dead_process_and_says_what_that_left_in_doubt(plain: Calls, traces: Traces) -> None:
    with traces.tracer.start_as_current_span("web request") as starter:
        store = left_at(plain.saga(plain.step("a"), plain.step("b"), observers=traces.observer), "b")
    dead = traces.stints()[-1]  # which a store that fails breaks off, as no test can die
    Recovery(store, [plain.saga(plain.step("a"), plain.step("b"), observers=traces.observer)]).run_once()
    stint = traces.stints()[-1]
    assert stint.parent is None
    assert linked(stint) == {"starter": starter.get_span_context().span_id, "stint": dead.context.span_id}
    (event,) = [event for event in stint.events if event.name == "execute b"]
    assert event.attributes["saga.outcome"] == "unknown"
    assert event.attributes["error.type"] == "saga.errors.CrashError"


def test_what_a_worker_leaves_to_a_person_is_a_stint_that_is_stuck(plain: Calls, traces: Traces) -> None:
    store = left_at(plain.saga(plain.step("a"), observers=traces.observer), "a", age=1000.0)
    for _ in range(3):
        store.claim("somebody who dies", -1.0)
    saga = plain.saga(plain.step("a"), observers=traces.observer)
    assert len(Worker(store, [saga], max_attempts=2).run_once().parked) == 1
    (stint,) = traces.stints()
    assert (stint.attributes["saga.status"], set(linked(stint))) == ("stuck", {"stint"})
    assert stint.status.status_code is trace.StatusCode.ERROR


def test_without_a_span_around_it_nothing_is_linked_to_a_starter(traces: Traces) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[traces.observer], store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    assert traces.named("saga s").links == ()


def test_an_async_submission_and_signal_carry_their_senders_span(traces: Traces) -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[traces.observer], store=store).add_task(receive("go"))

    async def send() -> dict[str, int]:
        found = {}
        for name, act in (("starter", saga.asubmit(saga_id="x")), ("sender", saga.asignal("x", "go"))):
            with traces.tracer.start_as_current_span(name) as span:
                await act
                found[name] = span.get_span_context().span_id
        return found

    sent = asyncio.run(send())
    Worker(store, [saga]).run_once()
    assert linked(traces.named("saga s")) == sent


def test_a_trace_of_another_kind_in_the_journal_is_passed_over(traces: Traces) -> None:
    store = MemoryStore()

    class Odd:
        def __call__(self, event: Any, info: Any) -> None: ...

        def carry(self) -> dict[str, str]:
            return {"traceparent": "what is this", "saga.stint": ""}

    saga = Saga("s", observers=[Odd()], store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="x")
    Worker(store, [Saga("s", observers=[traces.observer]).add_task(step(lambda: 1, name="a"))]).run_once()
    assert traces.named("saga s").links == ()


# -- what they say ----------------------------------------------------------------------------------------------------


def test_no_value_is_told_and_of_errors_only_what_is_wanted(calls: Calls) -> None:
    for errors in (True, False):
        traces = Traces(errors=errors)
        flows = [calls.step("a"), calls.step("b", LookupError("the error"))]
        calls.run(calls.saga(*flows, observers=traces.observer), {"key": "the value"}, store=MemoryStore())
        told = "".join(span.to_json() for span in traces.spans)
        assert "the value" not in told
        assert "result of" not in told
        assert ("the error" in told) == errors
        assert ("Traceback" in told) == errors
        assert "LookupError" in told


def test_an_error_that_refuses_to_be_told_is_told_by_its_class(traces: Traces) -> None:
    class Refuses(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    saga = Saga("s", observers=[traces.observer]).add_task(step(raises(Refuses()), name="a"))
    assert saga.try_execute().status is Status.COMPENSATED
    (exception,) = traces.named("execute a").events
    assert exception.attributes["exception.type"].endswith("Refuses")
    assert "whose str() raised ZeroDivisionError" in exception.attributes["exception.message"]


def test_a_text_that_is_no_unicode_does_not_cost_what_is_sent_with_it(traces: Traces) -> None:
    Saga("s", observers=[traces.observer]).add_task(step(raises(LookupError("\ud800é")), name="a")).try_execute()
    assert b"\\ud800\xc3\xa9" in encode_spans(traces.spans).SerializeToString()


@pytest.mark.parametrize("given", ["a name", trace.get_tracer("a tracer"), TracerProvider])
def test_what_makes_no_spans_is_refused(given: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"tracer_provider is .*; give a TracerProvider"):
        OpenTelemetry(given)


def test_where_no_spans_are_made_nothing_is_told_or_carried() -> None:
    store = MemoryStore()
    saga = Saga("s", observers=[OpenTelemetry(trace.NoOpTracerProvider())], store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="x")
    Worker(store, [saga]).run_once()
    assert "carried" not in "".join(entry.payload for entry in store.journal("x"))
    assert saga.load("x").ok


def test_what_is_not_sampled_is_not_sampled_in_its_calls_either(calls: Calls) -> None:
    seen: list[Any] = []
    observer = OpenTelemetry(TracerProvider(sampler=ALWAYS_OFF))
    calls.run(calls.saga(calls.step("a", lambda: seen.append(trace.get_current_span())), observers=observer))
    contexts = [span.get_span_context() for span in seen]
    assert [(context.is_valid, context.trace_flags.sampled) for context in contexts] == [(True, False)]


def test_the_classes_of_errors_of_other_processes_are_told(traces: Traces) -> None:
    store = MemoryStore()

    def build(*observers: Any) -> Saga:
        class Local(Exception):
            pass

        saga = Saga("s", observers=observers, store=store)
        saga.add_task(step(lambda: 1, raises(Local()), name="a")).add_task(step(fail, name="b"))
        return saga

    build().try_execute(saga_id="x")
    Operations(store, "me").retry("x", "again")
    Recovery(store, [build(traces.observer)]).run_once()
    (stint,) = traces.stints()
    assert stint.attributes["saga.status"] == "stuck"
    assert stint.attributes["error.type"].endswith("Local")


# -- wherever a process dies ------------------------------------------------------------------------------------------


def test_wherever_a_process_died_the_next_stint_is_linked_to_it() -> None:
    first, second = Traces(), Traces()

    def build(traces: Traces) -> Saga:
        saga = Saga("s", observers=[traces.observer]).add_task(step(lambda: 1, lambda: None, name="a", in_doubt=InDoubt.RERUN))
        return saga.add_task(step(fail, name="b", in_doubt=InDoubt.RERUN))

    for count in itertools.count(1):
        store = MemoryStore()
        with first.tracer.start_as_current_span("web request") as starter:
            left_behind(store, partial(build, first), count=count)
        if not Recovery(store, [build(second)]).run_once():
            break  # it had ended
        (stint, dead) = second.stints()[-1], first.stints()[-1]
        assert linked(stint) == {"starter": starter.get_span_context().span_id, "stint": dead.context.span_id}
        assert stint.attributes["saga.status"] == "compensated"
    second.check()
    assert len(second.stints()) == count - 1 > 2
