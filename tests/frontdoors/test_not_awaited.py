"""What a call returns that is still to be awaited or iterated: an event loop awaits it, and nobody takes it for done."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, Done, Effect, Saga, SagaResult, Status, Task, fallback, parallel, step, transaction
from saga.errors import OutcomeUnknownError, SagaDefinitionError, SagaExecutionException
from saga.storage import MemoryStore
from tests.kit import PATIENCE, saga_of, within

pytestmark = pytest.mark.usefixtures("nothing_unawaited")

LOOP: list[asyncio.AbstractEventLoop] = []  # that of the test

# -- the kinds: each is made of what is to happen when it is awaited ---------------------------------------------------


async def coroutine(work: Callable[[], Any]) -> Any:
    await asyncio.sleep(0)
    return work()


class Request:
    """As clients' request objects are: it begins when it is awaited."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.work()


class Closable(Request):
    """As aiohttp's: a coroutine, by all it has."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.inner = coroutine(work)

    def send(self, value: Any) -> Any:
        return self.inner.send(value)

    def throw(self, *args: Any) -> Any:
        return self.inner.throw(*args)

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Any:
        return self.inner.__await__()


@types.coroutine
def old_style(work: Callable[[], Any]) -> Any:
    yield from asyncio.sleep(0).__await__()
    return work()


async def twice(work: Callable[[], Any]) -> Any:
    return Request(work)


def future(work: Callable[[], Any]) -> Any:
    made = asyncio.Future(loop=LOOP[0])
    LOOP[0].call_soon_threadsafe(lambda: made.cancelled() or made.set_result(work()))
    return made


AWAITABLES = {
    "coroutine": coroutine,
    "object": Request,
    "closable": Closable,
    "generator-based": old_style,
    "of-an-awaitable": twice,
    "future": future,
}


def generator(work: Callable[[], Any]) -> Any:
    yield work()


async def async_generator(work: Callable[[], Any]) -> Any:
    yield work()


GENERATORS = {"generator": generator, "async-generator": async_generator}

# -- where they are returned -------------------------------------------------------------------------------------------


def lost() -> None:
    raise OutcomeUnknownError("no answer")


def fail(*_: Any) -> None:
    raise ValueError("no")


def executing(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(step(lambda: made("done"), name="a"), **options)


def compensating(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(step(lambda: 1, lambda own: made(None), name="a"), step(fail), **options)


def verifying(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(step(lost, verify=lambda: made(Done("done")), name="a"), **options)


def in_a_branch(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(parallel(step(lambda: made("done"), name="a"), step(lambda: 1, name="b")), **options)


def in_a_fallback(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(fallback(step(fail), step(lambda: made("done"), name="a")), **options)


def nested(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(Saga("inner").add_task(step(lambda: made("done"), name="a")), **options)


class Returning(Task[Any]):
    name = "a"
    made: Any = None

    def execute(self, context: Context) -> Any:
        return type(self).made("done")


def resolved(made: Callable[[Any], Any], **options: Any) -> Saga:
    return saga_of(type("A", (Returning,), {"made": staticmethod(made)}), resolver=lambda kind: kind(), **options)


PLACES = {
    "execute": executing,
    "compensate": compensating,
    "verify": verifying,
    "branch": in_a_branch,
    "fallback": in_a_fallback,
    "nested": nested,
    "resolved": resolved,
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "quiet": dict,
    "limited": lambda: {"timeout": 9.0},
    "stored": lambda: {"store": MemoryStore()},
}


def aexecute(saga: Saga) -> SagaResult:
    async def work() -> SagaResult:
        LOOP[:] = [asyncio.get_running_loop()]
        return await saga.atry_execute()

    return within(PATIENCE, lambda: asyncio.run(work()))


def execute(saga: Saga) -> SagaResult:
    LOOP[:] = [asyncio.new_event_loop()]
    try:
        return within(PATIENCE, saga.try_execute)
    finally:
        LOOP[0].close()


def noting(log: list[str], kind: Callable[..., Any]) -> Callable[[Any], Any]:
    def made(result: Any) -> Any:
        def work() -> Any:
            log.append("worked")
            return result

        return kind(work)

    return made


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", AWAITABLES)
def test_an_event_loop_awaits_what_a_plain_function_returns(kind: str, place: str, options: str, log: list[str]) -> None:
    result = aexecute(PLACES[place](noting(log, AWAITABLES[kind]), **OPTIONS[options]()))
    assert log == ["worked"]
    if place == "compensate":
        assert (result.status, result.effects["a"]) == (Status.COMPENSATED, Effect.UNDONE)
    else:
        name = "inner/a" if place == "nested" else "a"
        assert (result.status, result.results[name]) == (Status.COMPLETED, "done")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("kind", "in_loop"), [*((kind, False) for kind in AWAITABLES | GENERATORS), *((kind, True) for kind in GENERATORS)]
)
def test_what_nobody_awaits_or_iterates_is_not_done(kind: str, in_loop: bool, place: str, options: str, log: list[str]) -> None:
    saga = PLACES[place](noting(log, (AWAITABLES | GENERATORS)[kind]), **OPTIONS[options]())
    result = aexecute(saga) if in_loop else execute(saga)
    (record,) = [record for record in result.history if record.name.endswith("a")]
    assert log == []
    if place == "compensate":
        assert (result.status, record.effect) == (Status.STUCK, Effect.UNKNOWN)
        told = record.compensation_error
    elif place == "verify":
        assert (result.in_doubt, record.verified) == (("a",), None)
        told = record.verification_error
    else:
        assert (result.status, record.effect, result.in_doubt) == (Status.COMPENSATED, Effect.NONE, ())
        told = record.error
    assert isinstance(told, SagaDefinitionError)
    assert ("`async def`" if kind in AWAITABLES else "without `yield`") in str(told)


def test_what_it_did_besides_is_undone_where_the_task_says_so(log: list[str]) -> None:
    def do() -> Any:
        log.append("a")
        return coroutine(lambda: log.append("never"))

    for options in OPTIONS.values():
        log.clear()
        saga = saga_of(step(do, lambda own: log.append("-a"), name="a", compensate_on_failure=True), **options())
        assert (saga.try_execute().status, log) == (Status.COMPENSATED, ["a", "-a"])


class Pool:
    """As database clients' pools: awaiting it opens it, and gives it itself."""

    opened = False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        self.opened = True
        return self


