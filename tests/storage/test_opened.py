"""A path or URL opens every kind of store, anew or once for the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from saga.errors import StorageError
from saga.storage import MemoryStore, SqliteStore, open_store, opened
from saga.storage.opened import store_of


@pytest.mark.parametrize("form", [str, Path, "sqlite:///{}".format])
def test_a_path_or_its_url_opens_an_sqlite_file(tmp_path, form):
    path = tmp_path / "saga.db"
    with open_store(form(path)) as store:
        assert isinstance(store, SqliteStore)
    assert path.exists()


def test_a_relative_url_opens_a_file_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///saga.db").close()
    assert (tmp_path / "saga.db").exists()


def test_a_store_is_returned_as_it_is():
    store = MemoryStore()
    assert open_store(store) is store


@pytest.mark.parametrize("url", ["sqlite://", "sqlite://saga.db", "sqlite:///saga.db?mode=ro"])
def test_another_url_of_sqlite_is_refused(url):
    with pytest.raises(StorageError, match="sqlite:///relative"):
        open_store(url)


def test_memory_is_refused_by_its_url():
    with pytest.raises(StorageError, match="MemoryStore"):
        open_store("sqlite:///")


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("postgresql://localhost/x", "psycopg", "postgres"),
        ("postgres://localhost/x", "psycopg", "postgres"),
        ("mysql+pymysql://localhost/x", "sqlalchemy", "sqlalchemy"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, url, library, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == library or name == f"saga.storage.{extra}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(StorageError, match=rf"needs {library}: pip install 'saga-tasks\[{extra}\]'"):
        open_store(url)


@pytest.fixture
def nothing_opened(monkeypatch):
    stores: dict = {}
    monkeypatch.setattr(opened, "_opened", stores)
    yield stores
    for store in stores.values():
        store.close()


def test_a_path_is_opened_once_whatever_its_form(tmp_path, monkeypatch, nothing_opened):
    monkeypatch.chdir(tmp_path)
    store = store_of("saga.db")
    assert store_of(Path("saga.db")) is store_of(tmp_path / "saga.db") is store
    url = f"sqlite:///{tmp_path / 'saga.db'}"
    assert store_of(url) is store_of(url)
    assert len(nothing_opened) == 2


def test_a_store_that_is_opened_already_is_the_callers_own(nothing_opened):
    store = MemoryStore()
    assert store_of(store) is store
    assert nothing_opened == {}


def test_many_threads_open_a_path_once(tmp_path, nothing_opened):
    found = []
    threads = [threading.Thread(target=lambda: found.append(store_of(tmp_path / "saga.db"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(store) for store in found}) == 1 == len(nothing_opened)


def test_what_cannot_be_opened_may_be_opened_later(tmp_path, nothing_opened):
    path = tmp_path / "later" / "saga.db"
    with pytest.raises(StorageError, match="no folder"):
        store_of(path)
    path.parent.mkdir()
    assert store_of(path).get("x") is None


def test_what_was_opened_is_closed_when_the_process_ends(tmp_path):
    script = """if True:
        import sys
        from saga.storage import SqliteStore
        from saga.storage.opened import store_of
        close = SqliteStore.close
        SqliteStore.close = lambda store: (print("closed"), close(store))
        for path in sys.argv[1:]:
            store_of(path).get("x")
    """
    paths = [str(tmp_path / name) for name in ("a.db", "b.db")]
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["closed", "closed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_opens_stores_though_a_thread_of_its_parent_was_opening_one(tmp_path):
    script = """if True:
        import os, sys, warnings
        from saga.storage import opened
        warnings.simplefilter("ignore")
        opened._lock.acquire()
        child = os.fork()
        if child == 0:
            print(opened.store_of(sys.argv[1]).get("x"), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    path = str(tmp_path / "saga.db")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "None"


def test_a_store_tells_where_it_is_and_no_password(tmp_path):
    sa = pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    from saga.storage.postgres import PostgresStore
    from saga.storage.postgres_pool import parameters_of
    from saga.storage.sqlalchemy import SQLAlchemyStore

    # None of them is there to be opened.
    on_a_server, by_libpq = object.__new__(PostgresStore), object.__new__(PostgresStore)
    on_a_server._parameters = parameters_of("postgresql://bob:s3cret@db.example:5433/shop?sslpassword=s3cret")
    by_libpq._parameters = parameters_of("password=s3cret")
    through_sqlalchemy = object.__new__(SQLAlchemyStore)
    through_sqlalchemy._engine = sa.create_engine("mysql+pymysql://bob:s3cret@db.example/shop?password=s3cret")
    assert repr(on_a_server) == "<PostgresStore host=db.example port=5433 dbname=shop>"
    assert repr(by_libpq) == "<PostgresStore>"
    assert repr(through_sqlalchemy) == "<SQLAlchemyStore mysql+pymysql://db.example/shop>"
    assert repr(MemoryStore()) == "<MemoryStore>"
    with open_store(tmp_path / "saga.db") as store:
        assert repr(store) == f"<SqliteStore {tmp_path / 'saga.db'}>"
