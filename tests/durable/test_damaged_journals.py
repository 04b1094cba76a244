"""Journals that somebody damaged: each is read right, or is stuck with an error that names the execution and the entry."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, Skip, Status, choose, each, fallback, parallel, step
from saga.errors import StorageError, UnreadableJournalError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, SqliteStore, Store
from tests.kit import PATIENCE, Watched, expired, within
from tests.kit.recoveries import left_behind, simple

CALLS: list[str] = []


def act(name: str, error: Exception | None = None) -> Callable[[Context], Any]:
    def call(context: Context) -> Any:
        CALLS.append(name)
        context[f"by_{name.strip('-')}"] = (name, 1.5)
        if error is not None:
            raise error
        return [name, {"nested": (1, None)}]

    return call


def made(name: str, error: Exception | None = None, **more: Any) -> Any:
    return step(act(name, error), act(f"-{name}"), name=name, **more)


def plain() -> Saga:
    return Saga("plain").add_task(made("a")).add_task(made("b", in_doubt=InDoubt.RERUN)).add_task(made("c"))


def undone() -> Saga:
    failing = made("b", ValueError("no stock"), retry=Retry(2, 0.0), on_error=Skip)
    bad = step(act("c", OSError("down")), step_undo, name="c", compensation_retry=Retry(2, 0.0), compensate_on_failure=True)
    return Saga("undone").add_task(made("a")).add_task(failing).add_task(bad)


def step_undo() -> None:
    raise OSError("the bank is closed")


def grouped() -> Saga:
    way = fallback(made("d", ValueError("no")), made("e"))
    return Saga("grouped").add_task(made("a")).add_task(parallel(made("b"), (made("c"), way))).add_task(made("f"))


def verified() -> Saga:
    lost = step(act("b", ConnectionError("lost")), act("-b"), name="b", verify=lambda: None, in_doubt=InDoubt.ASK)
    return Saga("verified").add_task(made("a", pivot=False)).add_task(lost)


def decided() -> Saga:
    choice = choose(lambda context: "left", {"left": (made("b"), made("c")), "right": made("d")}, name="choice")
    return Saga("decided").add_task(made("a")).add_task(choice).add_task(made("e"))


def listed() -> Saga:
    branch = (made("b"), made("c"))
    return Saga("listed").add_task(made("a")).add_task(each(lambda context: [1, 2], branch, name="all", limit=1))


SAGAS = [plain, undone, grouped, verified, decided, listed]


def recorded(build: Callable[[], Saga]) -> list[Any]:
    """Return what an execution writes that ends by itself."""
    watched = Watched(MemoryStore())
    build().try_execute({"order": {"id": 7, "lines": [1, 2]}}, saga_id="x", store=watched)  # type: ignore[arg-type]
    return watched.writes


# -- what is done to them ---------------------------------------------------------------------------------------------

ODD: list[Any] = [None, True, 0, -1, 2**70, 1e300, "", "x", "\u2028", [], [1], {}, {"$tuple": 1}, {"$object": ["a", 1]}]


def payloads(entry: Entry) -> Iterator[tuple[str, Entry]]:
    """Yield the entry with its payload changed, in every way that can be thought of."""
    whole = json.loads(entry.payload)
    for key in whole:
        without = {other: value for other, value in whole.items() if other != key}
        yield f"without {key}", entry._replace(payload=json.dumps(without))
        for odd in ODD:
            yield f"{key} is {odd!r}", entry._replace(payload=json.dumps({**whole, key: odd}))
    for text in ("", "null", "[]", "7", "NaN", '{"attempt":NaN}', "{", entry.payload[:-1], entry.payload[:9]):
        yield f"the payload is {text!r}", entry._replace(payload=text)
    yield "the payload nests deep", entry._replace(payload="[" * 100_000 + "]" * 100_000)
    yield "the payload is huge", entry._replace(payload='{"attempt":' + "9" * 10_000 + "}")
    yield "a byte is none", entry._replace(payload=entry.payload[:3] + "\udcff" + entry.payload[4:])
    for at in (float("nan"), float("inf"), "noon", -1e30):
        yield f"at is {at!r}", entry._replace(at=at)  # type: ignore[arg-type]
    for kind in ("StepStarted", "StepSucceeded", "SagaCompleted", "SagaStarted", "CompensationSucceeded", "GroupMerged", "?"):
        yield f"kind is {kind}", entry._replace(kind=kind)
    for step_name in (None, "a", "f", "nobody"):
        yield f"step is {step_name!r}", entry._replace(step=step_name)


def numbered(entries: list[Entry]) -> list[Entry]:
    """Return the entries numbered as if nothing were missing."""
    return [one._replace(seq=seq) for seq, one in enumerate(entries, 1)]


def damages(entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the journal, each time damaged otherwise."""
    for place, entry in enumerate(entries):
        before, after = entries[:place], entries[place + 1 :]
        yield f"{entry.seq} is deleted", before + after
        yield f"{entry.seq} is deleted, and nobody sees it", numbered(before + after)
        yield f"{entry.seq} is there twice", numbered([*before, entry, entry, *after])
        yield f"{entry.seq} and those after it are deleted", before
        for other in range(place + 1, len(entries)):
            swapped = list(entries)
            swapped[place], swapped[other] = swapped[other], swapped[place]
            yield f"{entry.seq} and {entries[other].seq} are swapped", numbered(swapped)
        for what, changed in payloads(entry):
            yield f"{entry.seq} ({entry.kind}): {what}", [*before, changed, *after]


