"""Where the store, the definitions and who acts come from; and that no password is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saga.cli.options import Settings
from saga.operations import Operations

from .conftest import Cli

FILES = {
    "setup.cfg": "[saga]\nstore = orders.db\nimport = shop\nwho = ann 100%\n",
    "pyproject.toml": '[tool.saga]\nstore = "sqlite:///orders.db"\nimport = ["shop"]\nwho = "ann 100%"\n',
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("below", ["", "a/b"])
def test_the_nearest_file_says_what_nothing_else_does(
    cli: Cli, here: Path, orders: Any, monkeypatch: pytest.MonkeyPatch, name: str, below: str
) -> None:
    (here / name).write_text(FILES[name], encoding="utf-8")
    (here / below).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(here / below)
    assert cli("undo", "A1", "--why", "x").code == 0
    acted = Operations(str(here / "orders.db"), "x").show("A1").journal
    assert "ann 100%" in [line.details.get("who") for line in acted]


def test_an_option_goes_before_the_environment_and_that_before_a_file(
    cli: Cli, here: Path, orders: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "setup.cfg").write_text("[saga]\nstore = third.db\n", encoding="utf-8")
    assert "third.db" in cli("list").err
    monkeypatch.setenv("SAGA_STORE", "second.db")
    assert "second.db" in cli("list").err
    assert cli("list", "--store", "orders.db").code == 0
    assert cli("--store", "orders.db", "list").code == 0
    monkeypatch.setenv("SAGA_LIST_LIMIT", "1")
    assert len(cli("list", "--store", "orders.db", "--jsonl").out.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[saga]\nstroe = x\n", "[saga] has 'stroe'; did you mean 'store'?; it takes store, import, who, certificates"),
        ("[saga\n", "setup.cfg cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(cli: Cli, here: Path, text: str, says: str) -> None:
    (here / "setup.cfg").write_text(text, encoding="utf-8")
    said = cli("list")
    assert said.code == 2
    assert says in said.err


@pytest.mark.parametrize(("second", "code"), [("orders.db", 0), ("others.db", 2)])
def test_the_store_of_the_definitions_is_used_where_none_is_given(
    cli: Cli, here: Path, orders: Any, second: str, code: int
) -> None:
    sagas = """
from saga import Saga, step
a = Saga("a", store="orders.db").add_task(step(print))
b = Saga("b", store={!r}).add_task(step(print))
"""
    (here / "broken.py").write_text(sagas.format(second), encoding="utf-8")
    said = cli("count", "--import", "broken")
    assert said.code == code
    assert ("the definitions have several stores; say which: --store" in said.err) is bool(code)


DECLARED = """
from saga import Saga, step

class Declared(Saga):
    flow = step(lambda: "done", name="one")

class _Hidden(Saga):
    flow = step(lambda: "done", name="one")

several = [Saga("first"), Saga("second")]
for one in several:
    one.add_task(step(lambda: 1, name="one"))
"""


def test_a_module_gives_its_sagas_its_classes_of_sagas_and_its_lists(cli: Cli, here: Path) -> None:
    import json

    (here / "broken.py").write_text(DECLARED, encoding="utf-8")
    records = [json.loads(line)["name"] for line in cli("check", "broken", "--jsonl").out.splitlines()]
    assert len(records) == 3
    assert {"first", "second"} < set(records)
    assert cli("run", "broken:Declared").code == 0


@pytest.mark.parametrize("name", ["SAGA_JSON", "SAGA_LIST_JSON"])
def test_the_form_may_stand_in_the_environment(
    cli: Cli, here: Path, orders: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert json.loads(cli("list", "--store", "orders.db").out)["executions"]
    assert len(cli("list", "--store", "orders.db", "--jsonl").out.splitlines()) == 5


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://ann:s3c:ret@db/orders", "no answer from postgresql://ann:s3c:ret@db/orders"),
        ("postgresql://ann:s3%20ret@db/orders", "password 's3 ret' refused"),
        ("postgresql://db/orders?user=ann&password=s3cret", "options password=s3cret"),
        ("orders.db", "another: mysql://ann:s3cret@db/orders"),
        ("orders.db", "another: mysql://ann:1@s3cret@db/orders"),
    ],
)
def test_a_password_is_never_shown(url: str, text: str, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    shown = Settings(store_given=url).hidden(text)
    assert "***" in shown
    assert "s3" not in shown
    monkeypatch.setenv("SAGA_STORE", url)
    assert "s3" not in Settings().hidden(text)
