"""A compensation that takes longer than its timeout: it is cancelled, or else the rest is undone meanwhile."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Effect, Retry, Saga, SagaResult, Skip, Status, fallback, transaction
from saga.errors import SagaDefinitionError, StepTimeoutError
from saga.events import CompensationFailed, CompensationSucceeded, CompensationTimedOut
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import LONG, PATIENCE, SHORT, Gate, Kit, Watch, Watched, check_journal, expired, on, saga_of, until, within

stored = pytest.mark.parametrize("store", [None, MemoryStore], ids=["alone", "stored"])
NO = ValueError("no stock")
LATE = "the compensation of step 'b' took longer than its timeout of 0.02 s"


class Slow:
    """An undo that waits at a gate, and then ends as it is told; how many run at once is counted."""

    def __init__(self, *ends: BaseException | None) -> None:
        self.gate, self.ends = Gate(), list(ends)
        self.running = self.most = self.calls = 0
        self.seen: list[Any] = []

    def __call__(self, context: Context) -> None:
        self.running += 1
        self.calls += 1
        self.most = max(self.most, self.running)
        before = context.step.previous_error
        self.gate.hold()
        self.seen.append((context.step.cancelled, context.step.deadline is not None, type(before)))
        self.running -= 1
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end


def undone(kit: Kit, slow: Any, store: Any, **more: Any) -> Saga:
    """Return a saga in which ``c`` fails, and the undo of ``b`` is slow."""
    own = ("compensation_timeout", "compensation_retry")
    b = kit.task("b", None, slow, **{"compensation_timeout": SHORT} | {one: more.pop(one) for one in own if one in more})
    return saga_of(kit.task("a"), b, kit.task("c", NO), **more, **({} if store is None else {"store": store()}))


def late(slow: Slow, log: list[str], rest: list[str]) -> Any:
    """Return what looks at the first result, when ``rest`` is undone, and lets the slow undo end."""

    def look(first: SagaResult) -> None:
        assert (first.status, first.in_doubt) == (Status.COMPENSATING, ("b",))
        assert slow.gate.reached.wait(PATIENCE)  # a thread may begin when its time is over
        assert sorted(log) == sorted(["a", "b", "c", "-b", *rest])
        assert first.effects["b"] is Effect.UNKNOWN
        (b,) = [record for record in first.history if record.name == "b"]
        assert (type(b.compensation_error), str(b.compensation_error)) == (StepTimeoutError, LATE)
        assert "in doubt: b" in first.summary()
        assert "compensation of step 'b' timed out" in first.report()
        slow.gate.open()

    return look


# -- what cannot be killed --------------------------------------------------------------------------------------------


@stored
def test_the_rest_is_undone_meanwhile_and_a_late_success_is_a_success(plain_kit: Kit, store: Any) -> None:
    slow, watch = Slow(), Watch()
    saga = undone(plain_kit, slow, store, logger=watch)
    result = plain_kit.run_to_end(saga, late(slow, plain_kit.log, ["-a"]))
    assert (result.status, result.in_doubt) == (Status.COMPENSATED, ())
    assert set(result.effects.values()) == {Effect.UNDONE, Effect.NONE}
    assert slow.seen == [(True, True, type(None))]
    assert len(watch.of(CompensationTimedOut)) == 1
    assert watch.at(CompensationTimedOut, "b") < watch.at(CompensationSucceeded, "a") < watch.at(CompensationSucceeded, "b")


@stored
def test_a_stream_tells_that_it_still_runs(plain_kit: Kit, store: Any) -> None:
    slow = Slow()
    saga = undone(plain_kit, slow, store, logger=on(CompensationSucceeded, slow.gate.open, "a"))
    records = plain_kit.stream(saga, 5)
    assert [(one.name, str(one.status), one.in_doubt) for one in records][3:] == [
        ("b", "compensating", True),
        ("a", "compensated", False),
    ]


@stored
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_late_failure_is_a_failed_attempt_and_no_other_begins_before(plain_kit: Kit, store: Any, attempts: int) -> None:
    slow = Slow(OSError("printer"))
    saga = undone(plain_kit, slow, store, compensation_retry=Retry(attempts))
    result = plain_kit.run_to_end(saga, late(slow, plain_kit.log, ["-a"]))
    assert (slow.calls, slow.most) == (attempts, 1)
    if attempts == 1:
        assert result.status is Status.STUCK
        assert [(one.step, str(one.error)) for one in result.compensation_errors] == [("b", "printer")]
        assert "the compensation of step 'b' failed" in str(result.reason) or "compensation failed: b" in str(result.reason)
    else:
        assert result.status is Status.COMPENSATED
        assert slow.seen[1][2] is OSError


@stored
def test_nothing_more_is_undone_meanwhile_where_the_saga_stops_at_a_failure(plain_kit: Kit, store: Any) -> None:
    slow = Slow()
    saga = undone(plain_kit, slow, store, stop_on_compensation_failure=True)
    result = plain_kit.run_to_end(saga, late(slow, plain_kit.log, []))
    assert result.status is Status.COMPENSATED
    assert plain_kit.log == ["a", "b", "c", "-b", "-a"]


def test_the_handler_of_failed_compensations_hears_of_the_end_alone(plain_kit: Kit) -> None:
    slow, told = Slow(OSError("printer")), list[Any]()
    handler = lambda context, step, error: told.append((step, str(error)))  # noqa: E731
    saga = undone(plain_kit, slow, None, on_compensation_failure=handler)
    plain_kit.run_to_end(saga, lambda first: (told.append("first"), slow.gate.open()))
    assert told == ["first", ("b", "printer")]


@stored
@pytest.mark.parametrize("way", ["skipped", "replaced"])
def test_what_follows_a_step_waits_for_its_undo(plain_kit: Kit, store: Any, way: str) -> None:
    slow, kit = Slow(), plain_kit
    more: dict[str, Any] = {"on_error": Skip} if way == "skipped" else {}
    b = kit.task("b", NO, slow, compensate_on_failure=True, compensation_timeout=SHORT, **more)
    seen: list[int] = []
    c = kit.task("c", lambda context: seen.append(slow.running))
    options: dict[str, Any] = {"logger": on(CompensationTimedOut, slow.gate.open)}
    options |= {} if store is None else {"store": store()}
    result = kit.run(saga_of(kit.task("a"), *([b, c] if way == "skipped" else [fallback(b, c)]), **options))
    assert (result.status, kit.log, seen) == (Status.COMPLETED, ["a", "b", "-b", "c"], [0])


def test_one_that_is_in_time_is_no_more_than_a_compensation(kit: Kit) -> None:
    watch = Watch()
    b = kit.task("b", None, lambda context: context.update(undone=True), compensation_timeout=PATIENCE)
    result = kit.run(saga_of(b, kit.task("c", NO), logger=watch), store=MemoryStore())
    assert (result.status, result.context["undone"]) == (Status.COMPENSATED, True)
    assert not watch.of(CompensationTimedOut, CompensationFailed)


@pytest.mark.parametrize("stores", [False, True])
def test_the_undo_of_a_block_is_limited_too(stores: bool) -> None:
    slow = Slow()
    more: dict[str, Any] = {"store": MemoryStore()} if stores else {}
    HELD.append(slow)
    with suppress(ValueError), transaction("order", **more) as tx:
        tx.step(book, unbook, name="a")
        tx.step(book, hold, name="b", compensation_timeout=SHORT)
        raise NO
    assert (tx.result.status, tx.result.in_doubt) == (Status.COMPENSATING, ("b",))
    slow.gate.open()
    assert tx.result.join(PATIENCE).status is Status.COMPENSATED


HELD: list[Slow] = []


def book() -> None:
    pass


def unbook(context: Context) -> None:
    pass


def hold(context: Context) -> None:
    HELD.pop()(context)


def test_a_transactional_step_has_none() -> None:
    saga = saga_of(Kit(False, False).task("a", transactional=True, compensation_timeout=1.0))
    with pytest.raises(SagaDefinitionError, match="transactional step 'a': it has a timeout"):
        saga.execute()


# -- what it has changed in the context -------------------------------------------------------------------------------


@stored
def test_what_it_changes_is_seen_when_it_has_ended_and_takes_nothing_from_what_others_changed(
    plain_kit: Kit, store: Any
) -> None:
    kit, gate, changed = plain_kit, Gate(), threading.Event()

    def slow(context: Context) -> None:
        context["late"], context["both"] = 1, "slow"
        context.items_.append("slow")
        del context["gone"]
        changed.set()
        gate.hold()

    def other(context: Context) -> None:
        assert changed.wait(PATIENCE)
        seen.append({**context, "items_": [*context.items_]})
        context["other"], context["both"], context["mine"] = 2, "other", 2

    seen: list[dict[str, Any]] = []
    saga = saga_of(
        kit.task("a", None, other),
        kit.task("b", None, slow, compensation_timeout=SHORT),
        kit.task("c", (lambda context: context.update(items_=[], both="", mine=1, gone=1), NO)),
        **({} if store is None else {"store": store()}),
    )
    results: list[SagaResult] = []
    last = kit.run_to_end(saga, lambda first: (results.append(first), gate.open()))
    assert seen == [{"items_": [], "both": "", "mine": 1, "gone": 1}]
    assert results[0].status is Status.COMPENSATING
    assert dict(last.context) == {"items_": ["slow"], "both": "slow", "mine": 2, "late": 1, "other": 2}
    if store is not None:
        assert dict(saga.load(last.saga_id).context) == dict(last.context)


@stored
@pytest.mark.parametrize("fails", [False, True])
def test_what_one_that_is_in_time_changes_the_others_see(kit: Kit, store: Any, fails: bool) -> None:
    def undo(context: Context) -> None:
        context.items_.append("b")
        context["new"] = 1
        if fails:
            raise OSError

    seen: list[dict[str, Any]] = []
    saga = saga_of(
        kit.task("a", None, lambda context: seen.append(dict(context))),
        kit.task("b", None, undo, compensation_timeout=PATIENCE),
        kit.task("c", (lambda context: context.update(items_=[]), NO)),
    )
    kit.run(saga, **({} if store is None else {"store": store()}))
    assert seen == [{"items_": ["b"], "new": 1}]


# -- what can be cancelled --------------------------------------------------------------------------------------------


async def never(context: Context) -> None:
    await asyncio.sleep(PATIENCE)


@stored
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_coroutine_is_cancelled_and_that_attempt_has_failed(async_kit: Kit, store: Any, attempts: int) -> None:
    before: list[Any] = []

    async def undo(context: Context) -> None:
        before.append(type(context.step.previous_error))
        if len(before) < 3:
            await never(context)

    limit = SHORT if attempts == 1 else LONG  # in which the last attempt has ended
    more = {"compensation_retry": Retry(attempts), "compensation_timeout": limit}
    result = async_kit.run(undone(async_kit, undo, store, **more))
    assert before == [type(None), StepTimeoutError, StepTimeoutError][:attempts]
    assert async_kit.log == ["a", "b", "c", *["-b"] * attempts, "-a"]
    if attempts == 1:
        assert result.status is Status.STUCK
        (failed,) = result.compensation_errors
        assert (failed.step, type(failed.error), str(failed.error)) == ("b", StepTimeoutError, LATE)
    else:
        assert result.status is Status.COMPENSATED


@stored
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_what_a_cancelled_coroutine_does_in_the_end_counts_if_it_returns(async_kit: Kit, store: Any, ends: str) -> None:
    async def undo(context: Context) -> None:
        try:
            await never(context)
        except asyncio.CancelledError:
            assert context.step.cancelled
            if ends == "raises":
                raise OSError("clean-up") from None

    result = async_kit.run(undone(async_kit, undo, store))
    assert result.status is (Status.COMPENSATED if ends == "returns" else Status.STUCK)
    assert [type(one.error) for one in result.compensation_errors] == ([] if ends == "returns" else [StepTimeoutError])


def ended(saga: Saga, store: Any, results: list[SagaResult]) -> SagaResult:
    """Return the result of the one that a recovery has taken up, when it is undone: another attempt may be late, too."""
    (result,) = results
    until(lambda: store.get(result.saga_id).status == "compensated")
    return saga.load(result.saga_id, store=store)


# -- what a process leaves --------------------------------------------------------------------------------------------


def test_it_is_made_again_wherever_its_process_died(plain_kit: Kit) -> None:
    slow = Slow()
    watched = Watched(MemoryStore())
    saga = undone(plain_kit, slow, lambda: watched)
    plain_kit.run_to_end(saga, lambda first: slow.gate.open())
    check_journal(watched.entries())
    again = 0
    for after in range(1, len(watched.writes) + 1):
        store, kinds = MemoryStore(), [entry.kind for write in watched.writes[:after] for entry in write.entries]
        expired(store, watched.writes[:after])
        before = slow.calls
        results = within(PATIENCE, lambda store=store: Recovery(store, [saga]).run_once())  # type: ignore[misc]
        if kinds[-1] in ("SagaCompensated",):
            assert not results
            continue
        result = ended(saga, store, results)
        open_then = "CompensationTimedOut" in kinds and ("b", "CompensationSucceeded") not in [
            (entry.step, entry.kind) for write in watched.writes[:after] for entry in write.entries
        ]
        if open_then:
            again += 1
            assert slow.calls == before + 1
            assert result.history[1].compensation_attempts == 2
        check_journal(store.journal(result.saga_id))
    assert again


@stored
def test_an_interrupt_of_another_undo_leaves_it_to_end(plain_kit: Kit, store: Any) -> None:
    slow, held = Slow(), None if store is None else store()

    def struck(context: Context) -> None:
        assert slow.gate.reached.wait(PATIENCE)
        slow.gate.open()
        if context.step.attempt == 1:
            raise SystemExit(3)

    b = plain_kit.task("b", None, slow, compensation_timeout=SHORT)
    saga = saga_of(plain_kit.task("a", None, struck), b, plain_kit.task("c", NO))
    with pytest.raises(SystemExit):
        plain_kit.run(saga, **({} if held is None else {"store": held, "saga_id": "o-1"}))
    until(lambda: slow.seen)
    if held is None:
        assert sorted(plain_kit.log) == ["-a", "-b", "a", "b", "c"]
        return
    until(lambda: (row := held.get("o-1")) is not None and row.owner is None)
    ended(saga, held, within(PATIENCE, lambda: Recovery(held, [saga]).run_once()))
    assert slow.most == 1


def test_what_still_runs_after_an_interrupt_knows_what_it_undoes_for() -> None:
    kit, gate, seen = Kit(False, False), Gate(), list[Any]()

    def slow(context: Context) -> None:
        gate.hold()
        seen.append((context.step.cause, context.step.failed_step))

    b = kit.task("b", None, slow, compensation_timeout=SHORT)
    a = kit.task("a", None, (lambda context: gate.reached.wait(PATIENCE), SystemExit(3)))
    with pytest.raises(SystemExit):
        kit.run(saga_of(a, b, kit.task("c", NO)), store=MemoryStore())
    gate.open()
    until(lambda: seen)
    assert seen == [(NO, "c")]


def test_who_looks_at_it_is_told_that_it_still_runs(plain_kit: Kit) -> None:
    slow, store = Slow(), MemoryStore()
    saga = undone(plain_kit, slow, lambda: store)

    def look(first: SagaResult) -> None:
        found = Operations(store, "ann", sagas=[saga]).show(first.saga_id)
        seen.append([(one.name, str(one.status), one.in_doubt, one.compensation_error) for one in found.steps])
        phases.extend(error.phase for error in found.errors if error.step == "b")
        slow.gate.open()

    seen: list[Any] = []
    phases: list[Any] = []
    plain_kit.run_to_end(saga, look)
    assert seen[0][:2] == [("a", "compensated", False, None), ("b", "compensating", True, f"StepTimeoutError: {LATE}")]
    assert phases == ["compensate"]


def test_its_lease_is_kept_until_it_has_ended(plain_kit: Kit) -> None:
    slow, store = Slow(), MemoryStore()
    saga = undone(plain_kit, slow, lambda: store)

    def look(first: SagaResult) -> None:
        row = store.get(first.saga_id)
        assert row is not None
        assert row.owner is not None
        assert Recovery(store, [saga]).run_once() == []
        slow.gate.open()

    result = plain_kit.run_to_end(saga, look)
    until(lambda: (row := store.get(result.saga_id)) is not None and row.owner is None, LONG + PATIENCE)
