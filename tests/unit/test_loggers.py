"""Each kind of logger that a saga takes is told the same, with its fields: the real ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, NamedTuple

import loguru
import pytest
import structlog

from saga import Context, ExecutionInfo, Saga, SagaResult, step
from saga import events as e
from saga.errors import SagaDefinitionError
from saga.logging import SagaLogger


class Told(NamedTuple):
    """What a logger was told: the level's name, what happened, the fields, and the error whose traceback it has."""

    level: str
    event: str
    fields: dict[str, Any]
    error: BaseException | None


Tolds = list[Told]


class Kept(logging.Handler):
    def __init__(self, told: Tolds) -> None:
        super().__init__()
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        event = record.getMessage().partition(" saga=")[0]
        error = record.exc_info[1] if record.exc_info else None
        self._told.append(Told(record.levelname, event, dict(vars(record)), error))


def plain(told: Tolds) -> logging.Logger:
    logger = logging.Logger("plain", logging.DEBUG)
    logger.addHandler(Kept(told))
    return logger


def by_name(told: Tolds) -> str:
    logger = logging.getLogger("tests.loggers")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [Kept(told)]
    return logger.name


def adapter(told: Tolds) -> Any:
    return logging.LoggerAdapter(plain(told), {"tenant": "t-1"})


def adapter_of_one(told: Tolds) -> Any:
    return logging.LoggerAdapter(adapter(told), {"zone": "z-1"})


class Prefixed(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[100 %%] {msg}", kwargs


class OwnLog(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        self.logger.log(level, msg, *args, **kwargs)


def prefixed(told: Tolds) -> Any:
    return Prefixed(plain(told), {})


def own_log(told: Tolds) -> Any:
    return OwnLog(plain(told), {})


def taking(told: Tolds) -> Callable[[Any, str, Any], Any]:
    def take(logger: Any, method: str, values: Any) -> Any:
        error = values.pop("exc_info", (None, None, None))[1]
        told.append(Told(method.upper(), values.pop("event"), dict(values), error))
        raise structlog.DropEvent

    return take


def of_structlog(told: Tolds) -> Any:
    return structlog.wrap_logger(structlog.PrintLogger(), processors=[taking(told)])


def of_structlog_bound(told: Tolds) -> Any:
    return of_structlog(told).bind(tenant="t-1")


def of_structlog_filtering(told: Tolds) -> Any:
    wrapper = structlog.make_filtering_bound_logger(logging.DEBUG)
    return structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=wrapper, processors=[taking(told)]).bind()


def of_structlog_standard(told: Tolds) -> Any:
    return structlog.wrap_logger(plain([]), wrapper_class=structlog.stdlib.BoundLogger, processors=[taking(told)])


def of_structlog_generic(told: Tolds) -> Any:
    return structlog.wrap_logger(plain([]), wrapper_class=structlog.BoundLogger, processors=[taking(told)])


def of_loguru(told: Tolds) -> Any:
    def take(message: Any) -> None:
        record = message.record
        event = record["message"].partition(" saga=")[0]
        error = record["exception"].value if record["exception"] else None
        told.append(Told(record["level"].name, event, record["extra"], error))

    loguru.logger.remove()
    loguru.logger.add(take, level="DEBUG", format="{message}")
    return loguru.logger


def of_loguru_in_colour(told: Tolds) -> Any:
    return of_loguru(told).opt(colors=True).bind(tenant="t-1")


KINDS: Final = [
    *(plain, by_name, adapter, adapter_of_one, prefixed, own_log),
    *(of_structlog, of_structlog_bound, of_structlog_filtering, of_structlog_standard, of_structlog_generic),
    *(of_loguru, of_loguru_in_colour),
]


@pytest.fixture(autouse=True)
def _loguru_is_left_as_it_was() -> Iterator[None]:
    yield
    loguru.logger.remove()


def failing(saga_id: str, logger: Any) -> SagaResult:
    def release() -> None:
        raise OSError("gone")

    def charge() -> None:
        raise ValueError("<red>no {stock} 100 %s")

    saga = Saga("order", logger=logger).add_task(step(lambda: "r-1", release, name="reserve")).add_task(step(charge))
    return saga.try_execute({"order": "A1"}, saga_id=saga_id)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "given", [lambda logger: logger, lambda logger: [logger], SagaLogger], ids=["itself", "listed", "wrapped"]
)
def test_a_logger_is_told_each_event_with_its_fields(kind: Callable[[Tolds], Any], given: Callable[[Any], Any]) -> None:
    told: Tolds = []
    result = failing("A1", given(kind(told)))
    prefix = "[100 %] " if kind is prefixed else ""
    assert [(one.level, one.event) for one in told] == [
        (level, prefix + event)
        for level, event in [
            ("INFO", "saga started"),
            ("DEBUG", "step started"),
            ("INFO", "step succeeded"),
            ("DEBUG", "step started"),
            ("WARNING", "step failed"),
            ("ERROR", "saga compensating"),
            ("DEBUG", "compensation started"),
            ("ERROR", "compensation failed"),
            ("CRITICAL", "saga stuck"),
        ]
    ]
    assert {(one.fields["saga"], one.fields["saga_id"]) for one in told} == {("order", "A1")}
    reserved, failed, gave_up, stuck = told[2].fields, told[4].fields, told[5], told[8].fields
    assert (reserved["saga_step"], reserved["saga_attempt"], type(reserved["saga_elapsed_ms"])) == ("reserve", 1, float)
    assert failed["saga_error"] == "ValueError('<red>no {stock} 100 %s')"
    assert gave_up.error is result.error
    assert (stuck["saga_steps"], stuck["saga_status"]) == ("reserve", "stuck")
    assert [one.error is None for one in told] == [True, True, True, True, True, False, True, False, True]
    if kind in (adapter, adapter_of_one, of_structlog_bound, of_loguru_in_colour):
        assert {one.fields["tenant"] for one in told} == {"t-1"}
    if kind is adapter_of_one:
        assert {one.fields["zone"] for one in told} == {"z-1"}


