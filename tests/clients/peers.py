"""Servers on loopback that fail in one way each: what a client says when a request, or its answer, goes wrong.

What is asked for is asked once, with ``MARK`` in it. A peer knows by that that the request has come.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

MARK: Final = "charge-4711"

#: Seconds that nothing here takes, on however slow a machine.
ENOUGH: Final = 30.0

#: What a peer does once a request has come: the socket, and the answer that it would have given.
Ending = Callable[[socket.socket, bytes], None]
#: What a peer does with a connection. It is closed afterwards.
Talk = Callable[[socket.socket], None]


class Asks(Enum):
    """What a client asks for."""

    WORK = "work"
    NONSENSE = "nonsense"
    """What a server answers with an error."""
    ITS_END = "its end"
    """That the server ends the session."""


@dataclass(frozen=True)
class Place:
    """Where a client is sent to, what it is to ask for, and how many seconds it waits: for a connection, and for an answer."""

    host: str
    port: int
    tls: bool = False
    asks: Asks = Asks.WORK
    connecting: float = ENOUGH
    answering: float = ENOUGH

    @property
    def either(self) -> float:
        """For a client that has one limit for both."""
        return min(self.connecting, self.answering)

    @property
    def url(self) -> str:
        """For a client of HTTP."""
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}/"


def silent(client: socket.socket, answer: bytes) -> None:
    """Say nothing until the client has gone."""
    client.settimeout(ENOUGH)
    with contextlib.suppress(OSError):
        while client.recv(4096):
            pass


def reset(client: socket.socket, answer: bytes) -> None:
    """End the connection as a machine that crashed does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closed(client: socket.socket, answer: bytes) -> None:
    """End the connection in order, without an answer."""


def cut_off(client: socket.socket, answer: bytes) -> None:
    """Give a part of the answer."""
    client.sendall(answer)


@contextmanager
def listening(talk: Talk) -> Iterator[int]:
    """Talk so with whoever connects; give the port."""
    threads: list[threading.Thread] = []
    open_now: list[socket.socket] = []

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            talk(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                open_now.append(client)
                threads.append(threading.Thread(target=serve, args=[client]))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for client in open_now:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@contextmanager
def refusing() -> Iterator[int]:
    """Give a port that nobody listens at, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """Give a port where connections wait and are never taken, and no more can wait: an attempt to connect gets no answer."""
    with contextlib.ExitStack() as held, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(64):
            waiting = held.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise AssertionError("a queue of connections has no end here")
        yield listener.getsockname()[1]


def without_tls(client: socket.socket) -> None:
    """Answer a client that begins with TLS in plain words."""
    if client.recv(4096):
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        silent(client, b"")


def http(ending: Ending) -> Talk:
    """A web server, up to its answer."""

    def talk(client: socket.socket) -> None:
        read = b""
        while MARK.encode() not in read:
            if not (more := client.recv(4096)):
                return
            read += more
            if b"expect: 100-continue" in read.lower():
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        ending(client, b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4711\r\n\r\n{"charged": ')

    return talk


def http_error(client: socket.socket, answer: bytes) -> None:
    """Answer that it was not done."""
    client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


def smtp(ending: Ending) -> Talk:
    """A mail server, up to its answer to a mail."""

    def talk(client: socket.socket) -> None:
        client.sendall(b"220 here\r\n")
        lines = client.makefile("rb")
        for line in lines:
            if line.upper().startswith(b"DATA"):
                client.sendall(b"354 go on\r\n")
                while next(lines) != b".\r\n":
                    pass
                ending(client, b"25")
                return
            client.sendall(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 good\r\n")

    return talk


def smtp_error(client: socket.socket, answer: bytes) -> None:
    """Answer that it was not taken."""
    # ... to what is reset then, and to the goodbye.
    client.sendall(b"554 not this one\r\n250 good\r\n221 bye\r\n")
    silent(client, b"")


def between(server: Callable[[], socket.socket], ending: Ending, mark: bytes, part: int) -> Talk:
    """Pass everything on to a server, until it has answered to what has ``mark`` in it: that answer is the ending's.

    What was asked for was done by then.

    :param part: how many of the bytes of that answer the client gets where it is cut off.
    """

    def talk(client: socket.socket) -> None:
        asked = threading.Event()

        def requests() -> None:
            with contextlib.suppress(OSError):
                while more := client.recv(65536):
                    if mark in more:
                        asked.set()
                    upstream.sendall(more)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)

        with server() as upstream:
            passing = threading.Thread(target=requests)
            passing.start()
            try:
                while more := upstream.recv(65536):
                    if asked.is_set():
                        ending(client, more[:part])
                        break
                    client.sendall(more)
            finally:
                with contextlib.suppress(OSError):
                    # The reader's recv ends; what a reset leaves to be told is told when the socket is closed.
                    client.shutdown(socket.SHUT_RD)
                passing.join()

    return talk
