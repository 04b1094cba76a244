"""What observers put around each call: entered and left where the call is made; whatever it does, the outcome is the call's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Status, parallel
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import KITS, PATIENCE, Kit, failing_times, left_at
from tests.kit.blocks import Blocks


@pytest.fixture(params=list(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(*KITS[request.param])


def here() -> tuple[threading.Thread, Any]:
    """Return in which thread this is, and in which task of an event loop."""
    try:
        return threading.current_thread(), asyncio.current_task()
    except RuntimeError:
        return threading.current_thread(), None


class Tracer:
    """An observer that surrounds calls, and notes where it is entered and left.

    :ivar told: what it was called with, in order; :ivar spans: what happened in each of them, with where.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []
        self.spans: dict[tuple[str, int, str], list[tuple[str, Any]]] = {}

    def __call__(self, event: Any, info: Any) -> None: ...

    def around(self, info: Any, step: Any, attempt: int, phase: str) -> Any:
        key = (step.name, attempt, phase)
        self.told.append(key)
        span = self.spans[key] = [("asked", here())]

        @contextmanager
        def surround() -> Iterator[None]:
            span.append(("entered", here()))
            try:
                yield
            except BaseException as error:
                span.append((type(error).__name__, here()))
                raise
            else:
                span.append(("left", here()))

        return surround()

    def call(self, context: Context) -> None:
        """Note, within a call, where it is made."""
        info = context.step
        keys = [key for key in reversed(self.told) if key[:2] == (info.name, info.attempt)]
        self.spans[keys[0]].append(("called", here()))

    def check(self, *expected: tuple[str, int, str]) -> None:
        """Each of these was surrounded once, wholly in one thread or task."""
        assert sorted(self.told) == sorted(expected)
        for key, span in self.spans.items():
            assert [what for what, _ in span][:3] == ["asked", "entered", "called"], key
            assert len(span) == 4, key
            assert len({where for _, where in span}) == 1, key


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


def failing(tracer: Tracer, error: BaseException | None = None) -> Any:
    def fail(context: Context) -> None:
        tracer.call(context)
        raise error or ValueError("no")

    return fail


EXECUTE, COMPENSATE = "execute", "compensate"


def test_each_call_is_surrounded_where_it_is_made(kit: Kit, tracer: Tracer) -> None:
    flows = [kit.task("a", tracer.call, tracer.call), kit.task("b", tracer.call, tracer.call), kit.task("c", failing(tracer))]
    result = kit.run(kit.saga(*flows, logger=tracer))
    assert result.status is Status.COMPENSATED
    calls = [("a", 1, EXECUTE), ("b", 1, EXECUTE), ("c", 1, EXECUTE), ("b", 1, COMPENSATE), ("a", 1, COMPENSATE)]
    assert tracer.told == calls
    tracer.check(*calls)


def test_attempts_are_counted(kit: Kit, tracer: Tracer) -> None:
    twice, undo_twice = failing_times(1), failing_times(1)

    def act(context: Context) -> None:
        tracer.call(context)
        twice(context)

    def undo(context: Context) -> None:
        tracer.call(context)
        undo_twice(context)

    flows = [kit.task("a", act, undo, retry=Retry(2), compensation_retry=Retry(2)), kit.task("b", failing(tracer))]
    assert kit.run(kit.saga(*flows, logger=tracer)).status is Status.COMPENSATED
    tracer.check(("a", 1, EXECUTE), ("a", 2, EXECUTE), ("b", 1, EXECUTE), ("a", 1, COMPENSATE), ("a", 2, COMPENSATE))
    assert tracer.spans["a", 1, EXECUTE][-1][0] == "OSError"
    assert tracer.spans["a", 2, EXECUTE][-1][0] == "left"


def test_branches_are_surrounded_each_where_it_runs(kit: Kit, tracer: Tracer) -> None:
    barrier = threading.Barrier(2)  # so that neither can have the other's thread
    call = tracer.call if kit.is_async else (tracer.call, lambda context: barrier.wait(PATIENCE))
    group = parallel(kit.task("a", call, tracer.call), kit.task("b", call, tracer.call), compensate_together=True)
    result = kit.run(kit.saga(group, kit.task("c", failing(tracer)), logger=tracer))
    assert result.status is Status.COMPENSATED
    tracer.check(*((name, 1, phase) for name in "ab" for phase in (EXECUTE, COMPENSATE)), ("c", 1, EXECUTE))
    assert tracer.spans["a", 1, EXECUTE][0][1] != tracer.spans["b", 1, EXECUTE][0][1]


def test_calls_that_are_limited_are_surrounded(kit: Kit, tracer: Tracer) -> None:
    saga = kit.saga(kit.task("a", tracer.call, tracer.call, timeout=30.0), kit.task("b", failing(tracer)), logger=tracer)
    assert kit.run(saga).status is Status.COMPENSATED
    tracer.check(("a", 1, EXECUTE), ("b", 1, EXECUTE), ("a", 1, COMPENSATE))


def test_a_blocks_calls_are_surrounded(calls: Any, tracer: Tracer) -> None:
    blocks = Blocks(calls)

    def body(tx: Any) -> Any:
        yield blocks.do("a")
        yield blocks.do("b")

    assert blocks.run(body, "s", observers=[tracer]).status is Status.COMPLETED
    assert tracer.told == [("a", 1, EXECUTE), ("b", 1, EXECUTE)]
    assert all([what for what, _ in span] == ["asked", "entered", "left"] for span in tracer.spans.values())
    assert all(len({where for _, where in span}) == 1 for span in tracer.spans.values())


