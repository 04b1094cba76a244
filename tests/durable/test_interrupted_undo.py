"""An interrupt in a compensation of a stored execution leaves the execution to a recovery, as a crash does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

import saga as package
from saga import Context, Retry, Saga, SagaResult, Skip, Status, parallel, step, transaction
from saga.durable.codec import Codec
from saga.durable.leases import keeper_of
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore, Store
from tests.kit import (
    PATIENCE,
    SHORT,
    Calls,
    Gate,
    Odd,
    auntil,
    check_journal,
    failing_times,
    saga_of,
    until,
    within,
)

KINDS = [KeyboardInterrupt, SystemExit, asyncio.CancelledError, Odd]


def once(error: BaseException) -> Callable[[], None]:
    """Return what raises the first time."""
    errors = [error]

    def during() -> None:
        if errors:
            raise errors.pop()

    return during


def flow_of(calls: Calls, during_undo: Any, store: Store, **options: Any) -> Saga:
    """Three steps of which the second is compensated so, and one that fails."""
    b = step(calls.function("b"), calls.function("-b", during_undo), name="b", compensation_retry=Retry(9))
    return saga_of(calls.step("a"), b, calls.step("c"), calls.step("bad", ValueError("no stock")), store=store, **options)


def is_left(store: Store, saga_id: str = "o-1", status: str = "compensating") -> list[str]:
    """See to it that nobody has the execution; return the kinds of its journal's entries."""
    row = store.get(saga_id)
    assert row is not None
    assert (row.status, row.owner) == (status, None)
    assert not keeper_of(store)._held
    entries = store.journal(saga_id)
    check_journal(entries)
    return [f"{entry.kind} {entry.step or ''}".strip() for entry in entries]


def recovered(saga: Saga, store: Store) -> SagaResult:
    (result,) = within(PATIENCE, Recovery(store, [saga]).run_once)
    return result


# -- one after the other ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_raised_at_once_and_a_recovery_makes_that_compensation_again(
    calls: Calls, store: Store, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[str] = []
    error = kind("stop")
    saga = flow_of(calls, once(error), store, on_compensation_failure=lambda context, name, error: handled.append(name))
    with caplog.at_level(logging.WARNING, logger="saga"), pytest.raises(kind) as caught:
        calls.run(saga, saga_id="o-1")
    assert caught.value is error
    assert calls.log == ["a", "b", "c", "bad", "-c", "-b"]  # and not -a
    assert is_left(store)[-2:] == ["CompensationSucceeded c", "CompensationStarted b"]  # nothing is recorded of it
    assert "saga o-1 is left to a recovery: compensate of step 'b' was interrupted" in caplog.text
    assert "failed and is not wholly undone yet at step 'bad'" in error.__notes__[0]
    assert saga.load("o-1").status is Status.COMPENSATING
    result = recovered(saga, store)
    assert (result.status, str(result.error)) == (Status.COMPENSATED, "no stock")
    assert calls.log[6:] == ["-b", "-a"]
    assert handled == []


def test_of_two_interrupts_the_first_is_raised(calls: Calls, store: Store) -> None:
    first = KeyboardInterrupt("first")
    saga = saga_of(
        step(calls.function("a"), calls.function("-a", once(SystemExit("second"))), name="a"),
        calls.step("b", first),
        store=store,
    )
    with pytest.raises(KeyboardInterrupt) as caught:
        calls.run(saga, saga_id="o-1")
    assert caught.value is first
    assert len(first.__notes__) == 1
    is_left(store)
    assert recovered(saga, store).status is Status.COMPENSATED
    assert calls.log == ["a", "b", "-b", "-a", "-a"]


def test_an_interrupted_attempt_is_an_attempt(calls: Calls, store: Store) -> None:
    seen: list[int] = []

    def undo(context: Context) -> None:
        seen.append(context.step.attempt)
        raise KeyboardInterrupt if len(seen) == 2 else OSError

    saga = saga_of(step(lambda: 0, undo, name="a", compensation_retry=Retry(4, 0.001)), calls.step("bad", ValueError()))
    with pytest.raises(KeyboardInterrupt):
        calls.run(saga, saga_id="o-1", store=store)
    assert seen == [1, 2]
    is_left(store)
    assert recovered(saga, store).status is Status.STUCK
    assert seen == [1, 2, 3, 4]


def test_a_compensation_that_always_interrupts_is_given_up_in_the_end(plain: Calls, store: Store) -> None:
    undo = plain.function("-a", KeyboardInterrupt())
    saga = saga_of(step(lambda: 0, undo, name="a"), plain.step("bad", ValueError()), store=store)
    with pytest.raises(KeyboardInterrupt):
        saga.execute(saga_id="o-1")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Recovery(store, [saga], max_attempts=2).run_once()
        is_left(store)
    Recovery(store, [saga], max_attempts=2).run_once()
    assert is_left(store, status="stuck")[-1] == "SagaStuck"


@pytest.mark.parametrize("retry", [None, Retry(4, 0.001)])
def test_one_that_exits_in_a_recovery_has_failed(calls: Calls, store: Store, retry: Retry | None) -> None:
    undo = calls.function("-a", SystemExit("not a program"))
    saga = saga_of(step(lambda: 0, undo, name="a", compensation_retry=retry), calls.step("bad", ValueError()))
    with pytest.raises(SystemExit):
        calls.run(saga, saga_id="o-1", store=store)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.STUCK
    assert [(one.step, type(one.error)) for one in result.compensation_errors] == [("a", SystemExit)]
    assert calls.log == ["bad", "-a", "-a"]  # which no policy repeats


def test_a_recovery_does_not_go_forward_after_it(calls: Calls, store: Store) -> None:
    b = step(
        calls.function("b", ValueError()),
        calls.function("-b", once(KeyboardInterrupt())),
        name="b",
        on_error=Skip,
        compensate_on_failure=True,
    )
    saga = saga_of(calls.step("a"), b, calls.step("c", failing_times(0)), store=store)
    with pytest.raises(KeyboardInterrupt):
        calls.run(saga, saga_id="o-1")
    begun = calls.log.count("c")  # the saga does not wait for the compensation of what it skips
    is_left(store)
    assert recovered(saga, store).status is Status.COMPENSATED
    assert calls.log.count("c") == begun
    assert calls.log[-1] == "-a"


def test_no_other_branchs_undo_begins_because_the_saga_is_given_up_then(calls: Calls, store: Store) -> None:
    b = step(
        calls.function("b", ValueError()),
        calls.function("-b", once(KeyboardInterrupt())),
        name="b",
        on_error=Skip,
        compensate_on_failure=True,
    )
    saga = saga_of(calls.step("a"), parallel((calls.step("x"), b), calls.step("y"), compensate_together=True), store=store)
    with pytest.raises(KeyboardInterrupt):
        calls.run(saga, saga_id="o-1")
    assert sorted(calls.log) == ["-b", "a", "b", "x", "y"]
    calls.log.clear()
    assert recovered(saga, store).status is Status.COMPENSATED
    assert sorted(calls.log) == ["-a", "-b", "-x", "-y"]


@pytest.mark.parametrize("take", [None, 2], ids=["to its end", "left"])
def test_in_a_stream(calls: Calls, store: Store, take: int | None) -> None:
    saga = flow_of(calls, once(KeyboardInterrupt("stop")), store)
    told: list[str] = []

    async def work() -> None:
        async with aclosing(saga.astream(saga_id="o-1")) as records:
            async for record in records:
                told.append(f"{record.name} {record.status}")
                if len(told) == take:
                    break

    def run() -> None:
        if calls.in_loop:
            asyncio.run(work())
            return
        with closing(saga.stream(saga_id="o-1")) as records:
            for record in records:
                told.append(f"{record.name} {record.status}")
                if len(told) == take:
                    break

    if take is None:
        with pytest.raises(KeyboardInterrupt, match="stop"):
            run()
    else:
        run()  # which was left by another exception before
    assert told == ["a succeeded", "b succeeded", "c succeeded", "bad failed", "c compensated"][:take]
    assert calls.log[-1] == "-b"
    is_left(store)
    assert recovered(saga, store).status is Status.COMPENSATED


