"""The plugin for pytest, in runs of its own."""

from __future__ import annotations

import textwrap
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

SHOP = """
from saga import Saga, Task

class Shop:
    def __init__(self):
        self.taken = set()
    def state(self):
        return set(self.taken)

class Take(Task[None]):
    def __init__(self, shop):
        self.shop = shop
    def execute(self, context):
        self.shop.taken.add(context.step.idempotency_key)
    def compensate(self, context):
        self.shop.taken.discard(context.step.idempotency_key)

def order(shop):
    return Saga("order", store="orders.db").add_task(Take(shop))
"""
TEST = """
import pytest
from shop import Shop, order

def test_two_faults(explore):
    assert explore(order, world=Shop).histories == (1, 4, 14)

@pytest.mark.saga(faults=1)
def test_one_fault(explore):
    assert explore(order, world=Shop).histories == (1, 4)

def test_both(explore):
    explore(order, world=Shop, faults=1)
    explore(order, world=Shop, faults=0)
"""
WRONG = SHOP.replace("discard(", "remove(")

PLUGIN = ("-p", "no:saga", "-p", "saga.testing.plugin")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(shop=SHOP, test_shop=TEST)
    pytester.makeini("[pytest]\naddopts = --strict-markers\npythonpath = .\n")
    return pytester


def said(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("saga: ")]
    return line


def test_it_is_there_where_the_package_is_installed() -> None:
    (found,) = entry_points(group="pytest11", name="saga")
    assert found.value == "saga.testing.plugin"


def test_it_says_what_was_explored_and_explores_nothing_twice(project: pytest.Pytester) -> None:
    first = project.runpytest_subprocess(*PLUGIN)
    first.assert_outcomes(passed=3)
    assert said(first) == "saga: 4 explored in 30 histories, 0 unchanged since they were"
    assert said(project.runpytest_subprocess(*PLUGIN)) == "saga: 0 explored in 0 histories, 4 unchanged since they were"
    again = project.runpytest_subprocess(*PLUGIN, "--saga-explore-all")
    assert said(again) == "saga: 4 explored in 30 histories, 0 unchanged since they were"


def test_what_has_changed_anywhere_in_what_it_uses_is_explored_again(project: pytest.Pytester) -> None:
    project.makepyfile(words='NAME = "order"\n', shop=SHOP.replace('Saga("order"', "Saga(NAME") + "from words import NAME\n")
    project.makepyfile(beside="NAME = 1\n")
    project.runpytest_subprocess(*PLUGIN)
    project.makepyfile(beside="NAME = 2\n")
    assert "4 unchanged" in said(project.runpytest_subprocess(*PLUGIN))
    project.makepyfile(words='NAME = "order 2"\n')
    assert "0 unchanged" in said(project.runpytest_subprocess(*PLUGIN))


@pytest.mark.parametrize("importing", ["from words import NAME", "import words; NAME = words.NAME"])
def test_so_is_what_is_imported_when_it_is_called(project: pytest.Pytester, importing: str) -> None:
    shop = SHOP.replace('    return Saga("order"', f"    {importing}\n    return Saga(NAME")
    project.makepyfile(words='NAME = "order"\n', shop=shop)
    project.runpytest_subprocess(*PLUGIN)
    assert "4 unchanged" in said(project.runpytest_subprocess(*PLUGIN))
    project.makepyfile(words='NAME = "order 2"\n')
    assert "0 unchanged" in said(project.runpytest_subprocess(*PLUGIN))


