"""Semantic 3: a ``BaseException`` leaves its step in doubt, everything is undone, and the same exception is raised again."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import Any

import pytest

import saga as package
from saga import Context, InDoubt, Retry, Saga, Skip, Status, parallel, sequence
from saga.errors import SagaCompensationError
from saga.events import RetryScheduled, SagaCompensated, SagaStuck, StepFailed, StepSkipped
from tests.kit import PATIENCE, Odd

KINDS = [KeyboardInterrupt, SystemExit, Odd]
PLACES = ["caller", "timeout", "branch", "deep branch", "deadline"]


def flow_of(
    make: Any, where: str, at: int, error: BaseException, wrong: dict[str, BaseException], logger: Any = None, **policies: Any
) -> Saga:
    """Four tasks s0..s3 of which the one ``at`` raises; ``where`` says how it runs."""
    tasks = []
    for i in range(4):
        extra: dict[str, Any] = policies if i == at else {}
        if where == "timeout":
            extra = {**extra, "timeout": 60.0}
        tasks.append(make(f"s{i}", error if i == at else None, wrong.get(f"s{i}"), **extra))
    saga = Saga("s", timeout=60 if where == "deadline" else None, logger=logger)
    if where == "branch":
        tasks[at] = parallel(tasks[at], make("sibling"))
    elif where == "deep branch":
        tasks[at] = parallel(sequence(make("before"), parallel(tasks[at], make("twin"))), make("sibling"))
    for task in tasks:
        saga.add_task(task)
    return saga


def undone(log: list[str]) -> list[str]:
    return [name[1:] for name in log if name.startswith("-")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("where", PLACES)
def test_an_interrupted_execute_is_in_doubt_and_undone_with_all_the_rest(
    make: Any, log: list[str], watch: Any, where: str, at: int, kind: type[BaseException]
) -> None:
    error = kind("stop")
    saga = flow_of(make, where, at, error, {}, watch, retry=Retry(3), on_error=Skip)
    with pytest.raises(kind) as caught:
        saga.execute()
    assert caught.value is error
    assert "execute" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    done = [name for name in log if name[0] != "-"]
    assert set(done) >= {f"s{i}" for i in range(at + 1)}
    assert not set(done) & {f"s{i}" for i in range(at + 1, 4)}
    assert sorted(undone(log)) == sorted(done)  # what was interrupted too, and each once
    failed = watch.of(StepFailed)
    assert [(e.step, e.in_doubt, e.error) for e in failed] == [(f"s{at}", True, error)]
    assert not watch.of(RetryScheduled, StepSkipped)  # an interrupt is neither retried nor skipped
    assert isinstance(watch.events[-1], SagaCompensated)
    assert "failed and was undone" in "".join(error.__notes__)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("where", ["caller", "timeout"])
def test_the_order_of_the_undo_after_an_interrupt_is_last_first(
    make: Any, log: list[str], where: str, at: int, kind: type[BaseException]
) -> None:
    with pytest.raises(kind):
        flow_of(make, where, at, kind(), {}).execute()
    assert log == [f"s{i}" for i in range(at + 1)] + [f"-s{i}" for i in reversed(range(at + 1))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("where", PLACES)
def test_an_interrupt_in_a_compensation_does_not_stop_the_rest_and_is_raised(
    make: Any, log: list[str], watch: Any, where: str, at: int, kind: type[BaseException]
) -> None:
    interrupt = kind("second")
    saga = flow_of(make, where, 3, ValueError("first"), {f"s{at}": interrupt}, watch)
    with pytest.raises(kind) as caught:
        saga.execute()
    assert caught.value is interrupt
    assert sorted(undone(log)) == sorted(name for name in log if name[0] != "-" and name != "s3")
    assert isinstance(watch.events[-1], SagaStuck)  # that undo did not run to its end, so nothing is called compensated
    assert f"compensation failed: s{at}" in watch.events[-1].reason
    assert "ValueError: first" in "".join(interrupt.__notes__)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_compensation_is_not_attempted_again(make: Any, log: list[str], kind: type[BaseException]) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("b", None, kind(), compensation_retry=Retry(3)))
    with pytest.raises(kind):
        saga.add_task(make("bad", ValueError())).execute()
    assert log == ["a", "b", "bad", "-b", "-a"]


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("where", PLACES)
def test_of_many_interrupts_the_first_is_raised_and_all_undo_is_tried(
    make: Any, log: list[str], where: str, first: type[BaseException], second: type[BaseException]
) -> None:
    error = first("first")
    saga = flow_of(make, where, 3, error, {f"s{i}": second(i) for i in range(4)})
    with pytest.raises(first) as caught:
        saga.execute()
    assert caught.value is error
    assert sorted(undone(log)) == sorted(name for name in log if name[0] != "-")


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_in_a_branch_lets_its_sibling_end(make: Any, log: list[str], kind: type[BaseException]) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(context: Context) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        log.append("slow ended")

    def stop(context: Context) -> None:
        assert entered.wait(PATIENCE)
        raise kind

    saga = Saga("s", logger=lambda event, info: go.set() if isinstance(event, StepFailed) else None)
    with pytest.raises(kind):
        saga.add_task(parallel(sequence(make("slow", slow), make("never")), make("stop", stop))).execute()
    assert sorted(log[:2]) == ["slow", "stop"]
    assert log[2:] == ["slow ended", "-slow", "-stop"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_interrupted_branches_are_both_undone(make: Any, log: list[str], kind: type[BaseException]) -> None:
    meet = threading.Barrier(2)

    def stop(context: Context) -> None:
        meet.wait(PATIENCE)
        raise kind(context.step.name)

    with pytest.raises(kind):
        Saga("s").add_task(make("a")).add_task(parallel(make("b", stop), make("c", stop))).execute()
    assert sorted(log[3:5]) == ["-b", "-c"]
    assert log[5:] == ["-a"]


def test_a_step_to_ask_about_is_left_alone_and_the_saga_is_stuck(make: Any, log: list[str], watch: Any) -> None:
    saga = Saga("s", logger=watch).add_task(make("a")).add_task(make("b", KeyboardInterrupt(), in_doubt=InDoubt.ASK))
    with pytest.raises(KeyboardInterrupt) as caught:
        saga.execute()
    assert log == ["a", "b", "-a"]
    assert isinstance(watch.events[-1], SagaStuck)
    assert "ASK: b" in watch.events[-1].reason
    assert "in doubt: b" in "".join(caught.value.__notes__)


def test_a_step_to_rerun_is_undone_once_undo_has_begun(make: Any, log: list[str]) -> None:
    saga = Saga("s").add_task(make("a")).add_task(make("b", KeyboardInterrupt(), in_doubt=InDoubt.RERUN))
    with pytest.raises(KeyboardInterrupt):
        saga.execute()
    assert log == ["a", "b", "-b", "-a"]


def test_an_interrupt_between_steps_undoes_what_was_done(make: Any, log: list[str]) -> None:
    def stop(event: Any, info: Any) -> None:
        if type(event).__name__ == "StepSucceeded" and event.step == "b":
            raise KeyboardInterrupt

    saga = Saga("s", logger=stop).add_task(make("a")).add_task(make("b")).add_task(make("c"))
    with pytest.raises(KeyboardInterrupt):
        saga.execute()
    assert [name for name in log if name != "-c"] == ["a", "b", "-b", "-a"]  # c's intent may have been recorded by then


def test_try_execute_raises_an_interrupt_again_too(make: Any) -> None:
    with pytest.raises(SystemExit):
        Saga("s").add_task(make("a", SystemExit(3))).try_execute()


def test_a_failed_undo_without_an_interrupt_is_no_interrupt(make: Any) -> None:
    with pytest.raises(SagaCompensationError):
        Saga("s").add_task(make("a", None, OSError())).add_task(make("b", ValueError())).execute()


def test_leaving_a_stream_early_undoes_what_was_done(make: Any, log: list[str]) -> None:
    stream = Saga("s").add_task(make("a")).add_task(make("b")).add_task(make("c")).stream()
    assert [next(stream).name, next(stream).name] == ["a", "b"]
    stream.close()
    assert [name for name in log if name != "-c"] == ["a", "b", "-b", "-a"]


HOME = os.path.dirname(package.__file__)


def interrupt_at_line(number: int, run: Any) -> tuple[bool, BaseException | None]:
    """Call ``run`` and raise KeyboardInterrupt at the line of the engine executed as ``number``.

    Return whether that line was reached, and the interrupt that came out.
    """
    count = 0

    def tracer(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        if event == "line":
            count += 1
            if count == number:
                raise KeyboardInterrupt
        return tracer

    came: list[BaseException] = []

    def traced() -> None:
        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            run()
        except KeyboardInterrupt as interrupt:
            came.append(interrupt)
        finally:
            sys.settrace(before)

    # A tracer that raises at the end of an except block leaves its exception as the one being handled, which later ones
    # would be chained to: so it happens in a thread that ends with it.
    thread = threading.Thread(target=traced)
    thread.start()
    thread.join()
    return count >= number, came[0] if came else None


@pytest.mark.parametrize("fails", [None, ValueError, KeyboardInterrupt], ids=["forward", "failing", "interrupted before"])
def test_an_interrupt_at_any_line_of_the_engine_leaves_no_step_done_and_untold(
    make: Any, log: list[str], fails: type[BaseException] | None
) -> None:
    statuses = set()
    for number in range(1, 5000):
        log.clear()
        saga = Saga("s").add_task(make("a")).add_task(make("b")).add_task(make("c", fails and fails()))
        assert len(saga.plan.steps) == 3
        reached, interrupt = interrupt_at_line(number, saga.try_execute)
        if not reached:
            break
        assert interrupt is not None, f"the interrupt at line {number} was swallowed"
        told = "".join(getattr(interrupt, "__notes__", ()))
        done = [name for name in log if name[0] != "-"]
        if fails is None and log == ["a", "b", "c"]:
            continue  # it came after the end
        assert len(set(undone(log))) == len(undone(log)), (number, log)
        for name in set(done) - set(undone(log)) - ({"c"} if fails is ValueError else set()):
            assert f"compensation of step '{name}' failed" in told, (number, log, told)
        order = [name for name in done if name in undone(log)]
        assert [name for name in undone(log) if name in done] == order[::-1], (number, log)
        statuses.add(Status.STUCK if "is stuck" in told else Status.COMPENSATED)
    else:
        pytest.fail("the execution has no end")
    assert Status.COMPENSATED in statuses
