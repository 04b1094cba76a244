"""An SQLite file stays where it was when it was named, is its owner's only, and is missed where somebody takes it away."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from saga import Saga, receive, step, transaction
from saga.errors import SagaExecutionException, StorageError, UnknownExecutionError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Append, SqliteStore, Store, sqlite_place
from saga.storage.opened import open_store, store_of
from saga.storage.sqlalchemy import SQLAlchemyStore
from tests.storage.sqlite_writer import queueing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Alone in a folder."""
    (tmp_path / "own").mkdir()
    return tmp_path / "own" / "saga.db"


# --- where it is


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Callable[[], list[str]]:
    """Go to a folder, in which sagas are made. Return what goes to another and says what files the first one has."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def leave() -> list[str]:
        monkeypatch.chdir(tmp_path / "there")
        return sorted(os.listdir(tmp_path / "here"))

    yield leave
    assert os.listdir(tmp_path / "there") == []


FORMS = ["orders.db", "./orders.db", "sqlite:///orders.db", "sqlite+pysqlite:///orders.db", Path("orders.db")]


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_a_path_means_the_same_file_wherever_the_process_goes(elsewhere, form, log):
    charge = step(lambda: log.append("charge"), name="charge")
    saga = Saga("order", store=form).add_task(charge).add_task(receive("x", timeout=0.01, name="wait"))

    class Declared(Saga):
        store = form
        flow = charge

    declared = Declared("declared")
    block = transaction("block", store=form, saga_id="B1")
    recovery, operations = Recovery(form, [saga, declared]), Operations(form, "ann")
    assert elsewhere() == ["orders.db", "orders.db-shm", "orders.db-wal"]  # what opened it
    saga.try_execute(saga_id="A1")
    saga.try_execute(saga_id="A1")
    declared.execute(saga_id="D1")
    with block:
        pass
    assert log == ["charge", "charge"]
    assert saga.load("A1").saga_id == "A1"
    assert {row.saga_id for row in operations.list().executions} == {"A1", "D1", "B1"}
    assert recovery.store.get("A1") is not None
    with pytest.raises(UnknownExecutionError):
        saga.signal("none", "x")


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_an_open_store_stays_with_its_file(elsewhere, form, stored):
    with open_store(form) as store:
        elsewhere()
        # More connections than one are opened here, one after another.
        leases = [stored.create(store, saga_id) for saga_id in "abc"]
        assert store.append_each([Append(lease, stored.entries(2)) for lease in leases]) == [True] * 3
        assert len(store.list().executions) == 3


def test_a_store_is_the_one_of_the_place_where_it_is_named(tmp_path, monkeypatch):
    stores = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        stores += [store_of("sqlite:///orders.db"), store_of("orders.db")]
    assert len(set(stores)) == 4
    assert {store._file.path for store in stores} == {str(tmp_path / name / "orders.db") for name in ("here", "there")}


# --- who may read it


def modes(folder: Path) -> dict[str, str]:
    return {name: oct(stat.S_IMODE((folder / name).stat().st_mode)) for name in os.listdir(folder)}


OPEN: dict[str, Callable[[Path], Store]] = {
    "sqlite": SqliteStore,
    "sqlalchemy": lambda path: SQLAlchemyStore(f"sqlite:///{path}"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
@pytest.mark.parametrize("kind", OPEN)
def test_a_file_that_is_made_is_its_owners_only(kind, path, stored):
    with OPEN[kind](path) as store:
        stored.create(store, "x")
        assert modes(path.parent) == {path.name + end: "0o600" for end in ("", "-wal", "-shm")}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes")
@pytest.mark.parametrize("kind", OPEN)
def test_a_file_that_is_there_keeps_its_mode(kind, path, stored):
    sqlite3.connect(path).close()
    path.chmod(0o664)
    with OPEN[kind](path) as store:
        stored.create(store, "x")
        assert modes(path.parent) == {path.name + end: "0o664" for end in ("", "-wal", "-shm")}


def test_a_folder_that_cannot_be_written_to_is_named(path, monkeypatch):
    def refused(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StorageError, match=r"saga\.db: Permission denied"):
        SqliteStore(path)


# --- whether it is still there


def _deleted(path: Path) -> None:
    for name in os.listdir(path.parent):
        os.remove(path.parent / name)


def _without_what_is_beside_it(path: Path) -> None:
    os.remove(f"{path}-wal")


def _shared_memory_lost(path: Path) -> None:
    os.remove(f"{path}-shm")


def _replaced(path: Path) -> None:
    shutil.copy(path, f"{path}.backup")
    os.replace(f"{path}.backup", path)


def _renamed(path: Path) -> None:
    os.rename(path, f"{path}.old")


def _folder_renamed(path: Path) -> None:
    os.rename(path.parent, f"{path.parent}.old")


@pytest.fixture
def always_looked_at(monkeypatch):
    monkeypatch.setattr(sqlite_place, "LOOK_BESIDE", 0.0)


FATES = [_deleted, _replaced, _renamed, _folder_renamed]
OF_ONE_THAT_IS_OPEN = [*FATES, _without_what_is_beside_it, _shared_memory_lost]


@pytest.mark.usefixtures("always_looked_at")
@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be taken away")
@pytest.mark.parametrize("fate", OF_ONE_THAT_IS_OPEN)
def test_every_use_of_a_file_that_is_gone_says_so(path, fate, stored):
    with SqliteStore(path) as store:
        lease = stored.create(store, "x")
        fate(path)
        names = set(os.listdir(path.parent)) if path.parent.is_dir() else None
        for use in (
            lambda: store.create(stored.new("y"), stored.entries(1), "a", 60.0),
            lambda: store.append(lease, stored.entries(2)),
            lambda: store.append(lease, stored.entries(3), status="compensating"),
            lambda: store.renew("a", [lease], 60.0),
            lambda: store.release(lease),
            lambda: store.claim("b", 60.0),
            lambda: store.post("x", "{}"),
            lambda: store.purge(updated_before=0.0, status=["completed"]),
            lambda: store.get("x"),
            lambda: store.journal("x"),
            lambda: store.inbox("x"),
            lambda: store.list(),
        ):
            with pytest.raises(StorageError, match=rf"{path}.*was deleted or replaced while it was open"):
                use()
        assert store.append_each([Append(lease, stored.entries(4))]) == [False]
        assert names == (set(os.listdir(path.parent)) if path.parent.is_dir() else None)  # no other was made


@pytest.mark.parametrize("fate", FATES)
def test_sqlalchemys_too(path, fate, stored):
    with SQLAlchemyStore(f"sqlite:///{path}") as store:
        lease = stored.create(store, "x")
        fate(path)
        for use in (lambda: store.append(lease, stored.entries(2)), lambda: store.get("x"), lambda: store.post("x", "{}")):
            with pytest.raises(StorageError, match="was deleted or replaced"):
                use()


@pytest.mark.usefixtures("always_looked_at")
@pytest.mark.parametrize("fate", OF_ONE_THAT_IS_OPEN)
def test_those_who_share_a_commit_are_told(path, fate, stored):
    with SqliteStore(path) as store:
        leases = [stored.create(store, saga_id) for saga_id in "abc"]
        futures = []
        with suppress(StorageError), queueing(store) as submit:  # whoever writes meanwhile is told as well
            futures += [submit(store.append, lease, stored.entries(2)) for lease in leases]
            fate(path)
        assert len(futures) == 3
        for future in futures:
            assert "was deleted or replaced" in str(future.exception())


def test_a_file_that_is_put_back_is_used_again(path, stored):
    with SqliteStore(path) as store:
        lease = stored.create(store, "x")
        os.rename(path, f"{path}.away")
        with pytest.raises(StorageError):
            store.append(lease, stored.entries(2))
        os.rename(f"{path}.away", path)
        assert len(store.journal("x")) == 2


def test_a_file_that_is_gone_when_its_connections_are_opened_again_is_not_made_anew(path, stored):
    with SqliteStore(path) as store:
        stored.create(store, "x")
        store._file._disconnect()  # as before a fork
        stored.create(store, "y")
        store._file._disconnect()
        os.remove(path)
        for use in (lambda: store.get("x"), lambda: stored.create(store, "z")):
            with pytest.raises(StorageError, match="was deleted"):
                use()
    assert not path.exists()


def test_an_execution_whose_file_is_deleted_meanwhile_fails_and_is_not_called_completed(path):
    saga = Saga("order", store=path).add_task(step(lambda: _deleted(path), name="a")).add_task(step(lambda: 1, name="b"))
    with pytest.raises((StorageError, SagaExecutionException), match="was deleted or replaced"):
        saga.execute()
