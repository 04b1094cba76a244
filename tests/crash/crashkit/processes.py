"""Runs cases: forks a process that kills itself, waits for its lease to run out, forks others that recover, and judges.

``python -m crashkit.processes MODULES 5 6 7`` imports modules and forks a worker for each of these sockets: it reads cases from
there, one JSON object a line, and answers with a line for each. It has no threads and no open stores, so what it forks is a
clean process, without the start of a Python.
"""

from __future__ import annotations

import copy
import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crashkit import again, held, undone
from crashkit.judge import Case, in_flight, judge
from crashkit.scenario import LEASE
from crashkit.scenarios import ALL
from crashkit.stores import DyingInTransactions, Failing, Proxy, is_file, look, open_at
from crashkit.world import World, read_log, read_points, stop_self, until
from saga import Context, Saga, SagaResult
from saga.blobs import FolderBlobs
from saga.durable.elsewhere import keys_in
from saga.durable.rebuild import rebuild
from saga.errors import StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, Store, StoredExecution

ID = "it"
FAILED = 70
LONG = 5.0
"""Seconds of a lease that does not run out on a busy machine."""
LONGEST = 30.0
"""Seconds after which a process that has not ended is taken to hang, and says where."""


def _of_the_execution(thread: threading.Thread) -> bool:
    """Whether a thread ends when the execution does."""
    return thread is not threading.main_thread() and not thread.name.startswith(("saga heartbeat", "saga store"))


