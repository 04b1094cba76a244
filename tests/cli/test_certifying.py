"""Tasks are certified by the command line, and definitions say which of theirs are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saga.cli.shown import Progress

from .conftest import Cli
from .test_records import has_its_fields

STOCK = """
from saga import Context, Saga, receive, step


class Shop(dict):
    pass


def unreachable():
    raise OSError("the database is not there")


def ship(shop):
    return lambda context: shop.update(shipped=context.count)


def sound(shop):
    ships = step(ship(shop), lambda: shop.pop("shipped", None), name="ship")
    return Saga("sound").add_task(receive("ok")).add_task(ships)


def pay(shop):
    shop["paid"] = shop.get("paid", 0) + 1


def refund(shop):
    shop["paid"] -= 1


def unsound(shop):
    return Saga("unsound").add_task(step(lambda: pay(shop), lambda: refund(shop), name="pay"))


saga = unsound(Shop()).add_task(step(lambda: None, name="tell"))
empty = Saga("empty")
"""
FILE = "saga-certificates.json"
SOUND = ("certify", "stock:sound", "--world", "stock:Shop", "--context", '{"count": 2}', "--signal", "ok=1")
UNSOUND = ("certify", "stock:unsound", "--world", "stock:Shop")


@pytest.fixture
def stock(here: Path) -> Path:
    (here / "stock.py").write_text(STOCK, encoding="utf-8")
    return here


def test_a_terminal_sees_how_far_it_has_come(cli: Cli, stock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, str, int | None]] = []
    monkeypatch.setattr(Progress, "show", lambda self, done, how, total=None: shown.append((done, how, total)))
    assert cli(*SOUND).code == 0
    assert shown == [(1, "stock:sound", 1)]


def test_tasks_are_certified_and_what_is_wrong_is_told(cli: Cli, stock: Path) -> None:
    said = cli(*SOUND)
    assert said == (0, "✓ sound/ship: 3 of 3 measurements hold\n", f"saga: wrote {FILE}\n")
    said = cli(*UNSOUND)
    assert said.code == 1
    assert said.out.splitlines() == [
        "✗ unsound/pay: 0 of 3 measurements hold",
        "    undo restores the world: paid: nothing, then 0",
        "    undo twice does no harm: paid: 0, then -1",
        "    undo alone does no harm: compensate raised KeyError: 'paid'",
    ]
    kept = json.loads((stock / FILE).read_text(encoding="utf-8"))
    assert [one["saga"] for one in kept] == ["sound", "unsound"]


def test_a_certificate_has_its_fields(cli: Cli, stock: Path) -> None:
    (line,) = cli(*UNSOUND, "--jsonl").out.splitlines()
    assert has_its_fields("certificate", json.loads(line))
    assert json.loads(cli(*UNSOUND, "--json").out)["certificates"] == [json.loads(line)]


@pytest.mark.parametrize("where", ["an option", "the environment", "a file"])
def test_which_tasks_are_not_certified_is_told_and_drawn(
    cli: Cli, stock: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    cli(*UNSOUND, "--certificates", "kept.json")
    given = ["--certificates", "kept.json"] if where == "an option" else []
    if where == "the environment":
        monkeypatch.setenv("SAGA_CERTIFICATES", "kept.json")
    elif where == "a file":
        (stock / "setup.cfg").write_text("[saga]\ncertificates = kept.json\n", encoding="utf-8")
    said = cli("check", "stock:saga", *given)
    assert said.code == 0
    assert [" ".join(line.split()) for line in said.out.splitlines()[2:]] == [
        "pay yes certificate failed",
        "tell no not certified",
        "✗ pay: undo restores the world: paid: nothing, then 0",
        "✗ pay: undo twice does no harm: paid: 0, then -1",
        "✗ pay: undo alone does no harm: compensate raised KeyError: 'paid'",
        "✗ 2 of 2 tasks not certified; saga certify measures them",
        "no step says which keys of the context it requires or provides",
    ]
    assert cli("check", "stock:saga", "--strict", *given).code == 1
    assert "✗ certificate failed" in cli("diagram", "stock:saga", *given).out
    (record,) = map(json.loads, cli("check", "stock:saga", "--jsonl", *given).out.splitlines())
    assert record["certificates"] == {"pay": "certificate failed", "tell": "not certified"}
    assert has_its_fields("definition", record)


def test_what_is_certified_passes_a_strict_check_until_it_changes(cli: Cli, stock: Path) -> None:
    cli(*SOUND)
    text = STOCK + "\nsaga = sound(Shop())\n"
    for name, changed, code in (("needs", text, 0), ("waits", text.replace("None), name", "0), name"), 1)):
        (stock / f"{name}.py").write_text(changed, encoding="utf-8")
        said = cli("check", f"{name}:saga", "--certificates", FILE, "--strict")
        assert (said.code, "certificate stale" in said.out) == (code, bool(code))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["certify", "--world", "stock:Shop"], "certify what? Give module or module:saga"),
        (["certify", "stock:sound"], "Missing option '--world'"),
        (["certify", "stock:sound", "--world", "stock:unreachable"], "raised OSError: the database is not there"),
        ([*UNSOUND, "--certificates", "nowhere/x.json"], "nowhere/x.json cannot be written: No such file or directory"),
        (["check", "stock:saga", "--certificates", "none.json"], "none.json cannot be read: No such file or directory; saga"),
        (["check", "stock:saga", "--strict"], "--strict is for certificates; give --certificates FILE, too"),
        (["diagram", "stock:saga", "--certificates", "stock.py"], "stock.py is no file of certificates"),
    ],
)
def test_what_cannot_be_is_said(cli: Cli, stock: Path, arguments: list[str], says: str) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert says in said.err