def stored(entries: list[Entry], row: Any, status: str) -> MemoryStore:
    """Return a store with this journal, of an execution that nobody runs."""
    store = MemoryStore()
    store._executions["x"] = row._replace(status=status, owner=None, lease_until=0.0, due=0.0, recoveries=0)
    store._journals["x"] = {entry.seq: entry for entry in entries}
    store._inboxes["x"] = {}
    return store


def look(saga: Saga, store: Store, ended: bool) -> None:
    """Look at it in every way there is."""
    operations = Operations(store, "ann")
    assert list(operations.all())
    assert isinstance(operations.show("x").timeline(), str)
    for ask in (
        lambda: saga.load("x", store=store).report(),
        lambda: str(saga.load("x", store=store).history),
        lambda: saga.try_execute({"order": {"id": 7, "lines": [1, 2]}}, saga_id="x", store=store) if ended else None,
    ):
        refusals: list[UnreadableJournalError] = []
        try:
            ask()
        except UnreadableJournalError as error:
            refusals.append(error)
        for refusal in refusals:
            assert "'x'" in str(refusal)
            assert refusal.entry is None or f"entry {refusal.entry}" in str(refusal)


@pytest.mark.parametrize("build", SAGAS)
def test_each_is_read_right_or_stuck_with_the_entry(build: Callable[[], Saga]) -> None:
    writes = recorded(build)
    whole = [entry for write in writes for entry in write.entries]
    clean = MemoryStore()
    expired(clean, writes)
    row = clean.get("x")
    cases = list(damages(whole)) + [(f"died after {n}: {what}", d) for n in (3, 5) for what, d in damages(whole[:n])]
    chosen = cases if os.environ.get("ALL_DAMAGES") else random.Random(7).sample(cases, 400)
    for what, entries in chosen:
        store = stored(entries, row, "running")
        saga = build()
        try:
            look(saga, store, ended=False)
            CALLS.clear()
            recovery = Recovery(store, [saga], max_attempts=1, backoff=0.0)
            within(PATIENCE, recovery.run_once)
            look(saga, store, ended=True)
            found = store.get("x")
            assert found is not None
            assert Status(found.status).terminal, found
            assert found.owner is None
            if found.status == "stuck":
                assert "SagaStuck" in [entry.kind for entry in store.journal("x")]
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
        journal = store.journal("x")
        if journal and UNREAD in journal[-1].payload:
            assert not CALLS, (what, CALLS)  # nobody guesses


@pytest.mark.parametrize("build", SAGAS)
def test_what_happened_once_is_not_believed_twice_nor_before_it_began(build: Callable[[], Saga]) -> None:
    writes = recorded(build)
    whole = [entry for write in writes for entry in write.entries]
    clean = MemoryStore()
    expired(clean, writes)
    row = clean.get("x")
    for place, entry in enumerate(whole):
        if entry.kind in ("RetryScheduled", "SagaStuck"):
            continue
        twice = numbered([*whole[: place + 1], entry])
        with pytest.raises(UnreadableJournalError, match=rf"entry {entry.seq + 1} \({entry.kind}\): it contradicts"):
            build().load("x", store=stored(twice, row, "running"))
        begins = entry.step is not None and entry.kind.endswith("Started")
        if not begins or entry.step not in [one.step for one in whole[place + 1 :]]:
            continue
        late = numbered([*whole[:place], *whole[place + 1 :], entry])
        with pytest.raises(UnreadableJournalError):
            build().load("x", store=stored(late, row, "running"))


UNREAD = "of saga"
"""In the reason of what could not be read."""


# -- in a file --------------------------------------------------------------------------------------------------------

IN_A_FILE = {
    "a byte is none": "UPDATE saga_journal SET payload = CAST(x'7b22ff22' AS TEXT) WHERE seq = 2",
    "a row is cut short": "UPDATE saga_journal SET payload = '{\"att' WHERE seq = 2",
    "a row is missing": "DELETE FROM saga_journal WHERE seq = 1",
    "all rows are missing": "DELETE FROM saga_journal",
}


