"""Effects are refused while a call is debugged, and at no other time; what is none is not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from saga import Saga, step
from saga.errors import SagaError
from saga.storage import MemoryStore, Store
from saga.testing import EffectRefusedError, Moment, debug
from saga.testing.effects import STORES_WRITE, Refusing
from tests.kit import PATIENCE, background

INNER = Saga("inner").add_task(step(int, name="i"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    (tmp_path / "imported_within.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))


def of_a_call(work: Callable[[], Any], store: MemoryStore | None = None) -> Moment:
    """Return the moment before a call that fails once, and does this work when it is made again."""
    failed: list[bool] = []

    def execute() -> Any:
        if failed:
            return work()
        failed.append(True)
        raise ValueError("not yet")

    async def aexecute() -> Any:
        return await execute() if failed else execute()

    action: Any = aexecute if inspect.iscoroutinefunction(work) else execute
    saga = Saga("s").add_task(step(action, name="a"))
    store = MemoryStore() if store is None else store
    saga.try_execute(saga_id="x", store=store)
    return debug("x", saga, store=store)


def write() -> None:
    Path("written").write_text("text")


def append() -> None:
    with Path("there").open("a"):
        pass


def in_a_thread() -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(write).result()


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


async def connect() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def in_a_thread_of_the_loop() -> None:
    await asyncio.to_thread(write)


async def start() -> None:
    await asyncio.create_subprocess_exec("true")


def client_in_c() -> None:
    import psycopg

    psycopg.connect("host=127.0.0.1 port=9 connect_timeout=1")


def another_client_in_c() -> None:
    import psycopg2

    psycopg2.connect("host=127.0.0.1 port=9 connect_timeout=1")


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"text", ("127.0.0.1", 9))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a file written": (write, "writing to written"),
    "a file made longer": (append, "writing to there"),
    "a file opened by its number": (lambda: os.open("new", os.O_CREAT | os.O_RDWR), "writing to new"),
    "a file removed": (lambda: Path("there").unlink(), "removing a file: there"),
    "a file renamed": (lambda: Path("there").rename("gone"), "renaming a file: there"),
    "a directory": (lambda: Path("directory").mkdir(), "making a directory: directory"),
    "a temporary file": (tempfile.TemporaryFile, "writing to "),
    "a program": (lambda: subprocess.run(["true", "--password=secret"], check=True), "starting a program: true"),
    "a shell": (lambda: os.system("echo secret"), "starting a program"),
    "a fork": (fork, "forking"),
    "a request": (lambda: urllib.request.urlopen("http://127.0.0.1:9/?token=secret"), "looking up a host: 127.0.0.1:9"),
    "a datagram": (send, "sending to a socket: 127.0.0.1:9"),
    "a database in a file": (lambda: sqlite3.connect("new.db"), "opening the database new.db"),
    "a client written in C": (client_in_c, "connecting to a database by psycopg"),
    "another client written in C": (another_client_in_c, "connecting to a database by psycopg2"),
    "a saga with a store": (lambda: INNER.execute(store=STORE), "writing to a store (create)"),
    "a saga submitted": (lambda: INNER.submit(store=STORE), "writing to a store (submit)"),
    "a store in a file": (lambda: INNER.execute(store="inner.db"), "writing to "),
    "in a thread": (in_a_thread, "writing to written"),
    "in a coroutine": (connect, "connecting a socket: 127.0.0.1:9"),
    "in a thread of a loop": (in_a_thread_of_the_loop, "writing to written"),
    "in a process of a loop": (start, "starting a program: true"),
}
STORE = MemoryStore()


@pytest.mark.parametrize(("effect", "what"), REFUSED.values(), ids=REFUSED.keys())
def test_an_effect_is_refused(effect: Callable[[], Any], what: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("psycopg2")
    moment = of_a_call(effect)
    there = sorted(tmp_path.iterdir())
    again = moment.call()
    assert isinstance(again.error, EffectRefusedError)
    assert [one.startswith(what) for one in again.refused] == [True]
    assert "secret" not in str(again)
    assert sorted(tmp_path.iterdir()) == there
    assert STORE.list().executions == ()


def nested() -> str:
    return str(INNER.execute().status)


def imports() -> str:
    import imported_within

    return imported_within.__name__


def in_memory() -> Any:
    connection = sqlite3.connect(":memory:")
    try:
        return connection.execute("SELECT 1").fetchone()
    finally:
        connection.close()


def nowhere() -> int:
    with Path(os.devnull).open("w") as file:
        return file.write("x")


NONE: dict[str, tuple[Callable[[], Any], Any]] = {
    "a file read": (lambda: Path("there").read_text(), ""),
    "what is kept nowhere": (nowhere, 1),
    "a database in memory": (in_memory, [1]),
    "a saga without a store": (nested, "completed"),
    "a module imported": (imports, "imported_within"),
    "a store read": (lambda: STORE.get("y"), None),
}


@pytest.mark.parametrize(("work", "result"), NONE.values(), ids=NONE.keys())
def test_what_is_no_effect_is_let_be(work: Callable[[], Any], result: Any, tmp_path: Path) -> None:
    again = of_a_call(work).call()
    assert (again.said, again.refused) == (None, ())
    assert again.result in (result, tuple(result) if isinstance(result, list) else result)
    assert not (tmp_path / "__pycache__").exists()


def test_what_an_effect_would_have_led_to_is_not_told() -> None:
    def swallows() -> str:
        for _ in range(2):
            with suppress(Exception):
                write()
        return "as if it were well"

    moment = of_a_call(swallows)
    again = moment.call()
    assert (again.returned, again.refused) == (True, ("writing to written",))
    assert (again.follows, again.offer) == (None, None)
    assert moment.told(again).splitlines() == [
        "refused: writing to written",
        'it returned "as if it were well"',
        "so this does not tell what it does; --allow-effects lets it have its effects",
    ]


def test_effects_are_had_where_they_are_allowed(tmp_path: Path) -> None:
    again = of_a_call(write).call(allow_effects=True)
    assert (again.returned, again.refused, again.follows) == (True, (), "it is completed")
    assert (tmp_path / "written").exists()


def test_nothing_is_refused_before_or_after(tmp_path: Path) -> None:
    kept = {name: vars(MemoryStore).get(name) for name in STORES_WRITE}
    moment = of_a_call(write)
    for name in ("one", "two"):
        moment.call()
        (tmp_path / name).write_text("text")
        assert INNER.execute(store=MemoryStore()).ok
    assert {name: vars(MemoryStore).get(name) for name in STORES_WRITE} == kept
    assert not sys.dont_write_bytecode or "PYTHONDONTWRITEBYTECODE" in os.environ


def test_who_ran_before_does_what_he_likes(tmp_path: Path) -> None:
    begun, done = threading.Event(), threading.Event()

    def another() -> None:
        begun.wait(PATIENCE)
        (tmp_path / "another's").write_text("text")
        MemoryStore().hold("s", "1", "ann", "why")
        done.set()

    def work() -> bool:
        begun.set()
        return done.wait(PATIENCE)

    ended = background(another)
    again = of_a_call(work).call()
    ended()
    assert (again.result, again.refused) == (True, ())


def test_effects_are_refused_of_one_call_at_a_time() -> None:
    with Refusing() as refusing, pytest.raises(SagaError, match="make one after the other, or allow effects"), Refusing():
        pass
    with refusing, pytest.raises(EffectRefusedError):
        write()
    assert refusing.refused == ["writing to written"]


READ = {"now", "get", "journal", "journals", "inbox", "with_mail", "count", "figures", "causes", "beginning_with", "next_tag"}
READ |= {"in_line", "holds", "workers", "watch", "tell", "list", "close"}


def test_each_method_of_a_store_reads_or_writes() -> None:
    methods = {name for name, value in vars(Store).items() if callable(value) and not name.startswith("_")}
    assert STORES_WRITE.isdisjoint(READ)
    assert methods == STORES_WRITE | READ, "saga/testing/effects.py: STORES_WRITE, or READ here"
