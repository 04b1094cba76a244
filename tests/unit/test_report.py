"""What a failure says: a short text whose first line is enough, and a report that has every traceback once."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, SagaResult, Skip, Status, Task, fallback, parallel, step, transaction
from saga.errors import ActionRefusedError, SagaExecutionException
from saga.machine import check
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore


def noop() -> None:
    """Stands for any work."""


def failing(text: str) -> Callable[[], Any]:
    def fail() -> Any:
        raise ValueError(text)

    return fail


def refused(text: str) -> Callable[[], Any]:
    def undo() -> Any:
        raise OSError(text)

    return undo


def each_time_another(context: Context) -> None:
    raise ConnectionRefusedError(f"attempt {context.step.attempt}")


def unanswered() -> None:
    raise TimeoutError("no answer")


def inner(**store: Any) -> Any:
    saga = Saga("inner").add_task(step(noop, refused("undo of the inner"), name="a"))
    return saga.add_task(step(failing("the inner"))).execute(saga_id="in", **store)


def block() -> None:
    with transaction("inner") as tx:
        tx.step(noop, refused("undo in the block"), name="a")
        raise ValueError("between the steps")


meet = threading.Barrier(2)


def meeting(text: str) -> Callable[[], Any]:
    def fail() -> None:
        meet.wait(10)
        raise RuntimeError(text)

    return fail


#: For each flow, the texts of all errors that are raised in it.
FLOWS: dict[str, tuple[list[Any], list[str]]] = {
    "one step": ([step(failing("the step"))], ["the step"]),
    "two branches": ([parallel(step(meeting("one"), name="a"), step(meeting("two"), name="b"))], ["one", "two"]),
    "a fallback": ([fallback(step(failing("first")), step(failing("second"), name="b"))], ["first", "second"]),
    "a fallback that helps": ([fallback(step(failing("first")), step(noop))], ["first"]),
    "a skipped step": ([step(failing("gift"), on_error=Skip), step(failing("late"), name="b")], ["gift", "late"]),
    "attempts": ([step(each_time_another, retry=Retry(3))], ["attempt 1", "attempt 2", "attempt 3"]),
    "attempts that are alike": ([step(failing("again"), retry=Retry(3))], ["again"]),
    "an undo": ([step(noop, refused("undo"), name="a"), step(failing("the step"))], ["undo", "the step"]),
    "attempts of an undo": (
        [step(noop, each_time_another, name="a", compensation_retry=Retry(2)), step(failing("the step"))],
        ["attempt 1", "attempt 2", "the step"],
    ),
    "a verification": ([step(unanswered, noop, verify=failing("the question"))], ["no answer", "the question"]),
    "a saga within": ([step(inner, name="call")], ["the inner", "undo of the inner"]),
    "a block within": ([step(block)], ["between the steps", "undo in the block"]),
    "two sagas within": (
        [step(inner, name="call", on_error=Skip), step(failing("after"), name="b")],
        ["the inner", "undo of the inner", "after"],
    ),
}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_a_report_has_every_traceback_once(name: str, stored: bool) -> None:
    flows, texts = FLOWS[name]
    saga = Saga("s")
    for flow in flows:
        saga.add_task(flow)
    store = MemoryStore() if stored else None
    results = [saga.try_execute(saga_id="x", store=store)]
    if stored:  # what another process has of it
        results.append(saga.try_execute(saga_id="x", store=store))
    for result in results:
        report = result.report()
        raised = re.findall(r"(?m)^ +\w*(?:Error|Exception): (.*)", report.partition("\n\n")[2])
        for text in texts:
            assert raised.count(text) == 1, report
        assert report.startswith(result.summary())
        assert "RecordedError" not in report
        assert "told above" not in report or name == "a block within"  # its undo failed while its error was handled
        assert all(line.startswith("  ") for line in report.partition("\n\n")[2].splitlines() if line and line[-1] != ":")


@pytest.mark.parametrize("name", FLOWS)
def test_a_summary_has_a_line_for_each_step_and_no_traceback(name: str) -> None:
    saga = Saga("s")
    for flow in FLOWS[name][0]:
        saga.add_task(flow)
    result = saga.try_execute(saga_id="x")
    lines = result.summary().splitlines()
    assert "Traceback" not in result.summary()
    assert len(lines) <= 4 + len(result.history)
    for record, line in zip(result.history, lines[-len(result.history) :], strict=True):
        assert line.startswith(f"  {record.name}")
        for error in (record.error, record.compensation_error):
            assert error is None or type(error).__name__ in line


def nested(depth: int) -> SagaExecutionException:
    saga = Saga("level 1").add_task(step(failing("the bank does not answer")))
    for level in range(2, depth + 1):
        saga = Saga(f"level {level}").add_task(step(lambda inner=saga: inner.execute(saga_id="x"), name="call"))
    with pytest.raises(SagaExecutionException) as caught:
        saga.execute(saga_id="x")
    return caught.value


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("text", str),
        ("report", SagaExecutionException.report),
        ("Python's own", lambda error: "".join(traceback.format_exception(error))),
    ],
)
def test_sagas_in_sagas_add_as_much_each(kind: str, of: Callable[[SagaExecutionException], str]) -> None:
    sizes = [len(of(nested(depth)).splitlines()) for depth in (3, 6, 12)]
    assert sizes[2] - sizes[1] <= 2 * (sizes[1] - sizes[0]) + 2
    text = of(nested(7))
    assert "ValueError: the bank does not answer" in text.splitlines()[0] or kind == "Python's own"
    assert max(map(len, text.splitlines())) < 400
    if kind != "text":
        assert text.count("raise ValueError(text)") == 1


def test_the_first_line_names_the_root_and_a_saga_within_that_is_stuck() -> None:
    outer = Saga("outer").add_task(step(lambda: Saga("middle").add_task(step(inner)).execute(saga_id="mid"), name="call"))
    assert outer.try_execute(saga_id="out").summary().partition("\n")[0] == (
        "saga 'outer' (out) failed and was undone at step 'call': SagaExecutionException: saga 'middle' (mid) failed and was "
        "undone at step 'inner': ValueError: the inner (at step 'fail' of saga 'inner'); saga 'inner' (in) is stuck"
    )


# -- stuck --------------------------------------------------------------------------------------------------------------


class Asks(Task[None]):
    in_doubt = InDoubt.ASK

    def execute(self, context: Context) -> None:
        raise TimeoutError("no answer")

    def compensate(self, context: Context) -> None:
        """Never called."""


class AsksAndGoesOn(Asks):
    on_error = Skip


#: For each way to be stuck: the flow, what the first line says, and what a person can do.
STUCK: dict[str, tuple[list[Any], str, list[str]]] = {
    "an undo": (
        [step(noop, refused("503"), name="a", compensation_retry=Retry(5)), step(failing("late"))],
        "the compensation of step 'a' failed (5 attempts): OSError: 503",
        ["retry('x', why)", "compensate('x', why)", "skip('x', 'a', why)"],
    ),
    "undoes": (
        [*(step(noop, refused("503"), name=name) for name in "abcde"), step(failing("late"))],
        "the compensation of step 'a' failed (1 attempt): OSError: 503; the compensation of step 'b' failed (1 attempt): "
        "OSError: 503; the compensation of step 'c' failed (1 attempt): OSError: 503; and 2 more",
        ["retry('x', why)", "compensate('x', why)", "skip('x', step, why)"],
    ),
    "a question": (
        [step(noop, noop, name="a"), Asks],
        "step 'Asks' is in doubt (1 attempt): TimeoutError: no answer",
        ["compensate('x', why)", "skip('x', 'Asks', why)"],
    ),
    "a question before it goes on": (
        [AsksAndGoesOn],
        "step 'AsksAndGoesOn' is in doubt (1 attempt): TimeoutError: no answer",
        ["resume('x', why)", "compensate('x', why)", "skip('x', 'AsksAndGoesOn', why)"],
    ),
}


def stuck(name: str, store: MemoryStore | None) -> SagaResult:
    saga = Saga("s")
    for flow in STUCK[name][0]:
        saga.add_task(flow)
    result = saga.try_execute(saga_id="x", store=store)
    assert result.status is Status.STUCK
    return result


@pytest.mark.parametrize("name", STUCK)
def test_a_stuck_saga_says_on_what_how_often_it_was_tried_and_what_a_person_can_do(name: str) -> None:
    _, what, choices = STUCK[name]
    result = stuck(name, MemoryStore())
    first, *more = result.summary().splitlines()
    assert first == f"saga 's' (x) is stuck: {what}"
    assert f"a person must act, with saga.operations.Operations: {', '.join(choices)}" in more
    assert "a person must act: nothing is stored, so no program goes on from here" in stuck(name, None).summary()


@pytest.mark.parametrize("name", STUCK)
def test_what_it_says_a_person_can_do_is_just_what_fits(name: str) -> None:
    result = stuck(name, MemoryStore())
    for action in ("retry", "resume", "compensate", "cancel"):
        offered = f"{action}('x', why)" in result.summary()
        try:
            check(action, None, result._standing)
        except ActionRefusedError:
            assert not offered
        else:
            assert offered


def test_one_that_a_recovery_gave_up_says_why() -> None:
    store = MemoryStore()
    Saga("s", store=store, version="1").add_task(step(noop, name="a")).add_task(Asks).try_execute(saga_id="x")
    row = store.get("x")
    assert row is not None
    store._executions["x"] = row._replace(
        status="running", owner=None, lease_until=0.0, due=0.0, updated=0.0, fingerprint="another"
    )
    saga = Saga("s", version="2").add_task(step(noop, name="b"))
    Recovery(store, [saga]).run_once()
    view = Operations(store, "ann").show("x")
    assert view.reason is not None
    assert view.reason.endswith('say compatible_with=["1"]') or "compatible_with=['1']" in view.reason
    assert view.reason in view.timeline().splitlines()[-1]
    assert str(view).splitlines()[0] == f"saga 's' (x) is stuck: {view.reason}"
    assert len(view.timeline().splitlines()) == len(view.journal)


# -- long ones ------------------------------------------------------------------------------------------------------------


def test_many_steps_that_are_alike_are_counted_in_the_text_and_all_in_the_report() -> None:
    saga = Saga("s")
    for number in range(100):
        saga.add_task(step(noop, noop, name=f"s{number}"))
    result = saga.add_task(step(failing("late"))).try_execute(saga_id="x")
    lines = result.summary().splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["s0", "...", "s99", "fail"]
    assert "98 more compensated" in lines[3]
    assert all(f"\n  s{number} " in result.report() for number in range(100))


def test_a_long_text_is_cut_to_a_line() -> None:
    result = Saga("s").add_task(step(failing("\n" + "x" * 10_000 + "\nmore"))).try_execute()
    assert max(map(len, result.summary().splitlines())) < 700
    assert "more" in result.report()


def test_causes_in_a_circle_and_causes_of_causes_end() -> None:
    def fail() -> None:
        one, other = ValueError("one"), ValueError("other")
        one.__cause__, other.__cause__ = other, one
        raise one

    assert Saga("s").add_task(step(fail)).try_execute().report().count("ValueError: other") == 1


def test_a_cause_that_two_errors_share_is_told_once() -> None:
    cause = OSError("the line is dead")

    def fail() -> None:
        raise ValueError("later") from cause

    report = Saga("s").add_task(step(fail, name="a", on_error=Skip)).add_task(step(fail, name="b")).try_execute().report()
    assert re.findall(r"(?m)^  (OSError.*)", report) == ["OSError: the line is dead", "OSError: the line is dead (told above)"]
