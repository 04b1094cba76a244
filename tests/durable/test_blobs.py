"""Large values kept elsewhere: the journal names them and does not have them, and what it names is there or said to be gone."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from saga import Context, InDoubt, Saga, Status, Submission, receive, step, transaction
from saga.blobs import Blobs, FolderBlobs, MemoryBlobs
from saga.durable.codec import Codec
from saga.durable.elsewhere import Elsewhere, keys_in
from saga.durable.entries import read_entries
from saga.durable.messages import signal_message
from saga.durable.sealed import opened
from saga.errors import EncodingError, SagaDefinitionError, SagaIdTakenError, StorageError, UnreadableJournalError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, MemoryStore, SqliteStore, Store
from saga.testing import explore
from saga.worker import Worker
from tests.kit import Watched, expired
from tests.kit.ciphers import AesGcm
from tests.kit.shelves import Shelf

NAME = "0123456789abcdef" * 2
LARGE = "a page of the report. " * 100
INPUT = "what was ordered. " * 100
PAID = {"receipt": "paid. " * 200}
UNDONE: list[Any] = []


@pytest.fixture(autouse=True)
def none_undone() -> None:
    UNDONE.clear()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def codec_with(blobs: Blobs, **options: Any) -> Codec:
    return Codec(blobs=blobs, larger_than=1000, **options)


def write(context: Context) -> str:
    context["report"] = LARGE
    return LARGE


def unwrite(report: str) -> None:
    UNDONE.append(report)


def use(context: Context) -> None:
    assert (context.report, context.result_of("write")) == (LARGE, LARGE)
    context["copy"] = context.report


def decline(context: Context) -> None:
    raise ValueError("declined")


def order(blobs: Blobs, waits: bool = True, **options: Any) -> Saga:
    saga = Saga("order", codec=codec_with(blobs, **options))
    saga.add_task(step(write, unwrite, in_doubt=InDoubt.RERUN)).add_task(step(use))
    if waits:
        saga.add_task(receive("paid"))
    return saga.add_task(step(decline))


def run(saga: Saga, store: Any, asynchronous: bool = False, saga_id: str = "o-1") -> Any:
    if asynchronous:
        return asyncio.run(saga.atry_execute({"given": INPUT}, saga_id=saga_id, store=store))
    return saga.try_execute({"given": INPUT}, saga_id=saga_id, store=store)


def ordered(saga: Saga, store: Any, asynchronous: bool = False, saga_id: str = "o-1") -> Any:
    submitted(saga, store, saga_id)
    return run(saga, store, asynchronous, saga_id)


def submitted(saga: Saga, store: Any, saga_id: str = "o-1") -> None:
    saga.submit({"given": INPUT}, saga_id=saga_id, store=store)
    saga.signal(saga_id, "paid", PAID, store=store)


def texts(store: Any) -> list[str]:
    """Return the payloads and messages that a store has."""
    ids = [row.saga_id for row in store.list().executions]
    entries = [entry.payload for saga_id in ids for entry in store.journal(saga_id)]
    return entries + [message.body for saga_id in ids for message in store.inbox(saga_id)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_large_is_elsewhere_and_known_to_every_step(store: Store, shelf: Shelf, asynchronous: bool) -> None:
    saga = order(shelf)
    submitted(saga, store)
    assert keys_in(texts(store)) == shelf.kept.keys()
    for result in (run(saga, store, asynchronous), saga.load("o-1", store=store)):
        assert result.status is Status.COMPENSATED
        assert dict(result.context) == {"given": INPUT, "report": LARGE, "copy": LARGE}
        assert result.results == {"write": LARGE, "use": None, "paid": PAID}
    assert [LARGE] == UNDONE
    assert max(map(len, texts(store))) < 3000
    assert not any(part in text for text in texts(store) for part in ("a page", "what was", "receipt"))
    # What stands in several places is kept once; the signal is where its sender has put it.
    assert keys_in(texts(store)) == shelf.kept.keys()
    assert sorted(map(len, shelf.kept.values())) == sorted(map(len, (saga.codec.encode(one) for one in (LARGE, INPUT, PAID))))  # type: ignore[union-attr]


def test_what_is_small_stays(store: Store, shelf: Shelf) -> None:
    saga = Saga("s", codec=Codec(blobs=shelf)).add_task(step(write))
    assert saga.execute({"given": INPUT}, saga_id="o-1", store=store).ok
    assert not shelf.calls


def test_an_end_of_a_text_decides(store: Store, shelf: Shelf) -> None:
    for length, moved in ((998, 0), (999, 1)):
        Saga("s", codec=codec_with(shelf)).add_task(step(lambda: None, name="a")).submit({"k": "x" * length}, store=store)
        assert shelf.count("put") == moved


def test_nothing_is_fetched_to_be_shown(store: Store, shelf: Shelf) -> None:
    saga = order(shelf)
    submitted(saga, store)
    assert [one["value"] for one in Operations(store, "ann").show("o-1").inbox] == ['"(elsewhere, 1.2 kB)"']
    run(saga, store)
    shelf.calls.clear()
    for operations in (Operations(store, "ann"), Operations(store, "ann", sagas=[saga])):
        shown = operations.show("o-1")
        assert shown.journal[0].details["changes"] == {"given": "(elsewhere, 1.8 kB)"}
        (written,) = [line.details for line in shown.journal if line.kind == "StepSucceeded" and line.step == "write"]
        assert (written["result"], written["changes"]) == ("(elsewhere, 2.2 kB)", {"report": "(elsewhere, 2.2 kB)"})
        assert {one.name: one.result for one in shown.steps}["write"] == "(elsewhere, 2.2 kB)"
        assert not any("blobs" in line.details for line in shown.journal)
        operations.list()
    assert shelf.calls == []


def test_each_is_fetched_once_to_be_read(store: Store, shelf: Shelf) -> None:
    saga = order(shelf)
    ordered(saga, store)
    shelf.calls.clear()
    saga.load("o-1", store=store)
    assert sorted(shelf.calls) == sorted(("get", key) for key in shelf.kept)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_event_loop_puts_and_gets_nothing_itself(store: Store, shelf: Shelf, asynchronous: bool) -> None:
    async def report(context: Context) -> str:
        return write(context)

    saga = Saga("s", codec=codec_with(shelf)).add_task(step(report if asynchronous else write)).add_task(receive("paid"))
    saga.add_task(step(decline))

    async def main() -> int:
        handle = await saga.asubmit({"given": INPUT}, saga_id="o-0", store=store)
        assert handle.saga_id == "o-0"
        await saga.asignal("o-0", "paid", PAID, store=store)
        await saga.atry_execute({"given": INPUT}, saga_id="o-0", store=store)
        running = asyncio.create_task(saga.atry_execute({"given": INPUT}, saga_id="o-1", store=store))
        while store.get("o-1") is None:
            await asyncio.sleep(0)
        await saga.asignal("o-1", "paid", PAID, store=store)
        assert (await running).results["paid"] == PAID
        await saga.aload("o-1", store=store)
        return threading.get_ident()

    loop = asyncio.run(main())
    assert shelf.count("put") >= 6
    assert loop not in shelf.threads


class InLoop(MemoryStore):
    """A store that needs no thread in an event loop."""

    class Done:
        cut_off = False

        def end(self) -> None:
            pass

    def begin_create(self, new: Any, entries: Any, owner: str, lease_seconds: float, ended: Callable[[bool], None]) -> Any:
        existing = self.create(new, entries, owner, lease_seconds)
        asyncio.get_running_loop().call_soon(ended, existing is None)
        return self.Done()

    def begin_append_each(self, appends: Callable[[], Any], ended: Callable[[Any], None]) -> Any:
        stored = self.append_each(appends())
        asyncio.get_running_loop().call_soon(ended, stored)
        return self.Done()


@pytest.mark.parametrize("length", [10, 5000])
def test_a_store_that_needs_no_thread_has_one_for_what_is_large(shelf: Shelf, length: int) -> None:
    text = "x" * length

    async def report(context: Context) -> str:
        return f"{text}!"

    async def unreport(report: str, context: Context) -> None:
        context["undone"] = f"{text}?"

    async def main() -> int:
        saga = Saga("s", codec=codec_with(shelf)).add_task(step(report, unreport)).add_task(step(decline))
        result = await saga.atry_execute({"given": text}, saga_id="o-1", store=InLoop())
        assert dict(result.context) == {"given": text, "undone": f"{text}?"}
        return threading.get_ident()

    loop = asyncio.run(main())
    assert loop not in shelf.threads
    assert shelf.count("put") == (3 if length > 1000 else 0)


def test_others_commit_while_one_waits_for_its_bytes(store: Store, shelf: Shelf) -> None:
    held, going = threading.Event(), threading.Event()

    def hold(method: str) -> None:
        if method == "put":
            going.set()
            assert held.wait(60)

    async def main() -> None:
        slow = Saga("slow", codec=codec_with(shelf)).add_task(step(write))
        quick = Saga("quick").add_task(step(lambda: 1, name="a")).add_task(step(lambda: 2, name="b"))
        waiting = asyncio.create_task(slow.aexecute(saga_id="slow", store=store))
        await asyncio.to_thread(going.wait, 60)
        assert (await quick.aexecute(saga_id="quick", store=store)).ok  # while that is held
        assert not waiting.done()
        held.set()
        assert (await waiting).ok

    shelf.before = hold
    asyncio.run(main())


@pytest.mark.parametrize("ciphered", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_same_input_is_the_same_execution_and_leaves_nothing(
    store: Store, shelf: Shelf, asynchronous: bool, ciphered: bool
) -> None:
    saga = Saga("s", codec=codec_with(shelf, cipher=AesGcm(KEY) if ciphered else None)).add_task(step(use_nothing, name="a"))
    for _ in range(3):
        assert run(saga, store, asynchronous).ok
        saga.submit({"given": INPUT}, saga_id="o-1", store=store)
        assert keys_in(texts(store)) == shelf.kept.keys()
    for start in (saga.execute, saga.submit):
        with pytest.raises(SagaIdTakenError, match="with another input"):
            start({"given": INPUT + "."}, saga_id="o-1", store=store)
        assert keys_in(texts(store)) == shelf.kept.keys()
    with pytest.raises(SagaIdTakenError):
        saga.submit_many([Submission({"given": LARGE}, saga_id=one) for one in ("o-1", "o-2")], store=store)
    assert keys_in(texts(store)) == shelf.kept.keys()
    assert len(shelf.kept) == 2


def use_nothing() -> None:
    pass


def test_a_signal_that_starts_an_execution_or_meets_one(store: Store, shelf: Shelf) -> None:
    saga = Saga("s", codec=codec_with(shelf)).add_task(receive("paid", accept=dict)).add_task(receive("again"))
    for is_new in (True, False):
        name = "paid" if is_new else "again"
        assert saga.signal_or_start("o-1", name, PAID, context={"given": INPUT}, store=store).new is is_new
        assert keys_in(texts(store)) == shelf.kept.keys()
    Worker(store, [saga]).run_once()
    assert saga.load("o-1", store=store).results == {"paid": PAID, "again": PAID}
    assert keys_in(texts(store)) <= shelf.kept.keys()


def book(what: str) -> str:
    return what


def unbook(result: str, what: str) -> None:
    UNDONE.extend((result, what))


@pytest.mark.parametrize("ciphered", [False, True])
def test_a_block_is_undone_by_what_its_steps_were_called_with(shelf: Shelf, ciphered: bool) -> None:
    codec = codec_with(shelf, modules=[__name__], cipher=AesGcm(KEY) if ciphered else None)
    watched = Watched(MemoryStore())
    with transaction("trip", saga_id="o-1", store=watched, codec=codec) as trip:  # type: ignore[arg-type]
        trip.step(book, unbook, args=("x",), compensate_args=(LARGE,))
    store = MemoryStore()
    expired(store, watched.writes[:-1])
    (result,) = Recovery(store, transactions=["trip"], codec=codec).run_once()
    assert result.status is Status.COMPENSATED
    assert ["x", LARGE] == UNDONE
    assert max(map(len, texts(store))) < 1500


# -- what fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("fails_at", "undone"), [(1, []), (2, [LARGE])])
def test_what_cannot_be_put_is_a_store_that_fails(
    store: Store, shelf: Shelf, asynchronous: bool, fails_at: int, undone: list[str]
) -> None:
    def fail(method: str) -> None:
        if shelf.count("put") == fails_at and method == "put":
            raise ConnectionError("the bucket is gone")

    shelf.before = fail
    saga = order(shelf)
    why = r"execution 'o-1': a value of .* kB cannot be stored elsewhere, in Shelf\(\): ConnectionError: the bucket is gone"
    with pytest.raises(StorageError, match=why):
        run(saga, store, asynchronous)
    shelf.before = lambda method: None
    if fails_at == 1:
        assert store.get("o-1") is None
        return
    assert [entry.kind for entry in store.journal("o-1")] == ["SagaStarted", "StepStarted"]  # it is in doubt
    Operations(store, "ann").compensate("o-1", "enough")
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert len(UNDONE) == 1


def test_an_interrupt_while_something_is_put_undoes_it(store: Store, shelf: Shelf) -> None:
    def strike(method: str) -> None:
        if shelf.count("put") == 2 and method == "put":
            raise KeyboardInterrupt

    shelf.before = strike
    saga = order(shelf, waits=False)
    with pytest.raises(KeyboardInterrupt):
        saga.execute({"given": INPUT}, saga_id="o-1", store=store)
    assert [LARGE] == UNDONE
    assert saga.load("o-1", store=store).status is Status.COMPENSATED
    assert keys_in(texts(store)) == shelf.kept.keys()


@pytest.mark.parametrize("ciphered", [False, True])
def test_wherever_a_process_dies_nothing_is_named_that_is_not_there(ciphered: bool) -> None:
    """Each commit is preceded by what it names."""
    shelf = Shelf()
    saga = order(shelf, waits=False, cipher=AesGcm(KEY) if ciphered else None)
    watched = Watched(MemoryStore())
    watched.happened = lambda: dict(shelf.kept)
    run(saga, watched)
    for written, write in enumerate(watched.writes, 1):
        assert keys_in(entry.payload for entry in write.entries) <= write.happened.keys()
        if written == len(watched.writes):
            break
        store = MemoryStore()
        expired(store, watched.writes[:written])
        there = Shelf()
        there.kept = dict(write.happened)
        again = order(there, waits=False, cipher=AesGcm(OLD, KEY) if ciphered else None)  # the key is another by now
        Recovery(store, [again]).run_once()
        assert keys_in(texts(store)) <= there.kept.keys()
        assert again.load("o-1", store=store).context.given == INPUT


GONE = "put it back from a backup, or give the blobs that have it"
CHANGED = "what is there in Shelf() was changed; put back what it was, from a backup"


@pytest.mark.parametrize(
    ("how", "why"),
    [("gone", "nothing is there in Shelf(); " + GONE), ("changed", CHANGED), ("swapped", CHANGED), ("text", CHANGED)],
    ids=["gone", "changed", "swapped", "text"],
)
def test_what_is_gone_or_changed_is_no_value(store: Store, shelf: Shelf, how: str, why: str) -> None:
    saga = order(shelf)
    ordered(saga, store)
    (key,) = keys_in(one.payload for one in store.journal("o-1") if (one.kind, one.step) == ("StepSucceeded", "write"))
    spoilt: dict[str, Any] = {
        "changed": shelf.kept[key] + b" ",
        "text": LARGE,
        "swapped": shelf.kept[min({*shelf.kept} - {key})],
    }
    kept = shelf.kept.pop(key)
    if how != "gone":
        shelf.kept[key] = spoilt[how]
    found = r"execution 'o-1' of saga 'order': entry 5 \(StepSucceeded\): a value of step 'write' is elsewhere, 2.2 kB under "
    with pytest.raises(UnreadableJournalError, match=found + re.escape(f"the key {key!r}, and {why}")) as refused:
        saga.load("o-1", store=store)
    assert refused.value.may_pass
    before = store.journal("o-1")
    assert Recovery(store, [saga]).run_once() == []
    assert store.journal("o-1") == before
    shelf.kept[key] = kept
    assert saga.load("o-1", store=store).results["write"] == LARGE


def test_who_puts_back_what_was_gone_resumes_what_was_tried_often(shelf: Shelf) -> None:
    clock = Clock()
    store, saga = MemoryStore(clock=clock), Saga("s", codec=codec_with(shelf)).add_task(step(write))
    saga.submit({"given": INPUT}, saga_id="o-1", store=store)
    kept = dict(shelf.kept)
    shelf.kept.clear()
    for _ in range(2):
        Worker(store, [saga], max_attempts=2).run_once()
        clock.time += HOUR
    operations = Operations(store, "ann", sagas=[saga])
    assert operations.get("o-1").status == "stuck"
    assert "nothing is there in Shelf(); put it back from a backup" in str(operations.get("o-1").reason)
    assert operations.show("o-1").offers[0].action == "resume"
    shelf.kept.update(kept)
    operations.resume("o-1", "it is put back")
    (result,) = Worker(store, [saga]).run_once()
    assert result.status is Status.COMPLETED


def test_what_is_another_executions_is_refused(store: Store, shelf: Shelf) -> None:
    saga = Saga("s", codec=codec_with(shelf)).add_task(step(use_nothing, name="a"))
    for saga_id in ("o-1", "o-2"):
        run(saga, store, saga_id=saga_id)
    first = store.journal("o-1")[0].payload
    (mine,), (other,) = (keys_in([store.journal(one)[0].payload]) for one in ("o-1", "o-2"))
    moved = store.journal("o-1")[0]._replace(payload=first.replace(mine, other))
    with pytest.raises(UnreadableJournalError, match="which is another execution's; the entry was changed"):
        read_entries([moved], saga.codec or Codec(), "o-1")


def test_without_blobs_nothing_is_read(store: Store, shelf: Shelf) -> None:
    ordered(order(shelf), store)
    saga = Saga("order").add_task(step(write, unwrite, in_doubt=InDoubt.RERUN)).add_task(step(use))
    saga.add_task(receive("paid")).add_task(step(decline))
    with pytest.raises(
        UnreadableJournalError, match=r"and this codec has no blobs; give those it was stored with: Codec\(blobs="
    ):
        saga.load("o-1", store=store)
    with pytest.raises(EncodingError, match="it is elsewhere"):
        Codec().decode('{"$blob":["a/b","c",1]}')


def test_what_cannot_be_asked_is_asked_again(store: Store, shelf: Shelf) -> None:
    saga = order(shelf)
    submitted(saga, store)

    def fail(method: str) -> None:
        if method == "get":
            raise ConnectionError("the bucket does not answer")

    shelf.before = fail
    with pytest.raises(StorageError, match=r"cannot be read in Shelf.*ConnectionError: the bucket does not answer") as failed:
        saga.load("o-1", store=store)
    assert not isinstance(failed.value, UnreadableJournalError)
    shelf.before = lambda method: fail_at_signal(shelf, method)
    with pytest.raises(StorageError, match="a value of signal 'paid' is elsewhere"):  # it is not refused: it comes again
        run(saga, store)
    assert len(store.inbox("o-1")) == 1
    shelf.before = lambda method: None
    (result,) = Worker(store, [saga]).run_once()
    assert result.results["paid"] == PAID


def fail_at_signal(shelf: Shelf, method: str) -> None:
    if method == "get" and shelf.kept[shelf.calls[-1][1]].startswith(b'{"receipt'):
        raise ConnectionError("the bucket does not answer")


def test_a_signal_whose_value_is_gone_is_refused(store: Store, shelf: Shelf) -> None:
    saga = order(shelf)
    submitted(saga, store)
    (key,) = keys_in(message.body for message in store.inbox("o-1"))
    shelf.kept.pop(key)
    Worker(store, [saga]).run_once()  # it waits for another
    (refused,) = [line.details for line in Operations(store, "ann").show("o-1").journal if line.kind == "MessageRefused"]
    assert "a value of signal 'paid' is elsewhere, 1.2 kB under the key" in refused["reason"]


def test_what_a_refused_signal_had_elsewhere_is_nobodys(shelf: Shelf) -> None:
    """It is named by nothing that is stored any more, so the same value of another is put anew."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    saga = Saga("s", codec=codec_with(shelf)).add_task(receive("paid", accept=str)).add_task(step(lambda: PAID, name="same"))
    saga.submit(saga_id="o-1", store=store)
    store.post("o-1", signal_message("paid", PAID, saga.codec or Codec(), store, "o-1"))
    (refused,) = shelf.kept
    saga.signal("o-1", "paid", "yes", store=store)
    Worker(store, [saga]).run_once()
    assert refused in shelf.kept
    moved_by(HOUR, clock, shelf)
    assert Operations(store, "ann", sagas=[saga]).sweep(older_than=HOUR) == 1
    assert keys_in(texts(store)) == shelf.kept.keys() != {refused}
    assert saga.load("o-1", store=store).results["same"] == PAID


