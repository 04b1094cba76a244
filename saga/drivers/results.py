"""What an execution that has run comes to: its result, its steps' records, or the interrupt that struck it."""

from __future__ import annotations

from collections.abc import Iterator

from saga.drivers.base import Driver
from saga.errors import add_note
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    CompensationTimedOut,
    StepFailed,
    StepSkipped,
    StepStatus,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
)
from saga.result import SagaResult, StepRecord, fold_history, ok

__all__ = ["ended_records", "new_records", "raised_or", "result_of"]


def result_of(execution: Driver) -> SagaResult:
    """Return the result of an execution that has run."""
    left = execution.left
    if left is None:
        machine = execution.machine
        # The error's traceback has frames, those have callers, and those know the execution. If it still knew the machine,
        # which knows the error, every failure would be a cycle of references, for the garbage collector to take apart.
        if not execution.beside:  # else calls of it still run, and ask what came before them
            del execution.machine
        return SagaResult(machine.plan, machine.log, execution.context)
    raised = execution.interrupt

    def later(timeout: float | None) -> SagaResult | None:
        assert execution.ended is not None
        if not execution.ended.wait(timeout):
            return None
        if execution.unstored is not None:
            raise execution.unstored
        result = SagaResult(execution.machine.plan, execution.machine.log, execution.context)
        if execution.interrupt is not None and execution.interrupt is not raised:
            add_note(execution.interrupt, result.summary())
            raise execution.interrupt
        return result

    return SagaResult(left.plan, left.log, execution.context, later)


def raised_or(execution: Driver) -> SagaResult:
    """Return the result of an execution that has run, or raise the interrupt that struck it, with the summary as a note."""
    result = result_of(execution)
    if execution.interrupt is not None:
        add_note(execution.interrupt, result.summary())
        raise execution.interrupt
    return result


_RECORDED = (
    *(StepSucceeded, StepFailed, StepTimedOut, StepVerified, StepSkipped),
    *(CompensationSucceeded, CompensationFailed, CompensationTimedOut),
)


def ended_records(result: SagaResult) -> Iterator[StepRecord]:
    """Yield the steps' records of an execution that another process has run, then raise what it raised."""
    yield from (record for record in result.history if record.status is not StepStatus.PENDING)
    ok(result)


def new_records(execution: Driver, since: int) -> list[StepRecord]:
    """Return the records of the steps to which something has happened since so many events."""
    machine = execution.machine
    events = list(machine.events)
    names = [event.step for event in events[since:] if isinstance(event, _RECORDED)]
    records = fold_history(machine.plan, events) if names else {}
    return [records[name] for name in dict.fromkeys(names)]