def fork(work: Callable[[], None], folder: Path) -> int:
    """Run ``work`` in a child process. Return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = FAILED
    try:
        output = os.open(folder / f"output-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def killed(pid: int) -> bool:
    """Wait for a child, and return whether it was killed.

    :raises AssertionError: it failed.
    """
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), f"process {pid} ended with {status}"
    return status != 0


class Run:
    """One case: where it happens, and what its processes do."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.scenario = ALL[told["scenario"]]
        self.folder = Path(told["folder"])
        self.folder.mkdir(parents=True)
        self.address: str = told.get("address") or str(self.folder / "saga.db")
        self.name: str = told["name"]
        self.saga_id = f"{ID}-{self.name}"
        self.looks = 0
        self.skew = 0.0
        self.pids: list[int] = []
        self.missing: set[str] = set()  # what was named, and was not there

    def build(self, world: World, store: Store | None = None, lease: float | None = None) -> Saga:
        """Return the saga, as a process of this case defines it."""
        return self.scenario.build(world, self.name, store, self.told.get("lease", lease or LEASE))

    def lost(self) -> bool:
        """Whether a process that lived lost its lease."""
        return any("is no longer held by" in path.read_text() for path in self.folder.glob("output-*"))

    # -- what children do -------------------------------------------------------------------------------------------------

    def opened(self, world: World) -> Store:
        if self.told.get("in_transactions"):
            return DyingInTransactions(self.address, world)
        if self.told.get("failure"):
            return Failing(open_at(self.address), world, **self.told["failure"])
        return Proxy(open_at(self.address, self.skew), world)

    def execute(self, die_at: str | None) -> None:
        self._execute(World(self.folder, die_at))

    def stall(self, stop_at: str | None) -> None:
        self._execute(World(self.folder, stop_at, die=stop_self))

    def _execute(self, world: World) -> None:
        with self.opened(world) as store:
            saga = self.build(world, store)
            try:
                print(saga.try_execute(Context(order=7), saga_id=self.saga_id).join(20).report())
            except StorageError as error:
                world.log(type(error).__name__, "-", 0)
                until(lambda: not any(map(_of_the_execution, threading.enumerate())))
                print(repr(error))

    def recover(self, die_at: str | None) -> None:
        world = World(self.folder, die_at)
        with self.opened(world) as store:
            recovery = Recovery(store, [self.build(world, store)])
            # Some stores pass over what others' claims have locked at that moment.
            for _ in range(100):
                results = recovery.run_once()
                for result in results:
                    print(result.join(20).report())
                row = store.get(self.saga_id)
                if results or row is None or row.status not in ("submitted", "running", "compensating"):
                    return
                time.sleep(0.02)

    def undo(self, die_at: str | None) -> None:
        """Undo what has completed: here, or leave that to a recovery."""
        world = World(self.folder, die_at)
        by, to = self.told["undo"]
        with self.opened(world) as store:
            saga = self.build(world, store)
            if by == "operations":
                Operations(store, "tester", sagas=[saga]).undo(self.saga_id, "it has to be", to)
            else:
                print(saga.undo(self.saga_id, "it has to be", to).report())

    def resume(self, die_at: str | None) -> None:
        world = World(self.folder, die_at)
        with self.opened(world) as store:
            Operations(store, "tester", sagas=[self.build(world, store)]).resume(self.saga_id, "and on")
        self.recover(None)

    def operate(self, die_at: str | None) -> None:
        world = World(self.folder, die_at)
        action, step = self.told["operator"]
        with self.opened(world) as store:
            operations = Operations(store, "tester", sagas=[self.build(world)])
            for first in self.told.get("operator_before", ()):  # and no recovery comes between them
                self._act(operations, first, None)
            self._act(operations, action, step)

    def _act(self, operations: Operations, action: str, step: str | None) -> None:
        arguments = (self.saga_id, step) if action == "skip" else (self.saga_id,)
        try:
            getattr(operations, action)(*arguments, "it has to be")
        except ValueError as refused:  # the text says what to do instead, and a person reads it
            if "the undo has begun, so no step is executed again; use compensate" not in str(refused):
                raise
            operations.compensate(self.saga_id, "it has to be")

    # -- what the worker does ---------------------------------------------------------------------------------------------

    def child(self, work: Callable[[str | None], None], die_at: str | None = None) -> bool:
        """Run a child to its end. Return whether it was killed."""
        pid = fork(lambda: work(die_at), self.folder)
        self.pids.append(pid)
        return killed(pid)

    def look(self) -> Any:
        self.looks += 1
        row, journal = look(self.address, self.saga_id, self.folder / f"look-{self.looks}")
        if self.scenario.elsewhere:
            there = {*FolderBlobs(self.folder / "blobs").older_than(0)}
            self.missing |= keys_in(entry.payload for entry in journal) - there
        return row, journal

    def wait_for_lease(self, row: Any) -> None:
        """Wait until the lease has run out; for one much longer than the others, let the clock go on instead."""
        if row is None:
            return
        if is_file(self.address):
            left = row.lease_until - time.time() - self.skew
            if left > 2.0:
                self.skew += left
                return
        else:
            with open_at(self.address) as store:
                left = row.lease_until - store.now()
        time.sleep(max(0.0, left) + 0.001)

    def fold(self, row: StoredExecution, journal: list[Entry]) -> SagaResult:
        """Return the result that the journal leads to."""
        world = World(self.folder)
        try:
            return rebuild(self.build(world).definition, row, journal).result()
        finally:
            world.close()

    def run(self) -> dict[str, Any]:
        if "stop" in self.told:
            return self.run_stalled()
        if "undo" in self.told:
            return self.run_undone()
        if "again" in self.told:
            return again.run_again(self)
        if "held" in self.told:
            return held.run_held(self)
        if "in_line" in self.told:
            return held.run_in_line(self)
        return self.run_failing() if "failure" in self.told else self.run_killed()

    def run_stalled(self) -> dict[str, Any]:
        """A process is stopped until another has finished its execution, and then goes on."""
        pid = fork(lambda: self.stall(self.told["stop"]), self.folder)
        self.pids.append(pid)
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]), "it was not stopped"
        row, before = self.look()
        self.wait_for_lease(row)
        self.child(self.recover)
        recovered, journal = self.look()
        lines = read_log(self.folder)
        os.kill(pid, signal.SIGCONT)
        assert not killed(pid)
        last, last_journal = self.look()
        faults = []
        if row is not None and row.status in ("running", "compensating"):
            if recovered.status not in ("completed", "compensated"):
                faults.append(f"the recovery left it {recovered.status}")
            if (last, last_journal) != (recovered, journal):
                faults.append("the one who had lost the execution wrote to it")
            after = [line for line in read_log(self.folder)[len(lines) :] if line.pid == pid]
            if "LeaseLostError" not in [line.verb for line in after]:
                faults.append("it did not raise LeaseLostError")
            allowed = in_flight(before)
            for line in after:
                kind = "verify" if line.verb == "asking" else "compensate" if line.verb.startswith("und") else "execute"
                if line.step != "-" and (kind, line.step) not in allowed:
                    faults.append(f"it went on with {line}")
        elif last is None or last.status != self.scenario.ends:
            faults.append(f"it is {last and last.status}, though nobody took it over")
        return {"faults": faults, "kills": 0, "stops": 1, "status": last and last.status, "points": []}

    def run_failing(self) -> dict[str, Any]:
        """The store fails; later, when it works again, another process finishes what is left."""
        self.child(self.execute)
        del self.told["failure"]
        snapshot = self.look()
        raised = [line.verb for line in read_log(self.folder) if line.verb.endswith("Error")]
        self.wait_for_lease(snapshot[0])
        self.child(self.recover)
        row, journal = self.look()
        folded = self.fold(row, journal) if row is not None else None
        lines = [line for line in read_log(self.folder) if not line.verb.endswith("Error")]
        stored = [line for line in lines if line.verb != "unstored"]
        faults = judge(Case(self.scenario, stored, [snapshot] if raised else [], row, journal, folded))
        if not raised and "unstored" in [line.verb for line in lines]:
            faults.append("execute() raised no StorageError")
        if raised:
            at = next(index for index, line in enumerate(lines) if line.verb == "unstored")
            allowed = in_flight(snapshot[1])  # what was begun beside the loop may say so after the store has failed
            for line in lines[at:]:
                kind = {"start": "execute", "asking": "verify", "undoing": "compensate"}.get(line.verb)
                if kind is not None and line.pid == self.pids[0] and (kind, line.step) not in allowed:
                    faults.append(f"user code ran after the failure: {line}")
        points = [read_points(self.folder, pid) for pid in self.pids]
        return {"faults": faults, "kills": 0, "raised": raised, "status": row.status if row else None, "points": points}

    def run_undone(self) -> dict[str, Any]:
        """A completed execution is undone, by processes that are killed; where it is back at a step, it goes forward again."""
        _, to = self.told["undo"]
        self.child(self.execute)
        looks, hits = [self.look()], 0
        for die_at in (*self.told["kills"], None, None):
            died = self.child(self.undo if looks[-1][0].status == "completed" else self.recover, die_at)
            hits += died
            looks.append(self.look())
            if died:
                self.wait_for_lease(looks[-1][0])
        lines, stood = read_log(self.folder), looks[-1]
        if to is not None:
            self.child(self.resume)
            looks.append(self.look())
        again = read_log(self.folder)[len(lines) :]
        faults = list(undone.faults_of(self.scenario, to, lines, stood, again, looks))
        points = [read_points(self.folder, pid) for pid in self.pids]
        return {"faults": faults, "kills": hits, "status": stood[0].status, "points": points}

    def run_killed(self) -> dict[str, Any]:
        kills: list[str | None] = list(self.told["kills"])
        hits, snapshots = 0, []
        work = self.execute
        for die_at in (*kills, None):
            if die_at is not None and self.child(work, die_at):
                hits += 1
                snapshots.append(self.look())
                self.wait_for_lease(snapshots[-1][0])
            elif die_at is None:
                self.child(work)
            work = self.recover
        row, journal = self.look()
        operator = self.told.get("operator")
        if operator is not None and row is not None and row.status == "stuck":
            if operator[1] == "?":
                doubtful = [entry.step for entry in journal if '"in_doubt":true' in entry.payload]
                operator[:] = [operator[0], doubtful[-1]] if doubtful else ["retry", None]  # an undo that failed
            if self.scenario.ends == "stuck" and self.told.get("mended", True):
                (self.folder / "mended").touch()
            if operator[0] == "skip":
                (self.folder / f"skipped-{operator[1]}").touch()
            for die_at in (*self.told.get("operator_kills", ()), None):
                if die_at is not None and self.child(self.operate, die_at):
                    hits += 1
                    row, journal = self.look()
                    self.wait_for_lease(row)
                    if row.status != "stuck":
                        snapshots.append((row, journal))
                        break
                elif die_at is None:
                    self.child(self.operate)
            self.child(self.recover)
            row, journal = self.look()
            if self.told.get("operator_before"):  # a kill may have come between
                acted = [json.loads(entry.payload)["action"] for entry in journal if entry.kind == "OperatorActed"]
                operator[0] = acted[-1]
        else:
            operator = None
        folded = self.fold(row, journal) if row is not None else None
        case = Case(
            self.scenario,
            read_log(self.folder),
            snapshots,
            row,
            journal,
            folded,
            tuple(operator) if operator else None,
        )
        return {
            "faults": judge(case),
            "kills": hits,
            "status": row.status if row is not None else None,
            "points": [read_points(self.folder, pid) for pid in self.pids],
        }


