"""Sagas are explored: what keeps the laws in every history, and what is found where one does not."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from saga import (
    Ask,
    Context,
    Done,
    InDoubt,
    NotDone,
    Retry,
    Saga,
    Skip,
    Task,
    choose,
    each,
    fallback,
    parallel,
    receive,
    receive_first,
    timer,
)
from saga import step as function_step
from saga.errors import SagaDefinitionError
from saga.testing import Exploration, Fault, History, Kind, LawBrokenError, explore, replay, watchdog, with_stand_ins


class Shop:
    """What sagas act on here: what is done, by name."""

    def __init__(self) -> None:
        self.done: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        return dict(self.done)


def task(shop: Shop, name: str, **policies: Any) -> Task[Any]:
    """Return a task that does what can be done twice and undone twice."""

    class Sound(Task[str]):
        def execute(self, context: Context) -> str:
            shop.done[name] = True
            return name

        def compensate(self, context: Context) -> None:
            shop.done.pop(name, None)

    made = Sound()
    vars(made).update(policies, name=name)
    return made


def of_item(shop: Shop, name: str, **policies: Any) -> Task[Any]:
    """Return such a task that is done for each item."""

    class Sound(Task[str]):
        def execute(self, context: Context) -> str:
            shop.done[context.step.name] = context.step.item
            return str(context.step.item)

        def compensate(self, context: Context) -> None:
            shop.done.pop(context.step.name, None)

    made = Sound()
    vars(made).update(policies, name=name)
    return made


def verified(shop: Shop, name: str, **policies: Any) -> Task[Any]:
    """Return such a task that can say what was done."""
    made = task(shop, name, **policies)

    class Verified(type(made)):  # type: ignore[misc]
        def verify(self, context: Context) -> Any:
            return Done(name) if name in shop.done else NotDone()

    found = Verified()
    vars(found).update(vars(made))
    return found


def awaited(shop: Shop, name: str, **policies: Any) -> Task[Any]:
    """Return such a task whose functions are coroutine functions, and take their time."""

    class Awaited(Task[str]):
        async def execute(self, context: Context) -> str:
            await asyncio.sleep(1000.0)
            shop.done[name] = True
            return name

        async def compensate(self, context: Context) -> None:
            await asyncio.sleep(1000.0)
            shop.done.pop(name, None)

    made = Awaited()
    vars(made).update(policies, name=name)
    return made


Flow = Callable[[Shop], list[Any]]

SOUND: dict[str, Flow] = {
    "in sequence": lambda s: [task(s, "a"), task(s, "b"), task(s, "c")],
    "retried": lambda s: [task(s, "a", retry=Retry(3)), task(s, "b", compensation_retry=Retry(2))],
    "rerun in doubt": lambda s: [task(s, "a", in_doubt=InDoubt.RERUN, retry=Retry(2)), task(s, "b")],
    "asked in doubt": lambda s: [task(s, "a", in_doubt=InDoubt.ASK), task(s, "b")],
    "verified": lambda s: [verified(s, "a"), verified(s, "b", verification_retry=Retry(2))],
    "limited": lambda s: [task(s, "a", timeout=5.0), task(s, "b", timeout=5.0, retry=Retry(2))],
    "undo limited": lambda s: [
        task(s, "a", compensation_timeout=5.0),
        task(s, "b", compensation_timeout=5.0, compensation_retry=Retry(2)),
        task(s, "c", compensation_timeout=5.0, compensate_on_failure=True, on_error=Skip),
        task(s, "d"),
    ],
    "undo awaited": lambda s: [
        awaited(s, "a", compensation_timeout=5.0, compensation_retry=Retry(2)),
        task(s, "b"),
    ],
    "in parallel": lambda s: [parallel(task(s, "a"), task(s, "b", timeout=5.0)), task(s, "c")],
    "few at a time": lambda s: [parallel(task(s, "a"), task(s, "b"), task(s, "c"), limit=1), task(s, "d")],
    "for each item": lambda s: [each(lambda context: ["x", "y"], of_item(s, "a"), limit=1), task(s, "b")],
    "for each, one that may fail": lambda s: [each(lambda context: ["x", "y"], of_item(s, "a", on_error=Skip)), task(s, "b")],
    "undone together": lambda s: [parallel(task(s, "a"), task(s, "b"), compensate_together=True)],
    "with a fallback": lambda s: [fallback(task(s, "a"), task(s, "b")), task(s, "c")],
    "decided": lambda s: [choose("order_id", {"A1": task(s, "a")}, task(s, "b")), task(s, "c")],
    "decided anew": lambda s: [
        choose(lambda context: context.step.attempt, {1: task(s, "a")}, task(s, "b"), name="luck"),
        task(s, "c"),
    ],
    "skipped": lambda s: [task(s, "a", on_error=Skip), task(s, "b")],
    "asking": lambda s: [task(s, "a", on_error=Ask), task(s, "b")],
    "past a pivot": lambda s: [task(s, "a"), task(s, "b", pivot=True), task(s, "c", retry=Retry(3))],
    "awaited": lambda s: [awaited(s, "a"), parallel(awaited(s, "b", timeout=5.0), awaited(s, "c"), task(s, "d"))],
    "waiting": lambda s: [task(s, "a"), receive("ok", timeout=60.0), timer(1e6), task(s, "b")],
    "waiting for several": lambda s: [
        receive_first("no", "ok", timeout=60.0),
        timer(lambda context: 1e6, name="t"),
        task(s, "b"),
    ],
    "waiting for ever": lambda s: [task(s, "a"), receive("ok"), task(s, "b")],
}


def saga_of(flow: Flow, **more: Any) -> Callable[[Shop], Saga]:
    def made(shop: Shop) -> Saga:
        saga = Saga("sound", **more)
        for one in flow(shop):
            saga.add_task(one)
        return saga

    return made


@pytest.mark.parametrize("flow", SOUND)
@pytest.mark.parametrize("more", [{"store": "there-is-none.db"}, {"store": "there-is-none.db", "timeout": 100.0}, {}], ids=str)
def test_what_can_be_done_twice_and_undone_twice_keeps_the_laws(flow: str, more: dict[str, Any]) -> None:
    found = explore(saga_of(SOUND[flow], **more), {"order_id": "A1"}, world=Shop)
    assert found.complete
    assert found.histories[0] == 1
    assert found.histories[2] > found.histories[1] > 0


ALL_BUT_STALLS = frozenset(Kind) - {Kind.STALLS}


@pytest.mark.parametrize("flow", ["in sequence", "retried", "in parallel", "verified", "waiting", "awaited"])
def test_persons_and_second_owners_and_interrupts_and_wrong_inputs_break_no_law(flow: str) -> None:
    found = explore(saga_of(SOUND[flow], store="x.db"), {"order_id": "A1"}, world=Shop, kinds=ALL_BUT_STALLS, faults=1)
    assert {Kind.SECOND_OWNER, Kind.CANCELLED, Kind.PAUSED, Kind.INTERRUPTED, Kind.WRONG_INPUT} <= set(found.kinds)
    assert {Kind.STORE_GONE_BEFORE, Kind.FAILS_ODDLY} <= set(found.kinds)
    assert (Kind.NEVER_RUN in found.kinds) is (flow != "awaited")


@pytest.mark.parametrize(
    ("flow", "faults", "status", "log"),
    [
        ("undo limited", [("b", "undo late"), ("d", "fails")], "compensated", ["a", "b", "c", "d", "-c", "-a", "-b"]),
        ("undo limited", [("b", "undo hangs"), ("d", "fails")], "compensated", ["a", "b", "c", "d", "-c", "-a", "-b"]),
        ("undo limited", [("c", "fails"), ("c", "undo late")], "completed", ["a", "b", "c", "-c", "d"]),
        ("undo awaited", [("a", "undo late"), ("b", "fails")], "compensated", ["a", "b", "-a", "-a"]),
    ],
)
def test_an_undo_that_is_late_or_hangs_keeps_nothing_else_from_being_undone(
    flow: str, faults: list[tuple[str, str]], status: str, log: list[str]
) -> None:
    history = replay(saga_of(SOUND[flow], store="x.db"), faults, world=Shop)
    made = [f"-{line.step}" if line.what == "compensate" else line.step for line in history.lines if line.what]
    assert (history.status, history.broken, made) == (status, None, log)


def test_what_a_person_pauses_a_person_resumes() -> None:
    paused = replay(saga_of(SOUND["in sequence"], store="x.db"), [("b", "paused")], world=Shop)
    assert (paused.status, paused.lives, list(paused.world.done)) == ("completed", 2, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("then", "status", "lines"),
    [
        ([], "stuck", ["a compensate raises InjectedError: a fault that was put here"]),
        (["retried"], "compensated", ["a  a person says retry", "a compensate returns"]),
        (["skipped"], "compensated", ["a  a person says skip"]),
    ],
    ids=str,
)
def test_a_person_decides_about_what_is_stuck(then: list[str], status: str, lines: list[str]) -> None:
    faults = [("b", "fails"), ("a", "undo fails"), *(("a", kind) for kind in then)]
    stuck = replay(saga_of(SOUND["in sequence"], store="x.db"), faults, world=Shop)
    assert str(stuck.status) == status
    assert [f"{line.step} {line.what} {line.came}" for line in stuck.lines][-len(lines) :] == lines
    assert stuck.world.done == ({} if then == ["retried"] else {"a": True})


def test_a_person_who_is_asked_has_it_tried_again_or_skips_it() -> None:
    asked = saga_of(SOUND["asking"], store="x.db")
    again = replay(asked, [("a", "fails"), ("a", "retried")], world=Shop)
    assert (again.status, list(again.world.done)) == ("completed", ["a", "b"])
    skipped = replay(asked, [("a", "fails"), ("a", "skipped")], world=Shop)
    assert (skipped.status, list(skipped.world.done)) == ("completed", ["b"])


@pytest.mark.parametrize(
    ("kind", "lives", "said"),
    [
        ("store fails", 2, "the store fails"),
        ("store answer lost", 1, "the store has stored, and fails"),
        ("store gone before", 2, "the store fails, and all that follows"),
        ("store gone after", 2, "the store has stored, and fails, and all that follows"),
    ],
)
def test_where_the_store_fails_another_process_goes_on_from_what_is_stored(kind: str, lives: int, said: str) -> None:
    history = replay(saga_of(SOUND["in sequence"], store="x.db"), [("b", kind)], world=Shop)  # as a has ended, and b begins
    assert (history.lives, said in [line.came for line in history.lines]) == (lives, True)
    done = {"store answer lost": "completed"}.get(kind, "compensated")  # else a, or b, is in doubt
    assert (str(history.status), len(history.world.done)) == (done, 3 if done == "completed" else 0)


def test_a_store_that_takes_too_long_has_the_next_step_never_begin() -> None:
    history = replay(saga_of(SOUND["in sequence"], store="x.db", timeout=100.0), [("b", "store slow")], world=Shop)
    assert [f"{line.step} {line.what}" for line in history.lines] == ["a execute", "b ", "a compensate"]


@pytest.mark.parametrize("kinds", [["dies after storing"], ["store fails"], ["undo fails", "dies before storing"]], ids=str)
def test_what_is_found_with_some_kinds_is_replayed_with_all(kinds: list[str]) -> None:
    made = saga_of(SOUND["waiting"], store="x.db")
    ended = lambda shop, result: result.ok  # noqa: E731
    found = explore(made, world=Shop, kinds=["fails", *kinds], at_end=ended, check=False).broken
    assert found is not None
    assert replay(made, found.faults, world=Shop, at_end=ended, check=False).lines == found.lines


def halves(shop: Shop, sound: bool) -> list[Any]:
    """Return a step that does two things, and waits between them."""

    async def act() -> None:
        shop.done["one"] = True
        await asyncio.sleep(1.0)
        shop.done["two"] = True
        await asyncio.sleep(1.0)

    async def undo() -> None:
        if sound or "two" in shop.done:  # it has been done, or it has not
            shop.done.clear()

    return [function_step(act, undo, name="both")]


@pytest.mark.parametrize("kind", ["dies at await", "cancelled at await"])
def test_a_call_that_is_half_done_is_found(kind: str) -> None:
    found = explore(saga_of(lambda s: halves(s, sound=False), store="x.db"), world=Shop, kinds=[kind], check=False).broken
    assert found is not None
    assert found.faults == (Fault("both", kind),)
    assert found.broken == ("undone equals never begun", "one: nothing, then True")
    sound = explore(saga_of(lambda s: halves(s, sound=True), store="x.db"), world=Shop, kinds=[kind])
    assert (sound.complete, sound.awaits, sound.kinds) == (True, 2, (kind,))
    assert "1 step, 2 awaits, 1 kind" in str(sound)


def test_a_process_that_dies_at_an_await_cleans_nothing_up() -> None:
    def flow(shop: Shop) -> list[Any]:
        async def act() -> None:
            shop.done["lock"] = True
            try:
                await asyncio.sleep(1.0)
            finally:
                del shop.done["lock"]

        return [function_step(act, lambda: None, name="locked")]

    assert replay(saga_of(flow, store="x.db"), [("locked", "dies at await")], world=Shop, check=False).after == {"lock": True}
    cancelled = replay(saga_of(flow, store="x.db"), [("locked", "cancelled at await")], world=Shop)
    assert (str(cancelled.status), cancelled.after) == ("compensated", {})


def test_what_waits_on_and_on_is_left_at_its_first_waits() -> None:
    def flow(shop: Shop) -> list[Any]:
        async def poll() -> None:
            for count in range(1000):
                shop.done["polled"] = count
                await asyncio.sleep(1.0)

        return [function_step(poll, lambda: shop.done.clear(), name="poll")]

    assert explore(saga_of(flow, store="x.db"), world=Shop, faults=1).awaits == 20


def test_what_only_the_other_system_can_prevent_is_found_where_it_is_asked_for() -> None:
    with pytest.raises(LawBrokenError) as broken:
        explore(saga_of(SOUND["in sequence"], store="x.db"), world=Shop, kinds=["stalls"])
    assert broken.value.history.faults == (Fault("a", Kind.STALLS),)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stand_in_of_a_transactional_step_is_executed_once_and_undone_once(asynchronous: bool) -> None:
    def take(shop: Shop, number: int) -> Any:
        def taken() -> None:
            shop.done["taken"] += number

        async def ataken() -> None:
            taken()

        return ataken if asynchronous else taken

    def transacting(shop: Shop) -> Saga[Any]:
        needs_database = function_step(lambda context: context.step.connection, lambda: None, name="take", transactional=True)
        saga = Saga("s", store="shop.db").add_task(task(shop, "a")).add_task(needs_database).add_task(task(shop, "b"))
        return with_stand_ins(saga, {"take": function_step(take(shop, 1), take(shop, -1))})

    def stocked() -> Shop:
        shop = Shop()
        shop.done["taken"] = 0
        return shop

    everything = set(Kind) - {Kind.WRONG_INPUT, Kind.STALLS}  # the last of which only what the others act on can prevent
    assert explore(transacting, world=stocked, kinds=everything).has_store
    assert replay(transacting, [("take", "dies before"), ("b", "fails")], world=stocked).after == {"taken": 0}
    with pytest.raises(SagaDefinitionError, match="never came to where these can strike"):
        replay(transacting, [("take", "answer lost")], world=stocked)


def test_each_set_of_faults_is_tried_once_and_those_with_fewest_first() -> None:
    tried: list[tuple[int, int]] = []
    made = saga_of(SOUND["in sequence"], store="x.db")
    found = explore(made, world=Shop, faults=3, progress=lambda run, left: tried.append((run, left)))
    assert found.histories == (1, 12, 90, 472)
    assert str(found) == "575 histories of sound: 3 steps, 9 kinds of faults, up to 3 in each"
    assert [run for run, _ in tried] == list(range(1, 576))
    assert tried[-1] == (575, 0)


def test_it_stops_in_time_and_says_so() -> None:
    made = saga_of(SOUND["in sequence"], store="x.db")
    found = explore(made, world=Shop, histories=5)
    assert (found.count, found.complete) == (5, False)
    assert "5 histories of sound, and there are more" in str(found)
    assert not explore(made, world=Shop, seconds=0.0).complete


@pytest.mark.parametrize("kind", ["fails", "dies after", "dies before storing"])
@pytest.mark.parametrize("flow", ["past a pivot", "in parallel", "waiting for ever"])
def test_what_is_not_asked_for_does_not_strike(flow: str, kind: str) -> None:
    assert set(explore(saga_of(SOUND[flow], store="x.db"), world=Shop, kinds=[kind]).kinds) <= {kind}


def test_where_nobody_stores_anything_no_process_dies() -> None:
    found = explore(saga_of(SOUND["in sequence"]), world=Shop)
    assert found.kinds == (Kind.FAILS, Kind.ANSWER_LOST, Kind.UNDO_FAILS, Kind.UNDO_ANSWER_LOST)
    assert "it has no store, so no process died" in str(found)
    assert Kind.DIES_AFTER in explore(saga_of(SOUND["in sequence"]), world=Shop, durable=True).kinds


def test_without_a_world_the_rest_is_looked_at() -> None:
    found = explore(saga_of(SOUND["in sequence"]).__call__(Shop()), faults=1)
    assert not found.sees_world
    assert "no world was given" in str(found)


def test_nothing_is_logged_and_no_observer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []
    logger = logging.getLogger("saga")
    made = saga_of(SOUND["in sequence"], store="x.db", observers=lambda event, info: told.append(event), logger=logger)
    explore(made, world=Shop)
    assert (told, caplog.records) == ([], [])
    logger.warning("again")
    assert len(caplog.records) == 1


def test_orders_that_change_different_things_are_tried_once() -> None:
    def changing(key: str) -> Flow:
        def act(shop: Shop, name: str) -> Callable[[], None]:
            return lambda: shop.done.update({key.format(name): shop.done.get(key.format(name), 0) + 1})

        def undo(shop: Shop, name: str) -> Callable[[], None]:
            return lambda: shop.done.clear()

        return lambda s: [parallel(*(function_step(act(s, n), undo(s, n), name=n) for n in "abc"))]

    apart = explore(saga_of(changing("{}")), world=Shop, kinds=["goes first", "fails"])
    together = explore(saga_of(changing("same")), world=Shop, kinds=["goes first", "fails"])
    assert Kind.GOES_FIRST not in apart.kinds
    assert Kind.GOES_FIRST in together.kinds
    assert apart.count < together.count


# -- what is found ----------------------------------------------------------------------------------------------------


def broken_by(flow: Flow, faults: int = 2, context: Any = None, **more: Any) -> History:
    with pytest.raises(LawBrokenError) as error:
        explore(saga_of(flow, store="x.db"), context, world=Shop, faults=faults, **more)
    found = error.value.history
    again = replay(saga_of(flow, store="x.db"), found.faults, context, world=Shop, check=False, **more)
    assert again.broken == found.broken
    assert again.lines == found.lines
    return found


def test_a_charge_that_is_made_twice_is_found() -> None:
    def flow(shop: Shop) -> list[Any]:
        def charge() -> None:
            shop.done["charged"] = shop.done.get("charged", 0) + 1

        return [function_step(charge, lambda: shop.done.clear(), name="charge", retry=Retry(2))]

    found = broken_by(flow)
    assert found.faults == (Fault("charge", "answer lost"),)
    assert found.broken is not None
    assert found.broken.law == "completed leaves the same, however it was come to"
    assert found.broken.how == "charged: 1, then 2"


def test_an_undo_that_needs_the_result_is_found_and_told_with_a_test_to_paste() -> None:
    class Reserve(Task[str]):
        def execute(self, context: Context) -> str:
            return "R1"

        def compensate(self, context: Context) -> None:
            context.result_of(Reserve)

    with pytest.raises(LawBrokenError) as broken:
        explore(Saga("place-order").add_task(Reserve()), {"order_id": "A1"})
    assert str(broken.value).splitlines() == [
        "saga 'place-order' breaks a law with 1 fault: compensate fails only where a fault makes it fail",
        "    compensate of Reserve raised ContextKeyError: step 'Reserve' has no result: it has not succeeded (yet)",
        "",
        "     1  Reserve  execute     raises AnswerLostError: a fault has lost the answer  <- answer lost",
        "     2  Reserve  compensate  raises ContextKeyError: step 'Reserve' has no result: it has not succeeded (yet)",
        "",
        "It ends as stuck. To see it again:",
        "",
        "    def test_place_order_reserve_answer_lost() -> None:",
        "        replay(saga, [('Reserve', 'answer lost')], {'order_id': 'A1'})",
    ]


def test_an_invariant_is_looked_at_after_each_call_and_another_at_the_end() -> None:
    def nothing_is_sold(shop: Shop) -> None:
        assert "b" not in shop.done, "b is sold"

    found = broken_by(SOUND["in sequence"], invariant=nothing_is_sold)
    assert found.faults == ()
    assert found.broken is not None
    assert found.broken == ("the invariant nothing_is_sold holds", "after execute of b: b is sold")

    def is_whole(shop: Shop, result: Any) -> bool:
        return len(shop.done) in (0, 3)

    explore(saga_of(SOUND["in sequence"]), world=Shop, at_end=is_whole, kinds=["fails", "answer lost"])
    found = broken_by(SOUND["in sequence"], at_end=is_whole)
    assert found.broken == ("is_whole holds at the end", "it returned False")


def test_a_result_that_cannot_be_stored_is_found() -> None:
    found = broken_by(lambda s: [function_step(lambda: object(), name="a")])
    assert found.broken is not None
    assert found.broken.law == "results survive storing"


def test_calls_that_go_on_and_on_are_found() -> None:
    def fail() -> None:
        raise ValueError

    found = broken_by(lambda s: [task(s, "a", pivot=True), function_step(fail, name="b")], faults=0)
    assert found.broken is not None
    assert found.broken.law == "it comes to an end"


def test_a_compensation_that_may_fail_may() -> None:
    def refuse() -> None:
        raise ValueError("it is at the customer's")

    flow: Flow = lambda s: [function_step(lambda: None, refuse, name="ship"), task(s, "b")]  # noqa: E731
    assert broken_by(flow).faults == (Fault("ship", "answer lost"),)
    assert explore(saga_of(flow), world=Shop, may_fail=["ship"]).complete


def test_of_several_signals_that_a_step_waits_for_each_is_tried() -> None:
    came: list[Any] = []
    flow: Flow = lambda s: [receive_first("ok", "late", "gone", name="w"), function_step(came.append, name="b")]  # noqa: E731
    assert explore(saga_of(flow), world=Shop, signals={"gone": "sold out"}, kinds=["other signal"]).histories == (1, 1, 1)
    assert list(dict.fromkeys(came)) == [("ok", None), ("late", None), ("gone", "sold out")]
    replay(saga_of(flow), [("w", "other signal")], world=Shop)
    assert came[-1] == ("late", None)


def test_what_is_found_need_not_be_raised() -> None:
    found = explore(saga_of(lambda s: [function_step(lambda: None, lambda x: 1 / 0, name="a")]), world=Shop, check=False)
    assert isinstance(found, Exploration)
    assert found.broken is not None
    assert not found.complete


def test_a_saga_that_fails_by_itself_is_said_to() -> None:
    def refuse() -> None:
        raise ValueError("no address")

    found = explore(saga_of(lambda s: [task(s, "a"), function_step(refuse, name="b")]), world=Shop, faults=1)
    assert found.failure == "compensated at step 'b': ValueError: no address"
    assert f"; though nothing goes wrong, it ends as {found.failure}" in str(found)
    assert explore(saga_of(SOUND["in sequence"]), world=Shop, faults=1).failure is None


@pytest.mark.parametrize("faults", [[], [("a", "dies after"), ("a", "undo fails")]])
def test_a_history_is_drawn_with_what_went_wrong(faults: list[Any]) -> None:
    history = replay(saga_of(SOUND["in sequence"], store="x.db"), faults, world=Shop, at_end=lambda w, r: r.ok, check=False)
    drawn = history.diagram()
    for text in (drawn.svg(), drawn.mermaid(), drawn.sequence()):
        assert ("a dies after, a undo fails" if faults else "nothing went wrong") in text
        assert ("breaks a law" in text) is bool(faults)


def hanging(shop: Shop) -> list[Any]:
    return [task(shop, "a"), function_step(lambda: threading.Event().wait(), lambda: None, name="hangs")]


def test_a_plain_call_that_never_returns_is_found_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "PATIENCE", 0.02)
    before = signal.getsignal(signal.SIGINT)
    for flow in (hanging, lambda s: [parallel(*hanging(s))]):
        found = explore(saga_of(flow), world=Shop, seconds=0.0, check=False).broken
        assert found is not None
        assert found.broken == ("it comes to an end", "execute of hangs waits for what never comes")
        assert found.lines[-1].came == "never returns"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_plain_call_that_never_returns_in_another_thread_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, over = threading.Event(), threading.Event()
    monkeypatch.setattr(watchdog, "PATIENCE", 0.02)
    monkeypatch.setattr(watchdog.sys, "stderr", SimpleNamespace(write=lambda text: (told.append(text), said.set())))
    told: list[str] = []
    made = saga_of(lambda s: [function_step(lambda: over.wait(20.0) and None, name="hangs")])
    explores = threading.Thread(target=lambda: explore(made, world=Shop, seconds=0.0))
    explores.start()
    assert said.wait(10.0)
    over.set()
    explores.join()
    assert told[0].startswith("saga: the time for exploring is over, and execute of hangs has not returned")
    assert "over.wait(20.0)" in told[0]


# -- what is no history's ----------------------------------------------------------------------------------------------


def wrong_invariant(shop: Shop) -> None:
    raise LookupError("a fault of the invariant's own")


@pytest.mark.parametrize("name", ["invariant", "at_end"])
def test_an_invariant_that_fails_itself_is_raised(name: str) -> None:
    failing: Any = {"invariant": wrong_invariant, "at_end": lambda shop, result: wrong_invariant(shop)}
    with pytest.raises(LookupError, match="of the invariant's own"):
        explore(saga_of(SOUND["in sequence"]), world=Shop, **{name: failing[name]})


def test_a_world_that_cannot_tell_its_state_is_raised_and_no_failure_of_a_task() -> None:
    class Broken(Shop):
        def state(self) -> dict[str, Any]:
            if self.done:
                raise LookupError("no state")
            return {}

    with pytest.raises(LookupError, match="no state"):
        explore(saga_of(SOUND["in parallel"]), world=Broken)


@pytest.mark.parametrize("flow", ["in sequence", "in parallel", "awaited"])
def test_a_ctrl_c_while_a_task_runs_ends_the_exploration(flow: str) -> None:
    struck: list[int] = []

    def strike(shop: Shop) -> None:
        if not struck:
            struck.append(1)
            signal.raise_signal(signal.SIGINT)

    flows: Flow = lambda s: [*SOUND[flow](s), function_step(lambda: strike(s), name="last")]  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        explore(saga_of(flows, store="x.db"), world=Shop)


def test_an_async_saga_is_not_explored_within_an_event_loop() -> None:
    async def main() -> None:
        with pytest.raises(SagaDefinitionError, match="an event loop runs here"):
            explore(saga_of(SOUND["awaited"]), world=Shop)
        found = await asyncio.to_thread(explore, saga_of(SOUND["awaited"]), world=Shop, faults=1)
        assert found.complete
        assert explore(saga_of(SOUND["in sequence"]), world=Shop).complete

    asyncio.run(main())


def waiting_for_ever(shop: Shop, **policies: Any) -> Task[Any]:
    class Waits(Task[None]):
        async def execute(self, context: Context) -> None:
            shop.done["begun"] = True
            await asyncio.Event().wait()

        async def compensate(self, context: Context) -> None:
            shop.done.pop("begun", None)

    made = Waits()
    vars(made).update(policies, name="waits")
    return made


def test_what_waits_for_what_never_comes_is_found() -> None:
    for flow in (lambda s: [waiting_for_ever(s)], lambda s: [parallel(waiting_for_ever(s), awaited(s, "b"))]):
        found = broken_by(flow)
        assert found.broken == ("it comes to an end", "execute of waits waits for what never comes")


def test_what_waits_for_what_never_comes_is_cut_off_at_its_timeout() -> None:
    history = replay(saga_of(lambda s: [waiting_for_ever(s, timeout=5.0)], store="x.db"), world=Shop)
    assert str(history.status) == "compensated"
    assert "5 s" in str(history.result.error)


def test_who_need_not_be_undone_and_is_skipped_may_have_been_done_or_not() -> None:
    def flow(shop: Shop) -> list[Any]:
        mail = function_step(lambda: shop.done.update(mail=True), name="mail", on_error=Skip)
        return [task(shop, "a"), mail]

    assert explore(saga_of(flow, store="x.db"), world=Shop, kinds=["fails", "answer lost"]).complete


def test_another_input_may_end_otherwise() -> None:
    def flow(shop: Shop) -> list[Any]:
        def take(context: Context) -> None:
            shop.done["coupon"] = context.get("coupon", "none")

        return [function_step(take, lambda: shop.done.clear(), name="take")]

    assert explore(saga_of(flow), {"coupon": "C1"}, world=Shop, kinds=["wrong input"]).complete


# -- what is refused --------------------------------------------------------------------------------------------------

ANY: Any = SOUND["skipped"]


def bounded_by(**wrong: Any) -> Callable[[], object]:
    return lambda: explore(saga_of(ANY), world=Shop, **wrong)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "faults before none": (bounded_by(faults=-1), "faults is -1; give how many"),
    "faults that are no number": (bounded_by(faults="2"), "faults is '2'"),
    "no history": (bounded_by(histories=0), "histories is 0"),
    "less than no time": (bounded_by(seconds=-1), "seconds is -1"),
    "no number of seconds": (bounded_by(seconds="5"), "seconds is '5'"),
    "no progress": (bounded_by(progress=5), "progress is 5; give a function"),
    "no invariant": (bounded_by(invariant=5), "invariant is 5; give a function of the world"),
    "no law at the end": (bounded_by(at_end=5), "at_end is 5"),
    "perhaps durable": (bounded_by(durable="yes"), "durable is 'yes'; give True or False"),
    "perhaps checked": (bounded_by(check="no"), "check is 'no'"),
    "no kinds": (bounded_by(kinds=[]), "kinds is empty"),
    "signals that are no mapping": (bounded_by(signals=["ok"]), "signals is"),
    "a signal that nobody receives": (
        lambda: explore(saga_of(SOUND["waiting"]), world=Shop, signals={"okay": 1}),
        "receives no signal 'okay'; did you mean 'ok'",
    ),
    "a signal's value that does not fit": (
        lambda: explore(saga_of(lambda s: [receive("ok", accept=int)]), world=Shop),
        "signal 'ok' comes with int, not with NoneType; give signals={'ok': a value that fits}",
    ),
    "a world that cannot be seen": (lambda: explore(saga_of(ANY), world=object), "whose states cannot be compared"),
    "a context that cannot be copied": (
        lambda: explore(saga_of(ANY), {"lock": threading.Lock()}, world=Shop),
        "the context cannot be copied for each history: .*; give a function that makes one",
    ),
    "no saga": (lambda: explore(3), "3 is no saga, and makes none"),  # type: ignore[arg-type]
    "what makes none": (lambda: explore(lambda: 3), "returned 3, which is no saga"),  # type: ignore[arg-type, return-value]
    "a world that is one": (lambda: explore(saga_of(SOUND["skipped"]), world=Shop()), "give what makes a new one"),  # type: ignore[arg-type]
    "a kind there is not": (lambda: explore(saga_of(SOUND["skipped"]), world=Shop, kinds=["fail"]), "no kind of fault 'fail'"),
    "a step there is not": (lambda: explore(saga_of(SOUND["skipped"]), world=Shop, may_fail="c"), "there is no step 'c'"),
    "a fault of none": (lambda: replay(saga_of(SOUND["skipped"]), [("c", "fails")], world=Shop), "there is no step 'c'"),
    "a fault that is none": (lambda: replay(saga_of(SOUND["skipped"]), [3], world=Shop), "3 is no fault"),
    "a call before the first": (lambda: replay(saga_of(SOUND["skipped"]), ("a", "fails", 0), world=Shop), "counted from 1"),
    "a fault that cannot strike": (
        lambda: replay(saga_of(SOUND["skipped"]), [("a", "late")], world=Shop),
        "never came to where these can strike",
    ),
    "a transactional step": (
        lambda: explore(Saga("s", store="shop.db").add_task(function_step(int, name="take", transactional=True))),
        "step 'take' is transactional, and histories have no database; explore saga.testing.with_stand_ins",
    ),
    "a death without a store": (
        lambda: replay(saga_of(SOUND["skipped"]), [("a", "dies before")], world=Shop),
        "deaths need a store, or durable=True",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused(what: str) -> None:
    ask, text = REFUSED[what]
    with pytest.raises(SagaDefinitionError, match=text):
        ask()


def test_a_world_that_is_another_each_time_is_refused() -> None:
    shop = Shop()
    kept = lambda: shop  # noqa: E731
    with pytest.raises(SagaDefinitionError, match="its world is another each time"):
        explore(saga_of(SOUND["in sequence"]), world=kept)
