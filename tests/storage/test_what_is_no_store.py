"""What is given as a store and is none is refused at every door, before anything is opened, and no text of it is told."""

from __future__ import annotations

import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock

import pytest

from saga import Saga, Task, transaction
from saga.errors import SagaDefinitionError, StorageError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, open_store
from saga.storage.opened import store_of


class Nothing(Task[int]):
    def execute(self, context: Any) -> int:
        return 1


def saga(**options: Any) -> Saga:
    return Saga("s", **options).add_task(Nothing)


def block(store: Any) -> None:
    with transaction("s", store=store):
        pass


DOORS: Final[dict[str, Callable[[Any], Any]]] = {
    "open_store": open_store,
    "store_of": store_of,
    "Saga": lambda store: saga(store=store),
    "execute": lambda store: saga().execute(store=store),
    "load": lambda store: saga().load("A1", store=store),
    "transaction": block,
    "Recovery": lambda store: Recovery(store, [saga()]),
    "Operations": lambda store: Operations(store, "ann"),
}


class Wrapped:
    """A store of somebody else's making, that hands on all it is asked."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"orders-s3cret.db"


def engine() -> Any:
    return pytest.importorskip("sqlalchemy").create_engine("sqlite:///s3cret.db")


def url() -> Any:
    return pytest.importorskip("sqlalchemy").make_url("postgresql://bob:s3cret@localhost/shop")


#: What makes it, and what is said of it.
WRONG: Final[dict[str, tuple[Callable[[], Any], str]]] = {
    "number": (lambda: 42, r"an object of class int, which is no store; give the path of an SQLite file"),
    "false": (lambda: False, "an object of class bool"),
    "bytes": (lambda: b"s3cret.db", r"give a str: os\.fsdecode"),
    "bytes path": (BytesPath, r"a path of bytes; give one of str: os\.fsdecode"),
    "class": (lambda: MemoryStore, r"the class MemoryStore; give an object of it, MemoryStore\(\.\.\.\)"),
    "connection": (lambda: sqlite3.connect(":memory:"), "give the path of its file"),
    "engine": (engine, r"give SQLAlchemyStore\(url\) the URL"),
    "url": (url, r"give SQLAlchemyStore\(url\) the URL"),
    "saga": (saga, "an object of class Saga, which is no store"),
    "dict": (dict, "an object of class dict"),
    "function": (lambda: saga, "an object of class function"),
    "libpq": (lambda: "host=localhost user=bob password=s3cret dbname=shop", r"postgresql://user:password@host/database"),
    "odbc": (lambda: "Driver={MySQL};Server=db;Pwd=s3cret", "list of key=value"),
    "spaced": (lambda: " password = s3cret dbname=shop", "list of key=value"),
    "jdbc": (lambda: "jdbc:postgresql://localhost/shop?password=s3cret", "no URL, which begins with its scheme"),
    "scheme": (lambda: "://bob:s3cret@localhost", "no URL, which begins with its scheme"),
    "uri": (lambda: "file:s3cret.db?mode=ro", "no URL, which begins with its scheme"),
    "no scheme": (lambda: "bob:s3cret@localhost/shop", "no URL, which begins with its scheme"),
    "host": (lambda: "localhost:5432/s3cret", "no URL, which begins with its scheme"),
    "empty": (lambda: "", "'', which no file is called"),
    "empty path": (lambda: Path("a\0b"), r"'a\\x00b', which no file"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_store_is_refused_and_no_text_of_it_told(
    door: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = WRONG[kind]
    given = make()
    left = closing(given) if kind == "connection" else nullcontext()
    with left, pytest.raises(SagaDefinitionError, match=rf"store is .*{said}") as caught:
        DOORS[door](given)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value)).replace("s3cret.db", "")
    assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("make", [MemoryStore, lambda: Wrapped(MemoryStore())])
def test_whatever_has_a_stores_methods_is_one(door: str, make: Callable[[], Any]) -> None:
    if door == "load":
        with pytest.raises(StorageError, match="A1"):
            DOORS[door](make())
    else:
        DOORS[door](make())


def test_a_stand_in_is_a_store() -> None:
    stand_in = Mock()
    assert store_of(stand_in) is stand_in is open_store(stand_in)


def test_a_path_may_be_called_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("host=shop", "a b.db", "orders:1.db"):
        open_store(Path(name)).close()
        assert (tmp_path / name).exists()


# -- databases that cannot be reached ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "library", "said"),
    [
        ("postgresql://bob:100%s3cret@127.0.0.1:1/shop", "psycopg", "no connection string of libpq's; write postgresql://user"),
        ("postgresql://bob:my s3cret@127.0.0.1:1/shop", "psycopg", "no connection string of libpq's; write postgresql://user"),
        ("postgresql://bob:s3cret@127.0.0.1:1/shop", "psycopg", "PostgreSQL did not answer: connection failed"),
        ("mysql+pymysql://bob:s3cret@127.0.0.1:port/x", "sqlalchemy", "by this url; write dialect"),
        ("mysql+pymysql://bob:s3@c:s3cret@127.0.0.1/x", "sqlalchemy", "by this url; write dialect"),
        ("mysql+pymysql://bob:s3cret@127.0.0.1:1/x?pool_size=3", "pymysql", "does not know an option of the URL: .*pool_size"),
        ("mysql+pymysql://bob:s3cret@127.0.0.1:1/x", "pymysql", "mysql.*connect to MySQL server"),
        ("mysql+pymysql://bob@127.0.0.1:1/x?password=s3cret", "pymysql", "mysql.*connect to MySQL server"),
        (
            "mysql+pymysql://bob@127.0.0.1:1/x?pool_size=3&password=s3cret",
            "pymysql",
            "not know an option of the URL: .*pool_size",
        ),
        ("ftp://bob:s3cret@127.0.0.1/x", "sqlalchemy", r"^ftp://bob:\*\*\*@127.0.0.1/x: no database can be reached this way"),
        ("ftp://bob@127.0.0.1/x?password=s3cret", "sqlalchemy", "no database can be reached this way"),
        (
            "postgresql+asyncpg://bob:s3cret@127.0.0.1:1/x?password=s3cret",
            "sqlalchemy",
            "is of a driver for asyncio; .*: write postgresql://",
        ),
        ("sqlite+aiosqlite:///s3.db", "sqlalchemy", "is of a driver for asyncio; .*: write sqlite://"),
        ("mysql+aiomysql://bob:s3cret@127.0.0.1:1/x", "sqlalchemy", r"is of a driver for asyncio; .*: write mysql\+pymysql://"),
        ("mysql+asyncmy://bob:s3cret@127.0.0.1:1/x", "sqlalchemy", r"is of a driver for asyncio; .*: write mysql\+pymysql://"),
        ("oracle+oracledb_async://bob:s3cret@127.0.0.1:1/x", "sqlalchemy", "is of a driver for asyncio; .*: write oracle://"),
    ],
)
def test_a_database_that_cannot_be_reached_is_told_without_its_password(url: str, library: str, said: str) -> None:
    pytest.importorskip(library)
    with pytest.raises(StorageError, match=said) as caught:
        open_store(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("url", "module", "said"),
    [
        (
            "mysql://u@localhost/d",
            "MySQLdb",
            r"pip install mysqlclient, or pip install 'saga-tasks\[mysql\]' and write mysql\+pymysql",
        ),
        ("mysql+mysqlconnector://u@localhost/d", "mysql", "pip install mysql-connector-python, or pip install 'saga-tasks"),
        ("postgresql+psycopg2://u@localhost/d", "psycopg2", "pip install psycopg2-binary$"),
        ("oracle+oracledb://u@localhost/d", "oracledb", "pip install oracledb$"),
    ],
)
def test_a_driver_that_is_missing_is_named_as_its_package_is_called(
    url: str, module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StorageError, match=rf"needs {module}: {said}"):
        open_store(url)
