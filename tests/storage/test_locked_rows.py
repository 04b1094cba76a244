"""A row that somebody has locked, such as a person with an open transaction, holds up its own execution and no other's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import sqlalchemy as sa

from saga.durable.leases import keeper_of
from saga.storage import Beat, Lease, Store
from saga.storage.postgres import PostgresStore
from tests.kit import until, within
from tests.kit.databases import Opener


class Holder:
    """Runs an execution, for ever."""

    def notify(self) -> None:
        pass

    def place(self) -> None:
        return None

    def vouches(self) -> bool:
        return True


class Gone(Holder):
    """Runs nothing any more."""

    def place(self) -> None:
        return None

    def vouches(self) -> bool:
        return False


SERVERS = ("postgres", "mariadb", "sqlalchemy-postgres")


@pytest.fixture(params=SERVERS)
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """As that of all stores, but of those only in which rows can be locked."""
    from tests.kit.databases import KINDS, empty

    opener = Opener(request.param, lambda: KINDS[request.param](request))
    empty(opener())
    yield opener
    opener.close()


def locked(store: Store, saga_id: str) -> AbstractContextManager[None]:
    """Lock an execution's row, as another program does."""
    return _in_postgres(store, saga_id) if isinstance(store, PostgresStore) else _by_sqlalchemy(store, saga_id)


@contextmanager
def _in_postgres(store: PostgresStore, saga_id: str) -> Iterator[None]:
    connection = store._pool.lend()
    try:
        with connection.transaction():
            connection.execute("SELECT 1 FROM contract WHERE id = %s FOR UPDATE", (saga_id,))
            yield
    finally:
        store._pool.take_back(connection)


@contextmanager
def _by_sqlalchemy(store, saga_id: str) -> Iterator[None]:
    saga = store._tables.saga
    with store._engine.connect() as connection, connection.begin():
        connection.execute(sa.select(saga.c.id).where(saga.c.id == saga_id).with_for_update()).all()
        yield


def test_the_leases_of_others_are_renewed(opener, stored):
    store, other = opener(), opener()
    leases = [stored.create(store, saga_id, lease=30.0) for saga_id in "abc"]
    store.post("c", "{}")
    before = {saga_id: store.get(saga_id).lease_until for saga_id in "abc"}
    with locked(other, "b"):
        beats = within(20, lambda: store.renew("a", leases, 600.0))
    # It holds, though it could not be renewed.
    assert sorted(beats) == [Beat("a", False), Beat("b", False), Beat("c", True)]
    assert {saga_id for saga_id in "abc" if store.get(saga_id).lease_until > before[saga_id] + 300} == {"a", "c"}
    assert sorted(store.renew("a", leases, 600.0)) == sorted(beats)
    assert store.get("b").lease_until > before["b"] + 300


def test_a_lease_that_was_lost_is_told_though_others_are_locked(opener, stored):
    store, other = opener(), opener()
    leases = [stored.create(store, saga_id, lease=-1.0) for saga_id in "abc"]
    store.claim("b", 60.0, saga_id="a")
    with locked(other, "b"):
        beats = within(20, lambda: store.renew("a", [*leases, Lease("none", "a", 1)], 60.0))
    assert sorted(beat.saga_id for beat in beats) == ["b", "c"]


def test_a_row_that_is_free_again_soon_is_renewed_at_once(opener, stored, monkeypatch):
    store, other = opener(), opener()
    lease = stored.create(store, "a", lease=30.0)
    held = locked(other, "a")
    held.__enter__()
    # The pause after the first look is when whoever wrote to it has committed.
    monkeypatch.setattr(
        "saga.storage.retrying.time.sleep", lambda pause: held.__exit__(None, None, None) if pause == 0.01 else None
    )
    assert store.renew("a", [lease], 600.0) == [Beat("a", False)]
    assert store.get("a").lease_until > store.now() + 300


def test_the_heartbeat_goes_on_for_the_others(opener, stored):
    store, other = opener(), opener()
    keeper = keeper_of(store)
    leases = [stored.create(store, saga_id, lease=1.0) for saga_id in "abc"]
    holder = Holder()
    with locked(other, "b"):
        for lease in leases:
            keeper.hold(lease, 1.0, holder)
        first = {saga_id: store.get(saga_id).lease_until for saga_id in "ac"}
        until(lambda: all(store.get(saga_id).lease_until > first[saga_id] + 1.5 for saga_id in "ac"))
    until(lambda: store.get("b").lease_until > min(first.values()) + 1.5)
    for lease in leases:
        keeper.drop(lease)


def test_the_heartbeat_goes_on_while_a_lease_is_given_back(opener, stored):
    store, other = opener(), opener()
    keeper = keeper_of(store)
    leases = [stored.create(store, saga_id, lease=1.0) for saga_id in "ab"]
    holder, gone = Holder(), Gone()
    with locked(other, "b"):
        keeper.hold(leases[1], 1.0, gone, waits=True)
        until(lambda: (leases[1].saga_id, 1) not in keeper._held)
        keeper.hold(leases[0], 1.0, holder)
        first = store.get("a").lease_until
        until(lambda: store.get("a").lease_until > first + 1.5)
        assert store.get("b").owner == "a"
    keeper.drop(leases[0])
