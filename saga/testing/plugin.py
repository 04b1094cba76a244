"""The plugin for pytest: sagas are explored in tests, and again only where something has changed.

pytest loads it wherever this package is installed, so it imports nothing before a test asks for it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from saga.testing.exploring import Exploration

__all__ = ["explore_fixture", "pytest_addoption", "pytest_configure"]

_TOLD: Final = "saga explored"
_DEEPEST: Final = 9
"""How many faults a history has at most, where only the time limits them."""

_LONGEST: Final = 150
"""How much of a test's name a file has."""

_UNITS: Final = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("saga", "exploring sagas")
    group.addoption(
        "--saga-explore",
        type=_seconds,
        metavar="TIME",
        help="explore each saga for so long (30s, 5min), with more and more faults; up to two, where not given",
    )
    group.addoption("--saga-diagrams", metavar="DIR", help="draw each history that fails a test there, as SVG")
    group.addoption("--saga-explore-all", action="store_true", help="explore what has not changed since it was explored, too")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)?", text)
    if found is None:
        raise pytest.UsageError(f"--saga-explore={text} is no length of time; write one such as 30s, 5min or 1h")
    return float(found[1]) * _UNITS[found[2] or ""]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and begin what is asked for."""
    config.addinivalue_line("markers", "saga(**options): what the fixture `explore` is given besides, such as faults=3")
    config.pluginmanager.register(_Summary(), "saga summary")
    folder = config.getoption("--saga-diagrams")
    if folder is not None:
        config.pluginmanager.register(_Diagrams(config.invocation_params.dir / folder), "saga diagrams")


@pytest.fixture(name="explore")
def explore_fixture(request: pytest.FixtureRequest) -> Callable[..., Exploration]:
    """Explore a saga: as :func:`saga.testing.explore`, with what the test's marker ``saga`` says besides.

    What was explored wholly, and has not changed since, is not explored again: neither the saga, nor any module of the project
    that it comes from or that those use.
    """
    from saga.testing.explored import Place, explore_unless_known

    config, node = request.config, request.node
    marked: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("saga"))):
        if marker.args:
            raise pytest.UsageError(f"{node.nodeid}: the marker saga takes options by name, such as saga(faults=3)")
        marked |= marker.kwargs
    seconds = config.getoption("--saga-explore")
    if seconds is not None:
        marked = {"faults": _DEEPEST, **marked, "seconds": seconds}
    cache = None if config.getoption("--saga-explore-all") else getattr(config, "cache", None)  # -p no:cacheprovider
    conftests = [one for one in config.pluginmanager.get_plugins() if getattr(one, "__file__", "").endswith("conftest.py")]
    times = count(1)

    def explore(saga: Any, context: Any = None, **options: Any) -> Exploration:
        __tracebackhide__ = True
        place = Place(config.rootpath, f"{node.nodeid} {next(times)}", (request.module, *conftests))
        found, known = explore_unless_known(cache, place, saga, context, marked | options)
        node.user_properties.append((_TOLD, [found.count, known]))
        return found

    return explore


class _Summary:
    """Says at the end what was explored, in whichever process."""

    def __init__(self) -> None:
        self._explored = self._histories = self._known = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties if report.when == "call" else ():
            if name == _TOLD:
                self._take(*cast(Any, value))

    def _take(self, histories: int, known: bool) -> None:
        if known:
            self._known += 1
        else:
            self._explored += 1
            self._histories += histories

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._explored or self._known:
            some = f"{self._explored} explored in {self._histories:,} histories"
            terminalreporter.write_line(f"saga: {some}, {self._known} unchanged since they were")


class _Diagrams:
    """Draws the histories that fail tests, whichever way these came to them.

    :param folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        laws = sys.modules.get("saga.testing.laws")
        if report.failed and call.excinfo is not None and laws is not None:
            error = call.excinfo.value
            if isinstance(error, laws.LawBrokenError):
                name = re.sub(r"[^\w.-]+", "_", item.nodeid).strip("_")[-_LONGEST:]
                path = self._folder / f"{name}.svg"
                self._folder.mkdir(parents=True, exist_ok=True)
                path.write_text(error.history.diagram().svg(), encoding="utf-8")
                report.sections.append(("how it went is drawn", str(path)))
        return report
