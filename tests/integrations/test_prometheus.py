"""What Prometheus is told: counters of what a process does, and gauges of what a store has."""

from __future__ import annotations

import asyncio
import sys
import threading
import typing

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from saga import Compensate, Context, ExecutionInfo, NotDone, OutcomeUnknownError, Retry, Saga, Skip, step
from saga import events as e
from saga.errors import CrashError, SagaDefinitionError
from saga.integrations.outcomes import OUTCOMES
from saga.integrations.prometheus import OTHER, Metrics, StoreCollector
from saga.storage import Entry, Lease, MemoryStore, NewWorker, Told
from saga.worker import Worker
from tests.kit import left_at
from tests.kit.databases import Stored
from tests.kit.waiting import until

KINDS = e.Event.__args__
LABELS = ("saga", "step", "phase", "status", "outcome", "cause", "version")


def told(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return what a scrape says, by metric and labels' values, without the times of making and the buckets."""
    text = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (one.name, *(one.labels[label] for label in LABELS if label in one.labels)): one.value
        for one in samples
        if not one.name.endswith(("_created", "_bucket", "_sum"))
    }


def counted(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Return what counters say, with ``saga_`` and ``_total`` left out."""
    found = told(registry).items()
    return {(key[0].removeprefix("saga_").removesuffix("_total"), *key[1:]): value for key, value in found if value}


def done() -> str:
    return "r-1"


def fails() -> None:
    raise ValueError("no")


def lost() -> None:
    raise OutcomeUnknownError("lost")


def busy(context: Context) -> None:
    if context.step.attempt == 1:
        raise ConnectionRefusedError("busy")


SCENARIOS: dict[str, tuple[list, dict[tuple[str, ...], float]]] = {
    "all goes well": (
        [step(done, name="a")],
        {
            ("executions_ended", "s", "completed"): 1,
            ("execution_seconds_count", "s", "completed"): 1,
            ("calls", "s", "a", "execute", "done"): 1,
            ("call_seconds_count", "s", "a", "execute"): 1,
        },
    ),
    "the second attempt goes well": (
        [step(busy, name="a", retry=Retry(2))],
        {
            ("executions_ended", "s", "completed"): 1,
            ("execution_seconds_count", "s", "completed"): 1,
            ("calls", "s", "a", "execute", "not_done"): 1,
            ("calls", "s", "a", "execute", "done"): 1,
            ("call_seconds_count", "s", "a", "execute"): 2,
            ("retries", "s", "a", "execute"): 1,
        },
    ),
    "it is undone": (
        [step(done, lambda result: None, name="a"), step(fails, name="b")],
        {
            ("executions_ended", "s", "compensated"): 1,
            ("execution_seconds_count", "s", "compensated"): 1,
            ("calls", "s", "a", "execute", "done"): 1,
            ("calls", "s", "a", "compensate", "done"): 1,
            ("calls", "s", "b", "execute", "not_done"): 1,
            ("call_seconds_count", "s", "a", "execute"): 1,
            ("call_seconds_count", "s", "a", "compensate"): 1,
            ("call_seconds_count", "s", "b", "execute"): 1,
        },
    ),
    "it is stuck": (
        [step(done, fails, name="a"), step(fails, name="b")],
        {
            ("executions_ended", "s", "stuck"): 1,
            ("execution_seconds_count", "s", "stuck"): 1,
            ("calls", "s", "a", "execute", "done"): 1,
            ("calls", "s", "a", "compensate", "unknown"): 1,
            ("calls", "s", "b", "execute", "not_done"): 1,
            ("call_seconds_count", "s", "a", "execute"): 1,
            ("call_seconds_count", "s", "a", "compensate"): 1,
            ("call_seconds_count", "s", "b", "execute"): 1,
        },
    ),
    "nobody knows, and the step is asked": (
        [step(lost, name="a", verify=lambda: NotDone(), on_error=Skip)],
        {
            ("executions_ended", "s", "completed"): 1,
            ("execution_seconds_count", "s", "completed"): 1,
            ("calls", "s", "a", "execute", "unknown"): 1,
            ("calls", "s", "a", "verify", "not_done"): 1,
            ("call_seconds_count", "s", "a", "execute"): 1,
            ("call_seconds_count", "s", "a", "verify"): 1,
            ("in_doubt", "s", "a"): 1,
        },
    ),
}


@pytest.mark.parametrize("store", [None, "memory"])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("steps", "expected"), SCENARIOS.values(), ids=SCENARIOS)
def test_what_a_process_does_is_counted(steps, expected, asynchronous, store):
    registry = CollectorRegistry()
    saga = Saga("s", observers=Metrics(registry), store=None if store is None else MemoryStore())
    for one in steps:
        saga.add_task(one)
    if asynchronous:
        asyncio.run(saga.atry_execute())
    else:
        saga.try_execute()
    assert counted(registry) == {("executions_started", "s"): 1, **expected}


def test_a_call_that_outlives_its_timeout_is_in_doubt_at_once_and_counted_when_it_has_ended():
    registry, ended = CollectorRegistry(), threading.Event()

    def slow() -> None:
        assert ended.wait(60)

    saga = Saga("s", observers=[Metrics(registry), lambda event, info: _at_timeout(event)])
    seen: list[dict] = []

    def _at_timeout(event) -> None:
        if isinstance(event, e.StepTimedOut):
            seen.append(counted(registry))
            ended.set()

    saga.add_task(step(slow, name="a", timeout=0.01, on_error=Compensate))
    saga.try_execute()
    assert seen[0][("in_doubt", "s", "a")] == 1
    assert ("calls", "s", "a", "execute", "done") not in seen[0]
    until(lambda: counted(registry).get(("calls", "s", "a", "execute", "done")) == 1)
    assert ("calls", "s", "a", "execute", "unknown") not in counted(registry)


def test_an_undo_that_outlives_its_timeout_is_counted_when_it_has_ended():
    registry, ended = CollectorRegistry(), threading.Event()
    seen: list[dict] = []

    def at_timeout(event, info) -> None:
        if isinstance(event, e.CompensationTimedOut):
            seen.append(counted(registry))
            ended.set()

    saga = Saga("s", observers=[Metrics(registry), at_timeout])
    saga.add_task(step(lambda: None, lambda: ended.wait(60), name="a", compensation_timeout=0.01))
    saga.add_task(step(lambda: 1 / 0, name="b")).try_execute()
    until(lambda: counted(registry).get(("calls", "s", "a", "compensate", "done")) == 1)
    assert not [key for one in (*seen, counted(registry)) for key in one if key[-2:] == ("compensate", "unknown")]


def test_every_event_that_tells_how_a_call_ended_is_counted():
    timed = {kind for kind in KINDS if "elapsed" in typing.get_type_hints(kind)}
    assert timed == OUTCOMES.keys()


def info(*events: e.Event, saga: str = "s") -> ExecutionInfo:
    return ExecutionInfo(saga, "x", Context(), _so_far=lambda: events)


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ((e.SagaStarted("s", "x", 10.0), e.SagaCompleted(13.0)), 3.0),
        ((e.SagaStarted("s", "x", 10.0), e.SagaRecovered("w", 2, 99.0), e.SagaCompensated(110.0)), 100.0),
        ((e.SagaStarted("s", "x", 10.0), e.OperatorActed("undo", None, "ann", "why", 1000.0), e.SagaCompensated(1002.0)), 2.0),
        ((e.SagaStarted("s", "x", 10.0), e.OperatorActed("retry", None, "ann", "why", 20.0), e.SagaStuck("r", 30.0)), 20.0),
    ],
)
def test_an_execution_takes_as_long_as_it_did_over_all_processes(events, seconds):
    registry = CollectorRegistry()
    Metrics(registry)(events[-1], info(*events))
    (status,) = {sample.labels["status"] for family in registry.collect() for sample in family.samples}
    assert registry.get_sample_value("saga_execution_seconds_sum", {"saga": "s", "status": status}) == seconds


def test_a_dead_process_s_call_is_counted_as_unknown_and_has_no_seconds():
    registry = CollectorRegistry()
    Metrics(registry)(e.StepFailed("a", 1, 1.0, 0.0, CrashError("died"), True), info())
    assert counted(registry) == {("calls", "s", "a", "execute", "unknown"): 1, ("in_doubt", "s", "a"): 1}


@pytest.mark.parametrize(("readable", "seconds"), [(True, 1), (False, 0)])
def test_what_a_worker_can_run_no_more_has_ended_there(readable, seconds):
    registry = CollectorRegistry()
    saga = Saga("s", observers=Metrics(registry)).add_task(step(done, name="a"))
    store = left_at(saga, "a", age=1000.0)
    (row,) = store.claim("somebody who dies", -1.0)
    if not readable:
        store.append(Lease(row.saga_id, "somebody who dies", row.epoch), [Entry(9, "Nonsense", None, "{", 0.0)])
    before = counted(registry)
    assert len(Worker(store, [saga], max_attempts=1).run_once().parked) == 1
    new = {key: value for key, value in counted(registry).items() if key not in before}
    ended = {("executions_ended", "s", "stuck"): 1, ("execution_seconds_count", "s", "stuck"): seconds}
    assert new == {key: value for key, value in ended.items() if value}


def test_labels_have_a_most_and_what_is_beyond_shares_one():
    registry = CollectorRegistry()
    metrics = Metrics(registry, most=3)
    for saga, name in [("s", "a"), ("s", "b"), ("t", "a"), ("s", "a"), ("u", "a")]:
        metrics(e.SagaStarted(saga, "x", 1.0), info(saga=saga))
        metrics(e.RetryScheduled(name, 2, 1.0, 0.0), info(saga=saga))
    assert counted(registry) == {
        ("executions_started", "s"): 3,
        ("executions_started", OTHER): 2,
        ("retries", "s", "a", "execute"): 2,
        ("retries", "s", "b", "execute"): 1,
        ("retries", OTHER, OTHER, "execute"): 2,
    }


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "1", None])
def test_a_most_is_a_whole_number(most):
    with pytest.raises(ValueError, match="most is"):
        Metrics(None, most=most)
    with pytest.raises(ValueError, match="most is"):
        StoreCollector(MemoryStore(), None, most=most)


class Clocked(MemoryStore):
    """A store whose time goes on when it is told to, and that counts what it is asked."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.asked = 0
        super().__init__(clock=lambda: self.time)

    def figures(self):
        self.asked += 1
        return super().figures()


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def stick(store, saga_id, cause, **changes):
    lease = Stored.create(store, saga_id, **changes)
    store.append(lease, [], status="stuck", release=True, told=Told("pay", "no money", cause))


def test_a_store_s_gauges_say_what_there_is(clocked):
    registry = CollectorRegistry()
    StoreCollector(clocked, registry)
    assert clocked.asked == 0  # as it is registered
    Stored.submit(clocked, "old")
    clocked.time += 60
    Stored.submit(clocked, "new", name="refund", version="2", fingerprint="g")
    Stored.create(clocked, "in hand", lease=3600.0)
    stick(clocked, "x", "BankDown")
    stick(clocked, "y", "BankDown", name="refund")
    stick(clocked, "z", None)
    clocked.announce(NewWorker("w", "host", 7, (("order", "1", "f"),)), 3600.0)
    clocked.time += 30
    found = {(key[0].removeprefix("saga_store_"), *key[1:]): value for key, value in told(registry).items()}
    assert clocked.asked == 1
    executions = {key[1:]: found.pop(key) for key in list(found) if key[0] == "executions"}
    assert {key: value for key, value in executions.items() if value} == {
        ("order", "submitted"): 1,
        ("order", "running"): 1,
        ("order", "stuck"): 2,
        ("refund", "submitted"): 1,
        ("refund", "stuck"): 1,
    }
    assert len(executions) == 2 * len(e.Status)  # a number that goes down to 0 is told
    idle = {("submitted",): 90, ("running",): 30, ("stuck",): 30, ("paused",): 0, ("compensating",): 0}
    assert found == {
        ("up",): 1,
        ("workers",): 1,
        ("stuck", "order", "BankDown"): 1,
        ("stuck", "order", ""): 1,
        ("stuck", "refund", "BankDown"): 1,
        ("unserved", "refund", "2"): 1,
        **{("oldest_seconds", *key): value for key, value in idle.items()},
        **{("idle_seconds", *key): value for key, value in idle.items()},
        ("due_seconds", "submitted"): 90,
        ("due_seconds", "running"): 0,
        ("due_seconds", "compensating"): 0,
    }


def test_a_store_that_cannot_be_asked_is_down_and_nothing_is_raised(caplog):
    store, registry = MemoryStore(), CollectorRegistry()
    StoreCollector(store, registry)
    assert told(registry)[("saga_store_up",)] == 1
    store.close()
    assert told(registry) == told(registry) == {("saga_store_up",): 0}
    assert [record.getMessage() for record in caplog.records] == [
        "metrics: the store cannot be asked: this MemoryStore is closed"
    ]


def test_a_store_that_can_be_asked_again_is_up_and_its_next_fault_is_told(caplog, monkeypatch, clocked):
    registry = CollectorRegistry()
    StoreCollector(clocked, registry)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Clocked, "figures", lambda self: 1 / 0)
            assert told(registry) == {("saga_store_up",): 0}
        assert told(registry)[("saga_store_up",)] == 1
    assert len(caplog.records) == 2