def test_only_what_is_stored_is_named_again(shelf: Shelf) -> None:
    elsewhere = Elsewhere(codec_with(shelf), "o-1")

    def put(seq: int, result: str) -> int:
        elsewhere.moved(Entry(seq, "StepSucceeded", "a", f'{{"attempt":1,"result":"{result}"}}', 1.0))
        return shelf.count("put")

    first, second, third = ("x" * 2000, "y" * 2000, "z" * 2000)
    assert [put(1, first), put(2, second), put(3, third)] == [1, 2, 3]
    elsewhere.stored(1)
    assert put(4, first) == 3
    assert put(5, second) == 4  # whose entry was not stored, and may never be
    assert put(3, "rolled back, and made anew") == 4
    elsewhere.stored(5)
    assert put(6, third) == 5
    assert put(7, second) == 5


def test_what_a_database_takes_is_no_limit_of_what_is_elsewhere(store: Store, shelf: Shelf) -> None:
    store.longest_text = 50_000
    long = "x" * 200_000

    def big(context: Context) -> str:
        context["long"] = long
        return long

    saga = Saga("s", codec=codec_with(shelf)).add_task(step(big)).add_task(receive("paid"))
    saga.submit({"given": long}, saga_id="o-1", store=store)
    saga.signal("o-1", "paid", long, store=store)
    assert saga.execute({"given": long}, saga_id="o-1", store=store).results == {"big": long, "paid": long}
    many = {f"k{number}": "x" * 900 for number in range(300)}
    with pytest.raises(EncodingError, match=r"cannot store the input: .* have what is large kept elsewhere: Codec\(blobs="):
        saga.submit(many, store=store)


