"""With which code a command ends, and what it says of what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga.cli import exits
from saga.cli.commands import COMMANDS

from .conftest import Cli

STORE = ["--store", "orders.db"]
NEEDS = "from saga import Saga\n\nclass Mine(Saga):\n    def __init__(self, shop): super().__init__(shop)\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["find", "A1"], 2, "there is no command 'find': saga list TEXT finds executions"),
        (["schema", "--sql"], 2, "of which dialect? Give --store sqlite"),
        (["lst"], 2, "there is no command 'lst'; did you mean 'list'?"),
        (["list", "--sotre", "x"], 2, "--store"),
        (["list", "--status", "stock", *STORE], 2, "stuck"),
        (["list", "--older-than", "long", *STORE], 2, "'long' is no length of time; write 90s, 5m, 2h, 3d or 1w"),
        (["list", "--tag", "A1", *STORE], 2, "'A1' is no tag; write key=value"),
        (["list", "--after", "nowhere", *STORE], 2, "nowhere"),
        (["list", "--watch", *STORE], 2, "--watch needs a terminal, or --jsonl"),
        (["let-go", "orders", *STORE], 2, "saga orders is not held; nothing is"),
        (["hold", "orders", *STORE], 2, "--why"),
        (["hold", "orders", "--why", " ", *STORE], 2, "give the reason"),
        (["count", "--by", "colour", *STORE], 2, "colour"),
        (["list"], 2, "no store is given; give --store orders.db"),
        (["list", "--store", "nothing.db"], 5, "there is no file 'nothing.db'"),
        (["list", "--store", "postgresql://ann:secret@127.0.0.1:1/orders"], 5, "127.0.0.1"),
        (["list", "--store", "nosql://ann:secret@127.0.0.1:1/orders"], 5, ""),
        (["list", "--store", "host=h password=secret"], 2, "key=value"),
        (["journal", "nobody", *STORE], 4, "there is no execution 'nobody'"),
        (["retry", "nobody", "--why", "x", *STORE], 4, "there is no execution 'nobody'"),
        (["retry", "A1", "--why", "x", *STORE], 2, "the execution has ended (completed); there is nothing to retry"),
        (["retry", "A1", *STORE], 2, "--why"),
        (["retry", "A1", "--why", " ", *STORE], 2, "give the reason"),
        (["retry", "--why", "x", *STORE], 2, "retry which? Give ids, or filters such as --status stuck --name place-order"),
        (["retry", "bad1", "--name", "orders", "--why", "x", *STORE], 2, "give ids, or filters, not both"),
        (["retry", "--status", "stuck", "--why", "x", *STORE], 2, "would be done to 2 executions"),
        (["skip", "bad1", "--why", "x", *STORE], 2, "give --step"),
        (["signal", "later", "approval", "--why", "x", *STORE], 2, "signal needs definitions; give --import module"),
        (["signal", "later", "approval", "--import", "shop", *STORE], 2, "--why"),
        (
            ["signal", "later", "approval", "--why", "x", "--import", "shop:asked", *STORE],
            2,
            "the definition of saga 'orders' is not imported",
        ),
        (["purge", "--older-than", "1d", *STORE], 2, "give --yes"),
        (["worker", *STORE], 2, "worker needs definitions"),
        (["list", "--import", "shp", *STORE], 2, "there is no module 'shp' here or on Python's path"),
        (["list", "--import", "broken", *STORE], 2, "importing 'broken' raised ZeroDivisionError"),
        (["run", "shop:order"], 2, "shop has no 'order'; did you mean 'orders'?; sagas there: orders, letters, asked"),
        (["run", "shop:Path"], 2, "shop:Path has no saga"),
        (["run", "shop"], 2, "shop has 'asked', 'letters', 'orders'; give one of them"),
        (["run", "letter", "--import", "shop"], 2, "there is no saga 'letter'; did you mean 'letters'"),
        (["run", "shop:orders", "--input", "nothing.json"], 2, "nothing.json cannot be read: No such file"),
        (["submit", "shop:orders", "--at", "soon", *STORE], 2, "--at is 'soon'; give a time such as"),
        (["check"], 2, "check what? Give module or module:saga"),
        (["diagram", "shop:orders", "--id", "nobody", *STORE], 4, "nobody"),
        (["schema", "--role", "x", *STORE], 2, "--role are for --sql"),
        (["list", "--store", "sqlite+pysqlite:///nothing.db"], 5, "there is no file 'nothing.db'"),
        (["retry", "A1", "--why", "x", "--who", "", *STORE], 2, "who is ''"),
        (["check", "ends"], 2, "importing 'ends' raised SystemExit: 0"),
        (["check", "needs:Mine"], 2, "Mine cannot be made without more"),
        (["check", "needs"], 2, "needs has no saga"),
        (["demo", "."], 2, "is not empty"),
        (["completion", "tcsh"], 2, "bash"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_without_a_traceback(
    cli: Cli, here: Path, orders: Any, arguments: list[str], code: int, says: str
) -> None:
    (here / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (here / "ends.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (here / "needs.py").write_text(NEEDS, encoding="utf-8")
    said = cli(*arguments)
    assert (said.code, said.out) == (code, ""), said.err
    assert says in said.err
    assert said.err.startswith("saga: ")
    assert "Traceback" not in said.err
    assert "secret" not in said.err
    lines = said.err.splitlines()
    assert len(lines) <= 2
    assert all(line.startswith("      see saga ") for line in lines[1:])


def test_where_an_import_went_wrong_is_said(cli: Cli, here: Path) -> None:
    (here / "broken.py").write_text("from saga import Saga\n\nSaga(1)\n", encoding="utf-8")
    assert "broken.py, line 3)" in cli("check", "broken").err


def test_a_traceback_is_shown_where_it_is_asked_for(cli: Cli, here: Path) -> None:
    said = cli("list", "--store", "nothing.db", "--debug")
    assert said.code == 5
    assert "Traceback" in said.err
    said = cli("list", "--store", "postgresql://ann:secret@127.0.0.1:1/orders?sslpassword=hidden&sslmode=\x1b[2J", "--debug")
    assert "Traceback" in said.err
    assert not [part for part in ("secret", "hidden", "\x1b") if part in said.err]


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], exits.DONE),
        (["completed", "submitted"], exits.DONE),
        (["completed", "compensated"], exits.UNDONE),
        (["stuck", "compensated"], exits.PERSON),
        (["paused"], exits.PERSON),
    ],
)
def test_the_code_says_the_worst_of_several(statuses: list[str], code: int) -> None:
    assert exits.worst(statuses) == code


def test_the_process_ends_with_the_code(here: Path) -> None:
    from saga.cli import main

    for arguments, code in ((["--version"], 0), (["list", "--store", "nothing.db"], 5)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code


def test_help_and_version_are_no_errors(cli: Cli) -> None:
    import saga

    for arguments in ([], ["--help"], *([name, "-h"] for name in COMMANDS)):
        said = cli(*arguments)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("Usage: saga")
    assert cli("--version").out == f"saga {saga.__version__}\n"


def test_a_fault_of_the_command_is_no_outcome_of_an_execution(cli: Cli, here: Path, orders: Any, monkeypatch: Any) -> None:
    from saga.operations import Operations

    def broken(*given: Any, **named: Any) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(Operations, "list", broken)
    said = cli("list", *STORE)
    assert (said.code, said.err) == (70, "saga: a fault of this command: RuntimeError: oh; --debug shows where\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--all"],
        ["list", "--all", "--jsonl"],
        ["list", "--watch", "0.01s", "--limit", "3000", "--jsonl"],
        ["cancel", "--status", "submitted", "--why", "x", "--yes"],
        ["cancel", "--status", "submitted", "--why", "x", "--yes", "--jsonl"],
    ],
)
def test_a_pipe_that_closes_ends_the_command_quietly(here: Path, orders: Any, arguments: list[str]) -> None:
    import subprocess
    import sys

    import shop

    shop.orders.submit_many([{"order": f"A{number}"} for number in range(3000)], store="orders.db")
    listing = [sys.executable, "-m", "saga", *arguments, *STORE]
    with subprocess.Popen(listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert (child.stderr.read(), child.wait(60)) == (b"", 141)


def test_click_is_asked_for_by_its_extra(process: Callable[..., Any], here: Path) -> None:
    (here / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n", encoding="utf-8")
    said = process("list", env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
    assert said.returncode == 2
    assert said.stderr == "saga: the command line needs click: pip install 'saga-tasks[cli]'\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["lst"], ["list", "--help"], ["completion", "bash"]])
def test_what_needs_no_store_loads_no_saga_and_starts_at_once(process: Callable[..., Any], arguments: list[str]) -> None:
    said = process(*arguments, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    loaded = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines() if line.startswith("import time:")}
    assert "saga.cli.commands" in loaded
    heavy = {"asyncio", "sqlite3", "saga.saga", "saga.machine", "saga.operations", "saga.storage", "saga.result"}
    assert not loaded & heavy
    assert arguments != ["--help"] or not loaded & {"saga.cli.looking", "saga.cli.acting", "saga.cli.running"}
