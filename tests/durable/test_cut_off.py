"""A call that was cut off at its timeout has ended: whoever reads the journal knows that it does not run any more."""

from __future__ import annotations

import asyncio

import pytest

from saga import InDoubt, Saga, Status, step
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import SHORT, Watched, check_journal, expired


@pytest.mark.parametrize("doubt", [InDoubt.COMPENSATE, InDoubt.RERUN])
def test_a_call_that_was_cut_off_is_undone_once_wherever_the_process_dies(doubt: InDoubt) -> None:
    undone: list[int] = []

    async def slow() -> None:
        await asyncio.sleep(3600)

    def build() -> Saga:
        flow = step(slow, lambda: undone.append(1), name="a", timeout=SHORT, in_doubt=doubt)
        return Saga("s").add_task(flow)

    watched = Watched(MemoryStore())
    whole = build().try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert whole.status is Status.COMPENSATED
    timed_out = next(n for n, write in enumerate(watched.writes) if any(one.kind == "StepTimedOut" for one in write.entries))
    for died_after in range(timed_out + 1, len(watched.writes)):
        store = MemoryStore()
        expired(store, watched.writes[:died_after])
        undone.clear()
        (result,) = Recovery(store, [build()]).run_once()
        check_journal(store.journal("x"))
        assert result.status is Status.COMPENSATED
        assert undone == [1]
        assert "StepFailed" not in [entry.kind for entry in store.journal("x")]
