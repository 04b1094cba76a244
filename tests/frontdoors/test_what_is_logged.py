"""What a person reads of an execution that failed, was undone or is stuck: every line of it, whoever ran it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import pytest

from saga import Ask, Context, InDoubt, Retry, Saga, Status, fallback, parallel, step
from saga.events import SagaStuck
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import Entry, Lease, MemoryStore
from saga.worker import Worker
from tests.kit import Calls, Watched, crash_everywhere, expired, failing_times, left_at
from tests.kit.recoveries import simple

OUT: Final = ValueError("no stock")
GONE: Final = OSError("gone")


@pytest.fixture(autouse=True)
def _what_is_worth_a_line_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="saga"):
        yield


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Return the lines, with their levels, the executions' names and how long something took left out."""
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    return "\n".join(re.sub(r"(elapsed_ms|delay_ms)=[\d.]+", r"\1=N", line).replace("saga=s id=A1 ", "") for line in lines)


def run_here(calls: Calls, saga: Saga) -> None:
    calls.run(saga, {"order": "A1"}, saga_id="A1")


def run_with_a_store(calls: Calls, saga: Saga) -> None:
    calls.run(saga, {"order": "A1"}, saga_id="A1", store=MemoryStore())


def run_by_a_worker(calls: Calls, saga: Saga) -> None:
    store = MemoryStore()
    saga.submit({"order": "A1"}, saga_id="A1", store=store)
    Worker(store, [saga], workers=1).run_once()


WAYS: Final = [run_here, run_with_a_store, run_by_a_worker]
Way = Callable[[Calls, Saga], None]


