"""Every parameter of every public call, given what is wrong for it: it is refused by name, before anything runs."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

import pytest

import saga.storage
from saga import Saga, Task, receive, step, transaction
from saga.blobs import FolderBlobs
from saga.diagram import Diagram
from saga.errors import StorageError
from saga.handle import Handle
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, NewExecution, SqliteStore, open_store, schema_sql
from saga.worker import Worker
from tests.kit.misuse import Call, misuse, public_calls, tried

MODULES: Final = [
    "saga",
    "saga.worker",
    "saga.recovery",
    "saga.handle",
    "saga.operations",
    "saga.blobs",
    "saga.storage",
    "saga.logging",
    "saga.diagram",
]

ELSEWHERE: Final = {
    "tasks, steps, flows and policies": """Backoff Backoff.delay Done ExponentialBackoff ExponentialBackoff.delay Flow NotDone
        Retry Retry.allows Retry.delay Retry.lasts Received Submission Task Task.compensate Task.execute Task.verify
        Transaction.aparallel Transaction.astep Transaction.parallel Transaction.step choose each fallback parallel receive
        receive_first saga_step sequence step timer unit""",
    "made by the engine, and given to users": """Acted Cause Count Decision Effect ErrorView ExecutionInfo ExecutionInfo.step
        ExecutionView ExecutionView.timeline Figures Finding Handle Hold InDoubt JournalLine Offer Offer.command OnError Parked
        Ran Ran.take SagaResult SagaResult.headline SagaResult.report SagaResult.summary Status StepInfo StepRecord StepStatus
        StepView StoredWorker Transaction Version""",
    "called by the engine": """Append Beat Blobs Blobs.delete Blobs.get Blobs.older_than Blobs.put Entry FolderBlobs.delete
        FolderBlobs.get FolderBlobs.older_than FolderBlobs.put Lease MemoryBlobs.delete
        MemoryBlobs.get MemoryBlobs.older_than MemoryBlobs.put Message NewExecution NewWorker Page Place Stop Stop.is_set Store
        StoredExecution Told Wanted""",
    "without parameters": """Diagram.mermaid Diagram.sequence Diagram.svg Handle.astatus Handle.status MemoryBlobs
        Operations.aholds Operations.aversions Operations.aworkers Operations.holds Operations.versions Operations.workers
        Recovery.arun_once Recovery.run_once Recovery.stop Worker.arun_once Worker.run_once Worker.stop""",
    "takes values, keys and steps of any kind": "masked ClosedContext ClosedContext.result_of Context Context.result_of",
    "takes an hour or more: tests/durable/test_blobs.py": "Operations.asweep Operations.sweep",
    "hands its filters on": "Operations.aall Operations.aeach Operations.all Operations.ameant Operations.meant",
}


class Noted(Task[int]):
    """A task that nobody is to call."""

    calls: Final[list[str]] = []

    def execute(self, context: Any) -> int:
        self.calls.append("execute")
        return 1


def made(**options: Any) -> Saga:
    return Saga(options.pop("name", "s"), **options).add_task(Noted())


def executing(method: str) -> Call:
    """Return how a method that executes a saga is called, to its end."""
    bound = getattr(made(), method)

    @wraps(bound)
    def call(*arguments: Any, **named: Any) -> None:
        started = bound(*arguments, **named)
        if method == "stream":
            list(started)
        elif method == "astream":
            asyncio.run(ended(started))
        elif method.startswith("a"):
            asyncio.run(started)

    return Call(call, {}, {"context": A_CONTEXT, "saga_id": AN_ID, "store": A_STORE})


async def ended(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


@wraps(transaction)
def block(*arguments: Any, **named: Any) -> None:
    with transaction(*arguments, **named):
        pass


def running(kind: type[Worker], method: str) -> Call:
    """Return how a worker is run, but for one that would not end."""
    run = getattr(kind(store(), [made()]), method)

    @wraps(run)
    def call(stop: Any, **named: Any) -> None:
        if stop is not None:
            ran = run(stop, **named)
            if method == "arun":
                asyncio.run(ran)

    return Call(call, {"stop": Stopped()}, {"stop": ["None"], "signals": ["True"]})


def waiting(method: str) -> Call:
    """Return how the result of an execution that has ended is asked of its handle."""
    kept = stored("completed")
    wait = getattr(Handle(made(store=kept).definition, kept, "x", False), method)

    @wraps(wait)
    def call(**named: Any) -> None:
        asked = wait(**named)
        if method.startswith("a"):
            asyncio.run(asked)

    return Call(call, {}, {"timeout": ["None", "0"]})


def store() -> MemoryStore:
    return MemoryStore()


class Stopped:
    """It is set."""

    def is_set(self) -> bool:
        return True


def stored(status: str = "running") -> MemoryStore:
    """Return a store that has an execution: one that has ended, or whose process is gone."""
    kept = store()
    if status == "running":
        first = [Entry(1, "SagaStarted", None, "{}", 0.0)]
        kept.create(NewExecution("x", "s", "1", "fingerprint", "digest", status), first, "who died", 0.0)
    else:
        made(store=kept).execute(saga_id="x")
    return kept


def asking(kind: str, right: dict[str, Any], **takes: list[str]) -> Call:
    """Return how a store on a server is made, where the server does not answer: that is asked last."""
    make = getattr(saga.storage, kind)

    @wraps(make)
    def call(**arguments: Any) -> None:
        try:
            make(**arguments)
        except StorageError as error:
            if "did not answer" not in str(error) and "connect to MySQL" not in str(error):
                raise

    return Call(call, right, {"prefix": ["'x'"], "patience": ["0"], **takes})


def joining() -> Call:
    ajoin = made().execute().ajoin
    return Call(wraps(ajoin)(lambda **named: asyncio.run(ajoin(**named))), {}, {"timeout": ["None", "0"]})


def acting(action: str) -> Call:
    """Return how an operator acts on an execution that is stuck."""
    kept = store()
    if action in ("cancel", "pause"):
        kept = stored()
    else:
        Saga("s", store=kept).add_task(step(lambda: 1, fail, name="x")).add_task(step(fail)).try_execute(saga_id="x")
    right = {"saga_id": "x", "why": "so", **({"step": "x"} if action == "skip" else {})}
    return Call(getattr(Operations(kept, "ann"), action), right, dict.fromkeys(right, A_NAME))


def undoing(by: str) -> Call:
    """Return how an execution that has completed is undone, by a method of its saga or by operations."""
    kept = stored("completed")
    saga = made(store=kept)
    undo = Operations(kept, "ann", sagas=[saga]).undo if by == "operations" else saga.undo
    twin = saga.aundo
    call = wraps(twin)(lambda **named: asyncio.run(twin(**named))) if by == "aundo" else undo
    takes = {"saga_id": A_NAME, "why": A_NAME, "to": ["None"], "who": A_NAME, "store": ["None"]}
    return Call(call, {"saga_id": "x", "why": "so"}, takes, {"to": ["to is", "step"], **THERE})


def signalling() -> Call:
    """Return how an operator sends a signal to an execution that waits for it."""
    kept = store()
    saga = Saga("s", store=kept).add_task(receive("ok"))
    saga.submit(saga_id="x")
    right = {"saga_id": "x", "name": "ok", "why": "so"}
    takes = {"saga_id": A_NAME, "why": A_NAME, "value": A_VALUE}
    return Call(Operations(kept, "ann", sagas=[saga]).signal, right, takes, {"name": ["name is", "signal"], **THERE})


def fail() -> None:
    raise ValueError


def awaiting(name: str) -> Call:
    """Return how the async twin of a method is called, which takes and refuses what the method does."""
    call = CALLS[name]()
    twin = getattr(call.call.__self__, f"a{call.call.__name__}")  # type: ignore[attr-defined]
    return replace(call, call=wraps(twin)(lambda *arguments, **named: asyncio.run(twin(*arguments, **named))))


def holding(method: str, right: dict[str, str]) -> Call:
    """Return how executions of a saga are kept from beginning, or let begin again."""
    version = {"version": AN_ID if method != "drain" else A_NAME}
    return Call(getattr(Operations(store(), "ann"), method), right, dict.fromkeys(right, A_NAME) | version)


def looking(method: str, **takes: Any) -> Call:
    """Return how an operator looks for executions."""
    return Call(getattr(Operations(store(), "ann"), method), {"older_than": 5.0}, takes)


A_NAME: Final = ["'x'"]
AN_ID: Final = ["None", "'x'"]
A_STORE: Final = ["None", "'x'"]
AN_OBSERVER: Final = ["None", "[]"]
A_CONTEXT: Final = ["None", "{}"]
A_VALUE: Final = ["None", "0", "-1", "True", "nan", "inf", "''", "'x'", "surrogate", "b'x'", "[]", "[5]", "{}", "timedelta"]
THERE: Final = {"store": ["store", "no execution 'x'"]}
NAMES: Final = ["[]", "{}"]
AGES: Final = ["0", "-1"]
OPTIONS: Final = {
    "name": AN_ID,
    "context": ["None"],
    "logger": [*AN_OBSERVER, "'x'"],
    "observers": AN_OBSERVER,
    "timeout": ["None"],
    "stop_on_compensation_failure": ["None", "True"],
    "on_compensation_failure": ["None"],
    "store": A_STORE,
    "codec": ["None"],
    "resolver": ["None"],
    "version": AN_ID,
    "compatible_with": ["None", *NAMES],
    "undoable_for": ["None"],
    "unknown_on": ["None"],
    "on_error": ["None"],
    "retry": ["None"],
    "step_timeout": ["None"],
    "compensation_retry": ["None"],
    "compensation_timeout": ["None"],
    "verification_retry": ["None"],
    "lease": ["None"],
    "limit": ["None"],
    "rate": ["None"],
    "exclusive": ["None"],
    "tags": ["None", "[]"],
}
OF_A_BLOCK: Final = {**OPTIONS, "name": A_NAME, "context": A_CONTEXT, "saga_id": AN_ID, "lease": []}

#: How each public call is made.
CALLS: Final[dict[str, Callable[[], Call]]] = {
    "Saga": lambda: Call(Saga, {}, OPTIONS),
    "Saga.add_task": lambda: Call(lambda task: made().add_task(task).plan),
    "Saga.execute": lambda: executing("execute"),
    "Saga.try_execute": lambda: executing("try_execute"),
    "Saga.aexecute": lambda: executing("aexecute"),
    "Saga.atry_execute": lambda: executing("atry_execute"),
    "Saga.stream": lambda: executing("stream"),
    "Saga.astream": lambda: executing("astream"),
    "Saga.load": lambda: Call(
        made(store=stored("completed")).load, {"saga_id": "x"}, {"saga_id": A_NAME, "store": ["None"]}, THERE
    ),
    "Saga.handle": lambda: Call(made(store=stored()).handle, {"saga_id": "x"}, {"saga_id": A_NAME, "store": A_STORE}),
    "Saga.signal": lambda: Call(
        Saga("s", store=stored()).add_task(receive("paid")).signal,
        {"saga_id": "x", "name": "paid"},
        {"saga_id": A_NAME, "store": ["None"], "value": A_VALUE},
        {"name": ["signal"], **THERE},
    ),
    "Saga.signal_or_start": lambda: Call(
        Saga("s", store=stored()).add_task(receive("paid")).signal_or_start,
        {"saga_id": "x", "name": "paid"},
        {
            "saga_id": A_NAME,
            "store": A_STORE,
            "value": A_VALUE,
            "context": A_CONTEXT,
            "tags": ["None", "{}"],
            "priority": ["0"],
        },
        {"name": ["signal"]},
    ),
    "Saga.submit": lambda: Call(
        made(store=store()).submit,
        {},
        {
            "context": A_CONTEXT,
            "saga_id": AN_ID,
            "at": ["None", *AGES],
            "tags": ["None", "{}"],
            "priority": ["0"],
            "store": A_STORE,
            "connection": ["None"],
        },
    ),
    "Saga.submit_many": lambda: Call(
        made(store=store()).submit_many,
        {"submissions": [{}]},
        {"submissions": ["[]"], "store": A_STORE, "connection": ["None"]},
        {"submissions": ["submit_many() takes", "the context is 5"]},
    ),
    "Saga.undo": lambda: undoing("undo"),
    "Saga.aundo": lambda: undoing("aundo"),
    "Saga.check": lambda: Call(made().check, {}, {"given": ["None", *NAMES]}),
    "Saga.diagram": lambda: Call(made().diagram, {}, {"result": ["None"], "certificates": ["None"]}),
    "transaction": lambda: Call(block, {}, OF_A_BLOCK),
    "Recovery": lambda: Call(
        Recovery,
        {"store": store(), "sagas": [made()]},
        {"store": A_NAME, "codec": ["None"], "backoff": ["0"], "transactions": NAMES},
    ),
    "Recovery.run": lambda: running(Recovery, "run"),
    "Recovery.arun": lambda: running(Recovery, "arun"),
    "Worker": lambda: Call(
        Worker,
        {"store": store(), "sagas": [made()]},
        {
            "store": A_NAME,
            "codec": ["None"],
            "backoff": ["0"],
            "transactions": NAMES,
            "grace": ["0"],
            "unfit_after": ["0"],
            "on_stuck": ["None"],
        },
    ),
    "Worker.run": lambda: running(Worker, "run"),
    "Worker.arun": lambda: running(Worker, "arun"),
    "Handle.result": lambda: waiting("result"),
    "Handle.aresult": lambda: waiting("aresult"),
    "Handle.try_result": lambda: waiting("try_result"),
    "Handle.atry_result": lambda: waiting("atry_result"),
    "Handle.cancel": lambda: Call(
        Handle(made().definition, stored(), "x", False).cancel, {"why": "so"}, {"why": A_NAME, "who": A_NAME}
    ),
    "Operations": lambda: Call(
        Operations, {"store": store(), "who": "ann"}, {"store": A_NAME, "who": A_NAME, "sagas": NAMES, "blobs": ["None"]}
    ),
    "Operations.list": lambda: looking(
        "list",
        status=["None", *NAMES],
        **dict.fromkeys(["name", "version", "step", "cause"], AN_ID),
        tags=["None", "{}"],
        **{age: ["None", *AGES] for age in ("older_than", "newer_than", "idle_for")},
        after=["None"],
    ),
    "Operations.purge": lambda: looking("purge", older_than=["0"], status=NAMES),
    "Operations.get": lambda: Call(Operations(stored(), "ann").get, {}, {"saga_id": A_NAME}),
    "Operations.show": lambda: Call(Operations(stored(), "ann").show, {}, {"saga_id": A_NAME}),
    "Operations.causes": lambda: Call(Operations(stored(), "ann").causes, {}, {"name": AN_ID}),
    "Operations.find": lambda: Call(Operations(stored(), "ann").find, {"text": "x"}, {"text": A_NAME}),
    "Operations.each": lambda: Call(
        Operations(stored(), "ann").each,
        {"action": "retry", "why": "so"},
        {"why": A_NAME, "saga_ids": ["None", "[]", "{}"], "step": AN_ID, "to": ["None"], "limit": ["None"]},
    ),
    "Operations.cancel": lambda: acting("cancel"),
    "Operations.compensate": lambda: acting("compensate"),
    "Operations.pause": lambda: acting("pause"),
    "Operations.resume": lambda: acting("resume"),
    "Operations.retry": lambda: acting("retry"),
    "Operations.skip": lambda: acting("skip"),
    "Operations.undo": lambda: undoing("operations"),
    "Operations.signal": lambda: signalling(),
    "Operations.count": lambda: Call(
        Operations(store(), "ann").count, {}, {"by": NAMES, "status": ["None", *NAMES], "name": AN_ID}
    ),
    "Operations.hold": lambda: holding("hold", {"name": "s", "why": "so"}),
    "Operations.let_go": lambda: holding("let_go", {"name": "s"}),
    "Operations.drain": lambda: holding("drain", {"name": "s", "version": "1", "why": "so"}),
    "SagaResult.join": lambda: Call(made().execute().join, {}, {"timeout": ["None", "0"]}),
    "SagaResult.ajoin": lambda: joining(),
    "FolderBlobs": lambda: Call(FolderBlobs, {"folder": "a"}, {"folder": A_NAME}),
    "MemoryStore": lambda: Call(MemoryStore, {}, {"clock": ["lambda"]}),
    "SqliteStore": lambda: Call(
        SqliteStore, {"path": "a.db"}, {"path": A_NAME, "busy_timeout": ["0"], "clock": ["lambda", "None"]}
    ),
    "PostgresStore": lambda: asking(
        "PostgresStore", {"conninfo": "postgresql://127.0.0.1:1/x"}, conninfo=["''"], schema=["None", "'x'"]
    ),
    "SQLAlchemyStore": lambda: asking("SQLAlchemyStore", {"url": "mysql+pymysql://127.0.0.1:1/x"}),
    "open_store": lambda: Call(open_store, {}, {"value": A_NAME}, {"value": ["store"]}),
    "schema_sql": lambda: Call(
        schema_sql, {"database": "postgresql"}, {"prefix": ["'x'"], "schema": ["None", "'x'"], "role": ["None", "'x'"]}
    ),
    "SagaLogger": lambda: Call(SagaLogger, {}, {"logger": A_NAME, "show": NAMES, "mask": NAMES}),
    "Diagram": lambda: Call(
        Diagram, {"definition": made()}, {"result": ["None"], "caption": ["[]", "{}"], "certificates": ["None"]}
    ),
}
DOORS: Final = {"Saga": Saga, "Operations": Operations, "Handle": Handle}
CALLS |= {
    f"{door}.a{method}": partial(awaiting, name)
    for name in list(CALLS)
    for door, _, method in [name.partition(".")]
    if hasattr(getattr(DOORS.get(door), f"a{method}", None), "__wrapped__")
}


def test_every_public_call_is_tried_here_or_said_to_be_elsewhere() -> None:
    elsewhere = set(" ".join(ELSEWHERE.values()).split())
    public = public_calls(*map(importlib.import_module, MODULES))
    events = {name for name in public if name.startswith("SagaLogger.")}  # a method for each event, which the engine calls
    stores = {name for name in public if name.partition(".")[0].endswith("Store") and "." in name}  # which the engine calls
    assert public - events - stores == (CALLS.keys() | elsewhere) & public
    assert not CALLS.keys() & elsewhere


@pytest.mark.parametrize(("name", "parameter", "value"), misuse(CALLS, lambda name: CALLS[name]()))
def test_what_is_wrong_for_a_parameter_is_refused_by_its_name_before_anything_runs(
    name: str, parameter: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = CALLS[name]()
    Noted.calls.clear()
    assert tried(call, parameter, value) is None
    if not call.is_right(parameter, value) and parameter not in call.called:
        assert not Noted.calls
        assert not list(tmp_path.iterdir())
