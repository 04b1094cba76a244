"""An execution that is not there is told apart from a store that cannot be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga import Saga, receive, step
from saga.errors import StorageError, UnknownExecutionError
from saga.operations import Operations
from saga.storage import Store


def saga_with(store: Store) -> Saga:
    return Saga("s", store=store).add_task(step(lambda: 1, name="a")).add_task(receive("go"))


ASKING: dict[str, Callable[[Store, Saga], Any]] = {
    "load": lambda store, saga: saga.load("nobody"),
    "signal": lambda store, saga: saga.signal("nobody", "go"),
    "post": lambda store, saga: store.post("nobody", "{}"),
    "show": lambda store, saga: Operations(store, "me").show("nobody"),
    "cancel": lambda store, saga: Operations(store, "me").cancel("nobody", "why"),
    "compensate": lambda store, saga: Operations(store, "me").compensate("nobody", "why"),
    "resume": lambda store, saga: Operations(store, "me").resume("nobody", "why"),
    "retry": lambda store, saga: Operations(store, "me").retry("nobody", "why"),
    "skip": lambda store, saga: Operations(store, "me").skip("nobody", "a", "why"),
}


@pytest.mark.parametrize("ask", ASKING)
def test_an_execution_that_is_not_there(ask: str, store: Store) -> None:
    with pytest.raises(UnknownExecutionError, match="nobody"):
        ASKING[ask](store, saga_with(store))


@pytest.mark.parametrize("ask", ASKING)
def test_a_store_that_is_closed(ask: str, store: Store) -> None:
    saga = saga_with(store)
    store.close()
    with pytest.raises(StorageError) as caught:
        ASKING[ask](store, saga)
    assert not isinstance(caught.value, UnknownExecutionError)
