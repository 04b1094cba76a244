"""What a call knows of what came before it, live, in either driver, and after a crash.

What a compensation undoes for, ``context.step.cause`` and ``failed_step``, and what the attempt before any call has ended with,
``previous_error``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from saga import Context, Done, InDoubt, Retry, Saga, Skip, Status, fallback, parallel, step
from saga.errors import CrashError, MergeConflictError, OutcomeUnknownError, SagaTimeoutError
from saga.events import OperatorActed
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, Kit, Watched, expired, saga_of, within

NO = ValueError("no stock")


class Seen:
    """Notes what each call is told."""

    def __init__(self) -> None:
        self.causes: dict[str, Any] = {}
        self.steps: dict[str, str | None] = {}

    def __call__(self, name: str) -> Callable[[Context], None]:
        def note(context: Context) -> None:
            self.causes[name], self.steps[name] = context.step.cause, context.step.failed_step

        return note


@pytest.fixture
def seen() -> Seen:
    return Seen()


def told(cause: Any) -> tuple[Any, ...]:
    """Return what a cause says, whichever process has it."""
    if isinstance(cause, OperatorActed):
        return cause.action, cause.step, cause.who, cause.why
    return type(cause), str(cause)


def disagree(key: str) -> Callable[[Context], None]:
    return lambda context: context.update(both=key)


#: What is executed after ``a``, the step that failed, and what the undo of ``a`` is told.
GIVES_UP: dict[str, tuple[Callable[[Kit], Any], str | None, tuple[Any, ...]]] = {
    "a step that failed": (lambda kit: kit.task("b", NO), "b", (ValueError, "no stock")),
    "its last attempt": (
        lambda kit: kit.task("b", (lambda context: context.update(n=1), NO), retry=Retry(2)),
        "b",
        (ValueError, "no stock"),
    ),
    "a step of a saga in it": (
        lambda kit: Saga("inner").add_task(kit.task("b", NO)),
        "inner/b",
        (ValueError, "no stock"),
    ),
    "branches that do not agree": (
        lambda kit: parallel(kit.task("b", disagree("b")), kit.task("c", disagree("c"))),
        None,
        (
            MergeConflictError,
            "branches 'b' and 'c' changed context key 'both' to different values (str and str); give each branch a key of its "
            "own",
        ),
    ),
}


@pytest.mark.parametrize("why", GIVES_UP)
@pytest.mark.parametrize("stored", [False, True])
def test_it_is_what_the_saga_gave_up_for(kit: Kit, seen: Seen, why: str, stored: bool) -> None:
    build, failed, cause = GIVES_UP[why]
    saga = saga_of(kit.task("z", seen("z"), seen("-z")), kit.task("a", seen("a"), seen("-a")), build(kit))
    result = kit.run(saga, **({"store": MemoryStore()} if stored else {}))
    assert result.status is Status.COMPENSATED
    assert (seen.causes["z"], seen.causes["a"]) == (None, None)
    assert told(seen.causes["-a"]) == told(seen.causes["-z"]) == cause
    assert seen.steps == {"z": None, "a": None, "-a": failed, "-z": failed}
    if not stored:
        assert seen.causes["-a"] is result.error


def test_it_is_the_timeout(kit: Kit, seen: Seen) -> None:
    flow = kit.task("a", None, seen("-a")), kit.task("b", lambda context: seen.causes.update(b=within_time(context)))
    kit.run_to_end(saga_of(*flow, timeout=SHORT * 25))  # step a ends in time on a busy machine, too
    assert type(seen.causes["-a"]) is SagaTimeoutError
    assert seen.steps["-a"] is None


def within_time(context: Context) -> None:
    """Take until nobody waits any more, or the saga's time is over."""
    deadline = context.step.deadline
    assert deadline is not None
    while time.time() < deadline + SHORT:
        time.sleep(0.01)


def test_it_is_the_interrupt(kit: Kit, seen: Seen) -> None:
    with pytest.raises(SystemExit):
        kit.run(saga_of(kit.task("a", None, seen("-a")), kit.task("b", SystemExit(3))))
    assert told(seen.causes["-a"]) == (SystemExit, "3")


@pytest.mark.parametrize("way", ["skipped", "replaced"])
def test_where_the_saga_goes_on_it_is_what_the_step_failed_with(kit: Kit, seen: Seen, way: str) -> None:
    more: dict[str, Any] = {"on_error": Skip} if way == "skipped" else {}
    b = kit.task("b", NO, seen("-b"), compensate_on_failure=True, **more)
    result = kit.run(saga_of(kit.task("a"), b if way == "skipped" else fallback(b, kit.task("c"))))
    assert result.ok
    assert seen.causes == {"-b": NO}
    assert seen.steps == {"-b": "b"}


def stuck(kit: Kit, seen: Seen, store: Any) -> Saga:
    saga = saga_of(
        kit.task("a", None, seen("-a")), kit.task("b", NO, in_doubt=InDoubt.ASK, unknown_on=ValueError, on_error=Skip)
    )
    assert kit.run(saga, store=store, saga_id="o-1").status is Status.STUCK
    return saga


@pytest.mark.parametrize("action", ["compensate", "undo"])
def test_it_is_what_a_person_did(kit: Kit, seen: Seen, action: str) -> None:
    store = MemoryStore()
    if action == "compensate":
        saga = stuck(kit, seen, store)
    else:
        saga = saga_of(kit.task("a", None, seen("-a")))
        assert kit.run(saga, store=store, saga_id="o-1").ok
    getattr(Operations(store, "ann", sagas=[saga]), action)("o-1", "she said so")
    within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert told(seen.causes["-a"]) == (action, None, "ann", "she said so")
    assert seen.steps == {"-a": None}