def test_an_awaitable_that_gives_itself_is_a_result() -> None:
    async def connect() -> Any:
        return Pool()

    for make in (connect, lambda: Pool()):
        assert aexecute(saga_of(step(make, name="a"))).results["a"].opened


def test_an_awaitable_that_always_gives_another_has_failed() -> None:
    class Endless:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return Endless()

    result = aexecute(saga_of(step(lambda: Endless(), name="a")))
    assert (result.status, result.in_doubt) == (Status.COMPENSATED, ())
    assert "another awaitable" in str(result.error)


def test_values_that_can_be_iterated_are_results() -> None:
    with open(__file__, encoding="utf-8") as file:
        for value in (map(str, [1]), iter([1]), range(2), {1: 2}.items(), zip(), file):
            for run in (execute, aexecute):
                assert run(saga_of(step(lambda value=value: value, name="a"))).results["a"] is value


def test_what_is_awaited_for_a_plain_function_is_cut_off_at_the_steps_timeout(log: list[str]) -> None:
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cut off")

    saga = saga_of(step(lambda: slow(), lambda own: log.append("-a"), name="a", timeout=0.05))
    assert (aexecute(saga).status, log) == (Status.COMPENSATED, ["cut off", "-a"])


def test_a_cancellation_strikes_what_is_awaited_for_a_plain_function(log: list[str]) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def slow() -> None:
            begun.set()
            await asyncio.Event().wait()

        saga = saga_of(step(lambda: slow(), lambda own: log.append("-a"), name="a"))
        task = asyncio.create_task(saga.atry_execute())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(PATIENCE, lambda: asyncio.run(main()))
    assert log == ["-a"]


@pytest.mark.parametrize("kind", AWAITABLES)
def test_a_block_in_an_event_loop_awaits_what_its_steps_return(kind: str, log: list[str]) -> None:
    made = noting(log, AWAITABLES[kind])

    async def main() -> None:
        LOOP[:] = [asyncio.get_running_loop()]
        async with transaction() as tx:
            assert await tx.astep(lambda: made("done"), lambda own: made(own)) == "done"
            raise KeyError

    with pytest.raises(KeyError):
        within(PATIENCE, lambda: asyncio.run(main()))
    assert log == ["worked", "worked"]


@pytest.mark.parametrize("kind", ["coroutine", "object", "generator"])
def test_a_plain_block_refuses_what_is_to_be_awaited(kind: str, log: list[str]) -> None:
    made = noting(log, (AWAITABLES | GENERATORS)[kind])

    def block() -> None:
        with transaction() as tx:
            tx.step(lambda: 1, lambda own: log.append("-one"), name="one")
            tx.step(lambda: made("done"), lambda own: log.append("-two"), name="two")

    with pytest.raises(SagaExecutionException):
        block()
    assert log == ["-one"]


class OddResult:
    """A result that nothing can be done with."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError

    __bool__ = __len__ = __eq__ = __hash__ = __repr__ = __str__ = __getattr__ = __iter__ = _refuse  # type: ignore[assignment]
    __class__ = property(_refuse)  # type: ignore[assignment]


@pytest.mark.parametrize("options", ["quiet", "limited"])
@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("compensate", "verify")])
def test_whatever_a_value_does_it_is_a_result(place: str, options: str) -> None:
    value = OddResult()
    for run in (execute, aexecute):
        result = run(PLACES[place](lambda result: value, **OPTIONS[options]()))
        assert result.status is Status.COMPLETED
        assert result.results["inner/a" if place == "nested" else "a"] is value


@pytest.mark.parametrize("run", [Saga.try_execute, lambda saga: asyncio.run(saga.atry_execute())], ids=["sync", "async"])
@pytest.mark.parametrize("many", [list, tuple])
def test_coroutines_that_a_comprehension_has_made_are_not_done(many: Any, run: Any) -> None:
    undo = lambda result: many(coroutine(lambda: None) for _ in range(3))  # noqa: E731
    result = run(Saga("s").add_task(step(lambda: [1, 2, 3], undo, name="a")).add_task(step(fail)))
    assert result.status is Status.STUCK
    (failure,) = result.compensation_errors
    assert f"returned a {many.__name__} of coroutines, which nobody awaits" in str(failure.error)
    assert "asyncio.gather" in str(failure.error)
    executed = run(Saga("s").add_task(step(lambda: many(coroutine(lambda: None) for _ in range(3)), name="a")))
    assert (executed.status, executed.failed_step) == (Status.COMPENSATED, "a")
