"""What a retry looks at, seen from outside: the error, the time, what was returned; and what a saga says for all its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from saga import (
    Ask,
    Compensate,
    Done,
    Effect,
    InDoubt,
    Retry,
    Saga,
    Skip,
    Status,
    Task,
    each,
    fallback,
    parallel,
    receive,
    receive_first,
    sequence,
    step,
    timer,
    transaction,
)
from saga.errors import NotReadyError, SagaDefinitionError, SagaExecutionException
from saga.events import RetryScheduled
from saga.machine import PlannedStep
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore
from tests.kit import Calls, Watch, failing_times, saga_of
from tests.kit.blocks import Blocks
from tests.kit.runners import KITS, Kit

NONE, STANDS, UNDONE = Effect.NONE, Effect.STANDS, Effect.UNDONE

# -- what was returned ------------------------------------------------------------------------------------------------


class Job:
    """What is asked whether it is done: it is at the ``ready``-th time it is asked."""

    def __init__(self, ready: int, wrong: bool = False) -> None:
        self.ready, self.asked, self.wrong = ready, 0, wrong

    def pending(self, result: object) -> bool:
        self.asked += 1
        if self.wrong:
            raise ZeroDivisionError
        return self.asked < self.ready


# Ready at which time, what else is said, and: the status, what was called, what is left of the step.
POLLED: Final[dict[str, tuple[int, dict[str, Any], Status, list[str], Effect]]] = {
    "at once": (1, {}, Status.COMPLETED, ["a", "b", "c"], STANDS),
    "at last": (3, {}, Status.COMPLETED, ["a", "b", "b", "b", "c"], STANDS),
    "never": (9, {}, Status.COMPENSATED, ["a", "b", "b", "b", "-b", "-a"], UNDONE),
    "never, and skipped": (9, {"on_error": Skip}, Status.COMPLETED, ["a", "b", "b", "b", "-b", "c"], UNDONE),
    "never, and nothing to undo": (9, {"undo": False}, Status.COMPENSATED, ["a", "b", "b", "b", "-a"], STANDS),
    "in time": (2, {"timeout": 60.0}, Status.COMPLETED, ["a", "b", "b", "c"], STANDS),
}


@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
@pytest.mark.parametrize("case", POLLED)
def test_what_is_not_ready_is_asked_for_again(kit: str, stored: bool, case: str) -> None:
    ready, policies, status, calls, effect = POLLED[case]
    job, made = Job(ready), Kit(*KITS[kit])
    polled = made.task("b", retry=Retry(3, retry_if=job.pending), **policies)
    saga = saga_of(made.task("a"), polled, made.task("c"), store=MemoryStore() if stored else None)
    result = made.run(saga, saga_id="o-1")
    assert (result.status, made.log, result.effects["b"]) == (status, calls, effect)
    assert job.asked == calls.count("b")
    if status is Status.COMPENSATED:
        assert str(result.error) == "step 'b' returned 'result of b', which is not what its retry waits for"
        assert type(result.error) is NotReadyError
    if stored:
        assert saga.load("o-1").effects == result.effects


@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_what_cannot_say_whether_it_is_ready_has_been_done(kit: str, timeout: float | None) -> None:
    made = Kit(*KITS[kit])
    saga = saga_of(made.task("a"), made.task("b", timeout=timeout, retry=Retry(3, retry_if=Job(1, wrong=True).pending)))
    result = made.run(saga)
    assert made.log == ["a", "b", "-b", "-a"]
    assert isinstance(result.error, ZeroDivisionError)
    assert result.error.__notes__ == ["raised by retry_if of step 'b', asked about str"]


@pytest.mark.parametrize("in_group", [False, True])
def test_what_waits_for_its_result_is_undone_wherever_its_process_died(crashes: Any, in_group: bool) -> None:
    def build(effects: Any) -> Saga:
        polled = effects.step("b", retry=Retry(2, 0.001, retry_if=lambda result: True))
        return saga_of(effects.step("a"), parallel(polled, effects.step("c")) if in_group else polled, effects.step("d"))

    ends = set()
    for crash in crashes(build):
        Recovery(crash.store, [crash.saga]).run_once()
        assert crash.effects == set(), (crash, crash.kinds)
        ends.add(crash.status)
    assert ends == {"compensated"}


def test_a_recovery_goes_on_asking(crashes: Any) -> None:
    jobs: list[Job] = []

    def build(effects: Any) -> Saga:
        jobs.append(Job(3))
        retry = Retry(5, 0.001, retry_if=lambda result: jobs[-1].pending(result))
        return saga_of(effects.step("a", in_doubt=InDoubt.RERUN), effects.step("b", retry=retry, in_doubt=InDoubt.RERUN))

    attempts = set()
    for crash in crashes(build):
        jobs.append(Job(1))
        Recovery(crash.store, [crash.saga]).run_once()
        assert (crash.status, crash.effects) == ("completed", {"a", "b"}), (crash, crash.kinds)
        attempts.add(crash.saga.load("o-1", store=crash.store).history[1].attempts)
    assert attempts == {1, 2, 3, 4}


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_an_attempt_sees_of_those_before_what_it_would_have_seen_without_a_crash(crashes: Any, timeout: float | None) -> None:
    jobs: list[Job] = []
    seen: set[tuple[int, int]] = set()

    def count(context: Any) -> None:
        seen.add((context.step.attempt, context.get("n", 0)))
        context.n = context.get("n", 0) + 1

    def build(effects: Any) -> Saga:
        jobs.append(Job(3))
        retry = Retry(9, 0.001, retry_if=lambda result: jobs[-1].pending(result))
        return saga_of(step(count, timeout=timeout, retry=retry, in_doubt=InDoubt.RERUN), effects.step("b"))

    build_once = list(crashes(build))
    expected, seen_live = {(1, 0), (2, 1), (3, 2)} if timeout is None else {(1, 0), (2, 0), (3, 0)}, set(seen)
    assert seen_live == expected
    for crash in build_once:
        jobs.append(Job(1))
        seen.clear()
        Recovery(crash.store, [crash.saga]).run_once()
        assert {n for _, n in seen} <= ({0, 1, 2} if timeout is None else {0}), (crash, crash.kinds)


def test_a_result_of_which_more_is_not_ready_than_a_plain_value_is_not_shown(plain: Calls) -> None:
    for result, shown in (
        (0, "0"),
        ("x" * 99, f"'{'x' * 58}…"),
        (None, "None"),
        ({"card": 4242}, "dict"),
        (Job, "the class Job"),
    ):
        polled = step(lambda result=result: result, name="a", retry=Retry(1, retry_if=lambda result: True))
        text = str(plain.run(saga_of(polled)).error)
        assert text == f"step 'a' returned {shown}, which is not what its retry waits for"


def test_a_transactional_step_that_is_not_ready_is_rolled_back(tmp_path: Any) -> None:
    job = Job(3)

    def fill(context: Any) -> int:
        connection = context.step.connection
        connection.execute("CREATE TABLE filled (n INTEGER)")  # which fails where an earlier attempt's is there
        return context.step.attempt  # type: ignore[no-any-return]

    with SqliteStore(tmp_path / "orders.db") as store:
        filled = step(fill, transactional=True, retry=Retry(3, retry_if=job.pending))
        result = saga_of(filled, store=store).execute()
    assert (result.results["fill"], job.asked) == (3, 3)


def test_what_a_fallback_stands_for_is_undone_first(calls: Calls) -> None:
    polled = calls.step("a", retry=Retry(2, retry_if=lambda result: True))
    assert calls.run(saga_of(fallback(polled, calls.step("b")))).ok
    assert calls.log == ["a", "a", "-a", "b"]


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_each_branch_asks_for_itself(calls: Calls, stored: bool, limit: int | None) -> None:
    asked: dict[str, int] = {}

    def once_more(result: str) -> bool:
        asked[result] = asked.get(result, 0) + 1
        return asked[result] < 2

    if calls.in_loop:

        async def ship(parcel: str) -> str:
            return parcel
    else:

        def ship(parcel: str) -> str:  # type: ignore[misc]
            return parcel

    shipped = each("parcels", step(ship, name="ship", retry=Retry(3, retry_if=once_more)), limit=limit)
    saga = saga_of(shipped, retry=TWICE, store=MemoryStore() if stored else None)
    result = calls.run(saga, {"parcels": ["a", "b"]})
    assert result.results["ship"] == ["a", "b"]
    assert asked == {"a": 2, "b": 2}


def test_what_is_verified_as_done_is_done(plain: Calls) -> None:
    def lost() -> None:
        raise ConnectionResetError

    polled = step(lost, name="a", verify=lambda: Done("pending"), retry=Retry(2, retry_if=lambda result: True))
    assert plain.run(saga_of(polled)).results["a"] == "pending"


# -- the error and the time -------------------------------------------------------------------------------------------


class Answered(Exception):
    """An HTTP answer that is none."""

    def __init__(self, status: int, retry_after: float = 0.0) -> None:
        super().__init__(status)
        self.status, self.retry_after = status, retry_after


class AsTold:
    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        return error.retry_after if isinstance(error, Answered) else 0.0


def is_server_fault(error: Exception) -> bool:
    return isinstance(error, Answered) and error.status >= 500


def test_a_retry_goes_by_what_the_error_says(calls: Calls, watch: Watch) -> None:
    answers = [Answered(503, 0.002), Answered(500, 0.001), Answered(404)]

    def fail() -> None:
        raise answers[len(calls.log) - 1]

    saga = saga_of(calls.step("a", fail, retry=Retry(9, AsTold(), is_server_fault)), observers=watch)
    assert calls.run(saga).error is answers[2]
    assert calls.log == ["a", "a", "a"]
    assert [e.delay for e in watch.of(RetryScheduled)] == [0.002, 0.001]


@pytest.mark.parametrize("phase", ["execute", "verify", "compensate"])
def test_a_function_that_cannot_tell_allows_no_other_attempt_and_is_told_of(calls: Calls, phase: str) -> None:
    def wrong(error: Exception) -> bool:
        return bool(error.status)  # type: ignore[attr-defined]

    retry = Retry(5, retry_on=(LookupError, wrong))
    failing = calls.function("a", failing_times(9, ValueError))
    if phase == "execute":
        saga = saga_of(step(failing, name="a", retry=retry))
    elif phase == "verify":
        lost = calls.function("b", failing_times(9, ConnectionResetError))
        saga = saga_of(step(lost, name="b", verify=failing, verification_retry=retry))
    else:
        saga = saga_of(step(calls.function("b"), failing, name="b", compensation_retry=retry), calls.step("c", OSError()))
    result = calls.run(saga)
    assert calls.log.count("a") == 1
    record = result.history[0]
    error = {"execute": record.error, "verify": record.verification_error, "compensate": record.compensation_error}[phase]
    (note,) = error.__notes__
    assert note == (
        f"retry_on of step {record.name!r} raised AttributeError(\"'ValueError' object has no attribute 'status'\"), "
        "so no other attempt is made"
    )


def test_a_backoff_that_raises_is_told_of_with_the_undo_that_failed(calls: Calls) -> None:
    class Wrong:
        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            raise ZeroDivisionError

    undone = calls.step("a", None, OSError("no"), compensation_retry=Retry(2, Wrong()))
    result = calls.run(saga_of(undone, calls.step("b", ValueError())))
    assert result.status is Status.STUCK
    (failed,) = result.compensation_errors
    assert failed.error.__notes__ == ["the backoff of step 'a' raised ZeroDivisionError(), so no other attempt is made"]


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
def test_no_attempt_begins_when_the_time_is_over(calls: Calls, stored: bool) -> None:
    failing = calls.step("a", failing_times(99), retry=Retry(None, 0.001, max_elapsed=0.02), undo=False)
    result = calls.run(saga_of(failing, store=MemoryStore() if stored else None))
    started = [event.at for event in result.events if type(event).__name__ == "StepStarted"]
    due = [event.at + event.delay for event in result.events if isinstance(event, RetryScheduled)]
    assert len(due) == len(started) - 1
    assert all(at - started[0] <= 0.02 for at in due)
    assert result.status is Status.COMPENSATED


def test_a_crash_begins_no_time_anew(left: Any, plain: Calls) -> None:
    def build() -> Saga:
        retry = Retry(None, 0.001, max_elapsed=60.0)
        return saga_of(plain.step("a", failing_times(1), in_doubt=InDoubt.RERUN, retry=retry))

    saga = build()
    for age, calls in ((30.0, ["a"]), (90.0, ["-a"])):
        store = left(build(), "a", age=age)
        plain.log.clear()
        Recovery(store, [saga]).run_once()
        assert plain.log[:1] == calls


# -- what a saga says for all -----------------------------------------------------------------------------------------

TWICE, THRICE = Retry(2), Retry(3)


def lost(error: Exception) -> bool:
    return isinstance(error, ValueError)


class Said(Task[None]):
    retry = THRICE
    timeout = 3.0
    on_error = Compensate
    compensation_retry = THRICE
    compensation_timeout = 3.0
    verification_retry = THRICE

    def execute(self, context: Any) -> None: ...
    def compensate(self, context: Any) -> None: ...
    def verify(self, context: Any) -> None: ...


class Silent(Task[None]):
    def execute(self, context: Any) -> None: ...
    def compensate(self, context: Any) -> None: ...
    def verify(self, context: Any) -> None: ...


class SaysNone(Silent):
    retry = timeout = compensation_retry = compensation_timeout = verification_retry = None


#: Of each policy: what the saga calls it, and says of it; what the task says; what the step does.
DEFAULTS: Final[dict[str, tuple[str, Any, Any, Any]]] = {
    "retry": ("retry", TWICE, THRICE, Retry(4)),
    "timeout": ("step_timeout", 2.0, 3.0, 4.0),
    "on_error": ("on_error", Skip, Compensate, Ask),
    "compensation_retry": ("compensation_retry", TWICE, THRICE, Retry(4)),
    "compensation_timeout": ("compensation_timeout", 2.0, 3.0, 4.0),
    "verification_retry": ("verification_retry", TWICE, THRICE, Retry(4)),
}
every = pytest.mark.parametrize("policy", DEFAULTS)


def nothing() -> None: ...


def planned(saga: Saga, name: str) -> PlannedStep:
    return saga.plan.step(name)


@every
def test_what_the_step_says_comes_first_then_its_task_then_the_innermost_saga(policy: str) -> None:
    option, of_saga, of_task, of_step = DEFAULTS[policy]
    inner = Saga("inner", **{option: of_saga}).add_task(Silent).add_task(step(nothing, nothing, verify=nothing, name="f"))
    inner.add_task(Said).add_task(step(Said, name="given", **{policy: of_step})).add_task(
        parallel(step(Silent, name="p"), timer(1))
    )
    outer = Saga("outer", **{option: of_step}).add_task(inner).add_task(Silent).add_task(sequence(step(Silent, name="s")))
    found = {name: getattr(planned(outer, name), policy) for name in outer.plan.names if not name.startswith("inner/timer")}
    assert found == {
        **dict.fromkeys(("inner/Silent", "inner/f", "inner/p"), of_saga),
        "inner/Said": of_task,
        **dict.fromkeys(("inner/given", "Silent", "s"), of_step),
    }
    plain = Saga("plain").add_task(inner).add_task(Silent)
    assert getattr(planned(plain, "inner/f"), policy) == of_saga
    assert getattr(planned(plain, "Silent"), policy) == getattr(PlannedStep, policy)


@every
def test_a_saga_may_declare_it(policy: str) -> None:
    option, of_saga, of_task, _ = DEFAULTS[policy]
    kind = type("Declared", (Saga,), {"flow": Silent, option: of_saga})
    assert getattr(planned(kind(), "Silent"), policy) == of_saga
    assert getattr(planned(kind(**{option: of_task}), "Silent"), policy) == of_task


@pytest.mark.parametrize("policy", ["retry", "timeout", "compensation_retry", "compensation_timeout", "verification_retry"])
def test_none_says_that_there_is_none(policy: str) -> None:
    option, of_saga, *_ = DEFAULTS[policy]

    class Own(Silent):
        def __init__(self) -> None:
            setattr(self, policy, None)

    saga = Saga("s", **{option: of_saga}).add_task(SaysNone).add_task(step(Silent, name="given", **{policy: None}))
    saga.add_task(step(Own(), name="own"))
    assert {getattr(planned(saga, name), policy) for name in saga.plan.names} == {getattr(PlannedStep, policy)}


def test_what_means_nothing_for_a_step_is_not_its() -> None:
    retries = {"retry": TWICE, "compensation_retry": TWICE, "verification_retry": TWICE}
    saga = Saga("s", step_timeout=2.0, compensation_timeout=2.0, on_error=Skip, **retries)
    saga.add_task(step(nothing, transactional=True)).add_task(timer(1.0, name="t")).add_task(receive("r"))
    saga.add_task(step(nothing, nothing, name="u", transactional=True)).add_task(receive_first("v", "w", name="f"))
    own = {name: {policy for policy in DEFAULTS if policy in vars(planned(saga, name))} for name in saga.plan.names}
    transacted = {"retry", "on_error"}
    waits = {"t": set(), "r": {"on_error"}, "f": {"on_error"}}
    assert own == {"nothing": transacted, "u": transacted | {"compensation_retry"}, **waits}


def test_a_steps_on_error_may_be_its_retry() -> None:
    saga = Saga("s", retry=TWICE, on_error=Ask).add_task(step(nothing, on_error=Retry(5, then=Skip)))
    assert (planned(saga, "nothing").retry.max_attempts, planned(saga, "nothing").on_error) == (5, Skip)


def test_all_steps_are_attempted_as_the_saga_says(calls: Calls) -> None:
    saga = saga_of(
        calls.step("a", failing_times(1), failing_times(2)),
        calls.step("b", failing_times(9), retry=None),
        retry=TWICE,
        compensation_retry=THRICE,
    )
    assert calls.run(saga).status is Status.COMPENSATED
    assert calls.log == ["a", "a", "b", "-a", "-a", "-a"]


WRONG: Final[list[tuple[dict[str, Any], str]]] = [
    ({"retry": 3}, "retry is 3; give Retry(max_attempts, ...)"),
    (
        {"retry": Retry(retry_if=lambda result: True)},
        "retry has retry_if, which is asked about what one step returns; give it to that step",
    ),
    ({"step_timeout": 0}, "step_timeout is 0; give seconds as a number above 0, or None for no limit"),
    ({"compensation_retry": "x"}, "compensation_retry is 'x'; give Retry(max_attempts, ...)"),
    ({"verification_retry": TWICE.allows}, f"verification_retry is {TWICE.allows!r}; give Retry(max_attempts, ...)"),
    ({"unknown_on": "x"}, "unknown_on is 'x'; give exception classes, plain functions of the error, or LOST_ANSWERS"),
    ({"retry": Retry(then=Skip)}, "retry has then=OnError.SKIP, which has no effect there; give on_error=Retry(..., then=...)"),
    (
        {"compensation_retry": Retry(retry_if=bool.__call__)},
        "compensation_retry has retry_if, and only execute returns what it is asked about; leave it out",
    ),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[text.partition(";")[0] for _, text in WRONG])
def test_what_is_wrong_is_refused_when_the_saga_is_made(options: dict[str, Any], text: str) -> None:
    makers: list[tuple[str, Callable[[], object]]] = [
        ("saga 's'", lambda: Saga("s", **options)),
        ("saga 'Declared'", lambda: type("Declared", (Saga,), {"flow": Silent, **options})()),
        ("transaction 's'", lambda: transaction("s", **options)),
    ]
    for where, make in makers:
        with pytest.raises(SagaDefinitionError) as refused:
            make()
        assert str(refused.value) == f"{where}: {text}"


def test_a_blocks_steps_are_attempted_as_it_says(blocks: Blocks) -> None:
    def body(tx: Any) -> Any:
        yield blocks.do("a", failing_times(1), failing_times(2))
        yield blocks.do("b", failing_times(9))

    with pytest.raises(SagaExecutionException):
        blocks.run(body, retry=TWICE, compensation_retry=THRICE)
    assert blocks.log == ["a", "a", "b", "b", "-a", "-a", "-a"]
