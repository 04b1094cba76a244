"""What an execution that has run comes to: its result, or the interrupt that struck it."""

from __future__ import annotations

from saga.drivers.base import Driver
from saga.result import SagaResult

__all__ = ["raised_or", "result_of"]


def result_of(execution: Driver) -> SagaResult:
    """Return the result of an execution that has run."""
    left = execution.left
    if left is None:
        machine = execution.machine
        # The error's traceback has frames, those have callers, and those know the execution. If it still knew the machine,
        # which knows the error, every failure would be a cycle of references, for the garbage collector to take apart.
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
            execution.interrupt.add_note(result.summary())
            raise execution.interrupt
        return result

    return SagaResult(left.plan, left.log, execution.context, later)


def raised_or(execution: Driver) -> SagaResult:
    """Return the result of an execution that has run, or raise the interrupt that struck it, with the summary as a note."""
    result = result_of(execution)
    if execution.interrupt is not None:
        execution.interrupt.add_note(result.summary())
        raise execution.interrupt
    return result