@pytest.mark.parametrize("way", WAYS)
def test_every_line_of_what_failed_and_was_undone(calls: Calls, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    reserve = calls.step("reserve", None, failing_times(1), compensation_retry=Retry(2))
    charge = calls.step("charge", OUT, retry=Retry(2))
    way(calls, calls.saga(reserve, charge, logger="saga"))
    assert said(caplog) == (
        "INFO saga started status=running\n"
        "INFO step succeeded step=reserve attempt=1 status=succeeded elapsed_ms=N\n"
        "WARNING step failed step=charge attempt=1 status=failed elapsed_ms=N error=\"ValueError('no stock')\"\n"
        "WARNING retry scheduled step=charge attempt=2 status=waiting delay_ms=N\n"
        "WARNING step failed step=charge attempt=2 status=failed elapsed_ms=N error=\"ValueError('no stock')\"\n"
        "ERROR saga compensating step=charge status=compensating error=\"ValueError('no stock')\"\n"
        "WARNING compensation failed step=reserve attempt=1 status=compensation_failed elapsed_ms=N error=OSError(0)\n"
        "WARNING compensation retry scheduled step=reserve attempt=2 status=waiting delay_ms=N\n"
        "INFO compensation succeeded step=reserve attempt=2 status=compensated elapsed_ms=N\n"
        "WARNING saga compensated status=compensated cause=\"ValueError: no stock (at step 'charge')\" elapsed_ms=N"
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_line_of_what_is_stuck(calls: Calls, way: Way, caplog: pytest.LogCaptureFixture) -> None:
    reserve = calls.step("reserve", None, GONE, compensation_retry=Retry(2))
    logger = SagaLogger(show=["order", "result.reserve"])
    way(calls, calls.saga(reserve, calls.step("pack"), calls.step("charge", OUT), logger=logger))
    actions = "retry('A1', why), compensate('A1', why), skip('A1', 'reserve', why)"
    assert said(caplog) == (
        "INFO saga started status=running context.order=A1\n"
        "INFO step succeeded step=reserve attempt=1 status=succeeded elapsed_ms=N\n"
        "INFO step succeeded step=pack attempt=1 status=succeeded elapsed_ms=N\n"
        "WARNING step failed step=charge attempt=1 status=failed elapsed_ms=N error=\"ValueError('no stock')\"\n"
        "ERROR saga compensating step=charge status=compensating error=\"ValueError('no stock')\"\n"
        "INFO compensation succeeded step=pack attempt=1 status=compensated elapsed_ms=N\n"
        "WARNING compensation failed step=reserve attempt=1 status=compensation_failed elapsed_ms=N error=OSError('gone')\n"
        "WARNING compensation retry scheduled step=reserve attempt=2 status=waiting delay_ms=N\n"
        "ERROR compensation failed step=reserve attempt=2 status=compensation_failed elapsed_ms=N error=OSError('gone')\n"
        'CRITICAL saga stuck status=stuck reason="compensation failed: reserve" '
        "cause=\"ValueError: no stock (at step 'charge')\" steps=reserve "
        "errors=\"the compensation of step 'reserve' failed (2 attempts): OSError: gone\" "
        'result.reserve="result of reserve" key.reserve=s/A1/reserve '
        f'actions="{"nothing is stored, so no program goes on from here" if way is run_here else actions}" '
        "elapsed_ms=N context.order=A1"
    )


# -- the line of what is stuck --------------------------------------------------------------------------------------------


def last_fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    return {name.removeprefix("saga_"): value for name, value in vars(caplog.records[-1]).items() if "saga" in name}


def fail() -> None:
    raise OUT


def refuse() -> None:
    raise GONE


def lose() -> None:
    raise TimeoutError("no answer")


RESERVE: Final = step(lambda: {"id": "r-1", "card": "4242"}, refuse, name="reserve")


@pytest.mark.parametrize(
    ("saga", "told"),
    [
        pytest.param(
            lambda **options: Saga("s", **options).add_task(RESERVE).add_task(step(fail, name="pack", on_error=Ask)),
            {
                "key.reserve": None,
                "cause": None,
                "steps": "pack",
                "errors": "step 'pack' failed (1 attempt): ValueError: no stock",
                "key.pack": "s/A1/pack",
                "actions": "resume('A1', why), compensate('A1', why), skip('A1', 'pack', why)",
            },
            id="asked",
        ),
        pytest.param(
            lambda **options: Saga("s", **options).add_task(step(lose, lambda: None, name="pay", in_doubt=InDoubt.ASK)),
            {
                "cause": "TimeoutError: no answer (at step 'pay')",
                "steps": "pay",
                "errors": "step 'pay' is in doubt (1 attempt): TimeoutError: no answer",
                "key.pay": "s/A1/pay",
                "actions": "compensate('A1', why), skip('A1', 'pay', why)",
            },
            id="in doubt",
        ),
        pytest.param(
            lambda **options: (
                Saga("s", stop_on_compensation_failure=True, **options)
                .add_task(step(lambda: 1, lambda: None, name="first"))
                .add_task(step(lambda: "looked", name="look"))
                .add_task(RESERVE)
                .add_task(step(fail))
            ),
            {
                "steps": "reserve",
                "result.first": "***",
                "key.first": "s/A1/first",
                "result.look": None,
                "result.reserve": "***",
                "key.reserve": "s/A1/reserve",
                "actions": "retry('A1', why), compensate('A1', why), skip('A1', 'reserve', why)",
            },
            id="stopped",
        ),
        pytest.param(
            lambda **options: (
                Saga("s", **options)
                .add_task(parallel(RESERVE, fallback(step(fail, name="dear"), step(lambda: 2, refuse, name="cheap"))))
                .add_task(step(fail))
            ),
            {"steps": "reserve, cheap", "key.cheap": "s/A1/cheap", "result.dear": None, "key.dear": None},
            id="parallel",
        ),
    ],
)
@pytest.mark.parametrize("way", [run_with_a_store, run_by_a_worker])
def test_it_names_the_steps_what_came_of_them_and_what_can_be_done(
    saga: Callable[..., Saga], told: dict[str, Any], way: Way, plain: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    way(plain, saga(logger="saga"))
    fields = last_fields(caplog)
    assert fields["event"] == "saga stuck"
    assert {name: fields.get(name) for name in told} == told


def test_what_a_worker_leaves_to_a_person_is_told_as_what_is_stuck_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    def build(**options: Any) -> Saga:
        return Saga("s", **options).add_task(step(lambda: "r-1", lambda: None, name="a")).add_task(step(lambda: 2, name="b"))

    told: list[Any] = []
    store = left_at(build(), "a", age=1000.0)
    for _ in range(3):
        store.claim("somebody who dies", -1.0)
    logger = SagaLogger(show=["result"])
    ran = Worker(store, [build(logger=[logger, lambda event, info: told.append(event)])], max_attempts=2).run_once()
    assert [one.saga_id for one in ran.parked] == ["o-1"]
    assert [type(event) for event in told] == [SagaStuck]
    loud = [record.levelname for record in caplog.records if record.levelno >= logging.ERROR]
    assert loud == ["ERROR", "CRITICAL"]
    fields = last_fields(caplog)
    assert (fields["event"], fields["reason"]) == ("saga stuck", "it was tried 2 times and got no further")
    assert fields["actions"] == "resume('o-1', why), compensate('o-1', why)"
    assert fields["elapsed_ms"] >= 1_000_000


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_where_its_journal_cannot_be_read_the_line_says_why(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def raising(event: Any, info: Any) -> None:
        raise error("an observer of one's own")

    store = MemoryStore()
    saga = Saga("s", logger=[raising, "saga"], store=store).add_task(step(lambda: 1, name="a"))
    saga.submit(saga_id="A1")
    (row,) = store.claim("dead", -1.0)
    store.append(Lease("A1", "dead", row.epoch), [Entry(2, "Nonsense", None, "{", 0.0)])
    with nullcontext() if error is not KeyboardInterrupt else pytest.raises(KeyboardInterrupt):
        assert len(Worker(store, [saga], workers=1, max_attempts=1).run_once().parked) == 1
        assert "raised on the end of saga A1" in caplog.text
    fields = last_fields(caplog)
    assert (fields["event"], fields["reason"]) == ("saga stuck", "it was tried once and got no further")


@dataclass
class Parcel:
    number: str
    secret: str

    def __str__(self) -> str:
        return f"Parcel({self.number!r})"


@pytest.mark.parametrize(
    ("show", "mask", "shown"),
    [
        ([], [], {"result.reserve": "***", "result.pack": "***"}),
        (
            ["result"],
            [],
            {"result.reserve": "{'id': 'r-1', 'card': '4242'}", "result.pack": "Parcel('p-1')"},
        ),
        (["result.reserve"], [], {"result.reserve": "{'id': 'r-1', 'card': '4242'}", "result.pack": "***"}),
        (["result.reserve.id"], [], {"result.reserve.id": "r-1", "result.pack": "***"}),
        (["result.pack.number"], [], {"result.reserve": "***", "result.pack.number": "p-1"}),
        (["result.reserve.absent"], [], {"result.pack": "***"}),
        (["result"], ["result"], {"result.reserve": "***", "result.pack": "***"}),
        (["result"], ["result.pack"], {"result.reserve": "{'id': 'r-1', 'card': '4242'}", "result.pack": "***"}),
        (
            ["result"],
            ["result.reserve.card", "result.pack.secret"],
            {"result.reserve": "{'id': 'r-1', 'card': '***'}", "result.pack": "{'number': 'p-1', 'secret': '***'}"},
        ),
        # what is to be hidden and is not found hides all in which it may be
        (["result.reserve"], ["result.reserve.crad"], {"result.reserve": "***", "result.pack": "***"}),
        (["result"], ["result.pakc.secret"], {"result.reserve": "***", "result.pack": "***"}),
    ],
)
def test_results_are_shown_and_hidden_as_the_logger_was_told(
    show: list[str], mask: list[str], shown: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    pack = step(lambda: Parcel("p-1", "xyz"), refuse, name="pack")
    Saga("s", logger=SagaLogger(show=show, mask=mask)).add_task(RESERVE).add_task(pack).add_task(step(fail)).try_execute()
    assert {name: value for name, value in last_fields(caplog).items() if name.startswith("result")} == shown
    missed = [record for record in caplog.records if "is not found in result." in record.getMessage()]
    assert len(missed) == any("crad" in path or "pakc" in path for path in mask)


def test_of_many_steps_it_names_some_and_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    saga = Saga("s", logger="saga")
    for number in range(12):
        saga.add_task(step(lambda: 1, refuse, name=f"n{number}"))
    saga.add_task(step(fail)).try_execute()
    fields = last_fields(caplog)
    assert fields["steps"] == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, and 2 more"
    assert fields["errors"].count("failed") == 10
    assert sum(name.startswith("key.") for name in fields) == 10


def test_hostile_results_errors_and_names_leave_it_one_line(caplog: pytest.LogCaptureFixture) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    def refuse_on_two_lines() -> None:
        raise OSError("gone\nCRITICAL saga stuck\x1b[31m")

    saga = Saga("s", logger=SagaLogger(show=["result"]))
    saga.add_task(step(Hostile, refuse_on_two_lines, name="re=serve %s"))
    saga.add_task(step(lambda: "a\n\u202eb", refuse_on_two_lines, name="pack")).add_task(step(fail)).try_execute()
    line = caplog.records[-1].getMessage()
    assert line.startswith("saga stuck saga=s ")
    assert line.isprintable()
    assert 'result.pack="a\\n\\u202eb"' in line
    assert "<test_hostile_" in line or "whose str() raised RuntimeError" in line


class Raising(dict[str, Any]):
    """A mapping that tells nothing."""

    def _raise(self, *args: Any) -> Any:
        raise RuntimeError

    __contains__ = __getitem__ = __iter__ = keys = __str__ = __repr__ = _raise  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("show", "mask"),
    [
        (["result", "key"], []),
        (["result", "key"], ["result", "key"]),
        (["result.a.x", "key.x"], []),
        (["result.a", "key"], ["result.a.x", "key.x"]),
        (["result.a.x", "key.x"], ["result.a.x.y", "key.x.y"]),
    ],
)
def test_no_value_costs_the_line_that_calls_a_person(
    show: list[str], mask: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    saga = Saga("s", logger=SagaLogger(show=show, mask=mask)).add_task(step(Raising, refuse, name="a")).add_task(step(fail))
    assert saga.try_execute({"key": Raising()}).status is Status.STUCK
    assert last_fields(caplog)["event"] == "saga stuck"
    assert caplog.records[-1].getMessage().isprintable()


# -- how loud, and how long -----------------------------------------------------------------------------------------------


def test_a_failed_compensation_is_an_error_only_where_no_attempt_follows_wherever_its_process_died(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def build(effects: Any) -> Saga:
        retried = step(lambda: 1, refuse, name="a", compensation_retry=Retry(3))
        return Saga("s", logger="saga").add_task(retried).add_task(step(fail, name="b"))

    for crash in crash_everywhere(build):
        caplog.clear()
        Recovery(crash.store, [crash.saga]).run_once()
        failed = [record for record in caplog.records if "compensation failed" in record.getMessage()[:20]]
        if failed:
            attempts = [vars(record)["saga_attempt"] for record in failed]
            again = [record.levelname for record in failed[:-1]]
            assert (again, failed[-1].levelname) == (["WARNING"] * len(again), "ERROR")
            assert attempts == list(range(attempts[0], attempts[0] + len(attempts)))
            assert [record.exc_info is not None for record in failed] == [record.levelname == "ERROR" for record in failed]
            assert last_fields(caplog)["steps"] == "a"


def test_the_last_line_has_the_whole_time_over_recoveries_too(caplog: pytest.LogCaptureFixture) -> None:
    simple(logger="saga").execute()
    assert 0 <= last_fields(caplog)["elapsed_ms"] < 1_000_000
    store = left_at(simple(), "b", age=1000.0)
    Recovery(store, [simple(logger="saga")]).run_once()
    fields = last_fields(caplog)
    assert fields["event"] == "saga completed"
    assert fields["elapsed_ms"] >= 1_000_000


def test_an_observer_knows_what_has_happened_so_far_and_no_more_when_it_has_ended() -> None:
    seen: list[tuple[int, str]] = []
    infos: list[Any] = []

    def watch(event: Any, info: Any) -> None:
        seen.append((len(info.events), type(info.events[-1]).__name__))
        infos.append(info)

    Saga("s", logger=watch).add_task(step(lambda: 1, name="a")).execute(Context())
    assert seen[0] == (2, "StepStarted")
    assert seen[-1] == (4, "SagaCompleted")
    assert infos[0].events == ()
    store = left_at(Saga("s").add_task(step(lambda: 1, name="a")).add_task(step(lambda: 2, name="b")), "b")
    seen.clear()
    Recovery(
        store, [Saga("s", logger=watch).add_task(step(lambda: 1, name="a")).add_task(step(lambda: 2, name="b"))]
    ).run_once()
    assert seen[0][0] > 3


def test_a_recovery_tells_what_a_person_decided_meanwhile_and_another_does_not(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(MemoryStore())
    saga = Saga("s", logger="saga").add_task(step(failing_times(1, ValueError), name="a", on_error=Ask))
    saga.try_execute(saga_id="A1", store=watched)
    Operations(watched, "ann").resume("A1", "the bank is back")
    Worker(watched, [saga], workers=1).run_once()

    def recovered() -> list[tuple[Any, ...]]:
        found = [vars(record) for record in caplog.records if record.getMessage().startswith("saga recovered")]
        return [tuple(one.get(f"saga_{name}") for name in ("action", "who", "why")) for one in found]

    assert recovered() == [("resume", "ann", "the bank is back")]
    store = MemoryStore()  # of a process that died in the next attempt
    expired(store, watched.writes[:-1])
    Recovery(store, [saga]).run_once()
    assert recovered()[1:] == [(None, None, None)]


def test_what_was_undone_on_request_says_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    saga = Saga("s", logger="saga", store=store).add_task(step(lambda: 1, lambda: None, name="a"))
    saga.execute(saga_id="A1")
    Operations(store, "ann", sagas=[saga]).undo("A1", "sent twice")
    Worker(store, [saga], workers=1).run_once()
    fields = last_fields(caplog)
    assert (fields["event"], fields["cause"]) == ("saga compensated", "SagaCancelledError: undo by ann: sent twice")
