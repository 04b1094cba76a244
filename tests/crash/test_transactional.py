"""Transactional steps, struck at every line of what makes them: by kill -9, and by Ctrl-C. Each is done once, or undone."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

import saga as package
from saga import Saga, Status, step
from saga.recovery import Recovery
from saga.storage import SqliteStore
from tests.kit import until_nothing_is_held
from tests.kit.ledgers import Ledger

HOME = Path(package.__file__).parent
FILES = {HOME / "drivers" / "transacted.py", HOME / "durable" / "transaction.py", HOME / "storage" / "sqlite_step.py"}
KILLED = FILES | {HOME / "durable" / "journal.py", HOME / "storage" / "group_commit.py", HOME / "machine" / "decide.py"}
STRUCK = FILES | {HOME / "drivers" / "threads.py", HOME / "drivers" / "outcomes.py", HOME / "drivers" / "interrupts.py"}


def fail(context):
    raise ValueError("no")


def of_two(store, fails):
    saga = Saga("order", store=store, lease=5.0)
    for name in ("enter", "book"):
        saga.add_task(step(Ledger.write, Ledger.take_back, name=name, transactional=True))
    return saga.add_task(step(fail, transactional=True)) if fails else saga


def at_lines(files, positions, strike):
    """Return what traces: it calls ``strike`` at these lines of the files, counted as they come."""
    count = 0

    def on_line(frame, event, arg):
        nonlocal count
        if event == "line":
            count += 1
            if count in positions:
                strike()
        return on_line

    return lambda frame, event, arg: on_line if Path(frame.f_code.co_filename) in files else None


def killed_at(path, position, fails):
    """Execute it in a child, which is killed at this line. Return whether it came that far."""
    child = os.fork()
    if child == 0:
        try:
            saga = of_two(SqliteStore(path, synchronous="OFF"), fails)
            sys.settrace(at_lines(KILLED, {position}, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            saga.try_execute(saga_id="x")
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] != 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
@pytest.mark.parametrize("fails", [False, True], ids=["good", "undone"])
def test_wherever_it_is_killed_each_step_is_done_once_and_none_is_in_doubt(tmp_path, fails):
    for position in itertools.count(1, 1 if os.environ.get("SAGA_CRASH") == "full" else 7):
        path = tmp_path / f"{position}.db"
        with SqliteStore(path, synchronous="OFF") as store:
            Ledger(store)
        if not killed_at(path, position, fails):
            break
        later = [0.0]
        with SqliteStore(path, synchronous="OFF", clock=lambda: later[0]) as store:  # noqa: B023
            row = store.get("x")
            later[0] = row.lease_until + 60.0 if row is not None else 0.0
            saga = of_two(store, fails)
            if row is None:
                assert Ledger.of(store).rows() == []
                continue
            Recovery(store, [saga]).run_once()
            result = saga.load("x")
            assert result.in_doubt == (), position
            assert result.status is (Status.COMPENSATED if fails else Status.COMPLETED), (position, result)
            assert Ledger.of(store).rows() == ([] if fails else ["book", "enter"]), position
    assert position > 100


@pytest.mark.parametrize("apart", [0, 2])
@pytest.mark.parametrize("fails", [False, True], ids=["good", "undone"])
def test_wherever_interrupts_strike_each_step_is_done_once_or_undone(tmp_path, fails, apart):
    for position in itertools.count(1, 1 if os.environ.get("SAGA_CRASH") == "full" else 7):
        struck = []

        def strike(struck=struck):
            struck.append(True)
            raise KeyboardInterrupt

        now = [1000.0]
        with SqliteStore(tmp_path / f"{position}.db", synchronous="OFF", clock=lambda: now[0]) as store:  # noqa: B023
            ledger, saga = Ledger(store), of_two(store, fails)
            sys.settrace(at_lines(STRUCK, {position, position + apart}, strike))
            try:
                saga.try_execute(saga_id="x")
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            if not struck:
                break
            gc.collect()
            until_nothing_is_held(store)
            now[0] += 60.0
            Recovery(store, [saga]).run_once()
            if store.get("x") is None:  # it had not begun
                assert ledger.rows() == []
                continue
            result = saga.load("x")
            assert result.status in (Status.COMPLETED, Status.COMPENSATED), (position, result)
            assert ledger.rows() == (["book", "enter"] if result.status is Status.COMPLETED else []), (position, result)
    assert position > 100
