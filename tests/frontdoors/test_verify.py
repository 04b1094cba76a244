"""Asking what came of a call: tasks, functions, methods, blocks, in threads and in event loops, with a store and without."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from saga import (
    LOST_ANSWERS,
    Context,
    Done,
    Effect,
    NotDone,
    OutcomeUnknownError,
    Retry,
    Saga,
    Skip,
    Status,
    StepStatus,
    Task,
    fallback,
    saga_step,
    step,
)
from saga.errors import EncodingError, SagaDefinitionError, SagaTimeoutError
from saga.events import VerificationFailed, VerificationStarted
from saga.operations import Operations
from saga.storage import Store
from tests.kit import Calls
from tests.kit.blocks import Blocks
from tests.kit.runners import saga_of


def says(calls: Calls, answer: Any) -> Callable[[], Any]:
    """Return a verify function of the colour that notes its call and gives this answer, or raises it."""

    def answered() -> Any:
        calls.log.append("?a")
        given = answer() if callable(answer) and not isinstance(answer, type) else answer
        if isinstance(given, BaseException):
            raise given
        return given

    async def aanswered() -> Any:
        await asyncio.sleep(0)
        return answered()

    return aanswered if calls.in_loop else answered


def lost(calls: Calls, answer: Any, **policies: Any) -> Any:
    """Return step ``a``, whose answer is lost, and of which ``answer`` is said."""
    return calls.step("a", TimeoutError("lost"), verify=says(calls, answer), **policies)


@pytest.mark.parametrize("answer", [Done("r"), Done()])
def test_what_was_done_has_succeeded_and_is_undone_with_the_rest(calls: Calls, answer: Any) -> None:
    result = calls.run(saga_of(lost(calls, answer), calls.step("b")))
    assert result.ok
    assert calls.log == ["a", "?a", "b"]
    assert result.results["a"] == answer.result
    assert (result.in_doubt, result.effects["a"]) == ((), Effect.STANDS)
    calls.log.clear()
    result = calls.run(saga_of(lost(calls, answer), calls.step("bad", ValueError())))
    assert calls.log == ["a", "?a", "bad", "-a"]
    assert (result.status, result.effects["a"]) == (Status.COMPENSATED, Effect.UNDONE)


@pytest.mark.parametrize("answer", [NotDone(), NotDone])
def test_what_was_not_done_has_failed_cleanly(calls: Calls, answer: Any) -> None:
    result = calls.run(saga_of(calls.step("z"), lost(calls, answer)))
    assert calls.log == ["z", "a", "?a", "-z"]
    assert isinstance(result.error, TimeoutError)
    assert (result.status, result.in_doubt, result.effects["a"]) == (Status.COMPENSATED, (), Effect.NONE)
    calls.log.clear()
    assert not calls.run(saga_of(lost(calls, answer, retry=Retry(2)))).ok
    assert calls.log == ["a", "?a", "a", "?a"]
    calls.log.clear()
    assert calls.run(saga_of(fallback(lost(calls, answer), calls.step("b")))).ok
    assert calls.log == ["a", "?a", "b"]


@pytest.mark.parametrize("answer", [None, ValueError("no"), True, "done", 0, Done])
def test_what_nobody_knows_stays_in_doubt_and_is_undone(calls: Calls, answer: Any) -> None:
    result = calls.run(saga_of(calls.step("z"), lost(calls, answer)))
    assert calls.log == ["z", "a", "?a", "-a", "-z"]
    assert (result.status, result.in_doubt, result.effects["a"]) == (Status.COMPENSATED, (), Effect.UNDONE)
    (told,) = [event.error for event in result.events if isinstance(event, VerificationFailed)]
    if answer is None:
        assert isinstance(told, OutcomeUnknownError)
    elif not isinstance(answer, ValueError):
        what = "the class Done" if answer is Done else type(answer).__name__
        assert str(told) == f"verify of step 'a' returned {what}; return Done(result), NotDone() or None"


def test_it_is_asked_again_as_often_as_its_own_retry_says(calls: Calls) -> None:
    answers: list[Any] = [None, ConnectionError(), Done("r")]
    result = calls.run(saga_of(lost(calls, lambda: answers.pop(0), verification_retry=Retry(3))))
    assert result.ok
    assert calls.log == ["a", "?a", "?a", "?a"]
    assert [event.attempt for event in result.events if isinstance(event, VerificationStarted)] == [1, 2, 3]
    calls.log.clear()
    calls.run(saga_of(lost(calls, ConnectionError(), verification_retry=Retry(3, retry_on=ValueError))))
    assert calls.log == ["a", "?a", "-a"]


def test_it_sees_the_key_the_context_and_the_result_before(calls: Calls) -> None:
    seen: list[Any] = []

    def note(before: Any, context: Context, word: str) -> Done[str]:
        seen.append((before, word, context.sku, context.step.idempotency_key, context.step.attempt))
        return Done("r")

    def call(before: Any, context: Context, word: str) -> None:
        note(before, context, word)
        raise TimeoutError

    async def acall(before: Any, context: Context, word: str) -> None:
        call(before, context, word)

    async def anote(before: Any, context: Context, word: str) -> Done[str]:
        return note(before, context, word)

    pair = (acall, anote) if calls.in_loop else (call, note)
    saga = saga_of(calls.step("z"), step(pair[0], verify=pair[1], name="a", kwargs={"word": "w"}))
    assert calls.run(saga, {"sku": "apple"}, saga_id="x").ok
    assert seen == [("result of z", "w", "apple", "s/x/a", 1)] * 2


def test_with_a_store_it_is_in_the_journal_and_all_tell_the_same(calls: Calls, store: Store) -> None:
    saga = saga_of(lost(calls, Done({"paid": 3})), calls.step("b"), store=store)
    result = calls.run(saga, saga_id="x")
    assert result.ok
    loaded = saga.load("x")
    for one in (result, loaded):
        assert (one.results["a"], one.effects, one.in_doubt) == ({"paid": 3}, dict.fromkeys("ab", Effect.STANDS), ())
        assert [record.status for record in one.history] == [StepStatus.SUCCEEDED] * 2
    kinds = [entry.kind for entry in store.journal("x") if entry.step == "a"]
    assert kinds == ["StepStarted", "StepFailed", "VerificationStarted", "StepVerified"]
    assert "done=true" in Operations(store, "ann").show("x").timeline()


def test_a_result_that_cannot_be_stored_is_of_work_that_is_done(calls: Calls, store: Store) -> None:
    saga = saga_of(lost(calls, lambda: Done(object())), calls.step("b"), store=store)
    result = calls.run(saga, saga_id="x")
    assert isinstance(result.error, EncodingError)
    assert calls.log == ["a", "?a", "-a"]
    assert (result.status, result.effects["a"], saga.load("x").effects["a"]) == (Status.COMPENSATED, *[Effect.UNDONE] * 2)


def test_the_sagas_timeout_goes_on_meanwhile(calls: Calls) -> None:
    began = threading.Event()

    def slowly() -> Any:
        began.set()
        time.sleep(0.3)
        return Done("r")

    result = calls.run(saga_of(lost(calls, slowly), calls.step("b"), timeout=0.1))
    assert began.is_set()
    assert calls.log == ["a", "?a", "-a"]
    assert isinstance(result.error, SagaTimeoutError)


def test_the_report_tells_what_was_said_and_what_is_in_doubt(calls: Calls) -> None:
    flows = {
        "succeeded, verified: done": lost(calls, Done()),
        "skipped, verified: not done": lost(calls, NotDone(), on_error=Skip),
        "skipped, undone": lost(calls, None, on_error=Skip),
        "skipped, in doubt": step(calls.function("a", TimeoutError()), name="a", on_error=Skip),
    }
    for line, flow in flows.items():
        saga = saga_of(flow)
        result = calls.run(saga)
        assert f"  a  {line} (1 attempt" in result.report()
        assert line.replace(", ", " · ") in saga.diagram(result).svg()
    assert "verification: OutcomeUnknownError" in calls.run(saga_of(lost(calls, None))).report().replace("saga.errors.", "")


def test_a_stream_tells_what_was_found(calls: Calls) -> None:
    records = calls.stream(saga_of(lost(calls, Done("r")), calls.step("b")))
    assert [(record.name, record.status, record.in_doubt) for record in records] == [
        ("a", StepStatus.IN_DOUBT, True),
        ("a", StepStatus.SUCCEEDED, False),
        ("b", StepStatus.SUCCEEDED, False),
    ]


def test_a_block_asks_too(calls: Calls, blocks: Blocks) -> None:
    def body(tx: Any) -> Any:
        assert (yield blocks.do("a", TimeoutError(), verify=says(calls, Done("r")))) == "r"
        yield blocks.do("b")

    assert blocks.run(body).ok
    assert calls.log == ["a", "?a", "b"]


def test_a_blocks_own_word_on_what_is_unknown(calls: Calls, blocks: Blocks) -> None:
    def body(tx: Any) -> Any:
        yield blocks.do("a", KeyError("k"))

    with pytest.raises(Exception, match="k"):
        blocks.run(body, unknown_on=KeyError)
    assert calls.log == ["a", "-a"]


# -- where it is declared -------------------------------------------------------------------------------------------------


class Charge(Task[str]):
    def execute(self, context: Context) -> str:
        raise TimeoutError

    def verify(self, context: Context) -> Done[str]:
        return Done(f"found {context.step.idempotency_key}")


def test_a_task_s_method_and_one_that_a_resolver_makes() -> None:
    assert saga_of(Charge).execute(saga_id="x").results == {"Charge": "found s/x/Charge"}
    resolved = Saga("s", resolver=lambda kind: kind()).add_task(Charge)
    assert resolved.execute(saga_id="x").results == {"Charge": "found s/x/Charge"}


def test_one_behind_a_breaker() -> None:
    class Breaker:
        def calling(self) -> Any:
            from contextlib import nullcontext

            return nullcontext()

    saga = saga_of(fallback(Charge, step(lambda: None, name="other"), breaker=Breaker()))
    assert saga.execute(saga_id="x").results == {"Charge": "found s/x/Charge"}


def test_a_method_of_a_saga_and_what_overrides_it() -> None:
    class Order(Saga):
        word = "paid"

        @saga_step
        def charge(self) -> str:
            raise TimeoutError

        @charge.verification
        def find(self) -> Done[str]:
            return Done(self.word)

        def flow(self) -> Any:
            return (self.charge,)

    class Later(Order):
        def find(self) -> Done[str]:  # type: ignore[override]
            return Done("later")

    assert Order().execute().results == {"charge": "paid"}
    assert Later().execute().results == {"charge": "later"}
    with pytest.raises(SagaDefinitionError, match="has two verifications"):
        Order.charge.verification(lambda self: None)  # type: ignore[attr-defined]


def made(verify: Any) -> type[Task[Any]]:
    return type("Asked", (Charge,), {"verify": verify})


async def is_key_later(error: Exception) -> bool:
    return True


def generator() -> Any:
    yield Done()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: step(print, verify=3), "verification is 3 (int), which cannot be called; give a function"),
        (lambda: step(Charge, verify=print), "a task brings its own compensate, verify and arguments"),
        (lambda: saga_of(step(lambda: 1, name="a", verify=generator)).plan, "generator yields"),
        (lambda: saga_of(step(lambda: 1, verify=lambda a, b: None)).plan, "verification"),
        (lambda: saga_of(made(lambda self: None)).plan, "Asked.verify cannot be called with the context"),
        (lambda: saga_of(made(lambda self, context, why: None)).plan, "Asked.verify cannot be called with the context"),
        (lambda: saga_of(made(False)).plan, "Asked.verify is False; write def verify(self, context), or leave it out"),
        (lambda: saga_of(step(lambda: 1, unknown_on=is_key_later)).plan, "unknown_on is <function is_key_later"),
        (lambda: saga_of(step(lambda: 1, unknown_on=lambda: True)).plan, "unknown_on is"),
        (lambda: saga_of(step(lambda: 1, unknown_on="KeyError")).plan, "unknown_on is 'KeyError'"),
        (lambda: saga_of(step(lambda: 1, unknown_on=KeyboardInterrupt)).plan, "unknown_on is"),
        (lambda: saga_of(step(lambda: 1, unknown_on=(KeyError, KeyError("x")))).plan, "unknown_on is"),
        (lambda: Saga("s", unknown_on=3), "saga 's': unknown_on is 3"),
        (lambda: saga_of(step(lambda: 1, verification_retry=3)).plan, "verification_retry is 3; give Retry"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(SagaDefinitionError) as refused:
        make()
    assert text in str(refused.value)


# -- what is unknown ------------------------------------------------------------------------------------------------------


def refused(error: Exception) -> bool:
    return False


def is_key(error: Exception) -> bool:
    return isinstance(error, KeyError)


class OwnWord(Task[None]):
    unknown_on = is_key

    def execute(self, context: Context) -> None:
        raise context.error

    def compensate(self, context: Context) -> None:
        context.undone = True


class Method(OwnWord):
    kind = KeyError

    def unknown_on(self, error: Exception) -> bool:  # type: ignore[override]
        return isinstance(error, self.kind)


@pytest.mark.parametrize("kind", [OwnWord, Method])
@pytest.mark.parametrize(("error", "unknown"), [(KeyError(), True), (TimeoutError(), False), (OutcomeUnknownError(), True)])
def test_a_tasks_own_word(kind: type[OwnWord], error: Exception, unknown: bool) -> None:
    result = saga_of(kind).try_execute({"error": error})
    assert ("undone" in result.context) is unknown
    assert result.effects[kind.__name__] is (Effect.UNDONE if unknown else Effect.NONE)


@pytest.mark.parametrize(
    ("of_task", "of_step", "of_inner", "of_saga", "unknown"),
    [
        (None, None, None, None, {TimeoutError}),
        (None, None, None, (), set()),
        (None, None, None, KeyError, {KeyError}),
        (None, None, None, (LOST_ANSWERS, KeyError), {TimeoutError, KeyError}),
        (None, None, refused, KeyError, set()),
        (None, KeyError, (), (), {KeyError}),
        (KeyError, None, (), (), {KeyError}),
        (KeyError, (), None, None, set()),
    ],
)
def test_whose_word_counts(of_task: Any, of_step: Any, of_inner: Any, of_saga: Any, unknown: set[type]) -> None:
    class Raising(Task[None]):
        unknown_on = of_task

        def execute(self, context: Context) -> None:
            raise context.error

        def compensate(self, context: Context) -> None:
            context.undone = True

    one = Raising if of_step is None else step(Raising, unknown_on=of_step)
    saga = Saga("s", unknown_on=of_saga).add_task(Saga("inner", unknown_on=of_inner).add_task(one))
    for error in (KeyError, TimeoutError, ValueError):
        result = saga.try_execute({"error": error()})
        assert ("undone" in result.context) is (error in unknown), error


def test_a_word_that_raises_says_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    result = saga_of(step(lambda: [].pop(), lambda: None, name="a", unknown_on=broken)).try_execute()
    assert result.effects["a"] is Effect.UNDONE
    assert "unknown_on of step 'a' raised on IndexError" in caplog.text


def test_the_answers_say_what_they_are() -> None:
    assert (repr(Done(3)), repr(NotDone())) == ("Done(3)", "NotDone()")
