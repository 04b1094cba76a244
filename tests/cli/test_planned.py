"""Definitions are checked and drawn, a store's tables are made, and shells are helped, by the command line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from saga.storage import open_store, schema_sql

from .conftest import Cli


def test_definitions_are_told_with_their_steps(cli: Cli, here: Path) -> None:
    said = cli("check", "shop:asked", "shop:orders")
    assert said.code == 0
    assert "✓ asked 1 (" in said.out
    assert "waits for signal 'approval'" in said.out
    assert "  charge  yes" in said.out


@pytest.mark.parametrize(("version", "code"), [({}, 0), ({"version": "2"}, 3), ({"version": "2", "compatible_with": ["1"]}, 0)])
def test_what_is_stored_and_does_not_fit_is_found_before_a_deploy(
    cli: Cli, here: Path, orders: Any, version: dict[str, Any], code: int
) -> None:
    changed = f"orders = Saga('orders', **{version!r}).add_task(step(print, name='more'))\n"
    text = "from saga import Saga, step\nimport shop\n" + (changed if version else "orders = shop.orders\n")
    (here / "broken.py").write_text(text, encoding="utf-8")
    said = cli("check", "broken", "--store", "orders.db")
    assert said.code == code
    assert ("no definition here fits 3 executions of orders that go on" in said.out) is bool(code)
    (record,) = map(json.loads, cli("check", "broken", "--store", "orders.db", "--jsonl").out.splitlines())
    assert record["left"] == (3 if code else 0)


KEYS = """
from saga import Saga, parallel, step


def look(context):
    raise AssertionError("nothing is called")


charge = step(look, name="charge", requires=["order"], provides=["receipt"])
ship = step(look, name="ship", requires=["receipt"])
right = Saga("right").add_task(charge).add_task(ship)
wrong = Saga("wrong").add_task(ship).add_task(charge)
twice = Saga("twice").add_task(parallel(charge, step(look, name="again", provides=["receipt"])))


class Steps(Saga):
    check = charge  # whatever a saga calls its steps
    flow = check
