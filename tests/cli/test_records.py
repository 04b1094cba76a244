"""What ``--json`` and ``--jsonl`` print has the fields that are documented, and no others."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from saga.cli.records import RECORDS, time
from saga.storage import open_store
from saga.storage.records import NewWorker

from .conftest import Cli

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "cli.rst"


def is_meant(meant: str, value: Any) -> bool:
    """Whether a value is what a field is said to be."""
    if meant == "any":
        return True
    if value is None:
        return "null" in meant
    if meant.startswith("time"):
        return datetime.fromisoformat(value).tzinfo is not None and value.endswith("Z")
    if meant.startswith("list of "):
        return all(has_its_fields(meant.removeprefix("list of ").removesuffix(" or null"), one) for one in value)
    if meant.removesuffix(" or null") in RECORDS:
        return has_its_fields(meant.removesuffix(" or null"), value)
    if meant.startswith("true"):
        return isinstance(value, bool)
    kinds = {"text": str, "number": int | float, "list": list, "object": dict}
    return isinstance(value, kinds[meant.removesuffix(" or null")]) and not isinstance(value, bool)


def has_its_fields(kind: str, record: dict[str, Any]) -> bool:
    fields = RECORDS[kind]
    assert set(record) == set(fields) or (kind == "count" and set(record) <= set(fields))
    wrong = {name: value for name, value in record.items() if not is_meant(fields[name], value)}
    assert not wrong, f"{kind}: {wrong}"
    return True


#: By kind of record: a command that prints some, and what a document calls them; ``None``: it is one.
PRINTS: dict[str, tuple[list[str], str | None]] = {
    "execution": (["list"], "executions"),
    "count": (["count", "--by", "name,status,version,fingerprint,step,cause,reason"], "counts"),
    "entry": (["journal", "bad1"], "journal"),
    "acted": (["retry", "bad1", "A1", "nobody", "--why", "open again"], "acted"),
    "result": (["run", "shop:orders", "--input", "inputs.jsonl", "--id", "order"], "results"),
    "submitted": (["submit", "shop:orders", "--input", "inputs.jsonl", "--prefix", "S"], "submitted"),
    "worker": (["workers"], "workers"),
    "version": (["versions"], "versions"),
    "finding": (["doctor"], "findings"),
    "definition": (["check", "shop"], "definitions"),
    "exploration": (["check", "shop", "--explore"], "explorations"),
    "purged": (["purge", "--older-than", "0s", "--yes"], None),
    "swept": (["sweep", "--older-than", "1h", "--yes", "--import", "shop"], None),
    "held": (["hold", "orders", "--why", "no stock"], None),
}


@pytest.mark.parametrize("kind", PRINTS)
def test_a_record_has_its_fields(cli: Cli, here: Path, orders: Any, kind: str) -> None:
    (here / "inputs.jsonl").write_text('{"order": "N1"}\n{"order": "bad9"}\n', encoding="utf-8")
    store = open_store("orders.db")
    store.announce(NewWorker("w", "host", 7, [("orders", "1", "f")], 3), 60.0)
    arguments, name = PRINTS[kind]
    lines = cli(*arguments, "--store", "orders.db", "--jsonl").out.splitlines()
    document = json.loads(cli(*arguments, "--store", "orders.db", "--json").out)
    store.close()
    assert lines
    for record in (*map(json.loads, lines), *([document] if name is None else document[name])):
        assert has_its_fields(kind, record)


def test_the_records_of_what_is_done_once_have_their_fields(cli: Cli, orders: Any) -> None:
    """A signal that nobody reads any more, and what is held no more, are refused."""
    import shop

    shop.asked.submit(saga_id="W", store="orders.db")
    where = ["--store", "orders.db", "--jsonl"]
    assert has_its_fields("acted", json.loads(cli("signal", "W", "approval", "--why", "x", "--import", "shop", *where).out))
    cli("hold", "orders", "--why", "no stock", *where)
    assert has_its_fields("let_go", json.loads(cli("let-go", "orders", *where).out))


def test_the_guide_has_every_field() -> None:
    page = GUIDE.read_text(encoding="utf-8")
    told = {
        kind: dict(re.findall(r"^``(\w+)`` +(\S+(?: \S+)*)(?:  .*)?$", table, re.MULTILINE))
        for kind, table in re.findall(
            r"^``(\w+)``\n\^+\n\n(.*?)(?=^``\w+``\n\^|^\S.*\n[=-]{3,}\n|\Z)", page, re.MULTILINE | re.DOTALL
        )
    }
    assert told == RECORDS


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.5, "1970-01-01T00:00:01.500Z"), (None, None), (0.0, None), (1e300, None), (float("nan"), None)],
)
def test_times_are_iso(seconds: float | None, told: str | None) -> None:
    assert time(seconds) == told
