"""One fixture for each kind of store; the contract runs with all of them.

A fixture gives a function that opens the same store again, as another process would, and closes what the test opened.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saga.storage import Store
from tests.kit.databases import KINDS, Opener, Stored, empty


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    kind = request.param
    opener = Opener(kind, lambda: KINDS[kind](request), again=kind != "memory")
    empty(opener())
    yield opener
    opener.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


@pytest.fixture
def stored() -> type[Stored]:
    return Stored
