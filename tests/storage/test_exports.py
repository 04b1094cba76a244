"""The package gives every name its rooms define, and imports nothing that is not asked for."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import saga.storage
from saga.errors import StorageError
from tests.kit.databases import KINDS

NAMES = saga.storage.__all__


def printed(script: str) -> str:
    """Run a script in a process of its own; return what it printed."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def without(monkeypatch: pytest.MonkeyPatch, library: str, extra: str) -> None:
    """Let a library be missing."""
    for name in [name for name in sys.modules if name.split(".")[0] == library or name == f"saga.storage.{extra}"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)


def test_importing_the_stores_imports_no_driver():
    script = """if True:
        import sys, saga
        assert not any(name.startswith("saga.storage") for name in sys.modules), "saga imports stores"
        import saga.storage
        print([name for name in ("psycopg", "sqlalchemy", "pymysql") if name in sys.modules])
    """
    assert printed(script) == "[]"


@pytest.mark.parametrize("name", ["Store", "MemoryStore", "SqliteStore", "open_store"])
def test_a_name_imports_no_driver_it_does_not_need(name):
    script = f"""if True:
        import sys
        from saga.storage import {name}
        print([name for name in ("psycopg", "sqlalchemy") if name in sys.modules])
    """
    assert printed(script) == "[]"


def test_the_memory_store_imports_no_sqlite():
    assert printed("import sys; from saga.storage import MemoryStore; print('sqlite3' in sys.modules)") == "False"


@pytest.mark.parametrize(("name", "library"), [("PostgresStore", "psycopg"), ("SQLAlchemyStore", "sqlalchemy")])
def test_a_store_of_a_server_imports_its_driver(name, library):
    pytest.importorskip(library)
    assert printed(f"import sys; from saga.storage import {name}; print({name}.__name__, {library!r} in sys.modules)") == (
        f"{name} True"
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ANY"])
def test_a_name_is_the_one_of_its_room(name):
    try:
        value = getattr(saga.storage, name)
    except StorageError as error:
        pytest.skip(str(error))
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert name in dir(saga.storage)


def test_a_name_that_does_not_exist_is_missing():
    with pytest.raises(AttributeError, match=r"'saga\.storage' has no attribute 'MongoStore'"):
        _ = saga.storage.MongoStore
    with pytest.raises(ImportError, match="MongoStore"):
        exec("from saga.storage import MongoStore")


@pytest.mark.parametrize(
    ("name", "library", "extra"), [("PostgresStore", "psycopg", "postgres"), ("SQLAlchemyStore", "sqlalchemy", "sqlalchemy")]
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, name, library, extra):
    without(monkeypatch, library, extra)
    with pytest.raises(StorageError, match=rf"needs {library}: pip install 'saga-tasks\[{extra}\]'"):
        exec(f"from saga.storage import {name}")
    assert name in dir(saga.storage)


def test_every_store_is_held_to_the_contract():
    opened = {name for kind in KINDS.values() for name in kind.__code__.co_names}
    forgotten = {name for name in NAMES if name.endswith("Store")} - {"Store"} - opened
    assert not forgotten, f"tests/kit/databases.py: KINDS opens no {forgotten}"


def test_every_store_with_a_library_has_an_extra_and_its_place_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "operations.rst").read_text(encoding="utf-8")
    extras = importlib.metadata.metadata("saga-tasks").get_all("Provides-Extra")
    for name in NAMES:
        if not name.endswith("Store") or name == "Store":
            continue
        module = ast.parse(Path(importlib.import_module(getattr(saga.storage, name).__module__).__file__).read_text())
        imported = {node.module.split(".")[0] for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
        imported |= {
            alias.name.split(".")[0] for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names
        }
        if imported - sys.stdlib_module_names - {"saga"}:
            assert name in saga.storage._EXTRAS, f"saga/storage/__init__.py: _EXTRAS does not say what {name} needs"
            _, extra = saga.storage._EXTRAS[name]
            assert extra in extras, f"setup.cfg has no extra {extra!r} for {name}"
            assert f"saga-tasks[{extra}]" in guide, f"docs/guide/operations.rst does not name saga-tasks[{extra}]"