def test_there_is_more_room_with_blobs() -> None:
    text = "x" * 12_000_000
    with pytest.raises(EncodingError, match="10,000,000"):
        Codec().encode(text)
    assert len(Codec(blobs=Shelf()).encode(text)) == 12_000_002
    with pytest.raises(EncodingError, match="more than 50 characters"):
        Codec(blobs=Shelf(), max_size=50).encode("x" * 50)


# -- encrypted --------------------------------------------------------------------------------------------------------


KEY, OLD = os.urandom(16), os.urandom(16)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_is_elsewhere_is_encrypted_too(store: Store, shelf: Shelf, asynchronous: bool) -> None:
    saga = order(shelf, cipher=AesGcm(OLD))
    submitted(saga, store)
    result = run(order(shelf, cipher=AesGcm(KEY, OLD)), store, asynchronous)
    assert result.results == {"write": LARGE, "use": None, "paid": PAID}
    loaded = order(shelf, cipher=AesGcm(os.urandom(16), KEY, OLD)).load("o-1", store=store)
    assert dict(loaded.context) == {"given": INPUT, "report": LARGE, "copy": LARGE}
    assert not any(part in data for data in shelf.kept.values() for part in (b"page", b"what was", b"receipt"))
    assert keys_in(texts(store)) == shelf.kept.keys()
    shown = Operations(store, "ann").show("o-1")
    assert {one.name: one.result for one in shown.steps}["write"] == "(encrypted)"
    with pytest.raises(UnreadableJournalError, match="the codec's cipher cannot decrypt it"):
        order(shelf, cipher=AesGcm(KEY)).load("o-1", store=store)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_was_put_before_there_was_a_key_is_read(store: Store, shelf: Shelf, asynchronous: bool) -> None:
    submitted(order(shelf), store)
    saga = order(shelf, cipher=AesGcm(KEY))
    result = run(saga, store, asynchronous)
    assert (
        dict(saga.load("o-1", store=store).context) == dict(result.context) == {"given": INPUT, "report": LARGE, "copy": LARGE}
    )
    assert result.results["paid"] == PAID


