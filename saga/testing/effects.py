"""Effects refused: what would reach out of this process while a call is debugged. What a debugged call is lives elsewhere.

An audit hook of Python's (:func:`sys.addaudithook`) hears of sockets, subprocesses and writes of files, whichever library does
them, as long as it does them by Python's own functions. Two kinds that it does not hear of are refused by name besides: what
stores write, and the connections of database clients that are written in C.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from saga.errors import SagaError
from saga.storage import opened
from saga.storage.protocol import Store

__all__ = ["EffectRefusedError", "Refusing"]


class EffectRefusedError(SagaError):
    """A debugged call was about to reach out of its process, which was not allowed."""


_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_NOTHING: Final = (os.devnull, "/dev/tty")
"""What is written there is kept nowhere."""

_EFFECTS: Final = {
    "socket.bind": "listening at a socket",
    "socket.connect": "connecting a socket",
    "socket.getaddrinfo": "looking up a host",
    "socket.gethostbyaddr": "looking up a host",
    "socket.gethostbyname": "looking up a host",
    "socket.getnameinfo": "looking up a host",
    "socket.sendmsg": "sending to a socket",
    "socket.sendto": "sending to a socket",
    "subprocess.Popen": "starting a program",
    "os.exec": "starting a program",
    "os.fork": "forking",
    "os.forkpty": "forking",
    "os.posix_spawn": "starting a program",
    "os.spawn": "starting a program",
    "os.startfile": "starting a program",
    "os.system": "starting a program",
    "pty.spawn": "starting a program",
    "webbrowser.open": "opening a browser",
    "os.kill": "sending a signal to a process",
    "os.killpg": "sending a signal to a process",
    "os.chflags": "changing a file",
    "os.chmod": "changing a file",
    "os.chown": "changing a file",
    "os.link": "making a file",
    "os.lockf": "locking a file",
    "fcntl.flock": "locking a file",
    "fcntl.lockf": "locking a file",
    "os.mkdir": "making a directory",
    "os.remove": "removing a file",
    "os.removexattr": "changing a file",
    "os.rename": "renaming a file",
    "os.rmdir": "removing a directory",
    "os.setxattr": "changing a file",
    "os.symlink": "making a file",
    "os.truncate": "changing a file",
    "os.utime": "changing a file",
    "syslog.syslog": "writing to the system's log",
}
"""By audit event: what is about to be done. The two that are looked into, ``open`` and ``sqlite3.connect``, are below."""

_CONNECTS: Final = {
    "MySQLdb": ("Connect", "connect"),
    "oracledb": ("connect", "connect_async"),
    "psycopg.generators": ("connect",),
    "psycopg2": ("_connect", "connect"),
    "pyodbc": ("connect",),
}
"""By module: what connects to a database in C, of which no audit hook hears."""

STORES_WRITE: Final = frozenset(
    {
        "alerted",
        "announce",
        "append",
        "append_each",
        "asubmit",
        "begin_append_each",
        "begin_create",
        "claim",
        "create",
        "hold",
        "let_go",
        "next_alert",
        "post",
        "purge",
        "release",
        "renew",
        "renew_call",
        "submit",
        "transaction",
        "transaction_in_loop",
        "withdraw",
    }
)
"""The methods of a :class:`~saga.storage.Store` that write."""


class Refusing:
    """Refuses the effects of one thread, and of those that are begun meanwhile, within ``with``.

    A thread that ran before does what it likes: it is not the call's. One object refuses at a time.

    :ivar refused: what was refused, in the order it came, each once.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._free: Collection[int] = ()
        self._undo = ExitStack()

    def __enter__(self) -> Refusing:
        global _active
        _add_hook()
        with _lock:
            if _active is not None:
                raise SagaError("another call is debugged in this process; make one after the other, or allow effects")
            mine = threading.get_ident()
            self._free = {ident for thread in threading.enumerate() if (ident := thread.ident) is not None and ident != mine}
            with ExitStack() as undo:
                undo.enter_context(_without_bytecode())
                for owner, name, what in (*_store_methods(), *_connects()):
                    undo.enter_context(self._refused(owner, name, what))
                self._undo = undo.pop_all()
            _active = self
        return self

    def __exit__(self, *raised: object) -> None:
        global _active
        _active = None
        self._undo.close()

    def refuse(self, what: str) -> None:
        """Refuse what is about to be done, where it is this call that does it.

        :raises EffectRefusedError: it is.
        """
        if _active is not self or threading.get_ident() in self._free:
            return
        if what not in self.refused:
            self.refused.append(what)
        raise EffectRefusedError(f"{what} is refused while a call is debugged; allow effects (--allow-effects) to have it done")

    @contextmanager
    def _refused(self, owner: Any, name: str, what: str) -> Iterator[None]:
        """Let a function or method refuse, as long as effects are refused."""
        kept = vars(owner)[name]
        function = kept.__func__ if isinstance(kept, classmethod | staticmethod) else kept

        def refusing(*args: Any, **kwargs: Any) -> Any:
            self.refuse(what)
            return function(*args, **kwargs)

        setattr(owner, name, type(kept)(refusing) if function is not kept else refusing)
        try:
            yield
        finally:
            setattr(owner, name, kept)