@pytest.mark.parametrize("kind", [of_structlog, of_loguru])
def test_texts_of_fields_are_on_one_line_where_they_may_be_printed_as_they_are(kind: Callable[[Tolds], Any]) -> None:
    told: Tolds = []
    info = ExecutionInfo("order", "1\n\x1b[31m\u202efake", Context(note="a\nb", n=5))
    SagaLogger(kind(told), show=["note", "n"])(e.SagaCompleted(1.0), info)
    (fields,) = [one.fields for one in told]
    assert fields["saga_id"] == "1\\n\\x1b[31m\\u202efake"
    assert (fields["saga_context.note"], fields["saga_context.n"]) == ("a\\nb", 5)


def test_a_line_of_logurus_is_the_line_and_its_json_has_numbers() -> None:
    lines: list[str] = []
    loguru.logger.remove()
    loguru.logger.add(lines.append, level="INFO", format="{level} {message}")
    records: list[str] = []
    loguru.logger.add(records.append, level="INFO", serialize=True)
    info = ExecutionInfo("order", "{0} <b>%s", Context())
    SagaLogger(loguru.logger.opt(colors=True))(e.StepSucceeded("charge", 1, 1.0, 0.0125, None), info)
    assert lines == ['INFO step succeeded saga=order id="{0} <b>%s" step=charge attempt=1 status=succeeded elapsed_ms=12.500\n']
    assert json.loads(records[0])["record"]["extra"]["saga_elapsed_ms"] == 12.5


def test_a_level_of_ones_own_is_written_as_the_nearest_below_where_a_library_has_no_other() -> None:
    info = ExecutionInfo("order", "A1", Context())
    for kind, levels in [(of_structlog, ["WARNING", "DEBUG"]), (of_loguru, ["Level 35", "Level 5"])]:
        told: Tolds = []
        logger = kind(told)
        if kind is of_loguru:
            logger.add(lambda message: None, level=0)
        SagaLogger(logger).write(35, info, "told")
        SagaLogger(logger).write(5, info, "told")
        assert [one.level for one in told] == levels[: len(told)]


@pytest.mark.parametrize("level", [logging.ERROR, logging.CRITICAL])
def test_a_logger_of_structlogs_that_filters_is_told_no_more_than_it_writes(level: int) -> None:
    told: Tolds = []
    wrapper = structlog.make_filtering_bound_logger(level)
    failing("A1", structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=wrapper, processors=[taking(told)]))
    assert {one.level for one in told} == ({"ERROR", "CRITICAL"} if level == logging.ERROR else {"CRITICAL"})
    standard = logging.Logger("standard", logging.CRITICAL + 1)
    quiet = structlog.wrap_logger(standard, wrapper_class=structlog.stdlib.BoundLogger, processors=[taking(told)])
    assert not SagaLogger(quiet).listening()


class Asynchronous:
    def unbind(self, *keys: str) -> Asynchronous:
        return self

    def bind(self, **values: Any) -> Asynchronous:
        return self

    async def critical(self, event: str, **values: Any) -> None: ...


@pytest.mark.parametrize(
    ("give", "text"),
    [
        (lambda: structlog, "can log nothing"),
        (lambda: loguru, "can log nothing"),
        (lambda: logging, "can log nothing"),
        (lambda: structlog.PrintLogger, "can log nothing"),
        (structlog.PrintLogger, "can log nothing"),
        (lambda: structlog.wrap_logger(plain([]), wrapper_class=structlog.stdlib.AsyncBoundLogger), "can log nothing"),
        (Asynchronous, r"whose critical\(\) is an async function, which nobody awaits; give one that is not asynchronous$"),
        (lambda: "", "give a str that is not blank"),
        (lambda: "a\nb", "cannot be in a name or an id"),
    ],
)
def test_what_can_log_nothing_is_refused(give: Callable[[], Any], text: str) -> None:
    with pytest.raises(SagaDefinitionError, match=rf"^SagaLogger: logger is .*{text}"):
        SagaLogger(give())
