"""What stands between clients and a server, and passes on what they say for as long as a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit


class Relay:
    """Listens on a port of this machine, and passes on what each client and the server say to each other.

    :param connect: connects to the server.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def passes(self, link: object, data: bytes, from_client: bool) -> bool:
        """Whether this is passed on. EOFError cuts the connection.

        :param link: the same for all that is said on one connection.
        """
        return True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server, link = self._connect(), object()
                self._open += [client, server]
                for work in ((link, client, server, True), (link, server, client, False)):
                    threading.Thread(target=self._pass_on, args=work, daemon=True).start()

    def _pass_on(self, link: object, one: socket.socket, other: socket.socket, from_client: bool) -> None:
        with suppress(OSError, EOFError):
            while data := one.recv(65536):
                if self.passes(link, data, from_client):
                    other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Silencing(Relay):
    """
    :ivar silent: it passes nothing on any more, and takes whatever comes.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.silent = threading.Event()
        super().__init__(connect)

    def passes(self, link: object, data: bytes, from_client: bool) -> bool:
        return not self.silent.is_set()


class Cutting(Relay):
    """When it is armed, it cuts a connection in its next commit.

    :ivar armed: ``before``: the server never gets it; ``after``: the client never hears that it was made.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.armed: str | None = None
        self.cuts = 0
        self._unheard: set[object] = set()
        super().__init__(connect)

    def passes(self, link: object, data: bytes, from_client: bool) -> bool:
        if not from_client and link in self._unheard:
            raise EOFError  # it has answered, so it was made
        if from_client and self.armed is not None and b"COMMIT" in data.upper():
            armed, self.armed, self.cuts = self.armed, None, self.cuts + 1
            if armed == "before":
                raise EOFError
            self._unheard.add(link)
        return True


def connector(url: str) -> Callable[[], socket.socket]:
    """What connects to the server of a URL, by its host and port or by the folder of its socket."""
    parsed = urlsplit(url)
    if parsed.hostname:
        return lambda: socket.create_connection((parsed.hostname, parsed.port))
    path = f"{parse_qs(parsed.query)['host'][0]}/.s.PGSQL.5432"

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        return connection

    return connect