class Money:
    """What the codec knows by a function of the user's."""


def test_an_interrupt_in_the_users_code_around_a_compensation_is_one_in_it(plain: Calls, store: Store) -> None:
    during = once(KeyboardInterrupt())
    codec = Codec().register(Money, lambda money: during(), lambda nothing: Money())

    def undo(context: Context) -> None:
        plain.log.append("-a")
        context.money = Money()

    saga = saga_of(step(lambda: 0, undo, name="a"), plain.step("bad", ValueError()), store=store, codec=codec)
    with pytest.raises(KeyboardInterrupt):
        saga.execute(saga_id="o-1")
    assert is_left(store)[-1] == "CompensationStarted a"
    assert recovered(saga, store).status is Status.COMPENSATED
    assert plain.log == ["bad", "-a", "-a"]


class Struck(MemoryStore):
    """An interrupt strikes while a lease is given back to it."""

    def __init__(self) -> None:
        super().__init__()
        self.during = once(SystemExit("the second"))

    def release(self, *args: Any, **options: Any) -> None:
        self.during()
        super().release(*args, **options)


def test_another_interrupt_while_the_lease_is_given_back_does_not_keep_it(plain: Calls) -> None:
    store = Struck()
    with pytest.raises(KeyboardInterrupt):
        flow_of(plain, once(KeyboardInterrupt()), store).execute(saga_id="o-1")
    is_left(store)


# -- beside each other ------------------------------------------------------------------------------------------------


def together(calls: Calls, gate: Gate, store: Store) -> Saga:
    """Branches that are compensated together: one is held until the gate is opened, the other interrupts."""
    hold = gate.ahold if calls.in_loop else gate.hold
    stop = once(SystemExit("stop"))

    async def astop() -> None:
        await auntil(gate.reached.is_set)
        stop()

    def plain_stop() -> None:
        until(gate.reached.is_set)
        stop()

    held = step(calls.function("b"), calls.function("-b", hold), name="b")
    stops = step(calls.function("c"), calls.function("-c", astop if calls.in_loop else plain_stop), name="c")
    group = parallel((calls.step("x"), held), stops, compensate_together=True)
    return saga_of(calls.step("a"), group, calls.step("bad", ValueError()), store=store)


def test_what_runs_beside_it_ends_before_the_lease_is_given_back(calls: Calls, store: Store, gate: Gate) -> None:
    saga = together(calls, gate, store)

    async def work() -> None:
        with pytest.raises(SystemExit):
            await saga.atry_execute(saga_id="o-1")
        row = store.get("o-1")
        assert row is not None
        assert row.owner is not None
        gate.open()
        await auntil(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]

    if calls.in_loop:
        asyncio.run(work())
    else:
        with pytest.raises(SystemExit):
            saga.execute(saga_id="o-1")
        row = store.get("o-1")
        assert row is not None
        assert row.owner is not None
        gate.open()
        until(lambda: store.get("o-1").owner is None)  # type: ignore[union-attr]
    assert sorted(calls.log[5:]) == ["-b", "-c"]  # no further call begins
    del calls.log[5:]
    is_left(store)
    assert recovered(saga, store).status is Status.COMPENSATED
    assert sorted(calls.log[5:8]) == ["-b", "-c", "-x"]
    assert calls.log[8:] == ["-a"]


def test_in_the_compensation_of_a_straggler(calls: Calls, store: Store, gate: Gate) -> None:
    plain = Calls(False, calls.log)
    slow = step(gate.hold, plain.function("-slow", once(SystemExit("stop"))), name="slow", timeout=SHORT)
    saga = saga_of(plain.step("a"), slow, store=store)

    async def work() -> None:
        result = await saga.atry_execute(saga_id="o-1")
        assert result.in_doubt == ("slow",)
        gate.open()
        await result.ajoin(PATIENCE)

    def run() -> None:
        result = saga.try_execute(saga_id="o-1")
        assert result.in_doubt == ("slow",)
        gate.open()
        result.join(PATIENCE)

    with pytest.raises(SystemExit):
        asyncio.run(work()) if calls.in_loop else run()
    assert calls.log == ["a", "-a", "-slow"]
    row = store.get("o-1")
    assert row is not None
    assert (row.status, row.owner) == ("compensating", None)
    assert recovered(saga, store).status is Status.COMPENSATED
    assert calls.log == ["a", "-a", "-slow", "-slow"]


