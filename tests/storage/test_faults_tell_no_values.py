"""A store's error says what went wrong, and nothing of what was to be stored: not in its text, its causes, or a log."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from saga.errors import StorageError
from saga.storage import Append, Store
from saga.storage.sqlalchemy_dialects import without_values
from tests.kit.databases import Opener

SECRET = "tok-4242-SECRET"
PAYLOAD = f'{{"result": "{SECRET}", "quoted": "it\'s ({SECRET})"}}'

BAD_ENTRIES = {
    "no kind": {"kind": None},
    "no time": {"at": None},
    "a number too great": {"seq": 2**70},
    "a surrogate": {"payload": PAYLOAD + "\ud800"},
    "NUL": {"payload": PAYLOAD + "\0"},
    "a kind too long": {"kind": SECRET * 40},
    "no text": {"payload": [SECRET]},
    "stored already": {"seq": 1},
}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield all that an error knows of other errors."""
    seen: set[int] = set()
    found = [error]
    while found:
        one = found.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            found += [one.__cause__, one.__context__, getattr(one, "orig", None)]


def told(error: BaseException) -> str:
    parts = []
    for one in chain(error):
        parts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        if diag := getattr(one, "diag", None):
            parts += [str(getattr(diag, name)) for name in dir(diag) if not name.startswith("_")]
        parts.append(repr(pickle.dumps(one)))
    return "\n".join(parts)


def faults(store: Store, stored: type, what: str) -> Iterator[BaseException]:
    """Yield the errors of everything that stores entries, given a bad one."""
    bad = stored.entry(2, payload=PAYLOAD)._replace(**BAD_ENTRIES[what])
    lease = stored.create(store, "x")
    uses = [
        lambda: store.create(stored.new("y"), [bad, bad] if what == "stored already" else [bad], "a", 60.0),
        lambda: store.append(lease, [bad]),
        lambda: store.append(lease, [stored.entry(3), bad], status="compensating"),
        lambda: store.append(lease, [bad] * 20, taken=[7]),
    ]
    for use in uses:
        try:
            use()
        except Exception as error:
            yield error
    store.append_each([Append(lease, [bad]), Append(lease, [stored.entry(9)])])


@pytest.mark.parametrize("what", BAD_ENTRIES)
def test_no_fault_tells_the_values(opener: Opener, stored, what, caplog):
    caplog.set_level(logging.DEBUG)
    store = opener()
    errors = list(faults(store, stored, what))
    assert errors or opener.kind in ("memory", "sqlite", "sqlalchemy-sqlite", "mariadb")
    for error in errors:
        assert SECRET not in told(error)
        assert "SECRET" not in caplog.text
        assert isinstance(error, StorageError)


def test_a_message_tells_no_values(opener: Opener, stored):
    store = opener()
    stored.create(store, "x")
    for body in (PAYLOAD + "\ud800", PAYLOAD + "\0"):
        error: BaseException | None = None
        try:
            store.post("x", body)
        except StorageError as raised:
            error = raised
        assert error is None or "SECRET" not in told(error)


def test_an_engine_that_logs_hides_the_values(tmp_path, stored, caplog):
    from saga.storage import SQLAlchemyStore

    with SQLAlchemyStore(f"sqlite:///{tmp_path / 'saga.db'}", echo=True) as store:
        store.append(stored.create(store, "x"), [stored.entry(2, payload=PAYLOAD)])
    assert "INSERT INTO saga_journal" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Duplicate entry '{SECRET}' for key 'PRIMARY'", "Duplicate entry '...' for key 'PRIMARY'"),
        (
            "Incorrect string value: '\\xED\\xA0\\x80' for column `x`.`payload`",
            "Incorrect string value: '...' for column `x`.`payload`",
        ),
        (f"Truncated value: '{PAYLOAD[:14]}'.", "Truncated value: '...'."),
        (f"Failing row contains (x, 1, {PAYLOAD}, 2).", "Failing row contains (x, 1, ..., 2)."),
        (f"cannot take {PAYLOAD} here", "cannot take ... here"),
        ("Table 'saga.saga_journal' doesn't exist", "Table 'saga.saga_journal' doesn't exist"),
        ("Data too long for column 'kind' at row 1", "Data too long for column 'kind' at row 1"),
    ],
)
def test_what_a_driver_quotes_is_left_out(text, left):
    class DriverError(Exception):
        pass

    error = sa.exc.DataError("INSERT", [{"id": SECRET, "payload": PAYLOAD, "n": 1}], DriverError(1366, text))
    bare = without_values(error)
    assert type(bare) is DriverError
    assert bare.args == (1366, left)


def test_an_error_that_a_driver_makes_in_another_way_is_told_by_its_name():
    class OddError(Exception):
        def __init__(self) -> None:
            super().__init__("odd", SECRET)

    assert repr(without_values(sa.exc.DataError("INSERT", {"payload": SECRET}, OddError()))) == "RuntimeError('OddError')"
