"""What every store does: what is too long for it is refused at once and for good, and nothing else is refused with it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from saga import Context, InDoubt, Retry, Saga, Status, parallel, receive, step, transaction
from saga.errors import EncodingError, SagaDefinitionError, StorageError
from saga.recovery import Recovery
from saga.storage import Append, MemoryStore, SqliteStore, Store
from saga.storage.rules import fits
from saga.task import Done

LONGEST = 200_000


@pytest.fixture
def small(store: Store) -> Store:
    """A store that takes less than the others."""
    store.longest_text = LONGEST
    return store


LONG = "x" * (LONGEST + 1)


def test_a_text_that_is_too_long_is_refused(small, stored):
    lease = stored.create(small, "x")
    entry = stored.entry(2, payload=LONG)
    for use in (
        lambda: small.create(stored.new("y"), [entry], "a", 60.0),
        lambda: small.append(lease, [entry]),
        lambda: small.append(lease, [stored.entry(2), stored.entry(3, payload=LONG)], status="completed", release=True),
        lambda: small.post("x", LONG),
    ):
        with pytest.raises(StorageError, match=r"200,001 characters is more than this store takes \(200,000 bytes\)"):
            use()
    assert small.get("y") is None
    assert small.journal("x") == stored.entries(1)
    assert small.inbox("x") == []
    small.append(lease, [stored.entry(2, payload="x" * LONGEST)])


def test_its_neighbours_are_stored(small, stored):
    leases = [stored.create(small, saga_id) for saga_id in "abc"]
    payloads = ["{}", LONG, "{}"]
    appends = [Append(lease, [stored.entry(2, payload=text)]) for lease, text in zip(leases, payloads, strict=True)]
    assert small.append_each(appends) == [True, False, True]
    assert [len(small.journal(saga_id)) for saga_id in "abc"] == [2, 1, 2]


@pytest.mark.parametrize("text", ["x", "'", '"', "\\", "ü", "\U0001f600", "x'"])
def test_a_text_fits_as_it_is_sent(text):
    sent = text.encode() if text in "xü\U0001f600" else "".join(f"\\{one}" if one != "x" else one for one in text).encode()
    for longest in (100, 101, 1000):
        most = longest // len(sent)
        assert fits(text * most, longest)
        assert not fits(text * (most + 1), longest)


def test_what_fits_is_stored(store, stored):
    """On the servers, too, where that is not what was asked for here."""
    lease = stored.create(store, "x")
    most = min(store.longest_text, 70_000_000)  # more than a server's own limit
    payload = '"' * (most // 2)
    store.append(lease, [stored.entry(2, payload=payload)])
    assert store.journal("x")[1].payload == payload


def test_a_store_says_what_its_database_takes(opener):
    with opener() as store:
        if opener.kind == "mariadb":
            with store._engine.connect() as connection:
                packet = connection.execute(sa.text("SELECT @@max_allowed_packet")).scalar()
            assert packet - 100_000 < store.longest_text < packet
        elif opener.kind != "memory":
            assert 2**29 < store.longest_text < 2**30


def test_what_sqlite_refuses_fails_its_own_writer_only(path, stored):
    with SqliteStore(path) as store:
        import sqlite3

        leases = [stored.create(store, saga_id) for saga_id in "ab"]
        store._file._commits._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        with pytest.raises(StorageError, match="too big"):
            store.append(leases[0], [stored.entry(2, payload="x" * 20_000)])
        store.append(leases[0], stored.entries(2))
        store.append(leases[1], stored.entries(2))


# --- whoever executes


@pytest.fixture
def held() -> MemoryStore:
    store = MemoryStore()
    store.longest_text = LONGEST
    return store


HUGE = "y" * (LONGEST + 10)


async def _huge() -> str:
    return HUGE


def _changes(context: Context) -> int:
    context.huge = HUGE
    return 1


def _both(context: Context) -> str:
    context.huge = "y" * (LONGEST // 2)
    return "y" * (LONGEST // 2)


@pytest.mark.parametrize("policy", InDoubt)
@pytest.mark.parametrize("work", [lambda: HUGE, _huge, _changes, _both])
def test_a_result_that_is_too_long_fails_its_step_as_executed(held, log, work, policy):
    saga = Saga("big", store=held)
    saga.add_task(step(lambda: 1, lambda: log.append("undo a"), name="a"))
    saga.add_task(step(work, lambda: log.append("undo big"), name="big", in_doubt=policy, retry=Retry(3)))
    saga.add_task(step(lambda: log.append("next"), name="next"))
    result = saga.try_execute(saga_id="x")
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, EncodingError)
    assert "characters are more than this store takes (200,000 bytes)" in str(result.error)
    assert log == ["undo big", "undo a"]
    assert not result.in_doubt
    assert "huge" not in result.context
    assert held.get("x").owner is None


def test_so_does_one_that_a_verification_tells(held, log):
    def unknown() -> None:
        raise TimeoutError

    saga = Saga("big", store=held)
    saga.add_task(step(unknown, lambda: log.append("undo"), name="big", verify=lambda: Done(HUGE)))
    assert isinstance(saga.try_execute().error, EncodingError)
    assert log == ["undo"]


def test_its_siblings_are_undone_with_it(held, log):
    branches = parallel(
        step(lambda: 1, lambda: log.append("undo a"), name="a"), step(lambda: HUGE, lambda: log.append("undo big"), name="big")
    )
    assert Saga("big", store=held).add_task(branches).try_execute().status is Status.COMPENSATED
    assert sorted(log) == ["undo a", "undo big"]


def test_a_change_of_a_call_that_fails_is_taken_back(held, log, caplog):
    def fails(context: Context) -> None:
        context.huge = HUGE
        raise ValueError("no")

    def undo(context: Context) -> None:
        context.other = HUGE

    saga = Saga("big", store=held).add_task(step(lambda: 1, undo, name="a")).add_task(step(fails, name="b"))
    result = saga.try_execute()
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, ValueError)
    assert {"huge", "other"}.isdisjoint(result.context)
    assert "are taken back" in caplog.text


def test_an_input_that_is_too_long_is_refused_before_anything_runs(held, log):
    saga = Saga("big", store=held).add_task(step(lambda: log.append("a"), name="a"))
    with pytest.raises(EncodingError, match="cannot store the input"):
        saga.execute(Context(huge=HUGE))
    assert log == []
    assert held.list().executions == ()


def test_a_signal_that_is_too_long_is_refused(held):
    saga = Saga("waits", store=held).add_task(receive("go", timeout=0.01, name="wait"))
    saga.try_execute(saga_id="x")
    with pytest.raises(EncodingError, match="the value of signal 'go'"):
        saga.signal("x", "go", HUGE)


def book(text: str) -> str:
    raise AssertionError("is not called")


def cancel(text: str) -> None:
    raise AssertionError("is not called")


def test_a_step_of_a_block_that_is_too_long_is_refused_before_it_is_called(held):
    with (
        pytest.raises(SagaDefinitionError, match="step 'book': cannot store its arguments"),
        transaction("block", store=held) as tx,
    ):
        tx.step(book, cancel, args=("",), compensate_args=(HUGE,))


def test_an_error_that_is_too_long_is_told_in_part(held):
    def fails() -> None:
        raise ValueError(HUGE)

    result = Saga("big", store=held).add_task(step(fails, name="a")).try_execute(saga_id="x")
    assert result.status is Status.COMPENSATED
    assert all(len(entry.payload) < LONGEST for entry in held.journal("x"))


def test_a_recovered_step_fails_so_too(held, log):
    saga = Saga("big", store=held).add_task(step(lambda: HUGE, lambda: log.append("undo"), name="big", in_doubt=InDoubt.RERUN))
    found = MemoryStore()
    saga.try_execute(saga_id="x")
    row = held.get("x")
    from saga.storage import NewExecution

    new = NewExecution("x", "big", row.version, row.fingerprint, row.digest, "running")
    found.create(new, held.journal("x")[:2], "dead", -1.0)  # it died in the step
    found.longest_text = LONGEST
    log.clear()
    [result] = Recovery(found, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert log == ["undo"]