# -- in a recovery and in a block -------------------------------------------------------------------------------------


def three_cut_short(calls: Calls, acts: list[Callable[[], object]], store: Store) -> Saga:
    """Leave three executions whose undo was interrupted. Return their saga, whose undo acts so from now on."""

    def strike() -> None:
        raise KeyboardInterrupt

    acts += [strike] * 3
    saga = flow_of(calls, lambda: acts.pop()() if acts else None, store)
    for n in range(3):
        with pytest.raises(KeyboardInterrupt):
            calls.run(saga, saga_id=f"o-{n}")
    calls.log.clear()
    return saga


def test_a_recovery_that_is_interrupted_in_one_leaves_that_and_the_others(plain: Calls, store: Store) -> None:
    acts: list[Callable[[], object]] = []
    saga = three_cut_short(plain, acts, store)

    def strike() -> None:
        raise KeyboardInterrupt("in the recovery")

    acts.append(strike)
    with pytest.raises(KeyboardInterrupt) as caught:
        Recovery(store, [saga]).run_once()
    assert caught.value.args == ("in the recovery",)
    assert plain.log == ["-b"]
    for n in range(3):
        is_left(store, f"o-{n}")
    assert [result.status for result in Recovery(store, [saga]).run_once()] == [Status.COMPENSATED] * 3


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
def test_one_that_is_interrupted_beside_its_event_loop_ends_the_undo_there_and_leaves_the_others(
    log: list[str], store: Store
) -> None:
    acts: list[Callable[[], object]] = []
    saga = three_cut_short(Calls(True, log), acts, store)
    acts.append(lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        Recovery(store, [saga], concurrency=1).run_once()
    assert log == ["-b", "-a"]
    ended = store.list(status=["compensated"]).executions
    assert len(ended) == 1
    for n in {"o-0", "o-1", "o-2"} - {row.saga_id for row in ended}:
        is_left(store, n)
    assert [result.status for result in Recovery(store, [saga]).run_once()] == [Status.COMPENSATED] * 2


def raise_last(errors: list[BaseException]) -> None:
    if errors:
        raise errors.pop()


LOG: list[str] = []
STOPS: list[BaseException] = []


def note(name: str) -> None:
    LOG.append(name)


def unnote(name: str) -> None:
    LOG.append(f"-{name}")
    raise_last(STOPS)


async def anote(name: str) -> None:
    note(name)


async def aunnote(name: str) -> None:
    unnote(name)


def refuse() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("fails", ["in a step", "between steps", "interrupted"])
@pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "loop"])
def test_in_a_block(store: Store, in_loop: bool, fails: str) -> None:
    LOG.clear()
    STOPS[:] = [SystemExit("stop")]

    def plain() -> None:
        with transaction("block", saga_id="o-1", store=store) as tx:
            for name in "ab":
                tx.step(note, unnote, name=name, args=(name,), compensate_args=(name,))
            if fails == "in a step":
                tx.step(refuse)
            raise ValueError if fails == "between steps" else KeyboardInterrupt("first")

    async def in_a_loop() -> None:
        async with transaction("block", saga_id="o-1", store=store) as tx:
            for name in "ab":
                await tx.astep(anote, aunnote, name=name, args=(name,), compensate_args=(name,))
            if fails == "in a step":
                await tx.astep(refuse)
            raise ValueError if fails == "between steps" else KeyboardInterrupt("first")

    with pytest.raises(KeyboardInterrupt if fails == "interrupted" else SystemExit) as caught:
        asyncio.run(in_a_loop()) if in_loop else plain()
    assert LOG == ["a", "b", "-b"]
    if fails != "between steps":
        assert "not wholly undone yet" in caught.value.__notes__[0]
    is_left(store)
    (result,) = Recovery(store, transactions=["block"], codec=Codec(modules=[__name__])).run_once()
    assert result.status is Status.COMPENSATED
    assert LOG == ["a", "b", "-b", "-b", "-a"]


