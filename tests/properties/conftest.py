"""How hypothesis searches here, and what random cases need."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator

import pytest

import tests.kit.profiles  # noqa: F401
from saga import Retry
from saga.machine import failures


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No waits past the pivot, and nothing logged: much is raised that is to be."""
    monkeypatch.setattr(failures, "_PAST_PIVOT", Retry(sys.maxsize, 0.0))
    logger = logging.getLogger("saga")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """Runs what is asynchronous, one after the other."""
    with asyncio.Runner() as runner:
        yield runner