@pytest.mark.parametrize(("in_doubt", "status"), [(InDoubt.RERUN, Status.COMPLETED), (InDoubt.COMPENSATE, Status.COMPENSATED)])
def test_a_recoverys_calls_are_surrounded(plain: Any, in_doubt: InDoubt, status: Status, tracer: Tracer) -> None:
    def saga(*observers: Any) -> Saga:
        return plain.saga(plain.step("a"), plain.step("b", in_doubt=in_doubt), observers=observers)

    store = left_at(saga(), "b")
    (result,) = Recovery(store, [saga(tracer)]).run_once()
    assert result.status is status
    rerun, undone = [("b", 2, EXECUTE)], [("b", 1, COMPENSATE), ("a", 1, COMPENSATE)]
    assert tracer.told == (rerun if in_doubt is InDoubt.RERUN else undone)


def test_with_a_store_calls_are_surrounded(kit: Kit, tracer: Tracer) -> None:
    saga = kit.saga(kit.task("a", tracer.call, tracer.call), kit.task("b", failing(tracer)), logger=tracer, store=MemoryStore())
    assert kit.run(saga).status is Status.COMPENSATED
    tracer.check(("a", 1, EXECUTE), ("b", 1, EXECUTE), ("a", 1, COMPENSATE))


def test_an_interrupt_leaves_what_surrounds_its_call(tracer: Tracer) -> None:
    kit = Kit(*KITS["threads"])
    with pytest.raises(KeyboardInterrupt):
        kit.run(kit.saga(kit.task("a", failing(tracer, KeyboardInterrupt()), tracer.call), logger=tracer))
    tracer.check(("a", 1, EXECUTE), ("a", 1, COMPENSATE))
    assert tracer.spans["a", 1, EXECUTE][-1][0] == "KeyboardInterrupt"


def test_several_are_left_in_reverse(kit: Kit) -> None:
    log: list[str] = []

    class Named(Tracer):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        @contextmanager
        def around(self, *call: Any) -> Iterator[None]:
            log.append(f"enter {self.name}")
            yield
            log.append(f"leave {self.name}")

    kit.run(kit.saga(kit.task("a"), observers=[Named("one"), Named("two")]))
    assert log == ["enter one", "enter two", "leave two", "leave one"]


# -- whatever it does ---------------------------------------------------------------------------------------------------


class Fault(Exception):
    """What surroundings raise."""


class Faulty:
    """An observer whose surroundings do something that they should not."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, event: Any, info: Any) -> None: ...

    def around(self, *call: Any) -> Any:
        if self.where == "around":
            raise Fault
        if self.where == "nothing":
            return None
        if self.where == "no manager":
            return 3
        return Manager(self.where)


class Manager:
    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        if self.where == "enter":
            raise Fault

    def __exit__(self, *error: Any) -> bool:
        if self.where == "exit":
            raise Fault
        return True  # which a ``with`` would take for: forget the error


FAULTS = {"around": 1, "enter": 1, "exit": 1, "no manager": 1, "nothing": 0, "swallow": 0}


@pytest.mark.parametrize("where", FAULTS)
def test_a_calls_outcome_is_its_own_whatever_surrounds_it(where: str, kit: Kit) -> None:
    told = []
    for observers in ([], [Faulty(where)]):
        kit.log.clear()
        fails = failing_times(1, KeyError)
        flows = [
            kit.task("a", fails, failing_times(1), retry=Retry(2), compensation_retry=Retry(2)),
            kit.task("b", ValueError("no")),
        ]
        result = kit.run(kit.saga(*flows, observers=observers))
        told.append((result.status, str(result.error), [type(event) for event in result.events], list(kit.log)))
    assert told[0] == told[1]
    assert told[0][0] is Status.COMPENSATED


@pytest.mark.parametrize("where", FAULTS)
def test_what_surroundings_raise_is_logged_once(where: str, kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    result = kit.run(kit.saga(*(kit.task(name) for name in "abc"), observers=[Faulty(where)]))
    assert result.status is Status.COMPLETED
    assert len(caplog.records) == FAULTS[where]
    for record in caplog.records:
        assert (record.name, record.levelname) == ("saga", "ERROR")
        assert record.getMessage().endswith("raised around a call; the call goes on, and this is reported once")


def test_what_surrounds_beside_a_faulty_one_is_entered_and_left(
    kit: Kit, tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    observers = [Faulty("enter"), tracer, Faulty("exit")]
    kit.run(kit.saga(kit.task("a", tracer.call), observers=observers))
    tracer.check(("a", 1, EXECUTE))
    assert len(caplog.records) == 2


def test_the_calls_own_error_that_a_manager_raises_again_is_not_logged(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(Faulty):
        def around(self, *call: Any) -> Any:
            class Again(Manager):
                def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
                    raise error if error is not None else Fault

            return Again("") if call[1].name == "a" else None

    result = kit.run(kit.saga(kit.task("a", ValueError("own")), observers=[Raising("")]))
    assert str(result.error) == "own"
    assert caplog.records == []
