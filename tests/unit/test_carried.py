"""Failures and results in another process: pickled, copied, and out of pools and queues."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import saga.errors
from saga import Context, InDoubt, Retry, Saga, SagaResult, Skip, Task, each, fallback, parallel, step, transaction
from saga.errors import RecordedError, SagaCompensationError, SagaError, SagaExecutionException
from saga.result import NotPickled
from saga.storage import MemoryStore


def noop() -> None:
    """Stands for any work."""


def fail() -> None:
    raise ValueError("no stock")


def gone() -> None:
    raise OSError(5, "gone")


class Charge(Task[str]):
    in_doubt = InDoubt.ASK

    def execute(self, context: Context) -> str:
        raise TimeoutError("the bank does not answer")

    def compensate(self, context: Context) -> None:
        """Give it back."""


class TwoParts(Exception):
    """Cannot be made by pickle: ``args`` has one, and its ``__init__`` wants two."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code, self.where = code, where


class Locked(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Refusing(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class Unread:
    """Can be pickled, and not be read again."""

    def __reduce__(self) -> Any:
        return _never, ()


def _never() -> None:
    raise RuntimeError("not here")


@dataclass
class Order(Context):
    order_id: str = "A1"
    lock: Any = None


def raising(error: BaseException) -> Saga:
    def work() -> None:
        raise error

    return Saga("s").add_task(step(noop, noop, name="a")).add_task(step(work))


def nested() -> Saga:
    inner = Saga("inner").add_task(step(noop, gone, name="a")).add_task(step(fail))
    return Saga("outer").add_task(step(lambda: inner.execute(saga_id="in"), name="call"))


def block() -> SagaResult:
    found: Any = None
    try:
        with transaction("block", saga_id="x") as tx:
            tx.step(noop, noop, name="a")
            tx.step(fail)
    except SagaExecutionException as error:
        found = error.result
    return found


RESULTS: dict[str, Callable[[], SagaResult]] = {
    "completed": lambda: Saga("s").add_task(step(lambda: [1], name="a")).execute(Order()),
    "undone": lambda: raising(ValueError("no stock")).try_execute(),
    "stuck": lambda: Saga("s").add_task(step(noop, gone, compensation_retry=Retry(3))).add_task(step(fail)).try_execute(),
    "stuck in a store": lambda: Saga("s").add_task(Charge).try_execute(store=MemoryStore(), saga_id="x"),
    "skipped": lambda: Saga("s").add_task(step(fail, on_error=Skip)).add_task(step(noop)).execute(),
    "fallback": lambda: Saga("s").add_task(fallback(step(fail), step(gone))).try_execute(),
    "group": lambda: Saga("s").add_task(parallel(step(fail), step(gone), step(noop, noop, name="c"))).try_execute(),
    "for each of a list": lambda: Saga("s").add_task(each(lambda _: [1, 2], step(lambda item: str(item), name="a"))).execute(),
    "nested": lambda: nested().try_execute(),
    "block": block,
    "async": lambda: asyncio.run(raising(KeyError("sku")).atry_execute()),
    "two parts": lambda: raising(TwoParts(5, "here")).try_execute(),
    "two errors": lambda: raising(ExceptionGroup("two", [ValueError("a"), KeyError("b")])).try_execute(),
    "a lock in an error": lambda: raising(Locked("no")).try_execute(),
    "an error that refuses": lambda: raising(Refusing("no")).try_execute(),
    "locks everywhere": lambda: Saga("s").add_task(step(threading.Lock, name="a")).execute(Order(lock=threading.Lock())),
    "what cannot be read": lambda: Saga("s").add_task(step(Unread, name="a")).execute({"unread": Unread()}),
    "functions of functions": lambda: Saga("s").add_task(step(lambda: lambda: 1, name="a")).execute({"f": lambda: 1}),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda one, n=n: pickle.loads(pickle.dumps(one, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)},
}


def told(result: SagaResult) -> tuple[Any, ...]:
    """Return all that a result says in words."""
    return (
        *(result.saga, result.saga_id, result.status, result.ok, result.failed_step, result.reason, result.elapsed),
        *(result.in_doubt, result.effects, list(result.results), repr(result), result.summary()),
        [(one.name, one.status, one.attempts, one.compensation_attempts, str(one.effect)) for one in result.history],
        [(one.step, str(one.error).replace("RecordedError", "")) for one in result.compensation_errors],
        [(type(event), event.at) for event in result.events],
        list(result.context),
    )


@pytest.mark.parametrize("way", WAYS)
def test_the_list_of_what_branches_returned_is_the_same_afterwards(way: str) -> None:
    assert WAYS[way](RESULTS["for each of a list"]()).results == {"a": ["1", "2"], "a[0]": "1", "a[1]": "2"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RESULTS)
def test_a_result_says_the_same_afterwards(name: str, way: str) -> None:
    result = RESULTS[name]()
    twin = WAYS[way](result)
    assert told(twin) == told(result)
    assert twin.join(0) is twin
    for line in result.report().splitlines():
        if line.strip():
            assert line in twin.report()
    assert told(WAYS[way](twin)) == told(result)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in RESULTS if not RESULTS[name]().ok])
