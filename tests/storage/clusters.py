"""PostgreSQL servers that the tests may do anything to: reached by an address, killed, frozen, followed by a standby."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.storage import servers


class Server:
    """One server.

    :param within: a command in which it is run, as on another host.
    :ivar url: how it is reached by that host's address.
    :ivar local_url: how it is reached by a socket of this machine, whatever becomes of networks.
    """

    def __init__(self, bin_path: Path, user: str | None, data: Path, host: str, port: int, within: Sequence[str] = ()) -> None:
        self._bin, self._user, self._data, self._within = bin_path, user, data, within
        self._process: subprocess.Popen[bytes] | None = None
        self._standbys: list[Server] = []
        self.host, self.port = host, port
        self.url = f"postgresql://postgres@{host}:{port}/postgres"
        self.local_url = f"postgresql://postgres@/postgres?host={data.parent}&port={port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self._data.parent,
            "fsync": "off",  # no test cuts the power
        }
        command = [*self._within, *self._as_user(), str(self._bin / "postgres"), "-D", str(self._data)]
        log = self._data.parent / f"{self._data.name}.log"
        with log.open("ab") as output:
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            process = self._process = subprocess.Popen([*command, *options], stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while True:
            with suppress(psycopg.OperationalError), psycopg.connect(self.local_url):
                return
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def allow(self, network: str) -> None:
        """Let in whoever is in a network, when it is started."""
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} trust\n")

    def do(self, statement: str) -> None:
        with psycopg.connect(self.local_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def standby(self, port: int) -> Server:
        """Start a server that follows this one, to which each commit waits to be written from now on."""
        data = self._data.with_name(f"{self._data.name}-standby")
        data.mkdir(0o700)
        if self._user is not None:
            os.chown(data, *_ids(self._user))
        copy = [str(self._bin / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast", "-d", self.local_url]
        subprocess.run([*self._as_user(), *copy], check=True, capture_output=True)
        standby = Server(self._bin, self._user, data, self.host, port)
        self._standbys.append(standby)
        standby.start()
        self.do("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.do("SELECT pg_reload_conf()")
        return standby

    def promote(self) -> None:
        self.do("SELECT pg_promote()")

    def freeze(self) -> None:
        """Let it say nothing any more, though its connections stand."""
        self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)

    def end(self) -> None:
        """Kill it, and what follows it, if they run."""
        for one in (self, *self._standbys):
            if one._process is not None:
                one.kill()

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        import psutil

        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            first.send_signal(signal.SIGSTOP)  # so that it starts nothing again
            for process in (*first.children(recursive=True), first):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _as_user(self) -> list[str]:
        if self._user is None:
            return []
        user, group = _ids(self._user)
        return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


@contextmanager
def server(host: str = "127.0.0.1", within: Sequence[str] = ()) -> Iterator[Server]:
    """Make a server, which is not started yet, and give it. It is gone at the end, and so is its standby."""
    package = servers.pgserver()
    with servers.folder_of_a_server("saga-pgs-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = package.get_server(folder / "data", cleanup_mode="stop")  # which makes its data, too
        made.cleanup()
        if made.system_user is not None:
            os.chown(folder, *_ids(made.system_user))  # its socket is there
        server = Server(made.bin_path, made.system_user, folder / "data", host, servers.free_port(), within)
        try:
            yield server
        finally:
            server.end()


def _ids(user: str) -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid
