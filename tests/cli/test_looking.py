"""What there is: lists, counts and journals, as text and as records."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga import Saga, Status, step
from saga.cli.commands import COMMANDS
from saga.cli.filters import NAMES, STATUSES
from saga.cli.looking import _changed
from saga.operations import Operations
from saga.storage import SqliteStore
from saga.storage.records import Entry, NewExecution
from tests.kit import until

from .conftest import Cli

HOSTILE = "no stock\nCRITICAL all is lost\r\x85\u2028\x1b[8m\x1b]0;title\x07\u202eDEL\x7f"


def ids(out: str) -> list[str]:
    return [json.loads(line)["saga_id"] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], ["later", "undone", "bad2", "bad1", "A1"]),
        (["--status", "stuck"], ["bad2", "bad1"]),
        (["--status", "stuck", "--status", "completed"], ["bad2", "bad1", "A1"]),
        (["--name", "orders", "--limit", "1"], ["later"]),
        (["--name", "nothing"], []),
        (["--version", "1", "--tag", "order=A1"], ["A1"]),
        (["--step", "charge", "--status", "stuck"], ["bad2", "bad1"]),
        (["--cause", "ValueError"], ["undone"]),
        (["--cause", "OSError"], ["bad2", "bad1"]),
        (["--older-than", "1h"], []),
        (["--newer-than", "1d", "--status", "stuck"], ["bad2", "bad1"]),
        (["--idle-for", "2w"], []),
        (["--all", "--status", "completed"], ["A1"]),
    ],
)
def test_filters_say_which_are_listed(cli: Cli, orders: Any, filters: list[str], found: list[str]) -> None:
    said = cli("list", "--store", "orders.db", "--jsonl", *filters)
    assert (said.code, ids(said.out)) == (0, found)


def test_every_filter_of_operations_is_an_option_and_every_status_a_choice() -> None:
    wanted = set(Operations.list.__kwdefaults__) - {"limit", "after"}
    assert set(NAMES) == wanted
    assert set(STATUSES) == set(Status)


def test_a_list_is_a_table_that_tells_why(cli: Cli, orders: Any) -> None:
    said = cli("list", "--store", "orders.db")
    title, *rows = [line.split() for line in said.out.splitlines()]
    assert title == ["STATUS", "ID", "SAGA", "TAGS", "STEP", "WHY", "SINCE"]
    assert [row[1:3] for row in rows] == [[str(orders[row[2]]), row[2]] for row in rows]
    assert "compensation failed: charge (OSError: the bank is closed)" in said.out


def test_a_page_ends_with_where_the_next_begins(cli: Cli, orders: Any) -> None:
    first = json.loads(cli("list", "--store", "orders.db", "--json", "--limit", "3").out)
    assert [row["saga_id"] for row in first["executions"]] == ["later", "undone", "bad2"]
    told = cli("list", "--store", "orders.db", "--limit", "3")
    assert f"--after {first['next']}" in told.err
    following = cli("list", "--store", "orders.db", "--jsonl", "--after", first["next"])
    assert ids(following.out) == ["bad1", "A1"]


@pytest.mark.parametrize(
    ("columns", "counts"),
    [
        (
            [],
            [
                {"name": "orders", "status": "compensated", "executions": 1},
                {"name": "orders", "status": "completed", "executions": 1},
                {"name": "orders", "status": "stuck", "executions": 2},
                {"name": "orders", "status": "submitted", "executions": 1},
            ],
        ),
        (["--by", "cause", "--status", "stuck"], [{"cause": "OSError", "executions": 2}]),
        (["--by", "name", "--name", "nothing"], []),
    ],
)
def test_executions_are_counted(cli: Cli, orders: Any, columns: list[str], counts: list[dict[str, Any]]) -> None:
    said = cli("count", "--store", "orders.db", "--json", *columns)
    assert json.loads(said.out) == {"counts": counts}
    assert cli("count", "--store", "orders.db", *columns).out.count("\n") == max(len(counts) + 1, 1) - (not counts) + (
        not counts
    )


def test_a_journal_has_a_line_for_each_entry(cli: Cli, orders: Any) -> None:
    kinds = [json.loads(line)["kind"] for line in cli("journal", "bad1", "--store", "orders.db", "--jsonl").out.splitlines()]
    assert kinds[0] == "SagaStarted"
    assert kinds[-1] == "SagaStuck"
    shown = cli("journal", "bad1", "--store", "orders.db", "--last", "2").out.splitlines()
    assert [line.split()[2] for line in shown] == kinds[-2:]


def test_a_terminal_has_every_column_that_there_is_room_for(terminal: Callable[..., str], orders: Any) -> None:
    wide = terminal("list", "--store", "orders.db", columns=160, NO_COLOR="1").splitlines()
    narrow = terminal("list", "--store", "orders.db", columns=60, NO_COLOR="1").splitlines()
    assert wide[0].split() == ["STATUS", "ID", "SAGA", "TAGS", "STEP", "WHY", "SINCE"]
    assert "WHY" not in narrow[0]
    assert narrow[1] == "    WHY"
    assert narrow[narrow.index("    compensation failed: charge (OSError: the bank is") + 1] == "    closed)"
    assert max(map(len, narrow)) <= 60
    assert not any("\x1b" in line for line in (*wide, *narrow))


def test_colours_are_for_terminals_that_want_them(terminal: Callable[..., str], cli: Cli, orders: Any) -> None:
    seen = terminal("list", "--store", "orders.db", "--status", "stuck")
    assert "\x1b[31m" in seen
    assert "✗ stuck" in seen
    assert "\x1b" not in terminal("list", "--store", "orders.db", TERM="dumb")
    assert "\x1b" not in cli("list", "--store", "orders.db").out


def test_a_stream_that_cannot_write_the_marks_has_others(process: Callable[..., Any], orders: Any) -> None:
    import os

    said = process("list", "--store", "orders.db", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert said.returncode == 0
    assert "! stuck" in said.stdout


@pytest.fixture
def hostile(here: Path) -> str:
    def fail() -> None:
        raise ValueError(HOSTILE)

    saga = Saga("s", store="hostile.db", tags=["tag"]).add_task(step(lambda: HOSTILE, fail, name="undo"))
    saga.add_task(step(fail, name="fail"))
    saga.try_execute({"tag": "a\u202eb"}, saga_id="x")
    Operations("hostile.db", "ann\x1b[8m").skip("x", "undo", HOSTILE)
    Operations("hostile.db", "ann\x1b[8m").hold("s", HOSTILE)
    return "hostile.db"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--json"],
        ["count", "--by", "name,reason,cause"],
        ["journal", "x"],
        ["journal", "x", "--jsonl"],
        ["versions"],
        ["workers"],
        ["doctor"],
        ["retry", "x", "--why", HOSTILE],
        ["cancel", HOSTILE, "--why", HOSTILE],
        ["signal", "x", HOSTILE, "--why", HOSTILE],
        ["list", "--after", HOSTILE],
        ["list", HOSTILE],
        [HOSTILE],
        ["check", HOSTILE],
        ["list", "--import", HOSTILE],
    ],
)
def test_no_text_reaches_a_terminal_that_does_more_there_than_stand(cli: Cli, hostile: str, arguments: list[str]) -> None:
    said = cli(*arguments, *(["--store", hostile] if arguments[0] in COMMANDS else []))
    text = said.out + said.err
    assert text
    assert not {one for one in text if one != "\n" and not one.isprintable() and unicodedata.category(one) != "Zs"}
    assert not any(line.startswith("CRITICAL") for line in text.splitlines())


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
def test_what_is_watched_is_told_in_lines_when_it_changes(
    cli: Cli, orders: Any, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    operations = Operations("orders.db", "ann")
    looks = iter([lambda: None, lambda: operations.cancel("later", "x")])

    def between(seconds: float) -> None:
        do = next(looks, None)
        if do is None:
            raise KeyboardInterrupt
        do()

    monkeypatch.setattr("saga.cli.looking.time.sleep", between)
    said = cli("list", "--watch", "0.01s", form, "--status", "submitted", "--status", "compensated", "--store", "orders.db")
    assert said.code == 0
    told = [(one["saga_id"], one["status"]) for one in map(json.loads, said.out.splitlines())]
    assert told == [("later", "submitted"), ("undone", "compensated"), ("later", "compensated")]


def test_a_lease_that_is_renewed_is_no_change(orders: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = Operations("orders.db", "ann").get("bad1")
    known = _changed([row], {})
    assert capsys.readouterr().out.count("\n") == 1
    known = _changed([row._replace(lease_until=9e9, updated=9e9)], known)
    assert not capsys.readouterr().out
    _changed([row._replace(step="pack")], known)
    assert '"step": "pack"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "ids"), [("bad1", ["bad1"]), ("bad", ["bad1", "bad2"]), ("order=bad3", ["undone"]), ("A9", ["later"]), ("no", [])]
)
def test_executions_are_found_by_what_somebody_types(cli: Cli, orders: Any, text: str, ids: list[str]) -> None:
    said = cli("list", text, "--jsonl", "--store", "orders.db")
    assert [json.loads(line)["saga_id"] for line in said.out.splitlines()] == ids
    assert cli("list", text, "--limit", "1", "--json", "--store", "orders.db").code == 0


def test_a_text_that_finds_and_filters_are_not_both(cli: Cli, orders: Any) -> None:
    said = cli("list", "bad1", "--status", "stuck", "--store", "orders.db")
    assert (said.code, "saga show ID tells of one" in said.err) == (2, True)


def test_a_journal_is_broken_between_words_in_a_terminal(terminal: Callable[..., str], orders: Any) -> None:
    lines = terminal("journal", "bad1", "--store", "orders.db", columns=80).splitlines()
    plain = Operations("orders.db", "x").show("bad1").timeline()
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(lines).split() == plain.split()
    assert "e-0" not in plain


@pytest.mark.parametrize("status", ["running", "compensating"])
def test_what_a_dead_process_left_is_told_in_the_list(cli: Cli, orders: Any, status: str) -> None:
    """As its status it has what its journal ends with, but nobody is to take it that somebody runs it."""
    begun = [Entry(1, "SagaStarted", None, "{}", 1.0)]
    with SqliteStore("orders.db") as store:
        for saga_id, lease in (("left", 0.001), ("held", 60.0)):
            store.create(NewExecution(saga_id, "orders", "1", "f", "d", status), begun, "a worker", lease)
        until(lambda: (row := store.get("left")) is not None and row.lease_until < store.now())
    assert "its process is gone" in cli("list", "left", "--store", "orders.db").out
    assert "gone" not in cli("list", "held", "--store", "orders.db").out
