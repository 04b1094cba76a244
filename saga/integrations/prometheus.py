"""Metrics for Prometheus: an observer counts what this process does, and a collector asks a store what there is.

Names of sagas and steps are labels. They come from code, but need not be few, so that there is a most of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"metrics need {error.name}: pip install 'saga-tasks[prometheus]'", name=error.name) from error

from saga import events as e
from saga.definition import ExecutionInfo
from saga.errors import CrashError
from saga.integrations.outcomes import OUTCOMES, still_runs
from saga.own_log import LOG
from saga.plain import one_line
from saga.storage.claims import is_had
from saga.storage.figures import OPEN
from saga.storage.opened import check_store, store_of
from saga.storage.protocol import Store
from saga.storage.records import Figures
from saga.storage.rules import CLAIMABLE

__all__ = ["OTHER", "Metrics", "StoreCollector"]

OTHER: Final = "(other)"
"""The label of sagas and steps beyond the most that have their own."""

_ENDS: Final = {
    e.SagaCompleted: str(e.Status.COMPLETED),
    e.SagaCompensated: str(e.Status.COMPENSATED),
    e.SagaStuck: str(e.Status.STUCK),
}
_CALLS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_EXECUTIONS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 6 * 3600.0, 24 * 3600.0)


class Metrics:
    """Counts what this process does, as an observer: ``Saga(..., observers=METRICS)``. One is enough for all sagas.

    =================================  =============================  ===================================================
    metric                             labels                         what it counts
    =================================  =============================  ===================================================
    ``saga_executions_started_total``  ``saga``                       executions begun here
    ``saga_executions_ended_total``    ``saga status``                executions that ended here: ``completed``,
                                                                      ``compensated``, ``stuck``
    ``saga_execution_seconds``         ``saga status``                how long those took since they began, or since
                                                                      somebody had them undone: a histogram
    ``saga_calls_total``               ``saga step phase outcome``    calls that ended: ``execute``, ``verify``,
                                                                      ``compensate``; ``done``, ``not_done``, ``unknown``
    ``saga_call_seconds``              ``saga step phase``            how long they took: a histogram
    ``saga_in_doubt_total``            ``saga step``                  calls after which a step was in doubt
    ``saga_retries_total``             ``saga step phase``            attempts after the first that were decided on
    =================================  =============================  ===================================================

    A call whose process died is counted by the process that goes on, as ``unknown``, and has no seconds. One that outlived its
    timeout is in doubt from then on, and counted as a call when it has ended.

    :param registry: where the metrics are registered; ``None``: nowhere.
    :param most: how many sagas and steps have labels of their own; those beyond share :data:`OTHER`.
    :param call_buckets: upper bounds of ``saga_call_seconds``, in seconds.
    :param execution_buckets: those of ``saga_execution_seconds``.
    :raises ValueError: the registry has such metrics already, or ``most`` is no whole number of 1 or more.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        most: int = 1000,
        call_buckets: Sequence[float] = _CALLS,
        execution_buckets: Sequence[float] = _EXECUTIONS,
    ) -> None:
        _check_most(most)
        self._most = most
        self._known: set[tuple[str, str]] = set()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, ("saga", *labels), registry=registry)

        self._started = counter("saga_executions_started", "Executions begun in this process.")
        self._ended = counter("saga_executions_ended", "Executions that ended in this process.", "status")
        self._calls = counter("saga_calls", "Calls that ended.", "step", "phase", "outcome")
        self._in_doubt = counter("saga_in_doubt", "Calls after which a step was in doubt.", "step")
        self._retries = counter("saga_retries", "Attempts after the first.", "step", "phase")
        self._call_seconds = Histogram(
            "saga_call_seconds",
            "Seconds that calls took.",
            ("saga", "step", "phase"),
            registry=registry,
            buckets=call_buckets,
        )
        self._execution_seconds = Histogram(
            "saga_execution_seconds",
            "Seconds from the beginning of executions to their end.",
            ("saga", "status"),
            registry=registry,
            buckets=execution_buckets,
        )

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        kind = type(event)
        if kind in OUTCOMES:
            self._call_ended(event, info)
        elif kind in _ENDS:
            saga, status = self._saga(info), _ENDS[kind]
            self._ended.labels(saga, status).inc()
            began = _began(info.events)
            if began is not None:
                self._execution_seconds.labels(saga, status).observe(max(0.0, event.at - began))
        elif isinstance(event, e.RetryScheduled):
            self._retries.labels(*self._step(info, event.step), event.phase).inc()
        elif isinstance(event, e.SagaStarted):
            self._started.labels(self._saga(info)).inc()

    def _call_ended(self, event: Any, info: ExecutionInfo) -> None:
        saga, step = self._step(info, event.step)
        phase, outcome_of = OUTCOMES[type(event)]
        outcome = outcome_of(event)
        if phase == "execute" and outcome == "unknown":
            self._in_doubt.labels(saga, step).inc()
        if still_runs(event):
            return
        self._calls.labels(saga, step, phase, outcome).inc()
        if not isinstance(getattr(event, "error", None), CrashError):
            self._call_seconds.labels(saga, step, phase).observe(event.elapsed)

    def _saga(self, info: ExecutionInfo) -> str:
        return self._step(info, "")[0]

    def _step(self, info: ExecutionInfo, step: str) -> tuple[str, str]:
        """Return the labels of a saga and a step."""
        labels = (info.saga, step)
        if labels not in self._known:
            if len(self._known) >= self._most:
                return (info.saga if (info.saga, "") in self._known else OTHER), OTHER
            self._known.add(labels)
        return labels


