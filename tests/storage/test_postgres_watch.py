"""Who waits for something to claim in PostgreSQL hears of what others store; where that breaks, it goes on and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from saga.errors import StorageError
from saga.storage import Lease, Store, postgres_listening
from saga.storage.postgres import PostgresStore
from saga.storage.watching import Watch
from tests.kit import until


@pytest.fixture
def opened(postgres_url: str, prefix: str) -> Iterator[Callable[..., PostgresStore]]:
    """Opens a store as another process would."""
    stores: list[PostgresStore] = []

    def open_once_more(url: str = postgres_url, **more: object) -> PostgresStore:
        stores.append(PostgresStore(url, prefix=prefix, **more))
        return stores[-1]

    yield open_once_more
    for store in stores:
        store.close()


@pytest.fixture
def watched(opened) -> Iterator[Watch]:
    watch = opened().watch()
    watch.wait(0.0)
    yield watch
    watch.close()


def cut(admin: psycopg.Connection) -> None:
    """End every connection of the stores."""
    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'saga'")


ACTIONS: dict[str, Callable[[Store, Lease], object]] = {
    "a message": lambda store, lease: store.post(lease.saga_id, "{}"),
    "what is given back": lambda store, lease: store.release(lease),
    "what others waited for": lambda store, lease: store.tell(),
    "what is let go": lambda store, lease: store.let_go("order", ""),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_others_are_heard(opened, watched, stored, action):
    others = opened()
    lease = stored.create(others, "x")
    assert watched.hears_others
    assert watched.wait(0.0) is False
    ACTIONS[action](others, lease)
    assert watched.wait(60.0) is True


def test_what_nobody_can_take_yet_is_not_told(opened, watched, stored):
    others = opened()
    others.release(stored.create(others, "x"), delay=60.0)
    others.release(stored.create(others, "y"), delay=60.0, got_on=True)
    assert watched.wait(0.2) is False


def test_what_a_process_tells_itself_is_heard_once(opened, stored):
    store = opened()
    watch = store.watch()
    watch.wait(0.0)
    stored.submit(store, "x")
    assert watch.wait(60.0) is True
    assert watch.wait(0.2) is False
    watch.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken is tried again at once."""
    monkeypatch.setattr(postgres_listening, "PAUSE", 0.02)


def test_a_connection_that_was_cut_is_said_once_and_replaced(opened, soon, stored, admin):
    store, others = opened(), opened()
    watch = store.watch()
    watch.wait(0.0)
    for number in range(3):
        cut(admin)
        assert watch.wait(60.0) is True  # nobody knows what was missed
        assert not watch.hears_others
        assert watch.wait(60.0) is True  # nor what was until it listened again
        assert watch.wait(0.0) is False
        assert watch.hears_others
        stored.submit(others, f"x{number}")
        assert watch.wait(60.0) is True
    watch.close()


def test_while_nobody_is_there_it_waits_and_is_woken_by_its_own_process(opened, soon, stored, admin, monkeypatch):
    store = opened()
    watch = store.watch()
    watch.wait(0.0)
    tried = []

    def refuse() -> None:
        tried.append(threading.current_thread())
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(watch, "_connect", refuse)
    cut(admin)
    assert watch.wait(60.0) is True
    assert watch.wait(0.2) is False
    until(lambda: watch.wait(0.02) is False and len(tried) > 2)
    assert threading.main_thread() not in tried
    stored.submit(store, "x")
    assert watch.wait(60.0) is True
    watch.close()


def test_that_nobody_is_there_at_first_is_no_error(opened, soon, monkeypatch):
    store = opened()
    listening = store._listening
    faults = iter([psycopg.OperationalError("connection refused"), StorageError("did not answer")])

    def refuse_twice():
        for fault in faults:
            raise fault
        return listening()

    monkeypatch.setattr(store, "_listening", refuse_twice)
    watch = store.watch()
    assert not watch.hears_others
    assert watch.wait(60.0) is True
    watch.wait(0.0)
    assert watch.hears_others
    watch.close()


def test_what_is_opened_too_late_is_closed(opened, soon, admin, monkeypatch):
    store = opened()
    watch = store.watch()
    watch.wait(0.0)
    connect, may = watch._connect, threading.Event()
    late = []

    def connect_late():
        may.wait(60)
        late.append(connect())
        return late[0]

    monkeypatch.setattr(watch, "_connect", connect_late)
    cut(admin)
    assert watch.wait(60.0) is True
    until(lambda: watch.wait(0.02) is False and watch._thread is not None)
    watch.close()
    may.set()
    watch._thread.join()
    assert late[0].closed


def test_a_closed_watch_leaves_no_connection(opened, watched, admin):
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'saga' AND query LIKE 'LISTEN%'"
    assert admin.execute(count).fetchone() == (1,)
    watched.close()
    until(lambda: admin.execute(count).fetchone() == (0,))
    watched.close = lambda: None


def test_a_closed_store_is_not_watched(opened):
    store = opened()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.watch()


def test_where_listening_is_refused_it_is_not_tried_again(opened, soon, stored, monkeypatch):
    store = opened()
    execute, refused = postgres_listening.Connection.execute, []

    def refuse(connection, query, *args, **more):
        if query.startswith(b"LISTEN"):
            refused.append(query)
            raise psycopg.errors.FeatureNotSupported("no LISTEN here")
        return execute(connection, query, *args, **more)

    monkeypatch.setattr(postgres_listening.Connection, "execute", refuse)
    watch = store.watch()
    watch.wait(0.0)
    assert not watch.hears_others
    assert watch.wait(0.1) is False
    stored.submit(store, "x")
    assert watch.wait(60.0) is True
    assert len(refused) == 1
    watch.close()


def test_through_a_pooler_nobody_is_heard_and_it_says_so(pooler_url, prefix, postgres_url, stored, monkeypatch):
    monkeypatch.setattr(postgres_listening, "HEARD_WITHIN", 0.3)
    with PostgresStore(pooler_url, prefix=prefix) as pooled, PostgresStore(postgres_url, prefix=prefix) as direct:
        watch, heard = pooled.watch(), direct.watch()
        watch.wait(0.0)
        heard.wait(0.0)
        assert (watch.hears_others, heard.hears_others) == (False, True)
        stored.submit(direct, "x")
        assert heard.wait(60.0) is True
        heard.wait(0.0)
        assert watch.wait(0.1) is False
        stored.submit(pooled, "y")
        assert watch.wait(60.0) is True
        assert heard.wait(60.0) is True  # who listens past the pooler hears of it
        watch.close()
        heard.close()


def test_the_channel_is_that_of_the_tables(postgres_url, prefix):
    def channel(**more: object) -> str:
        with PostgresStore(postgres_url, **({"prefix": prefix} | more)) as store:
            return store._channel_of_tables()

    assert channel() == channel(schema="public") == f"public.{prefix}"
    assert channel(schema="Other") == f"Other.{prefix}"
    long = channel(schema="s" * 47, prefix="p" * 47)
    assert len(long) <= 63
    assert long != channel(schema="s" * 47, prefix="p" * 46)
