"""What a person does: to executions by their ids, and to many that filters find."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga.cli.commands import COMMANDS
from saga.machine import ACTIONS
from saga.operations import Operations

from .conftest import Cli

STORE = ["--store", "orders.db"]


def acted(saga_id: str) -> list[tuple[str, str, str]]:
    journal = Operations("orders.db", "a test").show(saga_id).journal
    return [(one.details["action"], one.details["who"], one.details["why"]) for one in journal if one.kind == "OperatorActed"]


def test_every_action_is_a_command() -> None:
    assert ACTIONS.keys() <= {name for name, listed in COMMANDS.items() if listed.module == "acting"}


@pytest.mark.parametrize(
    ("action", "saga_id", "more", "status"),
    [
        ("cancel", "later", [], "compensated"),
        ("pause", "later", [], "paused"),
        ("compensate", "bad1", [], "compensating"),
        ("retry", "bad1", [], "compensating"),
        ("skip", "bad1", ["--step", "charge"], "compensating"),
        ("undo", "A1", ["--import", "shop"], "compensating"),
        ("undo", "A1", ["--import", "shop", "--to", "charge"], "compensating"),
    ],
)
def test_an_action_is_in_the_journal_with_who_and_why(
    cli: Cli, orders: Any, action: str, saga_id: str, more: list[str], status: str
) -> None:
    said = cli(action, saga_id, "--why", "ticket 4711", "--who", "ann", *more, *STORE)
    assert said.code == 0, said.err
    assert said.out == f"✓ {action} {saga_id}\n"
    assert acted(saga_id) == [(action, "ann", "ticket 4711")]
    assert Operations("orders.db", "a test").get(saga_id).status == status


def test_what_was_paused_is_resumed(cli: Cli, orders: Any) -> None:
    cli("pause", "later", "--why", "wait", *STORE)
    assert cli("resume", "later", "--why", "go on", *STORE).code == 0
    assert [action for action, *_ in acted("later")] == ["pause", "resume"]


@pytest.mark.parametrize(("form", "says"), [("--json", {"acted": []}), ("--jsonl", None)])
def test_nothing_that_is_found_is_json_too(cli: Cli, orders: Any, form: str, says: object) -> None:
    said = cli("retry", "--name", "nobody's", "--why", "x", "--yes", form, *STORE)
    assert (said.code, json.loads(said.out or "null"), said.err) == (0, says, "no executions\n")


def test_one_that_is_refused_keeps_no_other(cli: Cli, orders: Any) -> None:
    said = cli("retry", "A1", "nobody", "bad1", "--why", "open again", *STORE)
    assert said.code == 3
    assert said.out.splitlines() == [
        "✗ retry A1: the execution has ended (completed); there is nothing to retry",
        "✗ retry nobody: there is no execution 'nobody'",
        "✓ retry bad1",
        "1 done, 2 refused",
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--status", "stuck"], {"bad1", "bad2"}),
        (["--name", "orders"], {"bad1", "bad2"}),  # of those only, that the action can fit
        (["--cause", "OSError", "--limit", "1"], {"bad2"}),
        (["--tag", "order=bad1"], {"bad1"}),
        (["--name", "nothing"], set()),
    ],
)
def test_an_action_on_all_that_filters_find(cli: Cli, orders: Any, filters: list[str], found: set[str]) -> None:
    said = cli("retry", *filters, "--why", "open again", "--yes", "--jsonl", *STORE)
    assert said.code == 0
    if found:
        assert {json.loads(line)["saga_id"] for line in said.out.splitlines()} == found
    assert {saga_id for saga_id in orders if acted(saga_id)} == found


def test_a_step_that_is_skipped_is_the_one_filtered_by(cli: Cli, orders: Any) -> None:
    assert cli("skip", "--status", "stuck", "--step", "charge", "--why", "by hand", "--yes", *STORE).code == 0
    assert [acted(saga_id)[0][0] for saga_id in ("bad1", "bad2")] == ["skip", "skip"]


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False)])
def test_many_are_shown_and_asked_for_first(terminal: Callable[..., str], orders: Any, answer: str, done: bool) -> None:
    seen = terminal("retry", "--status", "stuck", "--why", "open again", *STORE, answer=answer, NO_COLOR="1")
    assert "bad2" in seen
    assert "\x1b" not in seen
    assert "of bad2, for one, it calls the compensation of 'charge' again; where that goes" in seen
    assert "retry all these 2, for 'open again'? [y/N]" in seen
    assert ("nothing was done" in seen) is not done
    assert bool(acted("bad1")) is done


TWO_UNDOS = """
from saga import Saga, step

def fail():
    raise KeyError("no stock")

def refused():
    raise OSError("the account is closed")

