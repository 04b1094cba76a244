"""Crash tests: processes that are killed, and what others make of what they left.

``SAGA_CRASH=full`` runs every case on every store. Without it the servers get a sample, the same each time.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Pytest's importlib mode puts nothing there.
sys.path.insert(0, str(Path(__file__).parent))

from crashkit.pool import Pool

from tests.storage import servers

FULL = os.environ.get("SAGA_CRASH") == "full"
SEED = 20240607
pools: dict[str, Pool] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, pool in pools.items():
        terminalreporter.write_line(f"crash tests on {kind}: {pool.cases} cases, {pool.kills} processes killed")


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    pool = Pool(tmp_path_factory.mktemp("crash"))
    pools["SQLite"] = pool
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def server_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    modules = ("saga.storage.postgres", "saga.storage.sqlalchemy", "pymysql", "psycopg")
    pool = Pool(tmp_path_factory.mktemp("crash-servers"), modules=modules)
    pools["servers"] = pool
    yield pool
    pool.close()


# Servers of their own: connections are cut here, and what is left behind stays.


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether every case is run."""
    return FULL


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Return what chooses samples: the same for the same test each time."""
    return random.Random(f"{SEED}/{request.node.nodeid}")
