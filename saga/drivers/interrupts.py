"""Putting things straight after an interrupt that struck a driver itself (Ctrl-C, a cancellation), between any of its lines.

The events are the truth then: the machine is made anew from them, and a call that was under way is in doubt.

What struck a compensation whose intent is stored, and a journal that cannot be written, stop the driver instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from saga.drivers.observing import has_struck
from saga.drivers.outcomes import struck_here
from saga.errors import StorageError, is_exception
from saga.events import RUNNING, CompensationFailed, RetryScheduled, SagaStarted, StepFailed, VerificationFailed
from saga.machine import Call, Machine, State, Wait
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.machine.failures import wait_again
from saga.own_log import LOG
from saga.plain import repr_of

if TYPE_CHECKING:
    from saga.drivers.base import Driver
    from saga.drivers.beside import CallBeside

__all__ = ["MOST_STRIKES", "AbandonedError", "call_off", "cuts_short", "is_taken", "put_straight", "stop_in_vain"]

MOST_STRIKES: Final = 12
"""How often in a row something may strike a driver without anything happening in between."""


class AbandonedError(BaseException):
    """Stops the execution here, without an undo: it is left to a recovery.

    :ivar error: why its journal could not be written; ``None`` where an interrupt struck a call of the undo.
    """

    def __init__(self, error: Exception | None) -> None:
        super().__init__(error)
        if not isinstance(error, StorageError | None):  # a fault of the store: what follows from it could not be stored either
            fault, error = error, StorageError(f"the store failed: {repr_of(error)}")
            error.__cause__ = fault
        self.error = error

    def tell(self) -> None:
        """Raise why the journal could not be written. An interrupt is raised where the execution's result would be returned."""
        if self.error is not None:
            raise self.error from self.error.__cause__


def stop_in_vain(driver: Driver, error: BaseException, strikes: int) -> None:
    """Stop what only goes round: the same fault strikes again although things were put straight.

    :param strikes: how often in a row something struck without anything happening in between.
    :raises AbandonedError: it is such a fault, or something that does not let up.
    """
    if strikes < (2 if is_exception(error) else MOST_STRIKES):
        return
    driver.interrupted(error)
    saga_id, kind = driver.machine.saga_id, type(error).__name__
    LOG.error("saga %s stops here, and is not undone: %s struck %d times in a row", saga_id, kind, strikes)
    raise AbandonedError(None)


def put_straight(driver: Driver, error: BaseException) -> None:
    """Make the machine anew, and give the execution up. No transactional call is left unsettled by then."""
    driver.interrupted(error)
    at = driver.now()
    machine = driver.machine = driver.machine.replayed()
    for index, call in list(driver.beside.items()):
        if is_taken(driver, call) or _prevented(call):
            del driver.beside[index]
    if not machine.started:
        machine.record(SagaStarted(machine.saga, machine.saga_id, at))
    _fail_lost(driver, machine, error, at)
    for phase in (VERIFY, COMPENSATE):
        _resume(driver, machine, error, at, phase)
    driver.inline = None


def cuts_short(driver: Driver, call: Call, error: BaseException) -> bool:
    """Take that a call of the undo raised what a recovery has to see to. Return whether it is one."""
    undoes = call.phase is COMPENSATE or driver.machine.status is not RUNNING
    if not undoes or not _stops(driver, error) or struck_here(error):
        return False
    cut_short(driver, call, error)
    return True


def _stops(driver: Driver, error: BaseException) -> bool:
    """Whether a recovery can see to what the error cut off. One that runs it already takes a task's own as a failure."""
    if driver.journal is None or is_exception(error):
        return False
    return not driver.recovers or has_struck(error)


def cut_short(driver: Driver, call: Call, error: BaseException) -> None:
    """An interrupt struck a call of the undo whose intent is stored: a recovery makes it again, as after a crash."""
    driver.interrupted(error)
    driver.cut_short = True
    machine = driver.machine
    if machine.status is RUNNING:  # the recovery is not to go forward
        machine.give_up(error, driver.now())
    LOG.warning(
        "saga %s is left to a recovery: %s of step %r was interrupted: %r", machine.saga_id, call.phase, call.step.name, error
    )


