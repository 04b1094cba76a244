"""One function opens every kind of store, and imports nothing it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saga.errors import StorageError
from saga.events import Status
from saga.storage import MemoryStore, SqliteStore, open_store, rules


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


def test_importing_the_stores_imports_no_driver():
    script = """if True:
        import sys, saga
        assert not any(name.startswith("saga.storage") for name in sys.modules), "saga imports stores"
        import saga.storage
        print([name for name in ("psycopg", "sqlalchemy", "pymysql") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stores_statuses_are_the_engines():
    assert set(rules.STATUSES) == set(Status)
    assert {status for status in Status if status.terminal} == set(rules.TERMINAL)
