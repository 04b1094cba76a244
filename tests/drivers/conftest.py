"""One kit for each way to run a saga: in threads, and in an event loop with ``async def`` or with plain tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saga.storage import Store
from tests.kit import KITS, Kit, in_memory_or_sqlite


@pytest.fixture(params=list(KITS))
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(*KITS[request.param])


@pytest.fixture(params=["threads", "aio-plain"])
def plain_kit(request: pytest.FixtureRequest) -> Kit:
    """A kit whose calls cannot be cancelled."""
    return Kit(*KITS[request.param])


@pytest.fixture
def async_kit() -> Kit:
    """The kit whose calls can."""
    return Kit(*KITS["aio-async"])


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with in_memory_or_sqlite(request.param, tmp_path) as store:
        yield store