def test_a_failure_is_the_same_afterwards(name: str, way: str) -> None:
    result = RESULTS[name]()
    kind = SagaCompensationError if result.compensation_errors else SagaExecutionException
    error = kind(result.summary().partition("\n")[0], result=result)
    error.add_note("seen to")
    twin = WAYS[way](error)
    assert (type(twin), str(twin), repr(twin), twin.args, twin.__notes__) == (
        *(kind, str(error), repr(error), error.args),
        ["seen to"],
    )
    assert twin.result.error is twin.cause
    assert [record.error for record in twin.result.history if record.error is not None]
    assert str(twin.cause) in (str(result.error), f"{type(result.error).__name__}: {result.error}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(TwoParts(5, "here"), TwoParts), (Locked("no"), RecordedError), (Refusing("no"), RecordedError)],
    ids=repr,
)
def test_an_error_keeps_its_class_where_it_can(error: Exception, kind: type) -> None:
    twin = pickle.loads(pickle.dumps(raising(error).try_execute()))
    assert type(twin.error) is kind
    assert twin.error is twin.history[1].error is next(event.error for event in twin.events if hasattr(event, "error"))
    if kind is TwoParts:
        assert (twin.error.code, twin.error.where) == (5, "here")
    if kind is RecordedError:
        assert twin.error.type_name == f"{__name__}:{type(error).__name__}"
    assert "in work" in twin.report()


def test_values_that_cannot_be_pickled_are_named() -> None:
    twin = pickle.loads(pickle.dumps(RESULTS["locks everywhere"]()))
    assert type(twin.context) is Order
    assert twin.context.order_id == "A1"
    for value in (twin.context.lock, twin.results["a"]):
        assert isinstance(value, NotPickled)
        assert repr(value) == "<a _thread.lock, which cannot be pickled>"


def test_a_deep_copy_has_a_context_of_its_own() -> None:
    result = Saga("s").add_task(step(noop)).execute({"lock": threading.Lock(), "list": [1]})
    twin = copy.deepcopy(result)
    twin.context["list"].append(2)
    assert result.context["list"] == [1]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def test_a_result_with_a_straggler_is_pickled_as_it_stands(gate: threading.Event) -> None:
    result = Saga("s").add_task(step(lambda: gate.wait(10), noop, name="slow", timeout=0.01)).try_execute()
    twin = pickle.loads(pickle.dumps(result))
    assert told(twin) == told(result)
    assert twin.in_doubt == ("slow",)
    assert twin.join(0) is twin
    gate.set()
    assert result.join(10).status != twin.status


PUBLIC = [vars(saga.errors)[name] for name in saga.errors.__all__]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_every_error_of_the_package_is_the_same_afterwards(kind: type[SagaError], way: str) -> None:
    made = kind("shop:Gone", "no stock", "Traceback ...") if kind is RecordedError else kind("what happened")
    twin = WAYS[way](made)
    assert (type(twin), str(twin), repr(twin)) == (kind, str(made), repr(made))
    assert str(made) in repr(made)


def work(saga_id: str) -> SagaResult:
    return Saga("order").add_task(step(noop, gone, name="a")).add_task(step(fail)).execute(saga_id=saga_id)


def tell(failure: SagaExecutionException) -> tuple[str, SagaExecutionException]:
    return str(failure), failure


def test_a_process_pool_raises_the_failure_and_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])  # which the process gets, to find work()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(SagaCompensationError, match="compensation of step 'a' failed") as caught:
            pool.submit(work, "x1").result(60)
        failure = caught.value
        assert (type(failure.cause), str(failure.cause)) == (ValueError, "no stock")
        assert "in fail" in failure.report()
        said, back = pool.submit(tell, failure).result(60)
        assert (said, str(back)) == (str(failure), str(failure))


def test_a_queue_of_processes_hands_it_on() -> None:
    queue = multiprocessing.get_context("spawn").Queue()
    result = RESULTS["locks everywhere"]()
    queue.put(result)
    assert told(queue.get(timeout=60)) == told(result)
    queue.close()
    queue.join_thread()
