"""Large values elsewhere, on every store: put, read, purged and swept, in threads and in an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from saga import Context, Saga, Status, receive, step
from saga.durable.codec import Codec
from saga.durable.elsewhere import keys_in
from saga.operations import Operations
from saga.storage import Store
from tests.kit.shelves import Shelf

LARGE = "a page of the report. " * 100


def write(context: Context) -> str:
    context["report"] = LARGE
    return LARGE


def unwrite(report: str, context: Context) -> None:
    context["undone"] = f"{report}."


def decline(context: Context) -> None:
    raise ValueError("declined")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_large_is_elsewhere(store: Store, asynchronous: bool) -> None:
    shelf = Shelf()
    codec = Codec(blobs=shelf, larger_than=1000)
    saga = Saga("monthly", store=store, codec=codec).add_task(step(write, unwrite)).add_task(receive("paid"))
    saga.add_task(step(decline))

    async def main() -> int:
        await saga.asubmit({"given": f"{LARGE}!"}, saga_id="R1")
        await saga.asignal("R1", "paid", f"{LARGE}?")
        await saga.atry_execute({"given": f"{LARGE}!"}, saga_id="R1")
        begun = (
            await Saga("begun", store=store, codec=codec).add_task(step(write)).aexecute({"given": f"{LARGE}!"}, saga_id="R2")
        )
        assert begun.ok
        return threading.get_ident()

    if asynchronous:
        assert asyncio.run(main()) not in shelf.threads
    else:
        saga.submit({"given": f"{LARGE}!"}, saga_id="R1")
        saga.signal("R1", "paid", f"{LARGE}?")
        saga.try_execute({"given": f"{LARGE}!"}, saga_id="R1")
    result = saga.load("R1")
    assert result.status is Status.COMPENSATED
    assert dict(result.context) == {"given": f"{LARGE}!", "report": LARGE, "undone": f"{LARGE}."}
    assert result.results == {"write": LARGE, "paid": f"{LARGE}?"}
    named = keys_in(entry.payload for saga_id in ("R1", "R2") for entry in store.journal(saga_id))
    assert named == shelf.kept.keys()
    for key in shelf.put_at:
        shelf.put_at[key] -= 3600
    operations = Operations(store, "ann", blobs=shelf)
    assert operations.sweep(older_than=3600) == 0
    assert operations.purge(older_than=0) == (2 if asynchronous else 1)
    assert not shelf.kept
