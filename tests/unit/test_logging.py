"""SagaLogger: each event is one line, at a level that tells the outcome."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from saga import Context, ExecutionInfo, Retry, Saga, Skip, Status, parallel, step
from saga import events as e
from saga.errors import SagaDefinitionError
from saga.logging import _METHODS, SagaLogger

ERROR = ValueError("no stock")
INFO = ExecutionInfo("place-order", "a1", Context(order_id="A 1", card="4242"))


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="saga"):
        yield


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


LINES = [
    (
        e.SagaSubmitted("place-order", "a1", 1.0),
        "INFO",
        'saga submitted saga=place-order id=a1 status=submitted context.order_id="A 1" context.card=***',
    ),
    (
        e.SagaStarted("place-order", "a1", 1.0),
        "INFO",
        'saga started saga=place-order id=a1 status=running context.order_id="A 1" context.card=***',
    ),
    (
        e.StepStarted("charge", 2, 1.0),
        "DEBUG",
        "step started saga=place-order id=a1 step=charge attempt=2 status=running",
    ),
    (
        e.StepSucceeded("charge", 1, 1.0, 0.0125, "secret"),
        "INFO",
        "step succeeded saga=place-order id=a1 step=charge attempt=1 status=succeeded elapsed_ms=12.500",
    ),
    (
        e.StepFailed("charge", 1, 1.0, 0.0125, ERROR),
        "WARNING",
        "step failed saga=place-order id=a1 step=charge attempt=1 status=failed elapsed_ms=12.500 "
        "error=\"ValueError('no stock')\"",
    ),
    (
        e.StepFailed("charge", 1, 1.0, 0.0125, KeyboardInterrupt(), in_doubt=True),
        "WARNING",
        "step failed saga=place-order id=a1 step=charge attempt=1 status=in_doubt elapsed_ms=12.500 error=KeyboardInterrupt()",
    ),
    (
        e.StepTimedOut("charge", 1, 1.0, 0.5, TimeoutError("slow")),
        "WARNING",
        "step timed out saga=place-order id=a1 step=charge attempt=1 status=timed_out elapsed_ms=500.000 "
        "error=TimeoutError('slow')",
    ),
    (
        e.StepSkipped("charge", 1.0),
        "WARNING",
        "step skipped saga=place-order id=a1 step=charge status=skipped",
    ),
    (
        e.SagaRewound("charge", ["ship"], "undone by ann", 1.0),
        "WARNING",
        'saga rewound saga=place-order id=a1 step=charge status=paused reason="undone by ann"',
    ),
    (
        e.PersonAsked("charge", 1.0),
        "WARNING",
        "person asked saga=place-order id=a1 step=charge status=failed",
    ),
    (
        e.RetryScheduled("charge", 2, 1.0, 0.25),
        "WARNING",
        "retry scheduled saga=place-order id=a1 step=charge attempt=2 status=waiting delay_ms=250.0",
    ),
    (
        e.RetryScheduled("charge", 2, 1.0, 0.25, phase="compensate"),
        "WARNING",
        "compensation retry scheduled saga=place-order id=a1 step=charge attempt=2 status=waiting delay_ms=250.0",
    ),
    (
        e.GroupMerged(0, 1.0),
        "DEBUG",
        "parallel group merged saga=place-order id=a1 group=0",
    ),
    (
        e.SagaCompensating("charge", ERROR, 1.0),
        "ERROR",
        "saga compensating saga=place-order id=a1 step=charge status=compensating error=\"ValueError('no stock')\"",
    ),
    (
        e.SagaCompensating(None, TimeoutError(), 1.0),
        "ERROR",
        "saga compensating saga=place-order id=a1 status=compensating error=TimeoutError()",
    ),
    (
        e.CompensationStarted("charge", 1, 1.0),
        "DEBUG",
        "compensation started saga=place-order id=a1 step=charge attempt=1 status=compensating",
    ),
    (
        e.CompensationSucceeded("charge", 1, 1.0, 0.0),
        "INFO",
        "compensation succeeded saga=place-order id=a1 step=charge attempt=1 status=compensated elapsed_ms=0.000",
    ),
    (
        e.CompensationFailed("charge", 1, 1.0, 0.001, OSError("gone")),
        "ERROR",
        "compensation failed saga=place-order id=a1 step=charge attempt=1 status=compensation_failed elapsed_ms=1.000 "
        "error=OSError('gone')",
    ),
    (
        e.CompensationTimedOut("charge", 1, 1.0, 0.001, OSError("gone")),
        "WARNING",
        "compensation timed out saga=place-order id=a1 step=charge attempt=1 status=compensating elapsed_ms=1.000 "
        "error=OSError('gone')",
    ),
    (
        e.SagaCompleted(1.0),
        "INFO",
        'saga completed saga=place-order id=a1 status=completed context.order_id="A 1" context.card=***',
    ),
    (
        e.SagaCompensated(1.0),
        "WARNING",
        'saga compensated saga=place-order id=a1 status=compensated context.order_id="A 1" context.card=***',
    ),
    (
        e.SagaHeld(1.0),
        "INFO",
        "saga held saga=place-order id=a1",
    ),
    (
        e.SagaPaused("by ann: the bank is down", 1.0),
        "WARNING",
        'saga paused saga=place-order id=a1 status=paused reason="by ann: the bank is down"',
    ),
    (
        e.SagaStuck("compensation failed: charge", 1.0),
        "CRITICAL",
        'saga stuck saga=place-order id=a1 status=stuck reason="compensation failed: charge" context.order_id="A 1" '
        "context.card=***",
    ),
    (
        e.SagaRecovered("host-2", 3, 1.0),
        "WARNING",
        "saga recovered saga=place-order id=a1 owner=host-2 epoch=3",
    ),
    (
        e.OperatorActed("skip", "charge", "ann", "paid by hand", 1.0),
        "WARNING",
        'operator acted saga=place-order id=a1 step=charge action=skip who=ann why="paid by hand"',
    ),
    (
        e.RetryScheduled("charge", 2, 1.0, 0.25, phase="verify"),
        "WARNING",
        "verification retry scheduled saga=place-order id=a1 step=charge attempt=2 status=waiting delay_ms=250.0",
    ),
    (
        e.VerificationStarted("charge", 2, 1.0),
        "DEBUG",
        "verification started saga=place-order id=a1 step=charge attempt=2 status=in_doubt",
    ),
    (
        e.StepVerified("charge", 1, 1.0, 0.0125, True, "secret"),
        "WARNING",
        "step verified saga=place-order id=a1 step=charge attempt=1 status=succeeded elapsed_ms=12.500 done=True",
    ),
    (
        e.StepVerified("charge", 1, 1.0, 0.0125, False),
        "WARNING",
        "step verified saga=place-order id=a1 step=charge attempt=1 status=failed elapsed_ms=12.500 done=False",
    ),
    (
        e.VerificationFailed("charge", 1, 1.0, 0.0125, OSError("gone")),
        "WARNING",
        "verification failed saga=place-order id=a1 step=charge attempt=1 status=in_doubt elapsed_ms=12.500 "
        "error=OSError('gone')",
    ),
    (e.FallbackChosen("charge", 1.0), "WARNING", "fallback chosen saga=place-order id=a1 step=charge status=failed"),
    (
        e.UnitCompensating("buy", "charge", ValueError("no"), ["charge"], 1.0),
        "WARNING",
        "unit compensating saga=place-order id=a1 step=buy failed_step=charge error=ValueError('no')",
    ),
    (e.WayChosen("judge", "'gold'", 1.0), "INFO", "way chosen saga=place-order id=a1 step=judge way='gold'"),
    (e.SignalReceived("paid", 7, 1.0), "INFO", "signal received saga=place-order id=a1 signal=paid"),
    (
        e.SignalReceived("paid", 7, 1.0, None, "ann", "on the phone"),
        "INFO",
        'signal received saga=place-order id=a1 signal=paid who=ann why="on the phone"',
    ),
    (e.MessageRefused("{", "no JSON", 1.0), "DEBUG", 'message refused saga=place-order id=a1 reason="no JSON"'),
]


@pytest.mark.parametrize(("event", "level", "line"), LINES, ids=lambda value: type(value).__name__)
def test_an_event_is_written_as_this_line(caplog: pytest.LogCaptureFixture, event: e.Event, level: str, line: str) -> None:
    SagaLogger(show=("order_id", "card", "absent"), mask=("card",))(event, INFO)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("saga", level, line)
    if isinstance(event, (e.SagaCompensating, e.CompensationFailed)):
        assert record.exc_info
        assert record.exc_info[1] is event.error
    else:
        assert record.exc_info is None


def test_every_event_is_among_those_lines() -> None:
    assert {type(event) for event, _, _ in LINES} == set(_METHODS) == set(e.Event.__args__)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        (3, "3"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', '"say \\"no\\""'),
        ("C:\\new", '"C:\\\\new"'),
        ("two\nlines", '"two\\nlines"'),
        ("\r\t\x1b[31m\x00", '"\\r\\t\\x1b[31m\\x00"'),
        ("a\u2028b\x85c\u202e", '"a\\u2028b\\x85c\\u202e"'),
        ("\ud800", '"\\ud800"'),
        ("Grüße", "Grüße"),
        (ValueError("a\nb"), "\"ValueError('a\\\\nb')\""),
        (OSError(), "OSError()"),
    ],
)
def test_a_value_stays_one_word_on_one_line(caplog: pytest.LogCaptureFixture, value: Any, written: str) -> None:
    SagaLogger().write(logging.INFO, INFO, "told", key=value, left_out=None)
    assert lines(caplog) == [f"told saga=place-order id=a1 key={written}"]


def test_names_and_ids_cannot_forge_a_line_either(caplog: pytest.LogCaptureFixture) -> None:
    SagaLogger().write(logging.INFO, ExecutionInfo("a b", "1\nsaga stuck", Context()), "told")
    assert lines(caplog) == ['told saga="a b" id="1\\nsaga stuck"']


def test_a_masked_value_is_never_turned_into_text(caplog: pytest.LogCaptureFixture) -> None:
    class Secret:
        def __str__(self) -> str:
            raise AssertionError("the value was asked for its text")

        __repr__ = __str__

    info = ExecutionInfo("s", "1", Context(card=Secret()))
    SagaLogger(show=["card"], mask=["card"])(e.SagaCompleted(1.0), info)
    assert lines(caplog) == ["saga completed saga=s id=1 status=completed context.card=***"]


class Address:
    street = "Main Street 1"

    @property
    def city(self) -> str:
        raise RuntimeError("not bound to a session")


@dataclass
class Customer:
    name: str
    card: dict[str, str]


ORDER = Context(
    order={"id": "A1", "card": {"number": "4242", "kind": "debit"}},
    lines=[{"sku": "apple", "price": 3}, {"sku": "pear", "price": 4}],
    customer=Customer("Ann", {"number": "4242"}),
    address=Address(),
    card="4242",
)


@pytest.mark.parametrize(
    ("show", "mask", "written"),
    [
        (["order.id"], [], "context.order.id=A1"),
        (["order.card.kind"], [], "context.order.card.kind=debit"),
        (["address.street"], [], 'context.address.street="Main Street 1"'),
        (["address.city"], [], 'context.address.city="<city raised RuntimeError>"'),
        (["customer.name"], [], "context.customer.name=Ann"),
        (["absent", "order.absent", "card.absent"], [], ""),
        (["card"], ["card"], "context.card=***"),
        (["order.id"], ["order"], "context.order.id=***"),
        (["order.card.number"], ["order.card"], "context.order.card.number=***"),
        (["order"], ["order.card"], "context.order=\"{'id': 'A1', 'card': '***'}\""),
        (["order"], ["order.card.number"], "context.order=\"{'id': 'A1', 'card': {'number': '***', 'kind': 'debit'}}\""),
        (["order.card"], ["order.card.number"], "context.order.card=\"{'number': '***', 'kind': 'debit'}\""),
        (["lines"], ["lines.price"], "context.lines=\"[{'sku': 'apple', 'price': '***'}, {'sku': 'pear', 'price': '***'}]\""),
        (["customer"], ["customer.card"], "context.customer=\"{'name': 'Ann', 'card': '***'}\""),
    ],
)
def test_keys_within_values_are_shown_and_hidden(
    caplog: pytest.LogCaptureFixture, show: list[str], mask: list[str], written: str
) -> None:
    SagaLogger(show=show, mask=mask)(e.SagaCompleted(1.0), ExecutionInfo("s", "1", ORDER))
    assert lines(caplog) == [f"saga completed saga=s id=1 status=completed {written}".strip()]
    assert not mask or "4242" not in caplog.text


@pytest.mark.parametrize(
    ("show", "mask"),
    [
        (["order"], ["order.crad"]),
        (["order"], ["order.card.nummer"]),
        (["card"], ["card.number"]),
        (["customer"], ["customer.crad"]),
        (["address"], ["address.street"]),
    ],
)
def test_what_a_mask_does_not_find_is_hidden_with_all_that_is_there_and_said_once(
    caplog: pytest.LogCaptureFixture, show: list[str], mask: list[str]
) -> None:
    logger = SagaLogger(show=show, mask=mask)
    for _ in range(2):
        logger(e.SagaCompleted(1.0), ExecutionInfo("s", "1", ORDER))
    line = f"saga completed saga=s id=1 status=completed context.{show[0]}=***"
    said = f"SagaLogger: mask {mask[0]!r} is not found in context.{show[0]}, so all of that is hidden"
    assert lines(caplog) == [said, line, line]


@pytest.mark.parametrize(
    ("show", "mask", "near"),
    [
        (["card"], ["crad"], "'card'"),
        ([], ["card"], "nothing"),
        (["order.id"], ["order.card"], "order.id"),
        (["orders"], ["order.card"], ""),
    ],
)
def test_a_mask_that_hides_nothing_is_refused(show: list[str], mask: list[str], near: str) -> None:
    with pytest.raises(SagaDefinitionError, match=rf"mask has '{mask[0]}', which hides nothing.*{near}"):
        SagaLogger(show=show, mask=mask)


@pytest.mark.parametrize("given", [object(), 5, None, SagaLogger, logging.Logger, print])
def test_what_is_no_logger_is_refused(given: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"which can log nothing; give logging\.getLogger"):
        SagaLogger(given)


def test_an_adapter_is_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    SagaLogger(logging.LoggerAdapter(logging.getLogger("saga"), {}))(e.SagaCompleted(1.0), INFO)  # type: ignore[arg-type]
    assert lines(caplog) == ["saga completed saga=place-order id=a1 status=completed"]


@pytest.mark.parametrize(("event", "level", "line"), LINES, ids=lambda value: type(value).__name__)
def test_a_record_has_fields_and_a_template_of_its_saga(
    caplog: pytest.LogCaptureFixture, event: e.Event, level: str, line: str
) -> None:
    SagaLogger()(event, INFO)
    (record,) = caplog.records
    fields: Any = vars(record)
    assert (fields["saga"], fields["saga_id"]) == ("place-order", "a1")
    assert record.msg.startswith(f"{fields['saga_event']} saga=place-order id=%s")
    for name in ("step", "attempt", "reason", "owner", "epoch", "why", "who"):
        assert fields.get(f"saga_{name}") == getattr(event, name, None)
    error = getattr(event, "error", None)
    assert fields.get("saga_error") == (repr(error) if error is not None else None)
    if hasattr(event, "elapsed"):
        assert fields["saga_elapsed_ms"] == event.elapsed * 1000
    pickle.dumps({name: value for name, value in fields.items() if name.startswith("saga")})


def test_a_field_has_the_value_itself_and_a_line_never_breaks_its_template(caplog: pytest.LogCaptureFixture) -> None:
    info = ExecutionInfo("50 %s\n", "1\n2", Context({"a%d b": "x y", "n": 5}))
    SagaLogger(show=["a%d b", "n"])(e.SagaCompleted(1.0), info)
    (record,) = caplog.records
    assert record.getMessage() == ('saga completed saga="50 %s\\n" id="1\\n2" status=completed context.a%d b="x y" context.n=5')
    fields: Any = vars(record)
    assert (fields["saga"], fields["saga_id"]) == ("50 %s\n", "1\n2")
    assert (fields["saga_context.a%d b"], fields["saga_context.n"]) == ("x y", 5)


def test_a_value_whose_text_cannot_be_made_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    info = ExecutionInfo("s", "1", ORDER)
    logger = SagaLogger(show=["address"])

    def raising(self: object) -> str:
        raise RuntimeError

    Address.__str__ = raising  # type: ignore[method-assign]
    logger(e.SagaStuck("why", 1.0), info)
    (line,) = lines(caplog)
    assert line.startswith("saga stuck saga=s id=1 status=stuck reason=why context.address=")
    assert "whose str() raised RuntimeError" in line


def test_a_method_that_is_replaced_on_the_object_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ERROR

    for level in (logging.DEBUG, logging.CRITICAL + 1):
        caplog.set_level(level, "saga")
        logger = SagaLogger()
        with patch.object(logger, "step_failed") as patched:
            Saga("s", logger=logger).add_task(step(fail)).try_execute()
        assert patched.call_count == 1
    assert not logger.listening()


@pytest.mark.parametrize("parameter", ["show", "mask"])
def test_one_key_that_is_not_in_a_list_is_refused(parameter: str) -> None:
    with pytest.raises(SagaDefinitionError, match=rf"SagaLogger: {parameter} is 'card'; give several, such as \['card'\]$"):
        SagaLogger(**{parameter: "card"})  # type: ignore[arg-type]


def test_the_logger_is_given_by_name_or_itself() -> None:
    assert SagaLogger().logger is logging.getLogger("saga")
    assert SagaLogger("shop").logger is logging.getLogger("shop")
    own = logging.Logger("own")
    assert SagaLogger(own).logger is own


def test_a_level_that_is_off_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "saga")
    for event, _, _ in LINES:
        SagaLogger()(event, INFO)
    assert {record.levelname for record in caplog.records} == {"WARNING", "ERROR", "CRITICAL"}


# -- overriding ---------------------------------------------------------------------------------------------------------


def test_overriding_a_method_changes_what_its_event_writes(caplog: pytest.LogCaptureFixture) -> None:
    class Mine(SagaLogger):
        def step_failed(self, event: e.StepFailed, info: ExecutionInfo) -> None:
            self.write(logging.CRITICAL, info, "look here", step=event.step, exc_info=event.error)

    def fail() -> None:
        raise ERROR

    Saga("s", logger=Mine()).add_task(step(fail)).try_execute(saga_id="1")
    *before, last = lines(caplog)
    assert before == [
        "saga started saga=s id=1 status=running",
        "step started saga=s id=1 step=fail attempt=1 status=running",
        "look here saga=s id=1 step=fail",
        "saga compensating saga=s id=1 step=fail status=compensating error=\"ValueError('no stock')\"",
    ]
    assert last.startswith("saga compensated saga=s id=1 status=compensated ")


def test_overriding_write_sees_every_event_whatever_the_level(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[int, str, BaseException | None, dict[str, Any]]] = []

    class Mine(SagaLogger):
        def write(
            self, level: int, info: ExecutionInfo, message: str, *, exc_info: BaseException | None = None, **pairs: Any
        ) -> None:
            told.append((level, message, exc_info, pairs))

    caplog.set_level(logging.CRITICAL + 1, "saga")
    for event, _, _ in LINES:
        Mine()(event, INFO)
    assert [(logging.getLevelName(level), message) for level, message, _, _ in told] == [
        (level, line.partition(" saga=")[0]) for _, level, line in LINES
    ]
    gave_up = next(rest for _, message, *rest in told if message == "saga compensating")
    assert gave_up == [ERROR, {"step": "charge", "status": "compensating", "error": ERROR}]


def test_a_logger_listens_while_its_loudest_line_would_be_written(caplog: pytest.LogCaptureFixture) -> None:
    logger = SagaLogger()
    caplog.set_level(logging.CRITICAL, "saga")
    assert logger.listening()
    caplog.set_level(logging.CRITICAL + 1, "saga")
    assert not logger.listening()
    caplog.set_level(logging.DEBUG, "saga")
    logging.disable(logging.CRITICAL)
    try:
        assert not logger.listening()
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("method", ["__call__", "write", *_METHODS.values()])
def test_a_subclass_that_overrides_a_method_always_listens(caplog: pytest.LogCaptureFixture, method: str) -> None:
    caplog.set_level(logging.CRITICAL + 1, "saga")
    changed = type("Changed", (SagaLogger,), {method: lambda self, *args, **kwargs: None})
    assert changed().listening()
    assert type("Deeper", (changed,), {})().listening()
    assert not type("Unchanged", (SagaLogger,), {"note": lambda self: None})().listening()


# -- with a saga --------------------------------------------------------------------------------------------------------


def test_a_failure_mended_by_a_retry_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def flaky(context: Context) -> None:
        if context.step.attempt < 3:
            raise ConnectionError

    Saga("s", logger=SagaLogger()).add_task(step(flaky, retry=Retry(3))).execute()
    assert max(record.levelno for record in caplog.records) == logging.WARNING
    assert [record.getMessage().partition(" saga=")[0] for record in caplog.records] == [
        "saga started",
        *["step started", "step failed", "retry scheduled"] * 2,
        *["step started", "step succeeded", "saga completed"],
    ]


@pytest.mark.parametrize(
    ("level", "looked"),
    [(logging.INFO, ["begun", "end"]), (logging.WARNING, ["end"]), (logging.ERROR, []), (logging.CRITICAL, [])],
)
@pytest.mark.parametrize("own", [False, True])
def test_what_a_line_says_is_looked_for_only_where_something_comes_of_it(
    level: int, looked: list[str], own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    class Order:
        @property
        def id(self) -> str:
            seen.append("end" if ended else "begun")
            return "A1"

    def fail() -> None:
        ended.append(True)
        raise ERROR

    ended: list[bool] = []
    caplog.set_level(level, "saga")
    logger = SagaLogger(show=["order.id"])
    if own:
        logger.write = lambda *args, **pairs: None  # type: ignore[method-assign]
    Saga("s", logger=logger).add_task(step(fail)).try_execute({"order": Order()})
    assert seen == (["begun", "end"] if own else looked)


def test_a_failed_saga_tells_its_cause_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ERROR

    def unmendable() -> None:
        raise OSError("gone")

    saga = Saga("s", logger=SagaLogger()).add_task(step(str, unmendable, name="a", compensation_retry=Retry(2)))
    saga.add_task(step(fail, name="c", on_error=Skip)).add_task(step(fail, name="b"))
    assert saga.try_execute().status is Status.STUCK
    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage().partition(" saga=")[0] for record in loud] == [
        "saga compensating",
        "compensation failed",
        "saga stuck",
    ]
    assert caplog.text.count("Traceback (most recent call last)") == 2
    assert caplog.text.count("\nValueError: no stock") == 1


def test_several_loggers_and_plain_functions_see_the_same_events(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, ExecutionInfo]] = []
    observers = [SagaLogger(), lambda event, info: seen.append((type(event).__name__, info)), SagaLogger("saga.second")]
    context = Context(n=1)
    Saga("s", logger=iter(observers)).add_task(parallel(step(str, name="a"), step(str, name="b"))).execute(context, saga_id="1")
    names = [name for name, _ in seen]
    assert names[:3] == ["SagaStarted", "StepStarted", "StepStarted"]
    assert names[-2:] == ["GroupMerged", "SagaCompleted"]
    assert {(info.saga, info.saga_id) for _, info in seen} == {("s", "1")}
    assert all(info.context is context for _, info in seen)
    by_logger = [[r.getMessage() for r in caplog.records if r.name == name] for name in ("saga", "saga.second")]
    assert by_logger[0] == by_logger[1]
    assert len(by_logger[0]) == len(names)


def test_an_observer_that_raises_is_reported_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def broken(event: e.Event, info: ExecutionInfo) -> None:
        raise RuntimeError("full disk")

    saga = Saga("s", logger=[broken, lambda event, info: seen.append(type(event).__name__)])
    result = saga.add_task(step(str, name="a")).add_task(step(str, name="b")).execute()
    assert result.ok
    assert seen == ["SagaStarted", *["StepStarted", "StepSucceeded"] * 2, "SagaCompleted"]
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "broken" in record.getMessage()
    assert "reported once" in record.getMessage()
    assert record.exc_info
    assert str(record.exc_info[1]) == "full disk"


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_saga_does_not_import_its_logger() -> None:
    assert python("import sys, saga; print('saga.logging' in sys.modules)") == "False"


def test_importing_the_logger_configures_nothing() -> None:
    code = (
        "import logging; before = dict(logging.root.manager.loggerDict), list(logging.root.handlers), logging.root.level\n"
        "import saga, saga.logging\n"
        "after = dict(logging.root.manager.loggerDict), list(logging.root.handlers), logging.root.level\n"
        "print(before == after)"
    )
    assert python(code) == "True"
