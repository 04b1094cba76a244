"""Values encrypted at rest: nothing secret is in the store, all of it is known to whoever has the key, and to nobody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Done, InDoubt, Retry, Saga, Status, Task, receive, step, transaction
from saga import events as e
from saga.durable.codec import Codec
from saga.durable.entries import read_entries
from saga.durable.sealed import SEALED, SEALED_OF
from saga.errors import EncodingError, SagaDefinitionError, SagaIdTakenError, StorageError, UnreadableJournalError
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore, SqliteStore, Store
from saga.worker import Worker
from tests.kit import Watched, expired
from tests.kit.ciphers import AesGcm

SECRET = "4711-secret"


KEY, OLD = os.urandom(16), os.urandom(16)
CODEC = Codec(cipher=AesGcm(KEY))


class CardDeclinedError(Exception):
    pass


class Charge(Task[str]):
    retry = Retry(2)
    unknown_on = (OSError,)

    def execute(self, context: Context) -> str:
        context["card"] = SECRET
        if context.step.attempt == 1:
            raise OSError(f"{SECRET} is asked about")
        return SECRET

    def verify(self, context: Context) -> Done[str] | None:
        return Done(f"charged {SECRET}") if context.given == SECRET else None

    def compensate(self, context: Context) -> None:
        assert SECRET in context.result_of(Charge)
        context["refunded"] = SECRET


def decline(previous: Any, context: Context) -> None:
    assert previous == {"paid": SECRET}
    error = CardDeclinedError(f"{SECRET} was declined")
    error.add_note(SECRET)
    raise error


def order(codec: Codec | None = CODEC, **options: Any) -> Saga:
    saga = Saga("order", codec=codec, tags=lambda context: {"shop": "7"}, **options)
    return saga.add_task(Charge()).add_task(receive("paid")).add_task(step(decline, in_doubt=InDoubt.RERUN))


def told(store: Store) -> str:
    """Return all that a store says of its executions."""
    rows = store.list().executions
    return repr([(row, store.journal(row.saga_id), store.inbox(row.saga_id)) for row in rows])


def executed(saga: Saga, store: Store, asynchronous: bool) -> Any:
    saga.submit({"given": SECRET}, saga_id="o-1", store=store)
    saga.signal("o-1", "paid", {"paid": SECRET}, store=store)
    assert (SECRET in told(store)) is (saga.codec is None)
    if asynchronous:
        return asyncio.run(saga.atry_execute({"given": SECRET}, saga_id="o-1", store=store))
    return saga.try_execute({"given": SECRET}, saga_id="o-1", store=store)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_no_value_is_in_the_store_and_all_are_known_by_the_key(store: Store, asynchronous: bool) -> None:
    saga = order()
    for result in (executed(saga, store, asynchronous), saga.load("o-1", store=store)):
        assert result.status is Status.COMPENSATED
        assert isinstance(result.error, CardDeclinedError)
        assert (str(result.error), result.error.__notes__) == (f"{SECRET} was declined", [SECRET])
        assert dict(result.context) == {"given": SECRET, "card": SECRET, "refunded": SECRET}
        assert result.results == {"Charge": f"charged {SECRET}", "paid": {"paid": SECRET}}
    said = told(store)
    assert SECRET not in said
    for shown in ("Charge", "paid", "CardDeclinedError", "'shop': '7'", "reason='(encrypted)'"):
        assert shown in said
    shown = Operations(store, "ann").show("o-1")
    assert SECRET not in repr(shown)
    assert [line.kind for line in shown.journal].count("StepFailed") == 2
    assert {line.details["result"] for line in shown.journal if "result" in line.details} == {"(encrypted)"}


READABLE = {
    *(
        "step",
        "at",
        "attempt",
        "elapsed",
        "delay",
        "phase",
        "group",
        "again",
        "failed_step",
        "running",
        "in_doubt",
        "executed",
        "done",
    ),
    *("saga", "saga_id", "name", "owner", "epoch", "reason", "action", "who", "why", "carried", "encoded", "way"),
}


def test_what_an_event_holds_is_encrypted_or_said_to_be_readable() -> None:
    for kind in e.Event.__args__:  # type: ignore[attr-defined]
        hidden = {*SEALED, *SEALED_OF.get(kind.__name__, ())}
        known = {*kind.__match_args__} - hidden - READABLE
        assert not known, f"saga/durable/sealed.py: of {kind.__name__}, {known} is stored as it is; seal it, or say so here"


def test_what_is_refused_is_encrypted() -> None:
    """The function that refuses a value may say it."""

    def fits(value: Any) -> bool:
        raise ValueError(f"{value} is no number")

    def paid(accept: Any) -> Saga:
        return Saga("s", codec=CODEC).add_task(receive("paid", accept=accept))

    store = MemoryStore()
    paid(fits).submit(saga_id="o-1", store=store)
    paid(str).signal("o-1", "paid", SECRET, store=store)
    Worker(store, [paid(fits)]).run_once()
    assert [entry.kind for entry in store.journal("o-1")][-1] == "MessageRefused"
    assert SECRET not in told(store)
    assert SECRET in str(read_entries(store.journal("o-1"), CODEC, "o-1")[0][-1].event)


def test_no_value_is_in_a_databases_files(tmp_path: Path) -> None:
    for codec, known in ((CODEC, False), (None, True)):
        (folder := tmp_path / str(known)).mkdir()
        with SqliteStore(folder / "saga.db") as store:
            executed(order(codec), store, False)
            with transaction("trip", {"given": SECRET}, store=store, codec=codec) as trip:
                trip.step(book, unbook, name="book", args=(SECRET,), compensate_args=(SECRET,))
            held = b"".join(path.read_bytes() for path in folder.iterdir())
        assert (SECRET.encode() in held) is known
        assert b"CardDeclinedError" in held


def book(what: str) -> str:
    return what


UNBOOKED: list[str] = []


def unbook(result: str, what: str) -> None:
    UNBOOKED.extend((result, what))


def test_a_block_is_undone_by_whoever_has_the_key() -> None:
    watched = Watched(MemoryStore())
    with transaction("trip", saga_id="o-1", store=watched, codec=CODEC) as trip:  # type: ignore[arg-type]
        trip.step(book, unbook, args=(SECRET,), compensate_args=(SECRET,))
    store = MemoryStore()
    expired(store, watched.writes[:-1])
    UNBOOKED.clear()
    codec = Codec(modules=[__name__], cipher=AesGcm(OLD, KEY))
    (result,) = Recovery(store, transactions=["trip"], codec=codec).run_once()
    assert result.status is Status.COMPENSATED
    assert UNBOOKED == [SECRET, SECRET]


def test_wherever_a_process_dies_another_with_the_key_goes_on() -> None:
    def saga(*keys: bytes) -> Saga:
        made = Saga("order", codec=Codec(cipher=AesGcm(*keys))).add_task(Charge())
        return made.add_task(step(lambda: {"paid": SECRET}, name="pay", in_doubt=InDoubt.RERUN)).add_task(step(decline))

    watched = Watched(MemoryStore())
    saga(KEY).try_execute({"given": SECRET}, saga_id="o-1", store=watched)  # type: ignore[arg-type]
    assert len(watched.writes) > 5
    for written in range(1, len(watched.writes)):
        store = MemoryStore()
        expired(store, watched.writes[:written])
        (result,) = Recovery(store, [saga(OLD, KEY)]).run_once()  # the key is another by now
        assert result.status is Status.COMPENSATED, written
        assert SECRET not in told(store)


@pytest.mark.parametrize(
    ("codec", "why"),
    [
        (None, "it is encrypted, and this codec has no cipher; give the one it was stored with"),
        (Codec(cipher=AesGcm(OLD)), "the codec's cipher cannot decrypt it: ValueError: none of the keys fits"),
    ],
)
def test_without_the_key_nothing_is_read_and_nothing_goes_on(codec: Codec | None, why: str, store: Store) -> None:
    order().submit({"given": SECRET}, saga_id="o-1", store=store)
    saga = order(codec)
    with pytest.raises(UnreadableJournalError, match=why):
        saga.load("o-1", store=store)
    with pytest.raises(SagaIdTakenError, match="with another input"):
        saga.execute({"given": SECRET}, saga_id="o-1", store=store)
    before = store.journal("o-1")
    assert Recovery(store, [saga]).run_once() == []
    assert store.journal("o-1") == before


def test_what_was_stored_before_there_was_a_key_is_read(store: Store) -> None:
    order(None).submit({"given": SECRET}, saga_id="o-1", store=store)
    order(None).signal("o-1", "paid", {"paid": SECRET}, store=store)
    assert order().try_execute({"given": SECRET}, saga_id="o-1", store=store).status is Status.COMPENSATED


def test_what_belongs_to_one_entry_is_none_of_another() -> None:
    store = MemoryStore()
    executed(order(), store, False)
    entries = store.journal("o-1")
    read_entries(entries, CODEC, "o-1")
    with pytest.raises(UnreadableJournalError, match="cannot decrypt it"):
        read_entries(entries, CODEC, "o-2")
    of_results = [entry for entry in entries if entry.kind == "StepFailed"]
    moved = [entry._replace(payload=of_results[0].payload) if entry is of_results[1] else entry for entry in entries]
    with pytest.raises(UnreadableJournalError, match="cannot decrypt it"):
        read_entries(moved, CODEC, "o-1")


def test_the_same_input_is_told_by_the_key(store: Store) -> None:
    saga = Saga("s", codec=CODEC).add_task(step(book, name="a", args=("x",)))
    for _ in range(2):
        assert saga.execute({"given": SECRET}, saga_id="o-1", store=store).ok
    with pytest.raises(SagaIdTakenError, match="with another input"):
        saga.execute({"given": "other"}, saga_id="o-1", store=store)
    assert [row.digest for row in store.list().executions] == [""]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_commit_of_which_nobody_said_that_it_was_made_is_known_by_being_the_same(asynchronous: bool) -> None:
    for fails_at in (1, 2):
        watched = Watched(MemoryStore())

        def fail(number: int, at: int = fails_at) -> None:
            if number == at:
                raise StorageError("the connection broke")

        watched.after = fail
        saga = Saga("s", codec=CODEC).add_task(step(book, name="a", args=(SECRET,))).add_task(step(book, name="b", args=("",)))
        where: Any = {"saga_id": "o-1", "store": watched}
        assert (asyncio.run(saga.aexecute({}, **where)) if asynchronous else saga.execute({}, **where)).ok
        assert saga.load("o-1", **{"store": watched}).results["a"] == SECRET  # type: ignore[dict-item]


def test_what_was_stored_when_an_interrupt_struck_is_known_by_being_the_same() -> None:
    watched = Watched(MemoryStore())

    def strike(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt

    watched.after = strike
    saga = Saga("s", codec=CODEC).add_task(step(book, name="a", args=(SECRET,)))
    with pytest.raises(KeyboardInterrupt):
        saga.execute({"given": SECRET}, saga_id="o-1", store=watched)  # type: ignore[arg-type]
    assert watched.get("o-1").status == "compensated"


class Failing(AesGcm):
    left = 0

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        self.left -= 1
        if self.left == -1:
            raise ConnectionError("the keys are not to be had")
        return super().encrypt(data, context)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("fails_at", "undone"), [(0, None), (1, "x")])
def test_a_cipher_that_fails_is_a_store_that_fails(fails_at: int, undone: str | None, asynchronous: bool, store: Store) -> None:
    cipher = Failing(KEY)
    cipher.left = fails_at
    UNBOOKED.clear()
    saga = Saga("s", codec=Codec(cipher=cipher))
    saga.add_task(step(book, unbook, name="a", args=("x",), compensate_args=("y",))).add_task(step(book, name="b", args=("",)))
    with pytest.raises(StorageError, match="the codec's cipher cannot encrypt: ConnectionError: the keys are not to be had"):
        asyncio.run(saga.aexecute(saga_id="o-1", store=store)) if asynchronous else saga.execute(saga_id="o-1", store=store)
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert [undone, "y"] == UNBOOKED


def test_what_cannot_be_rebuilt_is_not_told() -> None:
    text = f'{{"$uuid":"{SECRET}"}}'
    for codec, tells in ((Codec(), True), (CODEC, False)):
        with pytest.raises(EncodingError) as refused:
            codec.decode(text)
        assert (SECRET in str(refused.value)) is tells


@pytest.mark.parametrize("cipher", [object(), "key", len])
def test_what_is_no_cipher_is_refused(cipher: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="give an object with encrypt and decrypt"):
        Codec(cipher=cipher)