both = Saga("both", store="orders.db").add_task(step(int, fail, name="reserve"))
both.add_task(step(int, refused, name="charge")).add_task(step(fail, name="ship"))
"""


def test_a_step_is_skipped_wherever_a_person_is_asked_about_it(
    terminal: Callable[..., str], cli: Cli, orders: Any, here: Path
) -> None:
    (here / "broken.py").write_text(TWO_UNDOS, encoding="utf-8")
    cli("run", "broken:both", "--prefix", "t", *STORE)
    skip = ["skip", "--status", "stuck", "--step", "charge", "--why", "paid by cheque", *STORE]
    seen = terminal(*skip, answer="n\n", columns=200)
    assert all(saga_id in seen for saga_id in ("bad1", "bad2", "t1"))
    assert "skip step 'charge' of all these 3, for 'paid by cheque'? [y/N]" in seen
    assert cli(*skip, "--yes").out.endswith("3 done\n")
    (decision,) = Operations("orders.db", "x").show("t1").decisions
    assert (decision.step, decision.why) == ("charge", "paid by cheque")


@pytest.mark.parametrize(
    ("text", "form", "code", "done"),
    [
        ("bad1\n\n bad2 \n", "file", 0, {"bad1", "bad2"}),
        ("bad2\n", "-", 0, {"bad2"}),
        ('{"saga_id": "bad1", "status": "stuck"}\n', "-", 0, {"bad1"}),
        ("A1\nbad1\n", "-", 3, {"bad1"}),
        ('{"id": "bad1"}\n', "-", 2, set()),
        ("", "-", 0, set()),
    ],
)
def test_ids_may_be_in_a_file(
    cli: Cli, here: Path, orders: Any, monkeypatch: pytest.MonkeyPatch, text: str, form: str, code: int, done: set[str]
) -> None:
    (here / "file").write_text(text, encoding="utf-8")
    with open(here / "file", encoding="utf-8") as given:
        monkeypatch.setattr("sys.stdin", given)
        assert cli("retry", "--ids", form, "--why", "open again", *STORE).code == code
    assert {saga_id for saga_id in orders if acted(saga_id)} == done


def test_who_acts_is_told_who_carries_it_out_and_how_to_see_what_comes_of_it(cli: Cli, orders: Any) -> None:
    from saga.storage import open_store
    from saga.storage.records import NewWorker

    assert cli("cancel", "later", "--why", "x", *STORE).err == "it is compensated\n"
    said = cli("retry", "bad1", "--why", "open again", *STORE)
    assert said.err == (
        "no worker lives that carries it out: start saga worker; saga show --follow bad1 tells what comes of it\n"
    )
    store = open_store("orders.db")
    store.announce(NewWorker("w", "host", 7, [("orders", "1", "f")], 3), 60.0)
    store.close()
    said = cli("retry", "bad2", "--why", "open again", *STORE)
    assert said.err == ("a worker carries it out, or whoever runs it now; saga show --follow bad2 tells what comes of it\n")


def test_nothing_is_deleted_without_a_word(terminal: Callable[..., str], orders: Any) -> None:
    seen = terminal("purge", "--older-than", "0", *STORE, answer="n\n")
    assert "delete executions that are completed or compensated and were last written at least 0 s ago?" in seen
    assert Operations("orders.db", "a test").get("A1")


def test_what_ended_is_purged(cli: Cli, orders: Any) -> None:
    assert cli("purge", "--older-than", "1h", "--yes", *STORE).out == "0 deleted\n"
    assert cli("purge", "--older-than", "0", "--status", "completed", "--yes", *STORE).out == "1 deleted\n"
    assert json.loads(cli("purge", "--older-than", "0", "--yes", "--json", *STORE).out) == {"deleted": 1}


def test_what_is_elsewhere_and_named_by_nothing_is_swept(
    cli: Cli, terminal: Callable[..., str], here: Path, orders: Any
) -> None:
    import shop

    blobs = shop.asked.codec.blobs
    for number in range(2):
        blobs.put(f"gone/{number:032x}", b"x")
    (old,) = (here / "blobs").rglob("*0.blob")
    os.utime(old, (0, 0))
    said = cli("sweep", "--older-than", "1d", *STORE)
    assert (said.code, said.out) == (2, "")
    assert "give --yes" in said.err
    known = ("--import", "shop", *STORE)
    assert "that no execution in this store names?" in terminal("sweep", "--older-than", "1d", *known, answer="n\n")
    assert old.exists()
    assert "no blobs are known" in cli("sweep", "--older-than", "1d", "--yes", *STORE).err
    assert "give an hour" in cli("sweep", "--older-than", "1m", "--yes", *known).err
    assert cli("sweep", "--older-than", "1d", "--yes", *known).out == "1 deleted\n"
    assert not old.exists()
    assert json.loads(cli("sweep", "--older-than", "1d", "--yes", "--json", *known).out) == {"deleted": 0}


@pytest.mark.parametrize(
    ("given", "sent"), [([], None), (["--value", '{"by": "ann"}'], {"by": "ann"}), (["--value", "yes!"], "yes!")]
)
def test_a_signal_is_sent_with_its_value(cli: Cli, here: Path, orders: Any, given: list[str], sent: Any) -> None:
    import shop

    shop.asked.submit(saga_id="q", store="orders.db")
    assert cli("worker", "--once", "--import", "shop:asked", *STORE).code == 0
    said = cli("signal", "q", "approval", *given, "--why", "on the phone", "--import", "shop", *STORE)
    assert (said.code, said.out) == (0, "✓ signal approval to q\n")
    assert cli("worker", "--once", "--import", "shop:asked", *STORE).code == 0
    assert shop.asked.load("q", store="orders.db").results["approval"] == sent
    (line,) = [line for line in Operations("orders.db", "x").show("q").journal if line.kind == "SignalReceived"]
    assert (line.details["why"], bool(line.details["who"])) == ("on the phone", True)
