"""How one execution is shown: its steps, what is left of them, errors, and what each action would do."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga import StepStatus
from saga.cli.showing import _STEPS
from saga.events import Status
from saga.operations import Operations

from .conftest import Cli
from .test_records import has_its_fields

STORE = ["--store", "orders.db"]


def test_every_status_has_words() -> None:
    assert _STEPS.keys() == set(StepStatus)
    assert len({(plain, word) for _, plain, word, _ in _STEPS.values()}) == len(_STEPS), "told apart without colour"


@pytest.mark.parametrize(
    ("saga_id", "says"),
    [
        ("A1", ["✓ completed  orders A1", "  tags     order=A1", "✓ charge  done; stands", "saga undo A1 --why ..."]),
        (
            "bad1",
            [
                "✗ stuck  orders bad1",
                "  why      compensation failed: charge (OSError: the bank is closed)",
                "✗ charge  undo failed, a person is asked; may still stand, wholly or in part",
                "      undo: OSError: the bank is closed",
                "✗ pack    failed",
                "pack execute attempt 1: ValueError: no stock",
                "  saga retry bad1 --why ...\n      calls the compensation of 'charge' again",
                "  saga skip bad1 --step charge --why ...",
            ],
        ),
        ("undone", ["↩ compensated", "↩ charge  undone", "WHAT CAN BE DONE\n  nothing: it has ended (compensated)\n"]),
        ("later", ["· submitted", "· charge  not reached", "waits    ", "saga cancel later --why ..."]),
    ],
)
def test_an_execution_is_shown_with_what_can_be_done(cli: Cli, orders: Any, saga_id: str, says: list[str]) -> None:
    said = cli("show", saga_id, "--import", "shop", *STORE)
    assert said.code == 0
    for text in says:
        assert text in said.out, said.out


@pytest.mark.parametrize("saga_id", ["A1", "bad1", "later", "undone"])
def test_every_command_that_is_offered_does_it(cli: Cli, orders: Any, saga_id: str) -> None:
    shown = cli("show", saga_id, "--import", "shop", *STORE)
    offers = re.findall(r"^  saga (.+) --why \.\.\.$", shown.out, re.MULTILINE)
    assert bool(offers) is (saga_id != "undone")
    for number, offer in enumerate(offers[:1]):
        said = cli(*shlex.split(offer), "--why", f"number {number}", "--import", "shop", *STORE)
        assert said.code == 0, said.err


def test_it_is_found_by_a_tag_that_one_has(cli: Cli, orders: Any) -> None:
    import shop

    assert "orders bad1" in cli("show", "order=bad1", *STORE).out
    assert cli("show", "order=nobody", *STORE).code == 4
    shop.orders.submit({"order": "A1"}, saga_id="another", store="orders.db")
    said = cli("show", "order=A1", *STORE)
    assert said.code == 2
    assert "order=A1 may be one of 2 executions; give the id of one" in said.err


def test_it_is_found_by_the_beginning_of_its_id(cli: Cli, orders: Any) -> None:
    assert "orders later" in cli("show", "lat", *STORE).out
    said = cli("show", "bad", *STORE)
    assert said.code == 2
    assert "bad may be one of 2 executions" in said.err
    assert cli("show", "worse", *STORE).code == 4


def test_a_step_says_what_it_waits_for(cli: Cli, here: Path) -> None:
    import shop

    shop.asked.submit(saga_id="q", store="orders.db")
    cli("worker", "--once", "--import", "shop:asked", *STORE)
    assert "▸ approval  begun, and nobody runs it now\n" in cli("show", "q", *STORE).out
    shown = cli("show", "q", "--import", "shop", *STORE).out
    assert "▸ approval  waits for signal 'approval'\n" in shown
    assert "saga signal q approval --value ... --why ..." in shown
    cli("signal", "q", "approval", "--why", "it is fine", "--who", "ann", "--import", "shop", *STORE)
    cli("worker", "--once", "--import", "shop:asked", *STORE)
    assert "  decided  signal 'approval' by ann: it is fine, 0 s ago\n" in cli("show", "q", *STORE).out


def test_a_record_has_all_that_is_shown(cli: Cli, orders: Any) -> None:
    assert has_its_fields("view", json.loads(cli("show", "bad1", "--jsonl", *STORE).out))
    document = json.loads(cli("show", "bad1", "--json", *STORE).out)
    assert all(has_its_fields("entry", entry) for entry in document.pop("journal"))
    assert has_its_fields("view", document)
    assert has_its_fields("cause", json.loads(cli("causes", "--jsonl", *STORE).out))


def test_stuck_ones_are_grouped_by_their_cause(cli: Cli, orders: Any) -> None:
    title, row = cli("causes", *STORE).out.splitlines()
    assert title.split() == ["STUCK", "SAGA", "STEP", "CAUSE", "OLDEST", "SUCH", "AS", "WHY"]
    assert row.split()[:4] == ["2", "orders", "charge", "OSError"]
    assert cli("causes", "--name", "letters", *STORE).out == "nothing is stuck\n"


def test_tracebacks_are_shown_where_asked_for(cli: Cli, orders: Any) -> None:
    assert "Traceback" not in cli("show", "bad1", *STORE).out
    assert "    Traceback (most recent call last):" in cli("show", "bad1", "--traceback", *STORE).out


ODD = """
from saga import Context, OutcomeUnknownError, Retry, Saga, Skip, parallel, step