def test_who_tries_again_is_not_why_it_is_undone(kit: Kit, seen: Seen) -> None:
    store, failing = MemoryStore(), [OSError()]

    def undo(context: Context) -> None:
        seen("-a")(context)
        if failing:
            raise failing.pop()

    saga = saga_of(kit.task("a", None, undo), kit.task("b", NO))
    assert kit.run(saga, store=store, saga_id="o-1").status is Status.STUCK
    Operations(store, "ann", sagas=[saga]).compensate("o-1", "the bank is open")
    within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert told(seen.causes["-a"]) == (ValueError, "no stock")


@pytest.mark.parametrize("error", [NO, SystemExit(3)])
def test_it_is_the_same_after_a_crash(kit: Kit, seen: Seen, error: BaseException) -> None:
    saga = saga_of(kit.task("z", None, seen("-z")), kit.task("a", None, seen("-a")), kit.task("b", error))
    watched = Watched(MemoryStore())
    with suppress(SystemExit):
        kit.run(saga, store=watched, saga_id="o-1")
    live = told(seen.causes["-a"])
    for after in range(3, len(watched.writes)):
        store = MemoryStore()
        expired(store, watched.writes[:after])
        if "SagaCompensating" not in [entry.kind for entry in store.journal("o-1")]:
            continue
        seen.causes.clear()
        within(PATIENCE, lambda store=store: Recovery(store, [saga]).run_once())  # type: ignore[misc]
        assert "no stock" in str(seen.causes["-z"]) or "3" in str(seen.causes["-z"])
        assert seen.steps["-z"] == "b"
        if isinstance(error, Exception):
            assert told(seen.causes["-z"]) == live


# -- the attempt before -----------------------------------------------------------------------------------------------


class Attempts:
    """Notes of each attempt what the one before has ended with, and fails as often as it is told."""

    def __init__(self, fails: int, end: Any = None) -> None:
        self.fails, self.end = fails, end
        self.seen: list[tuple[int, Any]] = []

    def __call__(self, context: Context) -> Any:
        before = context.step.previous_error
        self.seen.append((context.step.attempt, None if before is None else told(before)))
        if context.step.attempt <= self.fails:
            raise OSError(f"attempt {context.step.attempt}")
        return self.end

    @property
    def expected(self) -> list[tuple[int, Any]]:
        """What is seen where no process dies."""
        return [(1, None), *[(n + 1, (OSError, f"attempt {n}")) for n in range(1, self.fails + 1)]]


def attempted(phase: str, attempts: Attempts, **more: Any) -> Saga:
    """Return a saga in which attempts of one call of step ``a`` are made, and which is undone."""
    calls: dict[str, Any] = {"execute": lambda context: None, "verify": None, "compensate": lambda context: None}
    policies: dict[str, Any] = {"execute": "retry", "verify": "verification_retry", "compensate": "compensation_retry"}
    if phase == "verify":

        def lost(context: Context) -> None:
            raise OutcomeUnknownError("no answer")

        calls["execute"] = lost
    calls[phase] = attempts
    a = step(calls["execute"], calls["compensate"], name="a", verify=calls["verify"], **{policies[phase]: Retry(9), **more})
    return saga_of(a, step(fail, name="b"))


def fail(context: Context) -> None:
    raise NO


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("fails", [0, 1, 2])
@pytest.mark.parametrize("phase", ["execute", "verify", "compensate"])
def test_an_attempt_knows_the_error_of_the_one_before(kit: Kit, phase: str, fails: int, stored: bool) -> None:
    attempts = Attempts(fails, Done() if phase == "verify" else None)
    result = kit.run(attempted(phase, attempts), **({"store": MemoryStore()} if stored else {}))
    assert result.status is Status.COMPENSATED
    assert attempts.seen == attempts.expected


def test_so_does_one_with_a_view_of_its_own(kit: Kit) -> None:
    attempts = Attempts(2)
    assert kit.run(attempted("execute", attempts, timeout=PATIENCE)).status is Status.COMPENSATED
    assert attempts.seen == attempts.expected


@pytest.mark.parametrize("phase", ["execute", "verify", "compensate"])
def test_after_a_crash_it_is_what_the_journal_says_or_that_the_process_died(kit: Kit, phase: str) -> None:
    more = {"in_doubt": InDoubt.RERUN} if phase == "execute" else {}
    attempts = Attempts(2, Done() if phase == "verify" else None)
    saga = attempted(phase, attempts, **more)
    watched = Watched(MemoryStore())
    kit.run(saga, store=watched, saga_id="o-1")
    lost = 0
    for after in range(1, len(watched.writes)):
        store = MemoryStore()
        expired(store, watched.writes[:after])
        attempts.seen.clear()
        within(PATIENCE, lambda store=store: Recovery(store, [saga]).run_once())  # type: ignore[misc]
        for attempt, before in attempts.seen:
            if before is not None and before[0] is CrashError:
                assert attempt > 1
                lost += 1
            else:
                assert (attempt, before) in attempts.expected
    assert lost


def test_what_is_done_anew_on_request_has_no_error_before_it(kit: Kit) -> None:
    store, attempts = MemoryStore(), Attempts(1)
    saga = saga_of(kit.task("z"), step(attempts, lambda context: None, name="a", retry=Retry(2)))
    assert kit.run(saga, store=store, saga_id="o-1").ok
    operations = Operations(store, "ann", sagas=[saga])
    operations.undo("o-1", "another size", to="z")
    within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    operations.resume("o-1", "now")
    within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert attempts.seen == [*attempts.expected, (3, None)]
