"""What each client says of each kind of failure, found with the client itself and a real connection, and what the page says.

``SAGA_CLIENTS=write pytest tests/clients`` writes the page anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from saga import LOST_ANSWERS
from tests.clients.matrix import CLIENTS, KINDS, NO_ERROR, Client, Kind, said, say
from tests.clients.peers import Place

CELLS = [(client, kind) for client in CLIENTS for kind in KINDS if kind not in client.lacks]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, str]]]:
    """What is found out here, by client and kind."""
    cells: dict[str, dict[str, str]] = {}
    yield cells
    if os.environ.get("SAGA_CLIENTS") == "write":
        say(cells)


def outcome(client: Client, place: Place) -> str:
    try:
        client.call(place)
    except Exception as error:
        return "unknown" if LOST_ANSWERS(error) else "not done"
    return NO_ERROR


@pytest.mark.parametrize(("client", "kind"), CELLS, ids=lambda one: one.name)
def test_what_a_client_says_of_a_failure(
    client: Client,
    kind: Kind,
    meeting: Callable[[str, Kind], AbstractContextManager[Place]],
    found: dict[str, dict[str, str]],
) -> None:
    with meeting(client.speaks, kind) as place:
        cell = outcome(client, place)
    if cell == "unknown" and cell not in kind.cells:  # nothing was asked for, but the client does not say so
        cell = "unknown (cannot tell)"
    assert cell in kind.cells
    found.setdefault(client.name, {})[kind.name] = cell
    if os.environ.get("SAGA_CLIENTS") != "write":
        assert said()[client.name][kind.name] == cell, "docs: run SAGA_CLIENTS=write pytest tests/clients"


def test_the_page_has_these_and_no_others() -> None:
    page = said()
    assert list(page) == [client.name for client in CLIENTS]
    for client in CLIENTS:
        assert list(page[client.name]) == [kind.name for kind in KINDS]
        assert all((page[client.name][kind.name] == "") == (kind in client.lacks) for kind in KINDS)
