"""Semantics 2, 3, 4 and 10: a step is in doubt until that is settled, ``verify`` is asked first, and what ``in_doubt`` says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from saga import Done, Effect, InDoubt, NotDone, Retry, Skip, Status, fallback, parallel
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore
from tests.kit import PATIENCE, SHORT, Calls, left_at, saga_of, within

ASK, RERUN = InDoubt.ASK, InDoubt.RERUN
LOST = TimeoutError("lost")


class Refused(Exception):
    """What a task raises that knows that it did nothing."""


@pytest.fixture(params=[False, True], ids=["threads", "aio"])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(request.param)


def in_turn(*each: Any) -> Callable[[], Any]:
    """Return what does these, one at each call, and the last one from then on."""
    left = list(each)

    def do() -> Any:
        what = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(what, BaseException):
            raise what

    return do


def says(calls: Calls, *answers: Any, name: str = "a") -> Callable[[], Any]:
    """Return a ``verify`` that notes that it is asked and gives these answers, or raises them."""
    left = list(answers)

    def answer() -> Any:
        calls.log.append(f"?{name}")
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, BaseException):
            raise given
        return given

    async def aanswer() -> Any:
        await asyncio.sleep(0)
        return answer()

    return aanswer if calls.in_loop else answer


WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "gives up": ({}, ["-a", "-z"]),
    "is skipped": ({"on_error": Skip}, ["-a", "b"]),
    "is replaced": ({"fallback": True}, ["-a", "f", "b"]),
}
ways = pytest.mark.parametrize(("policies", "then"), WAYS.values(), ids=WAYS)


def lost(calls: Calls, policies: dict[str, Any], during: Any = LOST, **more: Any) -> Any:
    """Return a flow of step ``a``, whose answer is lost, with its fallback where it has one."""
    given = policies | more
    falls_back = given.pop("fallback", False)
    first = calls.step("a", during, **given)
    return fallback(first, calls.step("f")) if falls_back else first


def run(calls: Calls, flow: Any) -> Any:
    """Execute ``z``, the flow and ``b``."""
    return calls.run(saga_of(calls.step("z"), flow, calls.step("b")))


# -- it stays until it is settled -----------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("last", [Refused(), LOST], ids=["did nothing", "lost too"])
def test_a_later_attempt_that_does_not_succeed_leaves_the_doubt(
    calls: Calls, policies: dict[str, Any], then: list[str], last: Exception
) -> None:
    result = run(calls, lost(calls, policies, in_turn(LOST, last), retry=Retry(2)))
    assert calls.log == ["z", "a", "a", *then]
    assert (result.in_doubt, result.effects["a"]) == ((), Effect.UNDONE)


@ways
def test_what_is_in_doubt_is_undone_before_the_saga_goes_on_without_it(
    calls: Calls, policies: dict[str, Any], then: list[str]
) -> None:
    result = run(calls, lost(calls, policies))
    assert calls.log == ["z", "a", *then]
    assert result.status is (Status.COMPENSATED if not policies else Status.COMPLETED)
    assert result.effects["a"] is Effect.UNDONE


def test_a_later_attempt_that_succeeds_settles_it(calls: Calls) -> None:
    result = run(calls, lost(calls, {}, in_turn(LOST, None), retry=Retry(2)))
    assert calls.log == ["z", "a", "a", "b"]
    assert (result.ok, result.in_doubt, result.effects["a"]) == (True, (), Effect.STANDS)
    calls.log.clear()
    calls.run(saga_of(lost(calls, {}, in_turn(LOST, None), retry=Retry(2)), calls.step("bad", Refused())))
    assert calls.log == ["a", "a", "bad", "-a"]


def test_what_is_in_doubt_and_cannot_be_undone_is_named(calls: Calls) -> None:
    result = run(calls, lost(calls, {}, undo=False))
    assert calls.log == ["z", "a", "-z"]
    assert (result.status, result.in_doubt, result.effects["a"]) == (Status.COMPENSATED, ("a",), Effect.UNKNOWN)


def test_what_is_in_doubt_and_whose_undo_fails_stays_in_doubt(calls: Calls) -> None:
    result = run(calls, calls.step("a", LOST, Refused(), on_error=Skip))
    assert calls.log == ["z", "a", "-a", "b"]
    assert (result.status, result.in_doubt) == (Status.STUCK, ("a",))


def test_an_interrupt_of_the_undo_before_a_skip_ends_the_way_forward(calls: Calls) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(calls, calls.step("a", LOST, KeyboardInterrupt(), on_error=Skip))
    assert calls.log == ["z", "a", "-a", "-z"]


# -- verify comes first ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", [{}, {"retry": Retry(2)}, {"on_error": Skip}, {"fallback": True}, {"in_doubt": ASK}])
@pytest.mark.parametrize(
    ("answer", "then", "effect"),
    [(Done(), ["b"], Effect.STANDS), (NotDone(), None, Effect.NONE), (None, None, None), (Refused(), None, None)],
    ids=["done", "not done", "silent", "raises"],
)
def test_verify_is_asked_before_anything_else_is_decided(
    calls: Calls, policies: dict[str, Any], answer: Any, then: Any, effect: Effect | None
) -> None:
    result = run(calls, lost(calls, policies, verify=says(calls, answer)))
    assert calls.log[:3] == ["z", "a", "?a"]
    if then is not None:
        assert calls.log[3:] == then
    if effect is not None:
        assert "-a" not in calls.log
        assert (result.in_doubt, result.effects["a"]) == ((), effect)
    elif "in_doubt" in policies:
        assert calls.log[3:] == ["-z"]
        assert (result.status, result.in_doubt) == (Status.STUCK, ("a",))
    else:
        assert calls.log.count("-a") == 1
        assert (result.in_doubt, result.effects["a"]) == ((), Effect.UNDONE)


def test_verify_is_asked_again_of_an_attempt_that_did_nothing(calls: Calls) -> None:
    flow = lost(calls, {}, in_turn(LOST, Refused()), retry=Retry(2), verify=says(calls, None, Done()))
    assert run(calls, flow).ok
    assert calls.log == ["z", "a", "?a", "a", "?a", "b"]


@pytest.mark.parametrize(("answer", "then"), [(Done(), ["b"]), (NotDone(), ["-z"]), (None, ["-a", "-z"])])
def test_verify_is_asked_as_often_as_its_own_retry_says(calls: Calls, answer: Any, then: list[str]) -> None:
    run(calls, lost(calls, {}, verify=says(calls, None, answer), verification_retry=Retry(2)))
    assert calls.log == ["z", "a", "?a", "?a", *then]


@pytest.mark.parametrize("answer", [Done(), NotDone(), None], ids=["done", "not done", "silent"])
def test_verify_decides_what_is_undone_of_a_straggler(calls: Calls, gates: Any, answer: Any) -> None:
    gate = gates()
    flow = calls.step("a", (gate, LOST), timeout=SHORT, verify=says(calls, answer))
    result = calls.run_to_end(saga_of(calls.step("z"), flow), then=lambda result: gate.open())
    then = ["-a", "-z", "?a"]
    if isinstance(answer, NotDone):
        then.remove("-a")
    elif calls.in_loop and answer is not None:  # a coroutine is cut off, and the saga goes on where it was done
        then = ["?a"]
    assert sorted(calls.log[2:]) == then
    assert result.in_doubt == ()


@pytest.mark.parametrize("answer", [Done(), NotDone(), None], ids=["done", "not done", "silent"])
def test_nothing_is_undone_while_a_branch_is_verified(calls: Calls, answer: Any) -> None:
    group = parallel(lost(calls, {}, KeyboardInterrupt(), verify=says(calls, answer)), calls.step("c"))
    with pytest.raises(KeyboardInterrupt):
        calls.run(saga_of(calls.step("z"), group))
    asked = calls.log.index("?a")
    undone = [name for name in calls.log if name.startswith("-")]
    assert all(calls.log.index(name) > asked for name in undone)
    assert set(undone) == {"-z", "-c"} | ({"-a"} if not isinstance(answer, NotDone) else set())


def test_each_of_two_steps_in_doubt_is_verified(calls: Calls) -> None:
    group = parallel(
        *(
            calls.step(name, LOST, verify=says(calls, answer, name=name))
            for name, answer in {"c": Done(), "d": NotDone(), "e": None}.items()
        )
    )
    result = calls.run(saga_of(group))
    assert {"?c", "?d", "?e"} <= set(calls.log)
    assert sorted(name for name in calls.log if name.startswith("-")) == ["-c", "-e"]
    assert (result.status, result.in_doubt) == (Status.COMPENSATED, ())


# -- what in_doubt says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "tries"),
    [(None, 1), (Retry(1), 1), (Retry(3), 3), (Retry(3, retry_on=KeyError), 3)],
    ids=["none", "one", "three", "for others"],
)
def test_rerun_has_as_many_attempts_as_the_retry_whatever_that_is_for(calls: Calls, retry: Any, tries: int) -> None:
    result = run(calls, lost(calls, {}, in_doubt=RERUN, **({"retry": retry} if retry else {})))
    assert calls.log == ["z", *["a"] * tries, "-a", "-z"]
    assert result.effects["a"] is Effect.UNDONE


@pytest.mark.parametrize("policies", [{}, {"retry": Retry(3)}, {"on_error": Skip}, {"fallback": True}])
def test_ask_has_no_further_attempt_and_no_undo_before_a_person_has_decided(calls: Calls, policies: dict[str, Any]) -> None:
    result = run(calls, lost(calls, policies, in_doubt=ASK))
    gives_way = "on_error" in policies or "fallback" in policies
    assert calls.log == ["z", "a", *([] if gives_way else ["-z"])]
    assert (result.status, result.in_doubt, result.effects["a"]) == (Status.STUCK, ("a",), Effect.UNKNOWN)
    assert result.reason == "in doubt, and the task says ASK: a"


@pytest.mark.parametrize(
    ("answer", "then"), [(Done(), ["b"]), (NotDone(), ["a", "b"]), (None, ["a", "b"])], ids=["done", "not done", "silent"]
)
def test_past_the_pivot_verify_is_asked_before_it_is_done_again(calls: Calls, answer: Any, then: list[str]) -> None:
    flow = lost(calls, {}, in_turn(LOST, None), verify=says(calls, answer))
    result = calls.run(saga_of(calls.step("p", pivot=True), flow, calls.step("b")))
    assert calls.log == ["p", "a", "?a", *then]
    assert (result.ok, result.in_doubt) == (True, ())


def test_ask_past_the_pivot_asks(calls: Calls) -> None:
    result = calls.run(saga_of(calls.step("p", pivot=True), lost(calls, {}, in_doubt=ASK), calls.step("b")))
    assert calls.log == ["p", "a"]
    assert (result.status, result.in_doubt) == (Status.STUCK, ("a",))


# -- after a crash, and when a person decides -----------------------------------------------------------------------------


@pytest.mark.parametrize("doubt", list(InDoubt))
@pytest.mark.parametrize("answer", [Done(), NotDone(), None], ids=["done", "not done", "silent"])
def test_verify_is_asked_after_a_crash_before_anything_else_is_decided(calls: Calls, doubt: InDoubt, answer: Any) -> None:
    def build() -> Any:
        return saga_of(calls.step("z"), calls.step("a", verify=says(calls, answer), in_doubt=doubt), calls.step("b"))

    store = left_at(build(), "a")
    calls.log.clear()
    (result,) = within(PATIENCE, lambda: Recovery(store, [build()]).run_once())
    then = {ASK: [], RERUN: ["a", "b"], InDoubt.COMPENSATE: ["-a", "-z"]}[doubt]
    if isinstance(answer, Done):
        then = ["b"]
    elif isinstance(answer, NotDone) and doubt is not RERUN:
        then = ["-z"]
    assert calls.log == ["?a", *then]
    assert result.in_doubt == (("a",) if answer is None and doubt is ASK else ())


@pytest.mark.parametrize(("answer", "then"), [(Done(), ["b"]), (NotDone(), ["-z"]), (None, ["-a", "-z"])])
def test_verify_is_asked_again_where_the_process_died_in_it(calls: Calls, answer: Any, then: list[str]) -> None:
    def build() -> Any:
        return saga_of(calls.step("z"), lost(calls, {}, verify=says(calls, answer)), calls.step("b"))

    store = left_at(build(), "a", kind="VerificationStarted")
    calls.log.clear()
    (result,) = within(PATIENCE, lambda: Recovery(store, [build()]).run_once())
    assert calls.log == ["?a", *then]
    assert result.in_doubt == ()


def stuck(calls: Calls, store: MemoryStore, *answers: Any) -> Any:
    """Leave an execution stuck, of whose step ``a`` nobody knows; these are the answers from then on. Return its saga."""
    flow = lost(calls, {}, in_turn(LOST, None), in_doubt=ASK, on_error=Skip, verify=says(calls, None, *answers))
    saga = saga_of(calls.step("z"), flow, calls.step("b"), store=store)
    assert calls.run(saga, saga_id="x").status is Status.STUCK
    assert calls.log == ["z", "a", "?a"]
    calls.log.clear()
    return saga


ANSWERS = pytest.mark.parametrize("answer", [Done(), NotDone(), None], ids=["done", "not done", "silent"])


@ANSWERS
def test_verify_is_asked_again_when_a_person_says_resume(calls: Calls, answer: Any) -> None:
    store = MemoryStore()
    saga = stuck(calls, store, answer)
    Operations(store, "ann").resume("x", why="the bank answers again")
    (result,) = within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert calls.log == ["?a", *([] if isinstance(answer, Done) else ["a"]), "b"]
    assert (result.ok, result.in_doubt, result.effects["a"]) == (True, (), Effect.STANDS)


@ANSWERS
def test_verify_is_asked_again_when_a_person_says_compensate(calls: Calls, answer: Any) -> None:
    store = MemoryStore()
    saga = stuck(calls, store, answer)
    Operations(store, "ann").compensate("x", why="the customer left")
    (result,) = within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert calls.log == ["?a", *([] if isinstance(answer, NotDone) else ["-a"]), "-z"]
    assert (result.status, result.in_doubt) == (Status.COMPENSATED, ())


def test_what_a_person_skips_is_settled(calls: Calls) -> None:
    store = MemoryStore()
    saga = stuck(calls, store, Done())
    Operations(store, "ann").skip("x", "a", why="seen to by hand")
    (result,) = within(PATIENCE, lambda: Recovery(store, [saga]).run_once())
    assert calls.log == ["b"]
    assert (result.ok, result.in_doubt) == (True, ())
