"""The facade: what a saga accepts, streams, and how an interrupt passes through it."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Context, InDoubt, Retry, Saga, SagaResult, Status, step
from saga.errors import SagaDefinitionError


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Saga(""), "the saga's name is ''; give a str that is not blank"),
        (lambda: Saga(" "), "the saga's name is ' '; give a str that is not blank"),
        (lambda: Saga(3), "the saga's name is 3 (int); give a str, such as str(...) of it"),  # type: ignore[arg-type]
        (lambda: Saga("s", timeout=0), "saga 's': timeout is 0; give seconds as a number above 0, or None for no limit"),
        (
            lambda: Saga("s", on_compensation_failure=3),  # type: ignore[arg-type]
            "saga 's': on_compensation_failure is 3; give a function of (context, step name, error)",
        ),
        (
            lambda: Saga("s", logger=3),  # type: ignore[arg-type]
            "saga 's': logger has 3; give a logger of logging, structlog or loguru, the name of one, a SagaLogger or a "
            "function of (event, info)",
        ),
        (
            lambda: Saga("s", observers=[print, "x"]),  # type: ignore[list-item]
            "saga 's': observers has 'x'; give a function of (event, info), or SagaLogger(...) of a logger",
        ),
        (
            lambda: Saga("s").add_task(step(fail)).execute(3),  # type: ignore[arg-type]
            "saga 's': the context is 3 (int); give a Context or a mapping",
        ),
        (
            lambda: Saga("s").add_task(step(fail)).execute(saga_id=""),
            "saga 's': saga_id is ''; give a str that is not blank",
        ),
        (
            lambda: Saga("outer").add_task(Saga("inner", limit=1).add_task(step(fail))),
            "saga 'inner' is a step of another saga, where its limit would have no effect; give it to the outer saga",
        ),
    ],
)
def test_a_wrong_saga_is_refused_with_this_text(build: Any, text: str) -> None:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    assert str(caught.value) == text


def test_a_saga_is_named_after_its_class() -> None:
    class PlaceOrder(Saga):
        pass

    assert PlaceOrder().name == "PlaceOrder"
    assert repr(PlaceOrder()) == "<PlaceOrder 'PlaceOrder'>"
    assert repr(Saga("s")) == "<Saga 's'>"


def test_every_execution_has_an_id_of_its_own() -> None:
    saga = Saga("s").add_task(step(lambda: 1, name="a"))
    ids = {saga.execute().saga_id for _ in range(100)}
    assert len(ids) == 100
    assert {len(saga_id) for saga_id in ids} == {32}


def test_a_task_added_later_belongs_to_later_executions() -> None:
    saga = Saga("s").add_task(step(lambda: 1, name="a"))
    assert saga.execute().results == {"a": 1}
    assert saga.add_task(step(lambda: 2, name="b")).execute().results == {"a": 1, "b": 2}


def test_the_fingerprint_tells_definitions_apart() -> None:
    def build(**policies: Any) -> str:
        return Saga("s").add_task(step(fail, **policies)).plan.fingerprint

    assert build() == build()
    assert (
        len({build(), build(name="other"), build(pivot=True), build(in_doubt=InDoubt.ASK), build(compensate_on_failure=True)})
        == 5
    )


def test_retries_and_timeouts_may_change_under_a_running_execution() -> None:
    assert (
        len(
            {
                Saga("s").add_task(step(fail, **p)).plan.fingerprint
                for p in ({}, {"timeout": 1.0}, {"compensation_timeout": 1.0}, {"retry": Retry(2)})
            }
        )
        == 1
    )


# -- streams ------------------------------------------------------------------------------------------------------------


def test_leaving_a_stream_early_undoes_nothing_that_was_never_called() -> None:
    log: list[str] = []
    saga = Saga("s").add_task(step(lambda: log.append("a"), lambda: log.append("-a"), name="a"))
    stream = saga.add_task(step(lambda: log.append("b"), lambda: log.append("-b"), name="b")).stream()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert log == ["a", "-a"]


def test_leaving_a_stream_early_undoes_what_has_happened() -> None:
    log: list[str] = []
    ended: list[str] = []
    saga = Saga("s", logger=lambda event, info: ended.append(type(event).__name__))
    saga.add_task(step(lambda: log.append("a"), lambda: log.append("-a"), name="a"))
    saga.add_task(step(lambda: log.append("b"), lambda: log.append("-b"), name="b"))
    saga.add_task(step(lambda: log.append("c"), name="c"))
    stream = saga.stream()
    assert [next(stream).name, next(stream).name] == ["a", "b"]
    assert log == ["a", "b"]
    stream.close()  # type: ignore[attr-defined]
    assert log == ["a", "b", "-b", "-a"]
    assert ended[-1] == "SagaCompensated"


def test_a_stream_nobody_asks_runs_nothing() -> None:
    log: list[str] = []
    stream = Saga("s").add_task(step(lambda: log.append("a"), name="a")).stream()
    stream.close()  # type: ignore[attr-defined]
    assert log == []


def test_an_interrupt_in_a_stream_is_raised_after_the_undo() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    log: list[str] = []
    saga = Saga("s").add_task(step(lambda: log.append("a"), lambda: log.append("-a"), name="a")).add_task(step(interrupt))
    stream = saga.stream()
    told = [next(stream) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert [(record.name, str(record.status)) for record in told] == [
        ("a", "succeeded"),
        ("interrupt", "in_doubt"),
        ("a", "compensated"),
    ]
    assert log == ["a", "-a"]


# -- failed compensations -----------------------------------------------------------------------------------------------


def unmendable() -> None:
    raise OSError("gone")


def failing_saga(**policies: Any) -> Saga:
    return Saga("s", **policies).add_task(step(str, unmendable, name="a", compensation_retry=Retry(3))).add_task(step(fail))


def test_the_handler_is_called_once_for_a_compensation_that_failed_for_good() -> None:
    told: list[tuple[Context, str, str]] = []
    context = Context(n=1)
    failing_saga(on_compensation_failure=lambda *args: told.append((args[0], args[1], str(args[2])))).try_execute(context)
    assert told == [(context, "a", "gone")]


def test_a_handler_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def handler(context: Context, name: str, error: BaseException) -> None:
        raise RuntimeError("the pager is off")

    result: SagaResult = failing_saga(on_compensation_failure=handler).try_execute()
    assert result.status is Status.STUCK
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("saga", "ERROR")
    assert record.getMessage() == "the handler of failed compensations raised at step 'a'"
    assert record.exc_info
    assert str(record.exc_info[1]) == "the pager is off"
