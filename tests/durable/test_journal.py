"""The journal: what is stored when, and how little of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Retry, Saga, Skip, Status, parallel, sequence, step
from saga.durable.codec import Codec
from saga.durable.entries import read_entries, write_entries
from saga.events import SagaCompensating, StepFailed
from saga.storage import Entry, SqliteStore, Store
from tests.kit import Watched, check_journal, journal_of, told, until


def chain(count: int, log: list[str] | None = None) -> Saga:
    saga = Saga("chain")
    for n in range(count):
        saga.add_task(step(lambda n=n: n, (lambda: None) if log is None else None, name=f"s{n}"))
    return saga


def transactions(watched: Watched) -> list[list[str]]:
    return [[told(entry) for entry in write.entries] for write in watched.writes]


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_n_steps_cost_n_and_one_commits(count: int, watched: Watched) -> None:
    assert chain(count).execute(store=watched).ok  # type: ignore[arg-type]
    assert watched.calls == ["create"] + ["append"] * count


def test_each_commit_has_an_outcome_and_the_next_intent(watched: Watched) -> None:
    chain(3).execute(store=watched)  # type: ignore[arg-type]
    assert transactions(watched) == [
        ["SagaStarted", "StepStarted s0"],
        ["StepSucceeded s0", "StepStarted s1"],
        ["StepSucceeded s1", "StepStarted s2"],
        ["StepSucceeded s2", "SagaCompleted"],
    ]
    assert [(write.status, write.release) for write in watched.writes] == [
        (None, False),
        (None, False),
        (None, False),
        ("completed", True),
    ]


def test_an_undo_costs_one_commit_for_each_compensation_and_begins_with_its_intent(watched: Watched) -> None:
    def fail() -> None:
        raise ValueError

    saga = chain(2).add_task(step(fail, name="bad"))
    assert saga.try_execute(store=watched).status is Status.COMPENSATED  # type: ignore[arg-type]
    assert transactions(watched)[3:] == [
        ["StepFailed bad", "SagaCompensating bad", "CompensationStarted s1"],
        ["CompensationSucceeded s1", "CompensationStarted s0"],
        ["CompensationSucceeded s0", "SagaCompensated"],
    ]
    assert [write.status for write in watched.writes[3:]] == ["compensating", None, "compensated"]


def test_the_intents_of_a_group_share_a_commit_and_its_join_has_none_of_its_own(watched: Watched) -> None:
    branches = parallel(
        step(lambda: 1, name="b"), sequence(step(lambda: 2, name="c1"), step(lambda: 3, name="c2")), step(lambda: 4, name="d")
    )
    saga = Saga("s").add_task(step(lambda: 0, name="a")).add_task(branches).add_task(step(lambda: 5, name="e"))
    assert saga.execute(store=watched).ok  # type: ignore[arg-type]
    told_of = transactions(watched)
    assert told_of[1] == ["StepSucceeded a", "StepStarted b", "StepStarted c1", "StepStarted d"]
    joined = next(commit for commit in told_of if "GroupMerged" in commit)
    assert joined[1:] == ["GroupMerged", "StepStarted e"]
    assert joined[0].startswith("StepSucceeded ")
    assert len(told_of) == len(saga.plan.steps) + 1
    assert set(watched.calls) == {"create", "append"}


def test_nested_groups_that_end_together_end_in_one_commit(watched: Watched) -> None:
    def slow() -> None:
        until(lambda: watched.kinds().count("StepSucceeded") == 2)

    inner = parallel(step(slow, name="b"), step(lambda: 1, name="c"))
    saga = Saga("s").add_task(parallel(inner, step(lambda: 2, name="d")))
    assert saga.execute(store=watched).ok  # type: ignore[arg-type]
    assert transactions(watched)[-1] == ["StepSucceeded b", "GroupMerged", "GroupMerged", "SagaCompleted"]
    assert len(watched.writes) == 4


@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_intent_is_stored_before_its_call(asynchronous: bool, watched: Watched) -> None:
    seen: list[str] = []

    def look(name: str, verb: str = "Step") -> Callable[[Context], None]:
        def call(context: Context) -> None:
            last = [told(entry) for entry in watched.store.journal(context.step.saga_id)]
            assert f"{verb}Started {name}" in last
            assert verb == "Step" or any(entry.startswith("SagaCompensating") for entry in last)
            seen.append(f"{verb} {name}")
            if (name, verb) == ("d", "Step"):
                raise ValueError

        return call

    def awaited(call: Callable[[Context], None]) -> Callable[[Context], Any]:
        async def work(context: Context) -> None:
            call(context)

        return work if asynchronous else call

    steps = {name: step(awaited(look(name)), awaited(look(name, "Compensation")), name=name) for name in "abcd"}
    saga = Saga("s", store=watched).add_task(steps["a"])  # type: ignore[arg-type]
    saga.add_task(parallel(steps["b"], steps["c"])).add_task(steps["d"])
    result = asyncio.run(saga.atry_execute()) if asynchronous else saga.try_execute()
    assert result.status is Status.COMPENSATED
    assert sorted(seen) == sorted([f"Step {n}" for n in "abcd"] + [f"Compensation {n}" for n in "abc"])


def test_nothing_is_read_from_the_store_on_the_way(watched: Watched) -> None:
    def fail() -> None:
        raise ValueError

    saga = Saga("s").add_task(step(fail, name="a", retry=Retry(3, 0.001), on_error=Skip))
    saga.add_task(parallel(step(lambda: 1, name="b", timeout=30.0), step(lambda: 1, lambda: None, name="c")))
    saga.add_task(step(fail, name="d"))
    assert saga.try_execute(store=watched).status is Status.COMPENSATED  # type: ignore[arg-type]
    assert set(watched.calls) == {"create", "append"}


def test_no_transaction_is_open_while_user_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "saga.db"
    written = []

    def write_elsewhere() -> None:
        with sqlite3.connect(path, timeout=0) as other:
            other.execute("CREATE TABLE IF NOT EXISTS mine (n)")
            other.execute("INSERT INTO mine VALUES (1)")
        other.close()
        written.append(1)

    def fail() -> None:
        write_elsewhere()
        raise ValueError

    saga = Saga("s").add_task(step(write_elsewhere, write_elsewhere, name="a"))
    saga.add_task(parallel(*(step(lambda: None, write_elsewhere, name=name) for name in "bc"))).add_task(step(fail, name="d"))
    with SqliteStore(path) as store:
        assert saga.try_execute(store=store).status is Status.COMPENSATED
    assert len(written) == 5


def test_attempts_are_counted_in_the_journal(watched: Watched) -> None:
    calls: list[int] = []

    def flaky(context: Context) -> None:
        calls.append(context.step.attempt)
        if len(calls) < 3:
            raise ValueError

    def undo(context: Context) -> None:
        calls.append(-context.step.attempt)
        if context.step.attempt < 2:
            raise OSError

    def fail() -> None:
        raise ValueError

    flow = step(flaky, undo, name="a", retry=Retry(5), compensation_retry=Retry(5))
    Saga("s").add_task(flow).add_task(step(fail, name="b")).try_execute(store=watched)  # type: ignore[arg-type]
    assert calls == [1, 2, 3, -1, -2]
    entries = watched.entries()
    check_journal(entries)
    attempts = [(entry.kind, json.loads(entry.payload).get("attempt")) for entry in entries if entry.step == "a"]
    assert attempts == [
        ("StepStarted", 1),
        ("StepFailed", 1),
        ("RetryScheduled", 2),
        ("StepStarted", 2),
        ("StepFailed", 2),
        ("RetryScheduled", 3),
        ("StepStarted", 3),
        ("StepSucceeded", 3),
        ("CompensationStarted", 1),
        ("CompensationFailed", 1),
        ("RetryScheduled", 2),
        ("CompensationStarted", 2),
        ("CompensationSucceeded", 2),
    ]


def test_only_what_a_call_changed_is_stored(watched: Watched) -> None:
    def change(context: Context, n: int) -> None:
        context["latest"] = n
        if n == 3:
            del context["gone"]
        if n == 4:
            context["deep"]["inner"].append(n)

    saga = Saga("s")
    for n in range(6):
        saga.add_task(step(change, name=f"s{n}", kwargs={"n": n}))
    values = {"large": "x" * 10_000, "gone": 1, "deep": {"inner": [1]}, "latest": -1}
    saga.execute(values, store=watched)  # type: ignore[arg-type]
    done = [json.loads(entry.payload) for entry in watched.entries() if entry.kind == "StepSucceeded"]
    assert [entry["changes"] for entry in done] == [
        [["latest", 0]],
        [["latest", 1]],
        [["latest", 2]],
        [["latest", 3]],
        [["deep", {"inner": [1, 4]}], ["latest", 4]],
        [["latest", 5]],
    ]
    assert [entry.get("removed") for entry in done] == [None, None, None, ["gone"], None, None]


def test_the_size_of_entries_does_not_grow_with_the_context(watched: Watched) -> None:
    def add(context: Context, n: int) -> int:
        context[f"key{n}"] = "y" * 100
        return n

    saga = Saga("s")
    for n in range(100, 200):
        saga.add_task(step(add, name=f"s{n}", kwargs={"n": n}))
    saga.execute({"large": list(range(5000))}, store=watched)  # type: ignore[arg-type]
    sizes = {len(entry.payload) for entry in watched.entries() if entry.kind == "StepSucceeded"}
    assert max(sizes) - min(sizes) < 10


def test_what_is_unchanged_is_not_stored_though_it_was_set_again(watched: Watched) -> None:
    def same(context: Context) -> None:
        context["number"] = int("1000000")
        context["list"] = [1, 2]

    saga = Saga("s").add_task(step(same, name="a"))
    saga.execute({"number": 1_000_000, "list": [1, 2]}, store=watched)  # type: ignore[arg-type]
    (done,) = [entry for entry in watched.entries() if entry.kind == "StepSucceeded"]
    assert "changes" not in json.loads(done.payload)


def test_branches_store_what_they_changed_and_the_join_nothing(watched: Watched) -> None:
    def put(context: Context, key: str) -> None:
        context[key] = key
        context["shared"] = "same"
        context.pop("old", None)

    flow = parallel(*(step(put, name=key, kwargs={"key": key}, timeout=t) for key, t in (("a", None), ("b", 30.0))))
    result = Saga("s").add_task(flow).execute({"old": 1}, store=watched)  # type: ignore[arg-type]
    assert result.context == {"a": "a", "b": "b", "shared": "same"}
    payloads = {entry.step: json.loads(entry.payload) for entry in watched.entries() if entry.kind == "StepSucceeded"}
    for key in "ab":
        assert sorted(payloads[key]["changes"]) == [[key, key], ["shared", "same"]]
        assert payloads[key]["removed"] == ["old"]
    (joined,) = [entry for entry in watched.entries() if entry.kind == "GroupMerged"]
    assert json.loads(joined.payload) == {"group": 0}


def test_observers_see_stored_events_only(watched: Watched) -> None:
    seen: list[str] = []
    too_early: list[str] = []

    def observe(event: Any, info: Any) -> None:
        seen.append(type(event).__name__)
        stored = [entry.kind for entry in watched.store.journal(info.saga_id)]
        if stored[: len(seen)] != seen:  # what an observer raises is only logged
            too_early.append(seen[-1])

    def fail() -> None:
        raise ValueError

    saga = Saga("s", logger=observe).add_task(step(lambda: 1, lambda: None, name="a"))
    saga.add_task(parallel(step(lambda: 1, lambda: None, name="b"), step(lambda: 1, name="c"))).add_task(step(fail, name="d"))
    result = saga.try_execute(store=watched)  # type: ignore[arg-type]
    assert seen == watched.kinds() == [type(event).__name__ for event in result.events]
    assert too_early == []


def test_a_stream_yields_stored_outcomes_only(watched: Watched) -> None:
    saga = chain(2).add_task(parallel(step(lambda: 1, name="b"), step(lambda: 1, name="c")))
    yielded = []
    for record in saga.stream(saga_id="x", store=watched):  # type: ignore[arg-type]
        assert f"StepSucceeded {record.name}" in journal_of(watched.store, "x")
        yielded.append(record.name)
    assert sorted(yielded) == ["b", "c", "s0", "s1"]


def test_errors_are_stored_with_type_text_and_traceback(watched: Watched) -> None:
    def fail() -> None:
        error = ValueError("no stock")
        error.add_note("of apples")
        raise error

    Saga("s").add_task(step(fail, name="a")).try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    (failed,) = [entry for entry in watched.store.journal("x") if entry.kind == "StepFailed"]
    error = json.loads(failed.payload)["error"]
    assert error["type"] == "builtins:ValueError"
    assert error["text"] == "no stock"
    assert error["notes"] == ["of apples"]
    assert "in fail" in error["traceback"]
    again = Saga("s").add_task(step(fail, name="a")).try_execute(saga_id="x", store=watched)  # type: ignore[arg-type]
    assert (type(again.error), str(again.error)) == (ValueError, "no stock")
    assert "in fail" in again.report()
    assert "of apples" in again.report()


def test_an_error_is_stored_once_and_read_as_one(store: Store) -> None:
    def fail() -> None:
        raise ValueError("no stock")

    def stay() -> None:
        raise KeyError("no way back")

    saga = Saga("s").add_task(step(lambda: 1, stay, name="a")).add_task(step(fail, name="b"))
    saga.try_execute(saga_id="x", store=store)
    entries = store.journal("x")
    payloads = {told(entry): json.loads(entry.payload) for entry in entries}
    assert [name for name, payload in payloads.items() if "error" in payload] == ["StepFailed b", "CompensationFailed a"]
    at = payloads["SagaCompensating b"]["error_at"]
    assert told(entries[at - 1]) == "StepFailed b"
    result = saga.load("x", store=store)
    assert result.error is result.history[1].error
    assert (type(result.error), str(result.error)) == (ValueError, "no stock")


def test_an_error_is_stored_once_though_another_process_has_read_it() -> None:
    codec = Codec()
    entries = write_entries([StepFailed("a", 1, 1.0, 0.5, ValueError("no stock"))], 0, {}, codec)
    (read,), errors = read_entries(entries, codec)
    entries += write_entries([SagaCompensating("a", read.event.error, 2.0)], 1, errors, codec)  # type: ignore[union-attr]
    assert json.loads(entries[1].payload)["error_at"] == 1
    (first, second), _ = read_entries(entries, codec)
    assert first.event.error is second.event.error  # type: ignore[union-attr]


def test_one_saga_executed_from_many_threads_keeps_its_journals_apart(store: Store) -> None:
    saga = chain(5)
    threads = [
        threading.Thread(target=saga.execute, args=({"n": n},), kwargs={"saga_id": f"x{n}", "store": store}) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(16):
        entries: list[Entry] = store.journal(f"x{n}")
        check_journal(entries)
        assert [told(entry) for entry in entries] == journal_of(store, "x0")
        assert json.loads(entries[0].payload)["changes"] == [["n", n]]
