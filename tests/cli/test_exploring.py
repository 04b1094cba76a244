"""Sagas are explored by the command line: what it says of those that keep the laws, and of those that break one."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli
from .test_records import has_its_fields

STOCK = '''
import os
import signal

from saga import Context, Saga, receive, step, transaction


class Stock(dict):
    """Who has taken how many."""


class Stocks:
    alike = Stock
    made = 0


def interrupted():
    """Make one; a Ctrl-C comes while the fourth is made: that of the second history."""
    Stocks.made += 1
    if Stocks.made == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return Stock()


def unreachable():
    raise OSError("the database is not there")


def take(stock):
    return lambda context: stock.update({context.step.idempotency_key: context.get("count", 1)})


def careful(stock):
    return Saga("careful").add_task(step(take(stock), lambda context: stock.clear(), name="take"))


def careless(stock):
    return Saga("careless").add_task(step(take(stock), lambda context: stock.popitem(), name="take"))


def careful_block(stock):
    with transaction("careful") as tx:
        tx.step(take(stock), lambda context: stock.clear(), name="take")


async def careless_block(stock):
    async with transaction("careless") as tx:
        stock["mail"] = 1
        await tx.astep(take(stock), lambda context: stock.pop(context.step.idempotency_key, 0), name="take")


def closed():
    raise OSError("closed")


def is_empty(stock):
    assert not stock, f"{len(stock)} taken"


def has_completed(stock, result):
    return result.ok


def two():
    return {"count": 2}


class Lone(Saga):
    def __init__(self):
        super().__init__("lone")
        self.add_task(step(print, name="say"))


kept = Saga("kept").add_task(step(lambda: None, closed, name="ship"))
waits = Saga("waits").add_task(receive("approval")).add_task(step(lambda approval: approval["by"], name="send"))
number = 3
'''
WORLD = ["--world", "stock:Stock"]


@pytest.fixture(autouse=True)
def stock(here: Path) -> None:
    (here / "stock.py").write_text(STOCK, encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stock:careful", *WORLD], "✓ 5 histories of careful: 1 step, 4 kinds of faults, up to 2 in each"),
        (["stock:careful_block", *WORLD], "✓ 8 histories of careful: 1 step, 5 kinds of faults, up to 2 in each"),
        (["stock:Lone"], "✓ 3 histories of lone: "),
        (["stock:waits"], "it ends as compensated at step 'send': TypeError: "),
        (["shop:orders", "shop:letters"], "histories of letters: "),
        (["--import", "shop:orders"], "histories of orders: "),
    ],
)
def test_what_keeps_the_laws_is_told_in_a_line(cli: Cli, here: Path, arguments: list[str], says: str) -> None:
    (here / "closed").unlink()
    said = cli("check", "--explore", *arguments)
    assert (said.code, said.err) == (0, "")
    assert says in said.out


@pytest.mark.parametrize(
    ("arguments", "test", "name"),
    [
        (["stock:careless", *WORLD, "--durable"], "[('take', 'dies before')], world=Stock, durable=True", "careless"),
        (["stock:careless", "--world", "stock:Stocks.alike", "--store", "x.db"], "world=Stocks.alike", "careless"),
        (["stock:careful", *WORLD, "--invariant", "stock:is_empty"], "invariant=is_empty", "careful"),
        (["stock:careful", *WORLD, "--at-end", "stock:has_completed"], "at_end=has_completed", "careful"),
        (["stock:kept", "--context", '{"to": "{home}"}'], "[('ship', 'answer lost')], {'to': '{home}'})", "kept"),
        (["stock:kept", "--context", "stock:two"], "[('ship', 'answer lost')], two)", "kept"),
        (["stock"], "[('ship', 'answer lost')])", "kept"),
    ],
)
def test_what_breaks_a_law_is_told_with_a_test_that_fails_so(
    cli: Cli, here: Path, arguments: list[str], test: str, name: str
) -> None:
    said = cli("check", "--explore", *arguments)
    assert said.code == 1
    assert f"saga '{name}' breaks a law" in said.out
    assert f"    replay({name}, " in said.out
    assert test in said.out
    pasted: dict[str, Any] = {}
    exec("if True:\n" + said.out.partition("To see it again:\n")[2].partition("\n✓")[0], pasted)
    (shown,) = (value for key, value in pasted.items() if key.startswith("test_"))
    with pytest.raises(AssertionError, match=f"saga '{name}' breaks a law"):
        shown()


def test_so_is_what_a_block_breaks(cli: Cli, here: Path) -> None:
    said = cli("check", "--explore", "stock:careless_block", *WORLD, "--diagram", "block.svg")
    assert said.code == 1
    assert "block 'careless' breaks a law with 1 fault: undone equals never begun" in said.out
    assert "    replay(careless_block, [('take', 'fails')], world=Stock)" in said.out
    drawn = (here / "block.svg").read_text(encoding="utf-8")
    assert all(text in drawn for text in ("take fails", "breaks a law: undone equals never begun", "mail"))
    pasted: dict[str, Any] = {}
    exec("if True:\n" + said.out.partition("To see it again:\n")[2], pasted)
    (shown,) = (value for key, value in pasted.items() if key.startswith("test_"))
    with pytest.raises(AssertionError, match="block 'careless' breaks a law"):
        shown()


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["careful", *WORLD], {"histories": [1, 2, 2], "faults": 2, "complete": True, "sees_world": True, "failure": None}),
        (["careful"], {"failure": "compensated at step 'take': AttributeError: 'NoneType' object has no attribute 'update'"}),
        (["careful", *WORLD, "--faults", "1"], {"histories": [1, 2], "faults": 1}),
        (["careful", *WORLD, "--seconds", "0s"], {"complete": False, "count": 1}),
        (["careful", *WORLD, "--kind", "fails", "--kind", "undo-fails"], {"kinds": ["fails"]}),
        (["careful", *WORLD], {"has_store": False}),
        (["careful", *WORLD, "--durable"], {"has_store": True}),
        (["careful", *WORLD, "--store", "x.db"], {"has_store": True}),
        (["careful", *WORLD, "--store", "x.db", "--no-durable"], {"has_store": False}),
        (["kept", "--may-fail", "ship"], {"broken": None}),
        (["waits", "--signal", 'approval={"by": "ann"}'], {"failure": None}),
        (["waits", "--signal", "approval=ann"], {"failure": "compensated at step 'send': TypeError: string indices must be"}),
    ],
)
def test_each_option_has_its_effect_and_so_do_records(cli: Cli, arguments: list[str], fields: dict[str, Any]) -> None:
    said = cli("check", "--explore", f"stock:{arguments[0]}", *arguments[1:], "--jsonl")
    found = json.loads(said.out)
    assert has_its_fields("exploration", found)
    for name, value in fields.items():
        assert found[name][: len(value)] == value if isinstance(value, str) else found[name] == value


def test_the_record_of_what_breaks_a_law_has_its_history(cli: Cli) -> None:
    said = cli("check", "--explore", "stock:kept", "stock:waits", "--json")
    assert said.code == 1
    kept, waits = json.loads(said.out)["explorations"]
    assert has_its_fields("exploration", kept)
    assert waits["broken"] is None
    assert kept["broken"]["faults"] == [{"step": "ship", "kind": "answer lost", "call": 1}]
    assert kept["broken"]["law"] == "compensate fails only where a fault makes it fail"
    assert [line["what"] for line in kept["broken"]["lines"]] == ["execute", "compensate"]
    assert kept["broken"]["test"].startswith("from saga.testing import replay\nfrom stock import kept\n")


def test_the_history_that_breaks_a_law_is_drawn(cli: Cli, here: Path) -> None:
    said = cli("check", "--explore", "stock:kept", "--diagram", "kept.svg")
    assert (said.code, said.err) == (1, "saga: wrote kept.svg\n")
    drawn = (here / "kept.svg").read_text(encoding="utf-8")
    for text in ("ship answer lost", "breaks a law: compensate fails", "compensate of ship raised OSError: closed"):
        assert text in drawn
    assert cli("check", "--explore", "stock:waits", "--diagram", "waits.svg").code == 0
    assert not (here / "waits.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--faults", "3"], "--faults is for --explore; give it, too"),
        (["--no-durable"], "--durable is for --explore; give it, too"),
        (["--explore", "--world", "stock:Stok"], "--world: stock has no 'Stok'; did you mean 'Stock' or 'Stocks'?"),
        (["--explore", "--world", "Stock"], "--world is 'Stock'; give it as module:name"),
        (["--explore", "--invariant", "stock:number"], "--invariant: stock:number is 3; give a function, or a class"),
        (["--explore", "--context", "{"], "--context is no JSON: "),
        (["--explore", "--context", "stock:number"], "saga 'kept': the context is 3 (int)"),
        (["--explore", "--kind", "fail"], "there is no kind of fault 'fail'; did you mean 'fails'"),
        (["--explore", "--world", "stock:unreachable"], "exploring stock:kept raised OSError: the database is not there ("),
        (["--explore", "--diagram", "x.svg", "stock:waits"], "--diagram draws one saga; give it as module:saga"),
        (["--explore", "stock:number"], "stock:number has no saga"),
        (["--explore", "stock:Stock"], "returned {}, which is no saga"),
    ],
)
def test_what_is_wrong_is_said(cli: Cli, arguments: list[str], says: str) -> None:
    said = cli("check", "stock:kept", *arguments)
    assert said.code == 2
    assert said.err.startswith("saga: ")
    assert says in said.err


def test_the_command_of_the_guide_prints_what_the_guide_says(cli: Cli, here: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "testing.rst").read_text(encoding="utf-8")
    above, _, below = page.partition(".. _exploring:")[2].partition("In pytest\n")
    code = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", above)
    imports = "from saga import Context, Saga, Task\n"
    (here / "shop.py").write_text(imports + "".join(map(textwrap.dedent, code)), encoding="utf-8")
    found = re.search(r"    \$ saga (.+)\n    (.+)\n", below)
    assert found is not None
    said = cli(*shlex.split(found[1]))
    assert said.code == 0
    assert said.out.endswith(f"{found[2]}\n")


def test_without_a_saga_there_is_nothing_to_explore(cli: Cli) -> None:
    said = cli("check", "--explore")
    assert (said.code, said.err.splitlines()[0]) == (2, "saga: explore what? Give module or module:saga")


def test_an_interrupt_lets_the_history_end_and_breaks_no_law(cli: Cli) -> None:
    said = cli("check", "--explore", "stock:careful", "--world", "stock:interrupted")
    assert said.code == 130
    assert said.err == "saga: stopped after 2 of the histories of stock:careful; no law was broken\n"


@pytest.mark.parametrize("limit", [[], ["--seconds", "1h"]])
def test_a_terminal_sees_how_far_it_has_come(terminal: Callable[..., str], limit: list[str]) -> None:
    seen = terminal("check", "--explore", "stock:careful", *WORLD, *limit)
    assert "[####################] 1/1  stock:careful" in seen or "/3  stock:careful" in seen
    told = "✓ 5 histories of careful: 1 step, 4 kinds of faults, up to 2 in each; it has no store, so no process died "
    assert seen.rpartition("\x1b[K")[2].replace("\n", " ") == told
