"""Spans leave their processes by OTLP over HTTP, as protobuf, and arrive in a collector as one story of several processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.kit import PATIENCE

#: What one process does: ``submit``, ``work``, or work and ``die`` in the middle.
PROGRAM: Final = """
import os, sys, time
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from saga import InDoubt, Saga, step
from saga.integrations.opentelemetry import OpenTelemetry
from saga.worker import Worker

what, store, endpoint = sys.argv[1:]
provider = TracerProvider(resource=Resource({"service.name": what}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint)))
trace.set_tracer_provider(provider)

def charge():
    with trace.get_tracer("shop").start_as_current_span("POST /charges"):
        pass
    if what == "die":
        os._exit(1)

saga = Saga("order", observers=[OpenTelemetry()], store=store, lease=0.5)
saga.add_task(step(lambda: 1, name="reserve")).add_task(step(charge, name="charge", in_doubt=InDoubt.RERUN))
if what == "submit":
    with trace.get_tracer("shop").start_as_current_span("POST /orders"):
        saga.submit(saga_id="A1")
else:
    worker = Worker(store, [saga])
    while not worker.run_once():
        time.sleep(0.05)
provider.shutdown()
"""


class Collector(ThreadingHTTPServer):
    """Takes spans over HTTP.

    :ivar spans: those that came, each with the name of its process's service.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Received)
        self.spans: list[tuple[str, Any]] = []


class _Received(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in told.resource_spans:
            (service,) = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            self.server.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(what: str, store: Path, collector: Collector) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    command = [sys.executable, "-W", "error", "-c", PROGRAM, what, str(store), endpoint]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == (what == "die"), ran.stderr


def test_three_processes_tell_a_collector_one_story(collector: Collector, tmp_path: Path) -> None:
    for what in ("submit", "die", "work"):
        run(what, tmp_path / "orders.db", collector)
    names = [(service, span.name) for service, span in collector.spans]
    assert names == [
        ("submit", "POST /orders"),
        ("die", "execute reserve"),
        ("die", "POST /charges"),  # of its call and its stint nobody hears: it died in them
        ("work", "POST /charges"),
        ("work", "execute charge"),
        ("work", "saga order"),
    ]
    spans = dict(zip(names, (span for _, span in collector.spans), strict=True))
    orders, stint = spans["submit", "POST /orders"], spans["work", "saga order"]
    call, request = spans["work", "execute charge"], spans["work", "POST /charges"]
    assert (call.parent_span_id, request.parent_span_id) == (stint.span_id, call.span_id)
    links = {link.attributes[0].value.string_value: (link.trace_id, link.span_id) for link in stint.links}
    died_in = spans["die", "execute reserve"]
    assert links == {
        "starter": (orders.trace_id, orders.span_id),
        "stint": (died_in.trace_id, died_in.parent_span_id),
    }
    told = {one.key: one.value.string_value or one.value.int_value for one in call.attributes}
    assert told == {
        "saga.name": "order",
        "saga.id": "A1",
        "saga.step": "charge",
        "saga.attempt": 2,
        "saga.phase": "execute",
        "saga.outcome": "done",
    }
