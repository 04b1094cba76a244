"""An execution that is run record by record, as somebody asks for the next. How a record is made lives elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING

from saga.drivers.results import ended_records, new_records, raised_or
from saga.drivers.threads import Execution
from saga.result import SagaResult, StepRecord, ok

if TYPE_CHECKING:
    from saga.drivers.aio import AsyncExecution

__all__ = ["arecords_of", "records_of"]


def records_of(execution: Execution | SagaResult) -> Generator[StepRecord, None, None]:
    """Run an execution, and yield a step's record each time something has come of one: see :meth:`saga.Saga.stream`."""
    if isinstance(execution, SagaResult):  # another process has executed it
        yield from ended_records(execution)
        return
    seen = 0
    going = True
    try:
        while going:
            going = execution.run_one()
            for record in new_records(execution, seen):
                seen = len(execution.machine.events)
                yield record
            seen = len(execution.machine.events)
    except BaseException as left:  # GeneratorExit, or an interrupt that struck between two steps
        if not execution.abandoned:
            execution.leave(left)
        raise
    else:
        execution.run()
    finally:
        execution.free_context()
    ok(raised_or(execution))


async def arecords_of(
    prepare: Callable[[], Awaitable[AsyncExecution | SagaResult]],
) -> AsyncGenerator[StepRecord, None]:
    """As :func:`records_of`, in the running event loop; ``prepare`` makes the execution."""
    execution = await prepare()
    if isinstance(execution, SagaResult):  # another process has executed it
        for record in ended_records(execution):
            yield record
        return
    seen = 0
    going = True
    try:
        while going:
            going = await execution.run_one()
            for record in new_records(execution, seen):
                seen = len(execution.machine.events)
                yield record
            seen = len(execution.machine.events)
    except BaseException as left:
        if not execution.abandoned:
            await execution.leave(left)
        raise
    else:
        await execution.run()
    finally:
        execution.free_context()
    ok(raised_or(execution))
