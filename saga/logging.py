"""SagaLogger: events become log records of the standard library. Importing this configures nothing.

One line per event, as ``key=value``, from the logger ``saga``. A library's user decides where it goes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from saga import events as e

if TYPE_CHECKING:
    from saga.saga import ExecutionInfo

__all__ = ["SagaLogger"]


class SagaLogger:
    """Write each event of an execution as one log line.

    Override a method, one per event and named after it (``step_failed(event, info)``), to change what is written for it,
    or :meth:`write` for all.

    :param logger: a logger, or the name of one.
    :param show: context keys to add to the lines that begin and end an execution; :param mask: those of them whose value
        is written as ``***``.
    """

    def __init__(self, logger: logging.Logger | str = "saga", *, show: Iterable[str] = (), mask: Iterable[str] = ()) -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self.mask = frozenset(mask)
        self.show = tuple(show)
        self._overridden = any(getattr(type(self), name) is not getattr(SagaLogger, name) for name in _METHODS.values())
        self._methods = {kind: getattr(self, name) for kind, name in _METHODS.items()}

    def __call__(self, event: e.Event, info: ExecutionInfo) -> None:
        self._methods[type(event)](event, info)

    def listening(self) -> bool:
        """Whether anything would be written now. Asked once, when an execution begins."""
        return self._overridden or self.logger.isEnabledFor(logging.CRITICAL)

    def write(self, level: int, info: ExecutionInfo, message: str, **pairs: Any) -> None:
        """Write one line: saga, id, then ``pairs`` (those that are ``None`` left out)."""
        if self.logger.isEnabledFor(level):
            told = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items() if value is not None)
            self.logger.log(level, "%s saga=%s id=%s %s", message, _quoted(info.saga), info.saga_id, told)

    def _context(self, info: ExecutionInfo) -> dict[str, Any]:
        return {f"context.{key}": "***" if key in self.mask else info.context[key] for key in self.show if key in info.context}

    def saga_started(self, event: e.SagaStarted, info: ExecutionInfo) -> None:
        self.write(logging.INFO, info, "saga started", status="running", **self._context(info))

    def saga_compensating(self, event: e.SagaCompensating, info: ExecutionInfo) -> None:
        self.write(logging.WARNING, info, "saga compensating", step=event.step, status="compensating", error=repr(event.error))

    def saga_completed(self, event: e.SagaCompleted, info: ExecutionInfo) -> None:
        self.write(logging.INFO, info, "saga completed", status="completed", **self._context(info))

    def saga_compensated(self, event: e.SagaCompensated, info: ExecutionInfo) -> None:
        self.write(logging.WARNING, info, "saga compensated", status="compensated", **self._context(info))

    def saga_stuck(self, event: e.SagaStuck, info: ExecutionInfo) -> None:
        self.write(logging.CRITICAL, info, "saga stuck", status="stuck", reason=event.reason, **self._context(info))

    def step_started(self, event: e.StepStarted, info: ExecutionInfo) -> None:
        self.write(logging.DEBUG, info, "step started", step=event.step, attempt=event.attempt, status="running")

    def step_succeeded(self, event: e.StepSucceeded, info: ExecutionInfo) -> None:
        self._outcome(logging.INFO, info, "step succeeded", event, "succeeded")

    def step_failed(self, event: e.StepFailed, info: ExecutionInfo) -> None:
        status = "in_doubt" if event.in_doubt else "failed"
        self._outcome(logging.ERROR, info, "step failed", event, status, error=repr(event.error))

    def step_timed_out(self, event: e.StepTimedOut, info: ExecutionInfo) -> None:
        self._outcome(logging.ERROR, info, "step timed out", event, "timed_out", error=repr(event.error))

    def step_skipped(self, event: e.StepSkipped, info: ExecutionInfo) -> None:
        self.write(logging.WARNING, info, "step skipped", step=event.step, status="skipped")

    def retry_scheduled(self, event: e.RetryScheduled, info: ExecutionInfo) -> None:
        what = "compensation retry" if event.compensation else "retry"
        delay = f"{event.delay * 1000:.1f}"
        self.write(
            logging.WARNING,
            info,
            f"{what} scheduled",
            step=event.step,
            attempt=event.attempt,
            status="waiting",
            delay_ms=delay,
        )

    def group_joined(self, event: e.GroupJoined, info: ExecutionInfo) -> None:
        self.write(logging.DEBUG, info, "parallel group joined", group=event.group)

    def compensation_started(self, event: e.CompensationStarted, info: ExecutionInfo) -> None:
        self.write(logging.DEBUG, info, "compensation started", step=event.step, attempt=event.attempt, status="compensating")

    def compensation_succeeded(self, event: e.CompensationSucceeded, info: ExecutionInfo) -> None:
        self._outcome(logging.INFO, info, "compensation succeeded", event, "compensated")

    def compensation_failed(self, event: e.CompensationFailed, info: ExecutionInfo) -> None:
        self._outcome(logging.ERROR, info, "compensation failed", event, "compensation_failed", error=repr(event.error))

    def _outcome(
        self,
        level: int,
        info: ExecutionInfo,
        message: str,
        event: e.StepSucceeded | e.StepFailed | e.StepTimedOut | e.CompensationSucceeded | e.CompensationFailed,
        status: str,
        **pairs: Any,
    ) -> None:
        if self.logger.isEnabledFor(level):
            elapsed = f"{event.elapsed * 1000:.3f}"
            self.write(level, info, message, step=event.step, attempt=event.attempt, status=status, elapsed_ms=elapsed, **pairs)


_METHODS: Final = {
    e.SagaStarted: "saga_started",
    e.StepStarted: "step_started",
    e.StepSucceeded: "step_succeeded",
    e.StepFailed: "step_failed",
    e.StepTimedOut: "step_timed_out",
    e.StepSkipped: "step_skipped",
    e.RetryScheduled: "retry_scheduled",
    e.GroupJoined: "group_joined",
    e.SagaCompensating: "saga_compensating",
    e.CompensationStarted: "compensation_started",
    e.CompensationSucceeded: "compensation_succeeded",
    e.CompensationFailed: "compensation_failed",
    e.SagaCompleted: "saga_completed",
    e.SagaCompensated: "saga_compensated",
    e.SagaStuck: "saga_stuck",
}


def _quoted(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{text}"' if not text or any(c in text for c in ' ="') else text
