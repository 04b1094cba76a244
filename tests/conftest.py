"""Fixtures of every folder: gates that end open, what is logged and watched, and the database servers, started once."""

from __future__ import annotations

import gc
import re
import signal
from collections.abc import Callable, Iterator

import pytest

# Their assertions are told as those of tests are.
pytest.register_assert_rewrite("tests.kit")

from tests.kit import Calls, Gate, Watch  # noqa: E402
from tests.storage import servers  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test has the same name in each process: they are shared out by their names."""
    named = [item.nodeid for item in items if re.search("0x[0-9a-f]{6,}", item.nodeid)]
    if named:
        raise pytest.UsageError(f"an address is in the name of {named[0]}: give parametrize(..., ids=...)")


def pytest_collection_finish() -> None:
    """Leave the tests themselves, of which there are many, to no collector: some tests collect garbage at every line."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[pytest.TestReport]:
    """What was printed or logged goes to another process, where tests run side by side: lone surrogates do not."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report  # type: ignore[return-value]


@pytest.fixture
def log() -> list[str]:
    """What was called, in order."""
    return []


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def gates() -> Iterator[Callable[[], Gate]]:
    """Make as many gates as are needed; they are opened at the end, for those who still wait."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(gates: Callable[[], Gate]) -> Gate:
    return gates()


@pytest.fixture(params=["threads", "loop"])
def calls(request: pytest.FixtureRequest, log: list[str]) -> Calls:
    """Plain functions, run in threads; and coroutine functions, run in an event loop."""
    return Calls(request.param == "loop", log)


@pytest.fixture
def plain(log: list[str]) -> Calls:
    """Plain functions, run in threads."""
    return Calls(False, log)


@pytest.fixture
def coroutines(log: list[str]) -> Calls:
    """Coroutine functions, run in an event loop."""
    return Calls(True, log)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here and in child processes, though the tests may have been started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def pooler_url(postgres_url: str) -> Iterator[str]:
    with servers.pgbouncer(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    with servers.redis() as port:
        yield port