def call_off(driver: Driver) -> None:
    """Let no call begin that has not begun yet in its thread, and tell executes that nobody waits for them any more.

    The lease is kept until they have ended: a coroutine is cut off when its time is over, though no timer is looked at again.
    """
    for index, call in list(driver.beside.items()):
        if _prevented(call):
            del driver.beside[index]
        else:
            if call.call.phase is EXECUTE:
                call.cancelled.set()
            deadline = call.view.__binding__.deadline
            if call.task is not None and deadline is not None:
                call.task.get_loop().call_later(max(0.0, deadline - driver.now()), call.task.cancel)


def is_taken(driver: Driver, beside: CallBeside) -> bool:
    """Whether the machine has taken how the call ended."""
    state, call = driver.machine.state, beside.call
    index = call.step.index
    if driver.beside.get(index) is not beside:
        return True
    if call.phase is not EXECUTE:
        calls, retries, attempts = _calls_of(state, call.phase)
        return index not in calls or index in retries or attempts.get(index, 1) != call.attempt
    under_way = index in state.executing or index in state.stragglers
    return not under_way or state.attempt(index) != call.attempt


def _calls_of(state: State, phase: str) -> tuple[set[int], Mapping[int, RetryScheduled], Mapping[int, int]]:
    """Return the verifications, or the compensations, that are under way, those of them that wait, and their attempts."""
    if phase is VERIFY:
        return state.verifying, state.verification_retries, state.verification_attempts
    under_way = state.compensating | state.compensation_stragglers
    return under_way, state.compensation_retries, state.compensation_attempts


def _prevented(beside: CallBeside) -> bool:
    return beside.outcome is None and beside.task is None and beside.turn.acquire(blocking=False)


def _inline_call(driver: Driver) -> Call | None:
    return driver.inline.call if driver.inline is not None else None


def _fail_lost(driver: Driver, machine: Machine, error: BaseException, at: float) -> None:
    """Fail the executes that are under way by the events, and that nobody makes: one of them may have been cut off."""
    steps, state, inline = machine.plan.steps, machine.state, _inline_call(driver)
    called = inline.step.index if inline is not None and inline.phase is EXECUTE else None
    lost = sorted(index for index in state.executing - driver.beside.keys() if steps[index].pause is None)
    if called is not None and called in lost:
        in_doubt = not steps[called].transactional
        machine.send(StepFailed(steps[called].name, state.attempt(called), at, 0.0, error, in_doubt))
    machine.give_up(error, at)
    for index in lost:
        if index != called:  # about to be called, and now never
            machine.send(StepFailed(steps[index].name, state.attempt(index), at, 0.0, error))


def _resume(driver: Driver, machine: Machine, error: BaseException, at: float, phase: str) -> None:
    """Go on with the verifications, or the compensations, that were under way; one that an interrupt cut off has failed."""
    steps, inline = machine.plan.steps, _inline_call(driver)
    under_way, retries, attempts = _calls_of(machine.state, phase)
    waiting = {what.step.index for what in driver.due() if isinstance(what, Wait) and what.phase == phase}
    for index in sorted(under_way - waiting - driver.beside.keys()):
        attempt = attempts.get(index, 1)
        if index in retries:
            wait_again(machine, retries[index], at)
        elif (
            inline is not None
            and inline.phase is phase
            and inline.step.index == index
            and (is_exception(error) or not struck_here(error))  # a fault that would only come again
        ):
            if phase is VERIFY:
                machine.send(VerificationFailed(steps[index].name, attempt, at, 0.0, error))
                continue
            if _stops(driver, error):
                cut_short(driver, inline, error)
            else:
                machine.send(CompensationFailed(steps[index].name, attempt, at, 0.0, error))
        elif not any(command.step.index == index for command in machine.commands if isinstance(command, Call | Wait)):
            machine.commands.append(Call(steps[index], attempt, phase))
