"""What a doctor finds in a store, and what it says mends it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from saga import Saga, receive, step
from saga.cli.doctor import _oldest, findings
from saga.errors import StorageError
from saga.operations import Operations
from saga.storage import Entry, MemoryStore, NewExecution, NewWorker
from saga.worker import Worker

from .conftest import Cli


class Store(MemoryStore):
    """One whose clock can be set, and that may be for reading alone."""

    ahead = 0.0
    read_only = False

    def now(self) -> float:
        return time.time() + self.ahead

    def hold(self, *given: Any) -> None:
        if self.read_only:
            raise StorageError("permission denied")
        super().hold(*given)


def create(store: Store, status: str = "running") -> None:
    new = NewExecution("x", "s", "1", "f", "d", status)
    assert store.create(new, [Entry(1, "SagaStarted", None, "{}", time.time())], "who died", 1.0) is None


def announce(store: Store, version: str = "1") -> None:
    store.announce(NewWorker("w", "host", 1, [("s", version, "f" if version == "1" else "g")]), 1e6)


def _behind(store: Store) -> None:
    store.ahead = 100.0


def _ahead(store: Store) -> None:
    store.ahead = -7400.0


def _read_only(store: Store) -> None:
    store.read_only = True


def _died(store: Store) -> None:
    create(store)
    announce(store)
    store.ahead = 300.0


def _unfit(store: Store) -> None:
    create(store)
    announce(store, "2")


def _several(store: Store) -> None:
    for number, fingerprint in enumerate("fgh"):
        store.create(NewExecution(f"x{number}", "s", "1", fingerprint, "d", "submitted"), [], "-", 0.0)


def _held(store: Store) -> None:
    store.hold("s", "", "ann", "the bank is closed")


def _stuck(store: Store) -> None:
    def fail() -> None:
        raise OSError

    saga = Saga("s", store=store).add_task(step(lambda: 1, fail, name="charge")).add_task(step(fail, name="pack"))
    saga.try_execute()


def _submitted(store: Store) -> None:
    Saga("s", store=store).add_task(step(print)).submit()


def _later(store: Store) -> None:
    saga = Saga("s", store=store).add_task(receive("word")).add_task(step(print))
    saga.submit(at=store.now() + 3600.0)
    saga.submit(saga_id="asks")
    Worker(store, [saga]).run_once()


def _old(store: Store) -> None:
    Saga("s", store=store).add_task(step(lambda: 1, name="a")).execute()
    store.ahead = 40 * 86400.0


@pytest.mark.parametrize(
    ("make", "check", "ok", "says", "mend"),
    [
        (lambda store: None, "store", True, "it answers", None),
        (lambda store: None, "clock", True, "differs by", None),
        (_behind, "clock", False, "this host's is 100 s behind the store's", "NTP"),
        (_ahead, "clock", False, "this host's is 2 h ahead of the store's", "NTP"),
        (lambda store: None, "rights", True, "rows can be written", None),
        (_read_only, "rights", False, "nothing can be written: permission denied", "saga schema --sql --role"),
        (lambda store: None, "workers", True, "none lives, and nothing waits for one", None),
        (announce, "workers", True, "1 on 1 host", None),
        (_submitted, "workers", False, "none lives, and 1 execution could go on", "saga worker"),
        (_later, "workers", True, "none lives, and what has not ended (2) waits for its time, or a signal", None),
        (_unfit, "definitions", False, "no worker's fits 1 of s 1", "compatible_with"),
        (create, "definitions", True, "not known while no worker lives: of 1 of s 1", "saga check"),
        (_several, "definitions", True, "not known while no worker lives: of 3 of s 1", "saga check"),
        (lambda store: None, "definitions", True, "every execution that has not ended has a worker that fits", None),
        (_died, "leases", False, "1 execution, whose process is gone, for up to 5 min by now: x", "saga worker"),
        (create, "leases", True, "nobody's lease has run out unseen", None),
        (
            _stuck,
            "stuck",
            False,
            "1 execution for 1 cause; 1 of s at charge: compensation failed: charge (OSError)",
            "saga causes; saga show",
        ),
        (lambda store: None, "stuck", True, "none", None),
        (_held, "held", False, "s by ann: the bank is closed", "saga let-go SAGA"),
        (lambda store: None, "held", True, "nothing", None),
        (
            _old,
            "leftovers",
            True,
            "1 that ended is older than 30 d; the oldest was stored 40 d ago",
            "saga purge --older-than 30d",
        ),
    ],
)
def test_each_check_says_what_it_finds_and_what_mends_it(make: Any, check: str, ok: bool, says: str, mend: str | None) -> None:
    store = Store()
    make(store)
    found = {one.check: one for one in findings(Operations(store, "ann"))}
    assert says in found[check].says
    assert found[check].ok is ok
    assert (mend is None) is (found[check].mend is None)
    assert mend is None or mend in str(found[check].mend)


@pytest.mark.parametrize("oldest", [31, 61, 90, 1000])
def test_how_old_the_oldest_is_that_ended_is_known_however_many_are_younger(oldest: int) -> None:
    store = Store()
    for day in (oldest, *range(min(oldest, 200), 0, -7)):
        store.ahead = 86400.0 * (oldest - day)
        Saga("s", store=store).add_task(step(lambda: 1, name="a")).execute()
    store.ahead = 86400.0 * oldest
    found = _oldest(Operations(store, "ann"))
    assert 0.97 * oldest * 86400 < found <= oldest * 86400 + 60


def test_no_more_are_counted_than_can_be_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.cli.doctor._COUNTED", 3)
    store = Store()
    for _ in range(4):
        _old(store)
    store.ahead = 90 * 86400.0
    (found,) = [one for one in findings(Operations(store, "ann")) if one.check == "leftovers"]
    assert found.says.startswith("at least 3 that ended are older than 30 d; the oldest was stored ")


def test_a_doctor_leaves_nothing_behind() -> None:
    store = Store()
    list(findings(Operations(store, "ann")))
    assert not store.holds()


def test_the_code_says_whether_a_person_must_act(cli: Cli, orders: Any) -> None:
    assert cli("doctor", "--store", "orders.db").code == 3
    cli("run", "shop:letters", "--store", "well.db")
    said = cli("doctor", "--store", "well.db")
    assert (said.code, {line[0] for line in said.out.splitlines()}) == (0, {"✓"})