class StoreCollector(Collector):
    """Asks a store what there is, in one question for each scrape. Any process that reaches the store may have one.

    ===============================  =================  ========================================================================
    gauge                            labels             what it says
    ===============================  =================  ========================================================================
    ``saga_store_up``                                   1; 0 where the store could not be asked: then there are no others
    ``saga_store_executions``        ``saga status``    how many executions there are
    ``saga_store_stuck``             ``saga cause``     how many are stuck, by the class of the error
    ``saga_store_oldest_seconds``    ``status``         how long ago the oldest was stored of those that have not ended
    ``saga_store_idle_seconds``      ``status``         for how long nothing has happened with one of those, at most: one may
                                                        wait for a signal, or for a time that was asked for
    ``saga_store_due_seconds``       ``status``         for how long somebody could have gone on with one, and nobody has
    ``saga_store_workers``                              how many workers live
    ``saga_store_unserved``          ``saga version``   1: executions of this version have not ended, nobody runs them, and no
                                                        worker that lives has it
    ===============================  =================  ========================================================================

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param registry: where it is registered; ``None``: nowhere.
    :param most: of how many sagas (and causes, versions) there are gauges of their own; others are added up as :data:`OTHER`.
    :raises SagaDefinitionError: the store is none.
    :raises ValueError: the registry has such metrics already, or ``most`` is no whole number of 1 or more.
    """

    def __init__(
        self, store: Store | str | os.PathLike[str], registry: CollectorRegistry | None = REGISTRY, *, most: int = 1000
    ) -> None:
        check_store(store, "StoreCollector: store")
        _check_most(most)
        self._store = store_of(store)
        self._most = most
        self._failing = False
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, empty: the store is not asked when the collector is registered."""
        yield from _gauges().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges. What the store raises is logged when it begins to fail, and nothing is raised."""
        gauges = _gauges()
        try:
            self._fill(gauges, self._store.figures())
            self._failing = False
        except Exception as error:
            if not self._failing:
                LOG.error("metrics: the store cannot be asked: %s", error)
            self._failing = True
            gauges = {"up": _gauges()["up"]}
        gauges["up"].add_metric((), 0.0 if self._failing else 1.0)
        yield from gauges.values()

    def _fill(self, gauges: dict[str, GaugeMetricFamily], figures: Figures) -> None:
        executions: dict[tuple[str, ...], float] = {}
        stuck: dict[tuple[str, ...], float] = {}
        for (name, status, cause), number in figures.executions:
            saga = one_line(name)
            for one in e.Status:  # so that a number that goes down to 0 is there
                executions.setdefault((saga, str(one)), 0.0)
            executions[saga, str(status)] += number
            if status == e.Status.STUCK:
                stuck[saga, one_line(cause or "")] = stuck.get((saga, one_line(cause or "")), 0.0) + number
        unserved: dict[tuple[str, ...], float] = {
            (one_line(one[0]), one_line(one[1])): 1.0
            for one in map(_Kind._make, figures.free)
            if not any(is_had(worker, one) for worker in figures.workers)
        }
        for name, values in (("executions", executions), ("stuck", stuck), ("unserved", unserved)):
            for labels, value in self._bounded(values).items():
                gauges[name].add_metric(labels, value)
        for status in OPEN:
            for name, times in (("oldest", figures.created), ("idle", figures.progressed), ("due", figures.due)):
                if name != "due" or status in CLAIMABLE:
                    ago = figures.now - times[status] if status in times else 0.0
                    gauges[name].add_metric((status,), max(0.0, ago))
        gauges["workers"].add_metric((), float(len(figures.workers)))

    def _bounded(self, values: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
        """Add up what has no labels of its own."""
        sagas = set(sorted({labels[0] for labels in values})[: self._most])
        found: dict[tuple[str, ...], float] = {}
        for saga, other in sorted(values):
            labels = (saga if saga in sagas else OTHER, other)
            if labels not in found and len(found) >= (self._most + 1) * len(e.Status):
                labels = (OTHER, OTHER)
            found[labels] = found.get(labels, 0.0) + values[saga, other]
        return found


class _Kind(NamedTuple):
    name: str
    version: str
    fingerprint: str


def _gauges() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(f"saga_store_{metric}", what, labels=labels) for name, metric, what, labels in _GAUGES}


_GAUGES: Final[tuple[tuple[str, str, str, tuple[str, ...]], ...]] = (
    ("up", "up", "Whether the store could be asked.", ()),
    ("executions", "executions", "How many executions there are.", ("saga", "status")),
    ("stuck", "stuck", "How many executions are stuck, by the class of the error.", ("saga", "cause")),
    ("oldest", "oldest_seconds", "How long ago the oldest was stored that has not ended.", ("status",)),
    ("idle", "idle_seconds", "For how long nothing has happened with one that has not ended, at most.", ("status",)),
    ("due", "due_seconds", "For how long nobody has gone on with one that could go on, at most.", ("status",)),
    ("workers", "workers", "How many workers live.", ()),
    ("unserved", "unserved", "Versions with executions that nobody runs, and that no worker has.", ("saga", "version")),
)


def _check_most(most: object) -> None:
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"most is {most!r}; give a whole number of 1 or more")


def _began(events: Iterable[e.Event]) -> float | None:
    """Return when an execution began, or when somebody had it undone."""
    began = None
    for event in events:
        if isinstance(event, e.SagaStarted) or (isinstance(event, e.OperatorActed) and event.action == "undo"):
            began = event.at
    return began