"""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["right"], 0, "  · step 'charge': key 'order' is left to the input: no step before provides it"),
        (["right", "--given", "order"], 0, "  ✓ each key of the context that a step requires is there"),
        (["Steps", "--given", "order"], 0, "  ✓ each key of the context that a step requires is there"),
        (
            ["wrong"],
            0,
            "  · step 'ship': key 'receipt' is left to the input: no step before provides it; 'charge' provides it,",
        ),
        (
            ["wrong", "--given", "order"],
            1,
            "  ✗ step 'ship': key 'receipt' is missing: neither the input nor a step before has it; 'charge' provides it, and",
        ),
        (["wrong", "--given", "order", "--given", "receipt"], 0, "  ✓ each key of the context that a step requires is there"),
        (["twice"], 1, "  ✗ step 'again': key 'receipt' is in conflict: 'charge' sets it, too, at the same time"),
    ],
)
def test_where_a_step_lacks_a_key_is_told(cli: Cli, here: Path, arguments: list[str], code: int, says: str) -> None:
    (here / "needs.py").write_text(KEYS, encoding="utf-8")
    said = cli("check", f"needs:{arguments[0]}", *arguments[1:])
    assert said.code == code, said.err
    assert says in said.out
    (record,) = map(json.loads, cli("check", f"needs:{arguments[0]}", *arguments[1:], "--jsonl").out.splitlines())
    assert [f"step {one['step']!r}: key {one['key']!r} is {one['what']}: {one['why']}" for one in record["keys"]] == [
        line[4:] for line in said.out.splitlines() if line[4:].startswith("step ")
    ]


def test_keys_between_commas_are_refused(cli: Cli, here: Path) -> None:
    (here / "needs.py").write_text(KEYS, encoding="utf-8")
    said = cli("check", "needs:right", "--given", "order,card")
    assert said.code == 2
    assert "--given order,card is one key; give --given order --given card" in said.err


def test_what_says_nothing_of_keys_is_not_called_well(cli: Cli, here: Path) -> None:
    said = cli("check", "shop:orders", "--given", "order")
    assert said.code == 0
    assert said.out.endswith("\n  no step says which keys of the context it requires or provides\n")
    assert json.loads(cli("check", "shop:orders", "--json").out)["definitions"][0]["keys"] is None


def test_a_key_that_is_none_is_refused(cli: Cli, here: Path) -> None:
    (here / "needs.py").write_text(KEYS, encoding="utf-8")
    assert "given has 'items', an attribute of Context itself" in cli("check", "needs:right", "--given", "items").err
    said = cli("check", "needs:right", "--explore", "--given", "order")
    assert (said.code, "--given is for keys that steps require; give --explore a --context" in said.err) == (2, True)


@pytest.mark.parametrize(("form", "begins"), [("svg", "<svg"), ("mermaid", "flowchart"), ("sequence", "sequenceDiagram")])
@pytest.mark.parametrize("execution", [[], ["--id", "bad1", "--store", "orders.db"]])
def test_a_saga_is_drawn(cli: Cli, here: Path, orders: Any, form: str, begins: str, execution: list[str]) -> None:
    said = cli("diagram", "shop:orders", "--format", form, *execution)
    assert said.code == 0
    assert begins in said.out
    cli("diagram", "shop:orders", "--format", form, "--output", "drawn", *execution)
    assert (here / "drawn").read_text(encoding="utf-8") == said.out.rstrip("\n")
    assert cli("diagram", "shop:orders", "--output", "nowhere/drawn").code == 2


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--store", "x.db"], {"database": Path("x.db")}),
        (["--store", "sqlite"], {"database": "sqlite"}),
        (
            ["--store", "postgresql://ann:secret@h/d", "--schema", "s", "--role", "r"],
            {"database": "postgresql", "schema": "s", "role": "r"},
        ),
        (["--store", "mysql", "--prefix", "jobs"], {"database": "mysql", "prefix": "jobs"}),
    ],
)
def test_the_sql_of_the_tables_is_printed_and_nothing_is_connected_to(
    cli: Cli, here: Path, arguments: list[str], options: dict[str, Any]
) -> None:
    assert cli("schema", "--sql", *arguments).out == schema_sql(options.pop("database"), **options) + "\n"
    assert not list(here.glob("*.db"))
    assert cli("schema", "--sql", "--store", "nosuch").code in (2, 5)


def test_tables_are_made(cli: Cli, here: Path) -> None:
    assert cli("schema", "--store", "new.db").code == 0
    with closing(sqlite3.connect("new.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "saga" in tables
    open_store("new.db").close()


def test_workers_and_versions_are_told(cli: Cli, here: Path, orders: Any) -> None:
    from saga.storage.records import NewWorker

    store = open_store("orders.db")
    store.announce(NewWorker("w", "a host", 77, [("orders", "1", "f")], 3, True), 60.0)
    title, row = cli("workers", "--store", "orders.db").out.splitlines()
    assert title.split() == ["HOST", "PID", "IN", "HAND", "FOR", "SEEN", "STATE", "SAGAS"]
    assert row.split()[2:5] == ["77", "3", "0"]
    assert row.endswith("stopping  orders 1")
    store.withdraw("w")
    store.close()
    assert cli("workers", "--store", "orders.db").out.startswith("no worker lives")
    assert "2 stuck, 1 submitted" in cli("versions", "--store", "orders.db").out


@pytest.mark.parametrize("version", [[], ["--version", "1"]])
def test_a_saga_is_held_and_let_go(cli: Cli, orders: Any, version: list[str]) -> None:
    where = [*version, "--store", "orders.db"]
    whose = "version 1 of saga orders" if version else "saga orders"
    assert cli("hold", "orders", "--why", "no stock", "--who", "ann", *where)[:2] == (0, f"✓ {whose} is held\n")
    assert cli("run", "shop:orders", "--prefix", "H", "--store", "orders.db").code == 2
    assert "ann: no stock" in cli("versions", "--store", "orders.db").out
    wrong = cli("let-go", "order", *where)
    assert (wrong.code, f"; what is: {whose}" in wrong.err) == (2, True)
    assert cli("let-go", "orders", *where)[:2] == (0, f"✓ {whose} is let go\n")
    assert cli("run", "shop:orders", "--prefix", "H", "--store", "orders.db").code == 0


def test_what_is_not_there_yet_is_held_and_that_is_said(cli: Cli, orders: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert cli("hold", "order", "--why", "no stock", "--store", "orders.db").code == 0
    assert "no execution and no worker here is of saga 'order'; did you mean 'orders'?" in caplog.text


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("saga li", {"list"}),
        ("saga list --st", {"--status", "--step", "--store"}),
        ("saga list --status st", {"stuck"}),
        ("saga show --store orders.db b", {"bad1", "bad2"}),
        ("saga retry --store orders.db bad1 u", {"undone"}),
        ("saga journal --store orders.db ''", {"A1", "bad1", "bad2", "undone", "later"}),
        ("saga show --store nothing.db b", set()),
        ("saga show b", set()),
        ("saga check --explore --kind undo-n", {"undo-never-run"}),
    ],
)
def test_a_shell_completes_what_it_can(here: Path, orders: Any, typed: str, completed: set[str]) -> None:
    import shop

    shop.orders.submit(saga_id="bad;ls", store="orders.db")  # which a shell would run
    bash = shutil.which("bash")
    assert bash is not None
    (here / "saga").write_text(f'#!/bin/sh\nexec {sys.executable} -m saga "$@"\n', encoding="utf-8")
    (here / "saga").chmod(0o755)
    words = typed.split(" ")
    script = (
        f'eval "$(saga completion bash)"; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1};'
        ' _saga_completion saga; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(
        [bash, "-c", script], cwd=here, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert set(ran.stdout.split()) == completed, ran.stderr


@pytest.mark.parametrize(("shell", "says"), [("zsh", "#compdef saga"), ("fish", "complete ")])
def test_other_shells_have_a_script_of_their_own(cli: Cli, shell: str, says: str) -> None:
    assert says in cli("completion", shell).out


def test_the_program_is_installed_under_its_name(process: Callable[..., Any]) -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    assert setup["options.entry_points"]["console_scripts"].strip() == "saga = saga.cli:main"
    assert process("--version").stdout.startswith("saga ")