def test_what_is_encrypted_is_read_by_nobody_without_the_key(store: Store, shelf: Shelf) -> None:
    saga = order(shelf, cipher=AesGcm(KEY))
    ordered(saga, store)
    first = store.journal("o-1")[0]
    assert saga.codec is not None
    assert saga.codec.cipher is not None
    clear = first._replace(payload=opened(first, "o-1", saga.codec.cipher))  # as who has the key once could write it
    with pytest.raises(UnreadableJournalError, match="encrypted, and this codec has no cipher; give the one"):
        read_entries([clear], codec_with(shelf), "o-1")


def test_what_was_put_for_one_key_is_none_of_another(store: Store, shelf: Shelf) -> None:
    """Whoever can write to the blobs cannot put one in the place of another."""
    saga = order(shelf, cipher=AesGcm(KEY))
    ordered(saga, store)
    one, other = sorted(shelf.kept)[:2]
    shelf.kept[one], shelf.kept[other] = shelf.kept[other], shelf.kept[one]
    with pytest.raises(UnreadableJournalError, match="was changed"):
        saga.load("o-1", store=store)


# -- what nothing names any more --------------------------------------------------------------------------------------

HOUR = 3600.0


class Clock:
    """A store's clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def moved_by(seconds: float, clock: Clock, shelf: Shelf) -> None:
    """Let time pass, for a store and for what is elsewhere."""
    clock.time += seconds
    for key in shelf.put_at:
        shelf.put_at[key] -= seconds


def of(shelf: Shelf, saga_id: str) -> set[str]:
    return {key for key in shelf.kept if key.startswith(f"{saga_id}/")}


@pytest.mark.parametrize("known_by", ["sagas", "blobs"])
@pytest.mark.parametrize("ciphered", [False, True])
def test_a_purge_deletes_what_is_elsewhere_too(shelf: Shelf, known_by: str, ciphered: bool) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    saga = Saga("s", codec=codec_with(shelf, cipher=AesGcm(KEY) if ciphered else None)).add_task(step(write))
    stays = Saga("stays", codec=saga.codec, undoable_for=100 * HOUR).add_task(step(write))
    waits = Saga("waits", codec=saga.codec).add_task(receive("paid"))
    for one in range(150):
        run(saga, store, saga_id=f"o-{one}")
    run(stays, store, saga_id="stays")
    submitted(waits, store, "waits")
    moved_by(2 * HOUR, clock, shelf)
    run(saga, store, saga_id="new")
    left = of(shelf, "stays") | of(shelf, "waits") | of(shelf, "new")
    assert len(left) == 6
    operations = Operations(store, "ann", sagas=[saga]) if known_by == "sagas" else Operations(store, "ann", blobs=shelf)
    assert operations.purge(older_than=HOUR) == 150
    assert shelf.kept.keys() == left
    assert keys_in(texts(store)) == left


def test_what_a_stuck_execution_was_sent_is_purged_with_it(shelf: Shelf, store: Store) -> None:
    def fails(report: Any) -> None:
        raise ValueError("the undo fails")

    saga = Saga("s", codec=codec_with(shelf)).add_task(step(write, fails)).add_task(receive("paid")).add_task(step(decline))
    submitted(saga, store)
    assert run(saga, store).status is Status.STUCK
    store.post("o-1", signal_message("paid", PAID, saga.codec or Codec(), store, "o-1"))
    assert keys_in(message.body for message in store.inbox("o-1"))
    Operations(store, "ann", sagas=[saga]).purge(older_than=0, status="stuck")
    assert not shelf.kept


class Purged(MemoryStore):
    """A store that has something done when it has purged."""

    after_purge: Callable[[], object] = staticmethod(lambda: None)

    def purge(self, **what: Any) -> int:
        deleted = super().purge(**what)
        if not deleted:
            self.after_purge()
        return deleted


@pytest.mark.parametrize("when", ["its row is deleted", "it is deleted elsewhere"])
def test_an_execution_of_the_same_id_that_begins_meanwhile_keeps_its_own(shelf: Shelf, when: str) -> None:
    """Rows go first: whoever begins again under the id of one that is being purged puts the same values anew."""
    store, saga = Purged(), Saga("s", codec=codec_with(shelf)).add_task(step(write))
    run(saga, store)
    old = set(shelf.kept)
    begun: list[Any] = []

    def begin_again(method: str) -> None:
        if method == "delete" and not begun:
            begun.append(None)
            begun.append(run(saga, store).status)

    if when == "it is deleted elsewhere":
        shelf.before = begin_again
    else:
        store.after_purge = lambda: begin_again("delete")
    assert Operations(store, "ann", sagas=[saga]).purge(older_than=0) == 1
    assert begun[1] is Status.COMPLETED
    assert not old & shelf.kept.keys()
    assert keys_in(texts(store)) == shelf.kept.keys()
    assert saga.load("o-1", store=store).results["write"] == LARGE


def test_a_purge_that_dies_between_leaves_what_a_sweep_finds(shelf: Shelf) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    saga = Saga("s", codec=codec_with(shelf)).add_task(step(write))
    for saga_id in ("o-1", "o-2"):
        run(saga, store, saga_id=saga_id)
    moved_by(1.0, clock, shelf)
    operations = Operations(store, "ann", sagas=[saga])

    def fail(method: str) -> None:
        if method == "delete":
            raise ConnectionError("the bucket does not answer")

    shelf.before = fail
    with pytest.raises(
        StorageError, match=r"2 executions are purged, but what 'o-.' had elsewhere is left there: Shelf\(\) cannot"
    ):
        operations.purge(older_than=0)
    assert (store.list().executions, len(shelf.kept)) == ((), 4)
    moved_by(2 * HOUR, clock, shelf)
    with pytest.raises(StorageError, match="what nothing names is left: "):
        operations.sweep(older_than=HOUR)
    shelf.before = lambda method: None
    run(saga, store, saga_id="o-2")
    assert operations.sweep(older_than=HOUR) == 4
    assert shelf.kept.keys() == of(shelf, "o-2") == keys_in(texts(store))


@pytest.mark.parametrize("ciphered", [False, True])
def test_a_sweep_leaves_what_is_named_or_may_be_soon(shelf: Shelf, ciphered: bool) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    saga = order(shelf, cipher=AesGcm(KEY) if ciphered else None)
    submitted(saga, store)  # a signal is in its inbox
    ordered(saga, store, saga_id="o-2")
    named = set(shelf.kept)
    shelf.put(f"o-1/{NAME}", b"of a process that died")
    shelf.put(f"gone%2F1/{NAME}", b"of an execution that is no more")
    moved_by(HOUR, clock, shelf)
    shelf.put(f"soon/{NAME}", b"of one that is about to begin")
    operations = Operations(store, "ann", sagas=[saga])
    assert operations.sweep(older_than=HOUR) == 2
    assert shelf.kept.keys() == named | {f"soon/{NAME}"}
    assert operations.sweep(older_than=HOUR) == 0
    assert saga.load("o-2", store=store).results["write"] == LARGE


def test_what_leaves_the_inbox_while_it_is_swept_is_named(shelf: Shelf) -> None:
    class Passing(MemoryStore):
        def journal(self, saga_id: str) -> Any:
            found = super().journal(saga_id)
            if sweeping:
                sweeping.clear()
                assert run(saga, self).results["paid"] == PAID
            return found

    sweeping: list[bool] = []
    clock = Clock()
    store, saga = Passing(clock=clock), order(shelf)
    submitted(saga, store)
    moved_by(HOUR, clock, shelf)
    sweeping.append(True)
    assert Operations(store, "ann", sagas=[saga]).sweep(older_than=HOUR) == 0
    assert not sweeping
    assert keys_in(texts(store)) == shelf.kept.keys()


def test_what_a_damaged_entry_names_is_kept(shelf: Shelf) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    saga = Saga("s", codec=codec_with(shelf)).add_task(step(write))
    run(saga, store)
    for seq, entry in store._journals["o-1"].items():
        store._journals["o-1"][seq] = entry._replace(payload=entry.payload[:-1])
    moved_by(HOUR, clock, shelf)
    assert Operations(store, "ann", sagas=[saga]).sweep(older_than=HOUR) == 0
    assert len(shelf.kept) == 2


def test_a_sweep_asks_what_is_safe(shelf: Shelf, store: Store) -> None:
    operations = Operations(store, "ann", blobs=shelf)
    for wrong in (0, 3599, timedelta(minutes=59), float("nan")):
        with pytest.raises(ValueError, match="older_than"):
            operations.sweep(older_than=wrong)
    assert operations.sweep(older_than=timedelta(days=1)) == 0
    with pytest.raises(ValueError, match="no blobs are known: give Operations"):
        Operations(store, "ann", sagas=[Saga("s").add_task(step(write))]).sweep(older_than=HOUR)
    with pytest.raises(SagaDefinitionError, match="Operations: blobs is 'a/folder'"):
        Operations(store, "ann", blobs="a/folder")  # type: ignore[arg-type]

    def fail(method: str) -> None:
        raise ConnectionError("the bucket does not answer")

    shelf.before = fail
    with pytest.raises(StorageError, match=r"Shelf\(\) cannot be listed: ConnectionError: the bucket does not answer"):
        operations.sweep(older_than=HOUR)
    assert asyncio.run(Operations(store, "ann", blobs=MemoryBlobs()).asweep(older_than=HOUR)) == 0


# -- for tests --------------------------------------------------------------------------------------------------------


def test_what_a_test_keeps_in_memory() -> None:
    blobs, keys = MemoryBlobs(), [f"A1/{number:032x}" for number in range(2)]
    for key in keys:
        blobs.put(key, key.encode())
    assert blobs.get(keys[1]) == keys[1].encode()
    assert ([*blobs.older_than(0)], [*blobs.older_than(3600)]) == (keys, [])
    blobs.delete(keys[:1])
    blobs.delete(keys[:1])
    assert [*blobs.older_than(0)] == keys[1:]
    with pytest.raises(KeyError):
        blobs.get(keys[0])


def test_an_exploration_leaves_what_is_elsewhere_alone(shelf: Shelf) -> None:
    """Whatever its processes die of, each finds what those before it have put."""

    def define(world: dict[str, int]) -> Saga:
        def take(context: Context) -> str:
            assert context.given == INPUT
            world["taken"] = 1
            return LARGE

        def give_back(report: str | None) -> None:
            assert report in (None, LARGE)
            world.pop("taken", None)

        saga = Saga("s", codec=codec_with(shelf), store="never made").add_task(step(take, give_back, in_doubt=InDoubt.RERUN))
        return saga.add_task(step(decline, in_doubt=InDoubt.RERUN))

    found = explore(define, {"given": INPUT}, world=dict)
    assert sum(found.histories) > 10
    assert shelf.calls == []


def test_so_does_an_exploration_of_a_block(shelf: Shelf) -> None:
    codec = codec_with(shelf, modules=[__name__])

    def trip(world: Any) -> None:
        with transaction("trip", {"given": INPUT}, saga_id="t-1", store="never made", codec=codec, again=True) as trip:
            trip.step(book, unbook, args=("x",), compensate_args=(LARGE,))

    assert sum(explore(trip, world=lambda: None, durable=True).histories) > 3
    assert shelf.calls == []


# -- a folder ---------------------------------------------------------------------------------------------------------

NAME = "0123456789abcdef" * 2


IDS = ["A1", "a/b/../c", ".", "..", "%2F", "日本語" * 60, "x" * 200, 'q"\\uote', "C:\\x"]


@pytest.mark.parametrize("saga_id", IDS, ids=lambda one: ascii(one)[:12])
def test_a_folder_keeps_what_is_put_under_any_id(tmp_path: Path, saga_id: str) -> None:
    folder = tmp_path / "blobs"
    with SqliteStore(tmp_path / "saga.db") as store:
        saga = order(FolderBlobs(folder))
        ordered(saga, store, saga_id=saga_id)
        assert saga.load(saga_id, store=store).results["write"] == LARGE
        keys = keys_in(texts(store))
        blobs = FolderBlobs(os.fspath(folder))
        assert {*blobs.older_than(0)} == keys
        assert len(keys) == 3
        assert [*blobs.older_than(3600)] == []
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["blobs"]
        blobs.delete(keys)
        blobs.delete(keys)
        assert [*folder.iterdir()] == []
        with pytest.raises(UnreadableJournalError, match="nothing is there in FolderBlobs"):
            saga.load(saga_id, store=store)


def test_a_file_is_there_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, key = FolderBlobs(tmp_path / "new" / "blobs"), f"A1/{NAME}"
    flush, replace, done = os.fsync, os.replace, []

    def flushed(opened: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "file")
        flush(opened)

    def replaced(one: Path, other: Path) -> None:
        done.append("named")
        replace(one, other)

    monkeypatch.setattr("os.fsync", flushed)
    monkeypatch.setattr("os.replace", replaced)
    blobs.put(key, b"x")
    assert done == ["folder"] * 3 + ["file", "named"] + ["folder"] * 2  # each that was made, and those that the name is in
    assert blobs.get(key) == b"x"


def test_what_a_process_did_not_end_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs, key = FolderBlobs(tmp_path), f"A1/{NAME}"

    def struck(one: Path, other: Path) -> None:
        raise OSError("it was killed")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", struck)
        with pytest.raises(OSError, match="it was killed"):
            blobs.put(key, b"x")
    with pytest.raises(KeyError):
        blobs.get(key)
    (tmp_path / "A1" / "a file of somebody's").touch()
    assert [*blobs.older_than(0)] == [key]
    blobs.delete([key])
    assert [*blobs.older_than(0)] == []
    assert [path.name for path in (tmp_path / "A1").iterdir()] == ["a file of somebody's"]


def test_folders_are_made_while_others_are_deleted(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for one in range(50):
                key = f"A1/{number * 1000 + one:032x}"
                blobs.put(key, b"x")
                assert blobs.get(key) == b"x"
                blobs.delete([key])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("key", ["A1", f"A1/{NAME}x", f"/{NAME}", f"../{NAME}", "A1/.."])
def test_a_folder_is_not_left(tmp_path: Path, key: str) -> None:
    for method in (FolderBlobs.get, lambda blobs, key: blobs.delete([key])):
        with pytest.raises(ValueError, match="is no key of an execution's value"):
            method(FolderBlobs(tmp_path), key)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for wrong in (None, 5, "", tmp_path / "a file"):
        with pytest.raises(SagaDefinitionError, match="FolderBlobs: "):
            FolderBlobs(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"blobs": object()}, "blobs is <object"),
        ({"blobs": "a/folder"}, "blobs is 'a/folder'; give an object that keeps bytes, such as FolderBlobs"),
        ({"blobs": FolderBlobs}, "blobs is <class"),
        ({"blobs": Shelf(), "larger_than": 0}, "larger_than is 0; give a number of characters"),
        ({"blobs": Shelf(), "larger_than": True}, "larger_than is True"),
        ({"larger_than": "1 MB"}, "larger_than is '1 MB'"),
        ({"larger_than": 5}, "larger_than is 5, and there are no blobs"),
    ],
    ids=["an object", "a path", "a class", "zero", "a bool", "a text", "no blobs"],
)
def test_what_keeps_nothing_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(SagaDefinitionError, match=re.escape(why)):
        Codec(**options)


_: Callable[..., Blobs] = Shelf  # what a test's own is, and a folder, is what the protocol says
__: Callable[..., Blobs] = FolderBlobs
___: Callable[..., Blobs] = MemoryBlobs
