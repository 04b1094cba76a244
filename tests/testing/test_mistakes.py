"""The mistakes that the guide tells of are found, each with a history as short as it says, and what is right keeps the laws."""

from __future__ import annotations

import asyncio
import re
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Task, step
from saga.testing import Fault, Kind, LawBrokenError, explore

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guide" / "mistakes.rst"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "mistakes.py"))


@pytest.fixture(scope="module")
def mistakes(program: dict[str, Any]) -> list[Any]:
    found: list[Any] = program["found"]()
    return found


def test_each_mistake_is_found_with_few_faults_and_soon(mistakes: list[Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^(\S.*)\n-+$", page, re.MULTILINE)
    assert [one.title for one in mistakes] == headings
    assert len(mistakes) > 20
    for one in mistakes:
        assert one.wrong.broken is not None, one.title
        assert len(one.wrong.broken.faults) <= 2, one.title
        assert one.wrong.count <= 15, one.title


def test_what_is_right_keeps_the_laws(mistakes: list[Any]) -> None:
    assert [one.title for one in mistakes if one.right is not None and not one.right.complete] == []


def test_the_table_is_up_to_date(program: dict[str, Any], mistakes: list[Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert program["written"](page, mistakes) == page, "run python docs/mistakes.py"


# -- what it takes to find them -----------------------------------------------------------------------------------------


class Keeping(Task[None]):
    """Keeps what it did: on itself, in a list of its own, or in what was made along with it."""

    def __init__(self, shop: set[str], where: str) -> None:
        self.shop = shop
        self.where = where
        self.did = False
        self.all: list[str] = []

    def execute(self, context: Context) -> None:
        self.shop.add("a")
        if self.where == "itself":
            self.did = True
        elif self.where == "a list":
            self.all.append("a")
        else:
            self.new = True

    def compensate(self, context: Context) -> None:
        if self.did or self.all or hasattr(self, "new"):
            self.shop.discard("a")


@pytest.mark.parametrize("where", ["itself", "a list", "something new"])
def test_what_a_task_object_keeps_dies_with_its_process(where: str) -> None:
    found = explore(lambda shop: Saga("s").add_task(Keeping(shop, where)), world=set, durable=True, check=False)
    assert found.broken is not None
    assert found.broken.faults == (Fault("Keeping", Kind.DIES_AFTER),)
    assert explore(lambda shop: Saga("s").add_task(Keeping(shop, where)), world=set).complete, "nothing dies without a store"


def begins(shop: set[str], ends: bool) -> Saga:
    """Return a saga whose first step begins something that nobody awaits."""

    async def work() -> None:
        while not ends:
            await asyncio.sleep(1.0)
        await asyncio.sleep(5.0)
        shop.add("a")

    begun = []

    async def begin() -> None:
        begun.append(asyncio.create_task(work()))

    async def undo() -> None:
        for one in begun:
            one.cancel()
        shop.discard("a")

    following = step(lambda: None, name="b", in_doubt=InDoubt.RERUN, retry=Retry(2))
    return Saga("s").add_task(step(begin, undo, name="a")).add_task(following)


def test_what_nobody_awaits_ends_after_the_saga_and_dies_with_its_process() -> None:
    assert explore(lambda shop: begins(shop, True), world=set, kinds=["fails"]).complete
    with pytest.raises(LawBrokenError) as broken:
        explore(lambda shop: begins(shop, True), world=set, kinds=["fails", "dies before"], durable=True)
    assert broken.value.history.faults == (Fault("b", Kind.DIES_BEFORE),)
    assert broken.value.history.broken == ("completed leaves the same, however it was come to", "the world: {'a'}, then set()")


def test_what_never_ends_is_cut_off() -> None:
    assert explore(lambda shop: begins(shop, False), world=set, kinds=["fails"]).complete


def test_of_a_history_that_goes_on_and_on_the_first_and_the_last_lines_are_told() -> None:
    def fail() -> None:
        raise ValueError

    handed = step(lambda: None, name="hand over", pivot=True)
    with pytest.raises(LawBrokenError) as broken:
        explore(Saga("s").add_task(handed).add_task(step(fail)))
    lines = str(broken.value).splitlines()
    assert len(lines) < 30
    assert "    ... and 985 more" in lines


def test_an_order_is_told() -> None:
    def saga(shop: list[str]) -> Saga:
        one, two = (step(partial(shop.append, name), shop.clear, name=name) for name in "ab")
        return Saga("s").add_task(one & two)

    with pytest.raises(LawBrokenError, match=r"\n +1 +b +ends first  <- goes first\n"):
        explore(saga, world=list, kinds=["goes first"])