def _store_methods() -> Iterator[tuple[Any, str, str]]:
    """Yield the methods by which stores write, of every kind of store that this process has met, or may meet in the call."""
    kinds: dict[type, None] = dict.fromkeys(opened.kinds())
    left: list[type] = [Store, *kinds]
    while left:
        found: list[type] = left.pop().__subclasses__()
        left += [kind for kind in found if kind not in kinds]
        kinds |= dict.fromkeys(found)
    owners = dict.fromkeys(base for kind in kinds for base in kind.__mro__ if base is not Store)
    for owner in owners:
        for name in sorted(STORES_WRITE & vars(owner).keys()):
            yield owner, name, f"writing to a store ({name})"


def _connects() -> Iterator[tuple[Any, str, str]]:
    """Yield what connects in C, of the libraries that are imported."""
    for module, names in _CONNECTS.items():
        owner = sys.modules.get(module)
        for name in names:
            if name in vars(owner or object):
                yield owner, name, f"connecting to a database by {module.partition('.')[0]}"


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Let what is imported meanwhile be compiled for this process alone: Python keeps it in files otherwise."""
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = kept


# -- the hook ---------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_active: Refusing | None = None
_hooked = False


def _add_hook() -> None:
    """Add the hook, once for the process: nobody can take it away again, so it hears of nothing while nothing is debugged."""
    global _hooked
    with _lock:
        if not _hooked:
            sys.addaudithook(_hear)
            _hooked = True


def _hear(event: str, args: tuple[Any, ...]) -> None:
    refusing = _active
    if refusing is None:
        return
    told = _LOOKED_INTO[event](args) if event in _LOOKED_INTO else _EFFECTS.get(event)
    if told is not None:
        refusing.refuse(told if event in _LOOKED_INTO else _with_what(told, event, args))


def _of_open(args: tuple[Any, ...]) -> str | None:
    path, _, flags = args
    if not isinstance(flags, int) or not flags & _WRITES or path in _NOTHING:
        return None
    return f"writing to {_shown(path)}"


def _of_sqlite(args: tuple[Any, ...]) -> str | None:
    name = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
    if name in ("", ":memory:") or (name.startswith("file:") and ("mode=memory" in name or "mode=ro" in name)):
        return None
    return f"opening the database {_shown(name)}"


_LOOKED_INTO: Final[dict[str, Callable[[tuple[Any, ...]], str | None]]] = {"open": _of_open, "sqlite3.connect": _of_sqlite}


def _with_what(told: str, event: str, args: tuple[Any, ...]) -> str:
    """Return what is about to be done, and with what: no argument of a program, which may be a password."""
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        return f"{told}: {_place(args[1] if len(args) > 1 else None)}"
    if event == "socket.getaddrinfo":
        return f"{told}: {_place(args[:2])}"
    if event == "subprocess.Popen":
        program = args[0] if args[0] is not None else args[1]
        return f"{told}: {_shown(program[0] if isinstance(program, list | tuple) and program else program)}"
    if event == "os.system":
        return told
    return f"{told}: {_shown(args[0])}" if args and isinstance(args[0], str | bytes | os.PathLike) else told


def _place(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{_shown(address[0])}:{_shown(address[1])}"
    return _shown(address)


def _shown(value: Any) -> str:
    if isinstance(value, bytes | os.PathLike):
        value = os.fsdecode(value)
    return str(value)[:200] if isinstance(value, str | int) else "?"
