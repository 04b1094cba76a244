"""What front doors are tried with: functions of either kind, a store, and what a dead process leaves of a saga."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from saga.storage import MemoryStore, Store
from tests.kit import Calls, Crash, crash_everywhere, in_memory_or_sqlite, left_at
from tests.kit.blocks import Blocks


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with in_memory_or_sqlite(request.param, tmp_path) as store:
        yield store


@pytest.fixture
def crashes() -> Callable[..., Iterator[Crash]]:
    return crash_everywhere


@pytest.fixture
def left() -> Callable[..., MemoryStore]:
    return left_at


@pytest.fixture
def blocks(calls: Calls) -> Blocks:
    return Blocks(calls)


@pytest.fixture
def nothing_unawaited() -> Iterator[None]:
    """What is not awaited is closed: Python finds nothing to warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [str(warning.message) for warning in caught if "never awaited" in str(warning.message)]