def test_so_is_what_is_given_with_something_else_around_it(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project.makepyfile(
        test_shop="""
        import os
        from functools import partial
        from shop import Shop, order

        def named(name):
            return lambda shop: order(shop) if name else None

        def test_closure(explore):
            explore(named(os.environ["NAME"]), world=Shop, faults=0)

        def test_partial(explore):
            explore(partial(lambda name, shop: order(shop), os.environ["NAME"]), world=Shop, faults=0)
        """
    )
    for name, unchanged in (("a", 0), ("a", 2), ("b", 0)):
        monkeypatch.setenv("NAME", name)
        assert f"{unchanged} unchanged" in said(project.runpytest_subprocess(*PLUGIN))


def test_without_a_cache_all_is_explored(project: pytest.Pytester) -> None:
    for _ in range(2):
        assert "0 unchanged" in said(project.runpytest_subprocess(*PLUGIN, "-p", "no:cacheprovider"))


def test_a_block_is_explored_once_as_long_as_nothing_changes(project: pytest.Pytester) -> None:
    block = """
        from saga import transaction

        def put(shop):
            shop.taken.add(NAME)

        def order(shop):
            with transaction("order") as tx:
                tx.step(put, lambda: shop.taken.clear(), args=(shop,))
    """
    again = "from shop import Shop, order\n\ndef test_block(explore):\n    explore(order, world=Shop)\n"
    for name, explored in (("a", 1), ("a", 0), ("b", 1)):
        project.makepyfile(shop=SHOP + textwrap.dedent(block) + f"\nNAME = {name!r}\n", test_shop=again)
        assert said(project.runpytest_subprocess(*PLUGIN)).startswith(f"saga: {explored} explored in {8 * explored} histories")


def test_a_marker_without_names_is_refused(project: pytest.Pytester) -> None:
    project.makepyfile(test_shop=TEST.replace("saga(faults=1)", "saga(1)"))
    result = project.runpytest_subprocess(*PLUGIN, "-k", "one_fault")
    result.assert_outcomes(errors=1)
    assert "the marker saga takes options by name, such as saga(faults=3)" in result.stdout.str()


def test_a_failure_shows_the_shortest_history_and_none_of_this_packages_lines(project: pytest.Pytester) -> None:
    project.makepyfile(shop=WRONG)
    result = project.runpytest_subprocess(*PLUGIN, "-k", "two_faults")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       assert explore(order, world=Shop).histories == (1, 4, 14)",
            "E       saga.testing.laws.LawBrokenError: saga 'order' breaks a law with 1 fault: compensate fails only*",
            "E * 1  process 1  Take  execute     the process dies  <- dies before",
            "E * replay(order, [[]('Take', 'dies before')[]], world=Shop)",
        ]
    )
    assert "exploring.py" not in result.stdout.str()
    assert not any(line.startswith("saga: ") for line in result.outlines)
    project.runpytest_subprocess(*PLUGIN, "-k", "two_faults").assert_outcomes(failed=1)


def test_the_time_decides_how_deep_it_goes(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_shop="""
        from shop import Shop, order

        def test_deep(explore):
            found = explore(order, world=Shop, histories=200)
            assert found.faults == 9 and len(found.histories) > 3
        """
    )
    project.runpytest_subprocess(*PLUGIN, "--saga-explore=5min").assert_outcomes(passed=1)
    refused = project.runpytest_subprocess(*PLUGIN, "--saga-explore=long")
    refused.stderr.fnmatch_lines(["*--saga-explore=long is no length of time; write one such as 30s, 5min or 1h*"])


def test_processes_of_xdist_are_counted_together(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*PLUGIN, "-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=3)
    assert said(result) == "saga: 4 explored in 30 histories, 0 unchanged since they were"


@pytest.mark.parametrize("processes", [(), ("-p", "xdist", "-n", "2")])
def test_each_history_that_fails_a_test_is_drawn_where_that_is_asked_for(
    project: pytest.Pytester, processes: tuple[str, ...]
) -> None:
    replayed = """
        import pytest
        from saga.testing import replay

        @pytest.mark.parametrize("kind", ["dies before", "dies after"])
        def test_again(kind):
            replay(order, [("Take", kind)], world=Shop)
    """
    project.makepyfile(shop=WRONG, test_shop=TEST + textwrap.dedent(replayed) + "\ndef test_else():\n    assert not order\n")
    result = project.runpytest_subprocess(*PLUGIN, *processes, "--saga-diagrams=drawn/here")
    result.assert_outcomes(failed=5, passed=1)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in (project.path / "drawn" / "here").iterdir()}
    assert sorted(drawn) == [
        "test_shop.py_test_again_dies_before.svg",
        "test_shop.py_test_both.svg",
        "test_shop.py_test_one_fault.svg",
        "test_shop.py_test_two_faults.svg",
    ]
    assert all("Take dies before" in text and "breaks a law" in text for text in drawn.values())
    result.stdout.fnmatch_lines(["*how it went is drawn*", f"{project.path / 'drawn' / 'here' / 'test_shop.py_test_both.svg'}"])