def lost():
    raise OutcomeUnknownError("no answer")

def twice(context: Context):
    if context.step.attempt == 1:
        raise OSError("busy")
    return "done"

odd = Saga("odd", store="orders.db")
odd.add_task(step(twice, name="again", retry=Retry(3)))
odd.add_task(step(lost, name="extra", on_error=Skip))
odd.add_task(parallel(step(lambda: "left", name="left"), step(lost, lambda: 1 / 0, name="right")))
"""


def test_groups_doubts_retries_and_skipped_steps_are_told_apart(cli: Cli, here: Path) -> None:
    (here / "broken.py").write_text(ODD, encoding="utf-8")
    cli("run", "broken:odd", "--prefix", "x", *STORE)
    shown = cli("show", "x1", "--import", "broken", *STORE).out
    assert re.search(r"^  ✓ again +done; stands; 2 attempts", shown, re.MULTILINE), shown
    assert re.search(r"^  » extra +skipped, in doubt; nobody knows", shown, re.MULTILINE), shown
    assert re.search(r"^  parallel.*\n^  ✗   right +undo failed.*nobody knows", shown, re.MULTILINE), shown


@pytest.mark.parametrize(("form", "ends"), [([], "SagaCompleted"), (["--jsonl"], '"kind": "SagaCompleted"')])
def test_an_execution_is_followed_to_its_end(cli: Cli, here: Path, form: list[str], ends: str) -> None:
    import shop

    shop.orders.submit({"order": "A1"}, saga_id="A1", store="orders.db")
    from saga.worker import Worker

    thread = threading.Timer(0.1, Worker("orders.db", [shop.orders]).run_once)
    thread.start()
    said = cli("show", "A1", "--follow", "--every", "0.02", *form, *STORE)
    thread.join()
    assert said.code == 0
    assert ends in said.out.splitlines()[-1]
    numbers = [json.loads(line)["seq"] if form else int(line.split()[0]) for line in said.out.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(("saga_id", "code"), [("A1", 0), ("undone", 1), ("bad1", 3)])
def test_the_code_of_what_is_followed_says_how_it_ended(cli: Cli, orders: Any, saga_id: str, code: int) -> None:
    assert cli("show", saga_id, "--follow", *STORE).code == code


def test_who_stops_following_is_not_told_that_it_completed(cli: Cli, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saga.cli.showing.time.sleep", interrupted)
    assert cli("show", "later", "--follow", *STORE).code == 130


def test_an_id_like_an_option_is_none_in_the_line_that_is_offered(cli: Cli, here: Path) -> None:
    import shop

    shop.orders.submit({"order": "A1"}, saga_id="--status=stuck", store="orders.db")
    (text,) = re.findall(r"saga (cancel .*)", cli("show", *STORE, "--", "--status=stuck").out)
    assert cli(*STORE, *shlex.split(text)).code == 0
    assert Operations("orders.db", "x").get("--status=stuck").status == "compensated"


def test_a_terminal_has_the_tree_in_colours(terminal: Callable[..., str], orders: Any) -> None:
    seen = terminal("show", "bad1", "--follow", *STORE)
    assert "\x1b[H\x1b[J" in seen
    assert "\x1b[31m  ✗\x1b[0m charge" in seen
    plain = terminal("show", "bad1", *STORE, columns=50, NO_COLOR="1")
    assert "\x1b" not in plain
    assert [line for line in plain.splitlines() if line.startswith("  ✗ charge")] == [
        "  ✗ charge  undo failed, a person is asked; may s…"
    ]


def test_statuses_are_those_that_end() -> None:
    from saga.cli.showing import _ENDED

    assert {str(one) for one in Status if one.terminal} == set(_ENDED)


def test_the_journal_is_the_same_as_operations_show(cli: Cli, orders: Any) -> None:
    lines = cli("journal", "bad1", *STORE).out
    assert lines == Operations("orders.db", "x").show("bad1").timeline() + "\n"