# -- without a store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_store_the_rest_is_undone_and_it_is_stuck(calls: Calls, kind: type[BaseException]) -> None:
    handled: list[str] = []
    undo = calls.function("-b", once(kind("stop")))
    flows = calls.step("a"), step(calls.function("b"), undo, name="b"), calls.step("bad", ValueError())
    saga = saga_of(*flows, on_compensation_failure=lambda context, name, error: handled.append(name))
    with pytest.raises(kind) as caught:
        calls.run(saga)
    assert calls.log == ["a", "b", "bad", "-b", "-a"]
    assert "is stuck: the compensation of step 'b' failed (1 attempt)" in caught.value.__notes__[0]
    assert handled == ["b"]


# -- real signals -----------------------------------------------------------------------------------------------------

CHILD = textwrap.dedent(
    """
    import asyncio, signal, sys, time
    from saga import Retry, Saga, step
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
    say = lambda line: print(line, flush=True)

    def undo():
        say("undo")
        time.sleep(3600)
    def fail():
        raise ValueError
    async def aundo():
        say("undo")
        await asyncio.sleep(3600)
    async def wait():
        say("wait")
        await asyncio.sleep(3600)

    def plain(store):
        return Saga("s", store=store).add_task(step(lambda: 0, undo, name="a")).add_task(step(fail, name="b"))
    def in_loop(store):
        return Saga("s", store=store).add_task(step(lambda: 0, aundo, name="a")).add_task(step(wait, name="b"))

    if sys.argv[1] == "plain":
        plain(sys.argv[2]).execute(saga_id="o-1")
    else:
        async def main():
            await asyncio.gather(*(in_loop(sys.argv[2]).aexecute(saga_id=f"o-{n}") for n in range(5)))
        asyncio.run(main())
    """
)


class Child:
    """A process that executes the saga with a database's file."""

    def __init__(self, folder: Path, how: str) -> None:
        self.path = folder / "saga.db"
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, how, str(self.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])},
        )

    def see(self, line: str, times: int = 1) -> None:
        assert self.process.stdout is not None
        for told in self.process.stdout:
            times -= told == f"{line}\n"
            if not times:
                return
        pytest.fail(f"the child never said {line}: {self.process.communicate()[1]}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        _, told = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, told


def child_saga() -> Saga:
    done = step(lambda: None, lambda: None, name="a")
    return Saga("s").add_task(done).add_task(step(lambda: None, name="b"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_during_the_undo_does_what_a_crash_does(tmp_path: Path, number: signal.Signals) -> None:
    child = Child(tmp_path, "plain")
    try:
        child.see("undo")
        child.send(number)
        code, told = child.end()
    finally:
        child.process.kill()
    assert code == {signal.SIGINT: -signal.SIGINT, signal.SIGTERM: 3, signal.SIGKILL: -signal.SIGKILL}[number], told
    with SqliteStore(child.path) as store:
        row = store.get("o-1")
        assert row is not None
        assert row.status == "compensating"
        if number is not signal.SIGKILL:  # whose lease runs out
            is_left(store)
            assert "is left to a recovery" in told
            assert recovered(child_saga(), store).status is Status.COMPENSATED


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_second_ctrl_c_under_asyncio_run_leaves_every_undo_to_a_recovery(tmp_path: Path) -> None:
    child = Child(tmp_path, "loop")
    try:
        child.see("wait", 5)
        child.send(signal.SIGINT)
        child.see("undo", 5)
        child.send(signal.SIGINT)
        code, told = child.end()
    finally:
        child.process.kill()
    assert code == -signal.SIGINT, told
    assert "KeyboardInterrupt" in told
    with SqliteStore(child.path) as store:
        for n in range(5):
            assert is_left(store, f"o-{n}")[-1] == "CompensationStarted a"
        results = within(PATIENCE, Recovery(store, [child_saga()]).run_once)
        assert [result.status for result in results] == [Status.COMPENSATED] * 5
