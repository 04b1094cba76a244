"""Hosts: workers' processes, servers that fall over, networks that are cut. What they leave is audited in the end."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# Pytest's importlib mode puts nothing there.
sys.path.insert(0, str(Path(__file__).parent))

from hostkit.bank import Bank, open_bank
from hostkit.day import Day

from tests.storage import servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short, as that of a socket has to be."""
    folder = Path(tempfile.mkdtemp(prefix="saga-hosts-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bank(folder: Path) -> Iterator[Bank]:
    with open_bank(folder / "bank") as bank:
        yield bank


@pytest.fixture
def own_postgres_url() -> Iterator[str]:
    """A server that nobody else has: connections are lost here, and tables have the names that workers know."""
    with servers.postgres() as url:
        yield url


@pytest.fixture
def day(folder: Path, bank: Bank) -> Iterator[Callable[..., Day]]:
    """Return what begins a day of transfers, for which workers share a store by its URL."""
    with ExitStack() as days:
        yield lambda url, **options: days.enter_context(Day(folder, bank, url, **options))
