"""Interrupts, deadlines and stragglers at the moments that are easy to get wrong: each was wrong once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import saga as package
from saga import Retry, Saga, Skip, Status, parallel, step
from saga.events import StepSucceeded
from tests.kit import LONG, PATIENCE, SHORT


def noted(log, name, **policies):
    return step(lambda: log.append(name), lambda: log.append(f"-{name}"), name=name, **policies)


def test_an_interrupt_as_a_threads_outcome_comes_loses_nothing():
    code = """
import _thread, time
from saga import Saga, step
def work():
    time.sleep(0.2)           # the caller's thread waits for the outcome by now
    _thread.interrupt_main()  # pending until the outcome wakes it: as a Ctrl-C taken by another thread, or on Windows
try:
    Saga("s").add_task(step(work, lambda: print("undone"), timeout=60)).execute()
except KeyboardInterrupt:
    print("interrupted")
"""
    env = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert child.stdout.split() == ["undone", "interrupted"]


def test_a_second_ctrl_c_while_the_first_is_dealt_with_does_not_stop_the_undo():
    log, second = [], []
    home = os.path.dirname(package.__file__)

    def strike(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(home) and frame.f_code.co_name == "put_straight":
            sys.setprofile(None)
            second.append(frame)
            raise KeyboardInterrupt("second")

    def logger(event, info):
        if isinstance(event, StepSucceeded) and event.step == "b":
            sys.setprofile(strike)
            raise KeyboardInterrupt("first")

    try:
        with pytest.raises(KeyboardInterrupt):
            Saga("s", logger=logger).add_task(noted(log, "a")).add_task(noted(log, "b")).add_task(
                step(lambda: 0, name="c")
            ).execute()
    finally:
        sys.setprofile(None)
    assert second
    assert log == ["a", "b", "-b", "-a"]


def test_undo_of_a_straggler_is_not_told_it_is_cancelled():
    seen, go = [], threading.Event()

    def undo(context):
        seen.append((context.step.cancelled, context.step.deadline))

    result = Saga("s").add_task(step(lambda: go.wait(PATIENCE), undo, name="slow", timeout=SHORT)).try_execute()
    go.set()
    result.join(PATIENCE)
    assert seen == [(False, None)]


def test_the_undo_of_a_retried_branch_step_sees_what_every_other_undo_sees():
    seen = {}

    def flaky(context):
        if context.step.attempt == 1:
            raise ValueError

    def put(context):
        context.x = 1

    def note(context):
        seen[context.step.name] = "x" in context

    group = parallel(step(flaky, note, name="retried", retry=Retry(2)), step(lambda: 0, note, name="plain"))
    Saga("s").add_task(group).add_task(step(put)).add_task(step(lambda: 1 / 0, name="bad")).try_execute()
    assert seen == {"retried": True, "plain": True}


def test_the_deadline_does_not_undo_a_flow_that_reached_its_end():
    log, go = [], threading.Event()
    saga = Saga("s", timeout=2 * LONG).add_task(noted(log, "a"))
    saga.add_task(step(lambda: go.wait(PATIENCE), name="slow", timeout=SHORT, on_error=Skip))
    result = saga.execute()  # returns: nothing failed
    time.sleep(3 * LONG)
    go.set()
    assert result.join(PATIENCE).status is Status.COMPLETED
    assert log == ["a"]


def test_an_interrupted_straggler_that_was_skipped_undoes_everything():
    log, go = [], threading.Event()

    def stop():
        go.wait(PATIENCE)
        raise SystemExit(3)

    saga = Saga("s").add_task(noted(log, "a")).add_task(step(stop, name="slow", timeout=SHORT, on_error=Skip))
    saga.add_task(step(lambda: (go.set(), time.sleep(0.2)), name="b")).add_task(noted(log, "c"))
    with pytest.raises(SystemExit):
        saga.execute()
    assert log in (["a", "-a"], ["a", "c", "-c", "-a"])  # raised again, so it must have been undone


def test_an_interrupt_that_a_straggler_raised_late_is_not_lost():
    go = threading.Event()

    def stop():
        go.wait(PATIENCE)
        raise SystemExit(3)

    result = Saga("s").add_task(step(stop, timeout=SHORT)).try_execute()
    go.set()
    with pytest.raises(SystemExit):
        result.join(PATIENCE)


def test_an_observer_that_exits_cannot_stop_the_undo_of_a_straggler():
    log, go = [], threading.Event()

    def logger(event, info):
        if isinstance(event, StepSucceeded) and event.step == "slow":
            raise SystemExit

    slow = step(lambda: go.wait(PATIENCE), lambda: log.append("-slow"), name="slow", timeout=SHORT)
    result = Saga("s", logger=logger).add_task(slow).try_execute()
    go.set()
    assert result.join(PATIENCE).status is Status.COMPENSATED
    assert log == ["-slow"]


def test_compensate_on_failure_holds_for_a_skipped_step_too():
    log = []

    def bad():
        raise ValueError

    saga = Saga("s").add_task(step(bad, lambda: log.append("-bad"), on_error=Skip, compensate_on_failure=True))
    assert saga.execute().ok
    assert log == ["-bad"]  # so it is where the same step is a straggler that raises


def test_a_step_running_at_the_deadline_counts_as_timed_out_though_a_sibling_failed_before():
    log, go, started = [], threading.Event(), threading.Event()

    def slow():
        started.set()
        go.wait(PATIENCE)

    def bad():
        started.wait(PATIENCE)
        raise ValueError

    saga = Saga("s", timeout=LONG).add_task(noted(log, "a")).add_task(parallel(step(slow), step(bad)))
    try:
        assert saga.try_execute().in_doubt == ("slow",)
    finally:
        go.set()
