"""What databases differ in: drivers, clocks, collations, locks."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from saga.errors import StorageError
from saga.storage import sqlalchemy_dialects, sqlalchemy_tables
from saga.storage.sqlalchemy import SQLAlchemyStore


@pytest.fixture
def lite(tmp_path):
    with SQLAlchemyStore(f"sqlite:///{tmp_path / 'saga.db'}") as store:
        yield store


def test_a_missing_driver_is_named():
    with pytest.raises(StorageError, match="needs oracledb: pip install oracledb"):
        SQLAlchemyStore("oracle+oracledb://localhost/x")


@pytest.mark.parametrize("url", ["nonsense://x", "no url", "mysql+nonsense://x"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(StorageError, match="no database"):
        SQLAlchemyStore(url)


def test_a_database_without_a_clock_we_know_gets_ours(lite, stored, monkeypatch):
    monkeypatch.setattr(lite._sql, "clock", None)
    assert lite.now() == pytest.approx(time.time(), abs=1)
    stored.create(lite, "x", lease=-1.0)
    assert lite.claim("b", 60.0)[0].lease_until == pytest.approx(time.time() + 60, abs=1)


@pytest.mark.parametrize(
    ("name", "mariadb", "version", "skips"),
    [
        ("mysql", False, (5, 7, 40), False),
        ("mysql", False, (8, 0, 36), True),
        ("mysql", True, (10, 5, 1), False),
        ("mariadb", True, (10, 6, 0), True),
        ("postgresql", False, (15,), True),
        ("sqlite", False, (3, 40), False),
    ],
)
def test_servers_that_pass_over_locked_rows_are_known(name, mariadb, version, skips):
    dialect = SimpleNamespace(name=name, is_mariadb=mariadb, server_version_info=version)
    assert sqlalchemy_dialects.skips_locked(dialect) is skips


def test_each_dialect_has_its_collation_and_clock():
    def dialect(name, mariadb=False):
        return SimpleNamespace(name=name, is_mariadb=mariadb)

    assert sqlalchemy_tables.Tables("saga", dialect("mysql")).saga.kwargs["mysql_collate"] == "utf8mb4_0900_bin"
    assert sqlalchemy_tables.Tables("saga", dialect("mariadb", True)).saga.kwargs["mariadb_collate"] == "utf8mb4_nopad_bin"
    assert sqlalchemy_tables.Tables("saga", dialect("postgresql")).saga.c.id.type.collation == "C"
    assert sqlalchemy_dialects.clock(dialect("oracle")) is None
