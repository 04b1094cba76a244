"""The alerts and the dashboard that the guide gives ask for what is there: real promtool evaluates them on what is exported."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from saga import Context, OutcomeUnknownError, Retry, Saga, step
from saga.integrations import prometheus
from saga.integrations.prometheus import Metrics, StoreCollector
from saga.storage import MemoryStore, NewWorker, Told
from tests.kit.databases import Stored
from tests.storage import servers

MONITORING: Final = Path(__file__).parents[2] / "docs" / "monitoring"
ALERTS: Final = MONITORING / "alerts.yaml"
PANELS: Final = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
QUERIES: Final = [target["expr"].replace("$__rate_interval", "5m") for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program of Prometheus's that evaluates rules and queries."""
    (found,) = servers.programs("prometheus", "promtool")
    return found


class Scraped:
    """What is scraped of a registry from minute to minute, by two of its kind."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[str, list[float]] = {}
        self._minutes = 0

    def scrape(self, minutes: int = 1) -> None:
        """Scrape for so many minutes."""
        for _ in range(minutes):
            for family in self.registry.collect():
                for sample in family.samples:
                    labels = ",".join(f"{label}={json.dumps(value)}" for label, value in sample.labels.items())
                    values = self._series.setdefault(f"{sample.name}{{{labels}}}", [])
                    values += ["_"] * (self._minutes - len(values)) + [sample.value]  # type: ignore[list-item]
            self._minutes += 1

    def test(self, expected: Iterable[tuple[str, int, list[dict[str, Any]]]]) -> dict[str, Any]:
        """Return a test for promtool: each query, the minute, and the samples that it is to give."""
        series = [
            {"series": name.replace("{", f'{{instance="{instance}",').replace(",}", "}"), "values": " ".join(map(str, values))}
            for name, values in self._series.items()
            for instance in ("web", "worker")
        ]
        asked = [{"expr": query, "eval_time": f"{minute}m", "exp_samples": samples} for query, minute, samples in expected]
        return {"interval": "1m", "input_series": series, "promql_expr_test": asked}


@pytest.fixture
def evaluate(promtool: str, tmp_path: Path) -> Callable[[dict[str, Any]], None]:
    def run(test: dict[str, Any]) -> None:
        path = tmp_path / "test.yaml"
        path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
        ran = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    return run


def charge(context: Context) -> str:
    if context["how"] == "busy" and context.step.attempt == 1:
        raise ConnectionRefusedError("busy")
    if context["how"] == "lost":
        raise OutcomeUnknownError("lost")
    return "r-1"


def give_back(context: Context) -> None:
    if context["how"] == "stuck":
        raise ConnectionError("the bank is down")


def pack(context: Context) -> None:
    if context["how"] in ("fails", "stuck"):
        raise ValueError("no box")


def test_each_query_of_the_dashboard_finds_something_in_a_day_of_a_shop(evaluate):
    scraped, store = Scraped(), MemoryStore()
    shop = Saga("order", observers=Metrics(scraped.registry), store=store)
    shop.add_task(step(charge, give_back, name="charge", retry=Retry(2))).add_task(step(pack, name="pack"))
    StoreCollector(store, scraped.registry)
    store.announce(NewWorker("w", "host", 7, ()), 3600.0)
    for minute in range(6):
        for how in ("well", "busy", "lost", "fails", "stuck"):
            shop.try_execute(Context(how=how))
        shop.submit(Context(how=f"waits {minute}"))
        scraped.scrape()
    assert len(QUERIES) >= len(PANELS) > 10
    evaluate(scraped.test((f"absent({query})", 5, []) for query in QUERIES))
    evaluate(
        scraped.test(
            [
                (QUERIES[0], 5, [{"labels": "{}", "value": 6}]),
                ('max(saga_store_executions{status="completed"})', 5, [{"labels": "{}", "value": 12}]),
                ("sum(max by (saga, version) (saga_store_unserved)) or vector(0)", 5, [{"labels": "{}", "value": 1}]),
            ]
        )
    )


def healthy(store: MemoryStore) -> None:
    Stored.create(store, "in hand", lease=1e6)
    Stored.create(store, "done", status="completed")
    Stored.submit(store, "later", at=store.now() + 1e6)
    paused = Stored.create(store, "waiting")
    store.release(paused, delay=1e6, got_on=True)
    store.announce(NewWorker("w", "host", 7, (("order", "1", "f"),)), 1e6)


def stuck(store: MemoryStore) -> None:
    healthy(store)
    for number in range(3):
        lease = Stored.create(store, f"x{number}")
        store.append(lease, [], status="stuck", release=True, told=Told("charge", "no money", "BankDown"))


def left_alone(store: MemoryStore) -> None:
    healthy(store)
    Stored.submit(store, "new")


def unserved(store: MemoryStore) -> None:
    healthy(store)
    lease = Stored.create(store, "old", version="0", fingerprint="e")
    store.release(lease, delay=1e6, got_on=True)


def down(store: MemoryStore) -> None:
    store.close()


STUCK: Final = {"alertname": "SagaStuck", "saga": "order", "cause": "BankDown"}
STILL: Final = {"alertname": "SagaNothingProgresses"}
NO_WORKER: Final = {"alertname": "SagaNoWorker", "saga": "order", "version": "0"}


@pytest.mark.parametrize(
    ("state", "at_once", "after_minutes"),
    [
        (healthy, [], []),
        (stuck, [STUCK], [STUCK]),
        (left_alone, [], [STILL]),
        (unserved, [], [NO_WORKER]),
        (down, [], [STILL]),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_alert_is_raised_where_a_person_is_needed_and_no_other(evaluate, state, at_once, after_minutes):
    now = [1000.0]
    scraped, store = Scraped(), MemoryStore(clock=lambda: now[0])
    StoreCollector(store, scraped.registry)
    state(store)
    for _ in range(20):
        scraped.scrape()
        now[0] += 60

    def raised(alerts: list[dict[str, str]]) -> list[dict[str, Any]]:
        labels = {"alertstate": "firing", "severity": "page"}
        named = ("ALERTS{" + ",".join(f'{name}="{value}"' for name, value in (one | labels).items()) + "}" for one in alerts)
        return [{"labels": one, "value": 1} for one in named]

    firing = 'ALERTS{alertstate="firing"}'
    evaluate(scraped.test([(firing, 1, raised(at_once)), (firing, 19, raised(after_minutes))]))


def test_the_rules_are_such_as_prometheus_takes(promtool):
    ran = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_tables_of_metrics_name_what_is_exported():
    registry = CollectorRegistry()
    Metrics(registry)
    StoreCollector(MemoryStore(), registry)
    exported = {family.name + "_total" * (family.type == "counter") for family in registry.collect()}
    tables = "".join(map(inspect.getdoc, (prometheus.Metrics, prometheus.StoreCollector)))
    assert set(re.findall(r"^``(saga_\w+)``", tables, re.MULTILINE)) == exported


def test_a_panel_has_a_title_of_its_own_and_a_place_of_its_own():
    assert len({panel["title"] for panel in PANELS}) == len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        (x, y) for one in places for x in range(one["x"], one["x"] + one["w"]) for y in range(one["y"], one["y"] + one["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