@pytest.mark.parametrize("damage", IN_A_FILE)
def test_one_that_is_damaged_in_a_file_is_stuck_at_once_and_shown(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "sagas.db"
    with SqliteStore(path) as store:
        left_behind(store, simple)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(IN_A_FILE[damage])
    connection.close()
    with SqliteStore(path) as store:
        assert Recovery(store, [simple()]).run_once() == []
        row = store.get("x")
        assert row is not None
        assert (row.status, row.owner) == ("stuck", None)
        view = Operations(store, "ann").show("x")
        assert "execution 'x' of saga 's': " in view.journal[-1].details["reason"]
        assert isinstance(view.timeline(), str)
        with pytest.raises(UnreadableJournalError):
            simple().load("x", store=store)
        with pytest.raises(UnreadableJournalError):
            Operations(store, "ann", sagas=[simple()]).compensate("x", why="undo what can be undone")


def test_one_that_is_said_to_have_ended_and_has_not_is_told() -> None:
    memory = MemoryStore()
    left_behind(memory, simple)
    memory._executions["x"] = memory._executions["x"]._replace(status="completed")
    for ask in simple().load, lambda saga_id, store: simple().execute(saga_id=saga_id, store=store):
        with pytest.raises(UnreadableJournalError, match="is said to be completed, and its journal ends otherwise"):
            ask("x", store=memory)


def test_a_row_with_a_status_that_there_is_not_is_told() -> None:
    memory = MemoryStore()
    simple().execute(saga_id="x", store=memory)
    memory._executions["x"] = memory._executions["x"]._replace(status="odd")
    with pytest.raises(StorageError, match="execution 'x' is stored with a status that there is not: 'odd'"):
        simple().try_execute(saga_id="x", store=memory)
    with pytest.raises(StorageError, match="a status that there is not"):
        Operations(memory, "ann").cancel("x", why="no")


# -- by another flow --------------------------------------------------------------------------------------------------


def other_flows() -> dict[str, Callable[[], Saga]]:
    """Return flows that say they can finish what ``of("abcd")`` began, and cannot."""

    def of(*flow: Any) -> Callable[[], Saga]:
        def build() -> Saga:
            saga = Saga("s", version="2", compatible_with=["1"])
            for one in flow:
                saga.add_task(one)
            return saga

        return build

    a, b, c, d = (rerun(name) for name in "abcd")
    return {
        "a later step has a branch beside it": of(a, b, parallel(c, d)),
        "earlier steps are branches": of(parallel(a, b), c, d),
        "two steps have changed places": of(b, a, c, d),
        "one that is under way comes first": of(c, a, b, d),
        "the first two and the last two are branches": of(parallel((a, b), (c, d))),
    }


def rerun(name: str) -> Any:
    return step(act(name), act(f"-{name}"), name=name, in_doubt=InDoubt.RERUN)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("flow", other_flows())
def test_a_flow_that_cannot_go_on_runs_nothing_twice_and_ends(flow: str, count: int, store: Store) -> None:
    def old() -> Saga:
        saga = Saga("s")
        for name in "abcd":
            saga.add_task(rerun(name))
        return saga

    left_behind(store, old, count=count)
    succeeded = [entry.step for entry in store.journal("x") if entry.kind == "StepSucceeded"]
    CALLS.clear()
    within(PATIENCE, Recovery(store, [other_flows()[flow]()]).run_once)
    row = store.get("x")
    assert row is not None
    assert Status(row.status).terminal
    assert len(set(CALLS)) == len(CALLS)
    assert not set(CALLS) & set(succeeded)


# -- nothing to do ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_loop", [False, True], ids=["sync", "async"])
def test_one_that_has_nothing_left_to_do_is_stuck_and_can_be_undone(in_loop: bool, store: Store) -> None:
    async def nothing() -> None:
        pass

    def build() -> Saga:
        saga = Saga("s").add_task(step(nothing if in_loop else lambda: None, act("-a"), name="a"))
        return saga.add_task(step(lambda: None, name="b"))

    watched = Watched(MemoryStore())
    build().execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    begun, then = watched.writes[:2]
    expired(store, [begun, replace(then, entries=then.entries[:1])])  # and not that b was to be called
    (result,) = within(PATIENCE, Recovery(store, [build()]).run_once)
    assert result.status is Status.STUCK
    assert "nothing is left to do, and this is not the end" in str(result.reason)
    Operations(store, "ann").compensate("x", why="nobody knows what is missing")
    CALLS.clear()
    (result,) = Recovery(store, [build()]).run_once()
    assert (result.status, CALLS) == (Status.COMPENSATED, ["-a"])