def run(told: dict[str, Any]) -> dict[str, Any]:
    """Run one case. Whatever goes wrong is told.

    Leases are short here. On a busy machine one may run out while its owner lives, and who recovers is right to go on; so that
    case is run again, with longer ones.
    """
    try:
        again = copy.deepcopy(told) | {"name": f"{told['name']}-again", "folder": f"{told['folder']}-again", "lease": LONG}
        case = Run(told)
        outcome = case.run()
        outcome["faults"] += [f"nothing is at {key}, which the journal names" for key in case.missing]
        if outcome["faults"] and not {"stop", "failure"} & again.keys() and case.lost():
            outcome = Run(again).run() | {"folder": again["folder"]}
        return outcome
    except Exception:
        return {"faults": [traceback.format_exc()], "kills": 0, "status": None, "points": []}


def main() -> None:
    modules, *numbers_given = sys.argv[1:]
    for module in filter(None, modules.split(",")):
        importlib.import_module(module)
    numbers = [int(number) for number in numbers_given]
    gc.freeze()
    for index, number in enumerate(numbers):
        if os.fork() == 0:
            for later in numbers[index + 1 :]:
                os.close(later)
            with socket.socket(fileno=number) as connection, connection.makefile("rw") as lines:
                for line in lines:
                    print(json.dumps(run(json.loads(line))), file=lines, flush=True)
            return
        os.close(number)
    for _ in numbers:
        os.wait()


if __name__ == "__main__":
    main()
