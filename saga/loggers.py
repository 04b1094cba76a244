"""Other people's loggers, and how a line is given to each: those of :mod:`logging`, of structlog and of loguru.

None of the libraries is imported: a logger is known by what it can do. What a line says is no matter of this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from saga.awaitables import refuse_unrun
from saga.errors import ExcInfo
from saga.names import checked_name
from saga.plain import one_line

__all__ = ["BindableLogger", "Line", "LoggerLike", "Writer", "is_standard", "writer_to"]


class BindableLogger(Protocol):
    """A logger of structlog or of loguru."""

    def bind(self, **values: Any) -> Any:
        """Return one that writes these values, too."""


LoggerLike = str | logging.Logger | logging.LoggerAdapter[Any] | BindableLogger
"""A logger of :mod:`logging`, an adapter of one or its name, or a logger of structlog or loguru."""


class Line(NamedTuple):
    """A line of a log.

    :ivar event: what happened.
    :ivar template: the event and pairs, with ``%s`` for ``values``, which are quoted.
    :ivar fields: the same by name, as they are.
    """

    event: str
    template: str
    values: list[str]
    fields: dict[str, Any]
    error: ExcInfo | None = None


class Writer(Protocol):
    """Gives lines to a logger."""

    @property
    def listens(self) -> Callable[[int], bool]:
        """Tells whether a line of this level would be written."""

    def write(self, level: int, line: Line) -> None:
        """Write a line."""


class _ToStandard:
    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self.listens: Callable[[int], bool] = logger.isEnabledFor  # asked of every event

    def write(self, level: int, line: Line) -> None:
        self._logger.log(level, line.template, *line.values, exc_info=line.error, extra=line.fields)


class _ToAdapter(_ToStandard):
    def write(self, level: int, line: Line) -> None:
        """Write a line with the fields of the adapter, too: by itself it would leave out either its own or the line's."""
        logger, template, extra = self._logger, line.template, line.fields
        given: dict[str, Any] = {"exc_info": line.error}
        while isinstance(logger, logging.LoggerAdapter) and type(logger).log is logging.LoggerAdapter.log:
            template, processed = logger.process(template, {**given, "extra": extra})
            extra = {**extra, **(processed.get("extra") or {}), **line.fields}
            given, logger = dict(processed), logger.logger
        logger.log(level, template, *line.values, **{**given, "extra": extra})


class _ToStructlog:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def listens(self, level: int) -> bool:
        bound = self._logger.bind()  # what it is configured to may change meanwhile
        for name in ("is_enabled_for", "isEnabledFor"):
            if hasattr(type(bound), name):  # else it might be taken for a line to write
                return bool(getattr(bound, name)(level))
        return True

    def write(self, level: int, line: Line) -> None:
        fields = _plain(line.fields)
        fields.pop("saga_event", None)  # it is the event of structlog's own
        if line.error is not None:
            fields["exc_info"] = line.error
        getattr(self._logger, _name_of(level).lower())(line.event, **fields)


class _ToLoguru:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def listens(self, level: int) -> bool:
        return True  # it does not tell

    def write(self, level: int, line: Line) -> None:
        named = _name_of(level)
        to = self._logger.bind(**_plain(line.fields)).opt(exception=line.error)  # which takes no mark-up in a message
        to.log(named if logging.getLevelName(level) == named else level, line.template % tuple(line.values))


_LEVELS: Final = {50: "CRITICAL", 40: "ERROR", 30: "WARNING", 20: "INFO"}


def _name_of(level: int) -> str:
    """Return the name of a level, or of the one below it that every library has."""
    return next((name for least, name in _LEVELS.items() if level >= least), "DEBUG")


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields whose texts are on one line each: there they may be printed as they are."""
    return {name: one_line(value) if isinstance(value, str) else value for name, value in fields.items()}


def is_standard(logger: object) -> bool:
    """Whether it is a logger of :mod:`logging`, or an adapter of one."""
    return isinstance(logger, logging.Logger | logging.LoggerAdapter)


def writer_to(logger: object) -> Writer | None:
    """Return what gives lines to a logger, or to the one of that name; ``None`` where it is no logger.

    :raises SagaDefinitionError: it is no name, or its methods are coroutine functions, whose lines nobody would wait for.
    """
    if isinstance(logger, type):
        return None
    if isinstance(logger, str):
        return _ToStandard(logging.getLogger(checked_name(logger, "SagaLogger: logger")))
    if isinstance(logger, logging.LoggerAdapter):
        return _ToAdapter(logger)
    if isinstance(logger, logging.Logger):
        return _ToStandard(logger)
    for kind, known in ((_ToStructlog, _can(type(logger), "unbind")), (_ToLoguru, _can(logger, "opt", "log"))):
        if known and _can(logger, "bind", "critical"):
            what = f"SagaLogger: logger is {logger!r}, whose critical()"
            refuse_unrun(getattr(logger, "critical", None), what, "give one that is not asynchronous")
            return kind(logger)
    return _ToStandard(logger) if _can(logger, "log", "isEnabledFor") else None


def _can(logger: object, *names: str) -> bool:
    try:
        return all(callable(getattr(logger, name, None)) for name in names)
    except Exception:  # such as one for an event loop, where there is none
        return False