def test_gauges_have_a_most_and_what_is_beyond_is_added_up(clocked):
    registry = CollectorRegistry()
    StoreCollector(clocked, registry, most=2)
    for name in "abcd":
        Stored.submit(clocked, f"x{name}", name=name)
        for number in range(20):
            stick(clocked, f"y{name}{number}", f"E{number}", name=name)
    found = told(registry)
    submitted = {key[1]: value for key, value in found.items() if key[0] == "saga_store_executions" and key[2] == "submitted"}
    assert submitted == {"a": 1, "b": 1, OTHER: 2}
    stuck = [value for key, value in found.items() if key[0] == "saga_store_stuck"]
    assert (sum(stuck), len(stuck)) == (80, 3 * len(e.Status) + 1)


def test_names_of_all_kinds_are_told_as_they_are(clocked):
    registry = CollectorRegistry()
    names = ['a"b\\c', "Ёж, 订单", "{x='y'}", " # HELP"]
    metrics = Metrics(registry)
    StoreCollector(clocked, registry)
    for name in names:
        Saga(name, observers=metrics, store=clocked).add_task(step(done, name=name)).execute()
    found = told(registry)
    for name in names:
        assert found[("saga_executions_started_total", name)] == 1
        assert found[("saga_store_executions", name, "completed")] == 1
        assert found[("saga_calls_total", name, name, "execute", "done")] == 1


def test_what_is_no_store_is_refused():
    with pytest.raises(SagaDefinitionError, match="StoreCollector: store is an object of class object"):
        StoreCollector(object())


def test_without_its_library_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "saga.integrations.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'saga-tasks\[prometheus\]'"):
        import saga.integrations.prometheus  # noqa: F401
