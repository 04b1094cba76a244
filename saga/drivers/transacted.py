"""Transactional calls: made in a transaction of the store's database, which commits what they did and their journal entries.

What the machine takes of such a call is not believed before the commit: until then all of it can be taken back. Whatever
strikes between, an interrupt or a fault of the server, is *settled* first: it is found out whether the commit was made, and
where it was not, everything is as it was before the call.

All is written for an event loop. For a plain function nothing of it waits: then it is run to its end in this thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from saga.context import Context
from saga.drivers.calls import Made, make
from saga.errors import LeaseLostError, OutcomeUnknownError, SagaDefinitionError, UnreadMessagesError
from saga.events import CompensationSucceeded, StepSucceeded
from saga.machine import Call

if TYPE_CHECKING:
    from saga.drivers.base import Driver

__all__ = ["Transacted", "Way", "settle", "settle_here", "transact", "transact_here"]

T = TypeVar("T")

_ENDED: Final = (
    "step {!r} is transactional and has ended its transaction itself: nobody knows whether it was committed; leave COMMIT and "
    "ROLLBACK to saga, and raise an exception for what is to be rolled back"
)
_FAILED: Final = (
    "step {!r} is transactional, and a statement failed in its transaction, which the database ends then; let the exception "
    "pass, or put what may fail between a savepoint and its release"
)


class Way(Protocol):
    """How a transactional call is made, and what is done around it.

    :ivar in_loop: in the event loop.
    """

    in_loop: bool

    async def make(self, call: Call, view: Context) -> Made:
        """Make the call."""

    async def whole(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with its transaction that nothing may cut off in the middle.

        :raises BaseException: what it raises, or what struck meanwhile.
        """


class _Here:
    """In this thread."""

    in_loop = False

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def make(self, call: Call, view: Context) -> Made:
        return make(call, view, self._driver.surroundings)

    async def whole(self, work: Callable[[], Awaitable[T]]) -> T:
        return await work()


class Transacted:
    """What a transactional call that is under way is taken back to.

    The step stands in no parallel group, so the execution's own view is the only one that it changes.

    :ivar transaction: that of the call.
    """

    def __init__(self, driver: Driver, call: Call, in_loop: bool) -> None:
        assert driver.journal is not None
        self.transaction = driver.journal.transaction(in_loop)
        self._kept = len(driver.machine.events)
        self._commands = [call, *driver.machine.commands]
        binding = driver.context.__binding__
        self._results, self._previous = dict(binding.results), binding.previous
        self._recorded = dict(binding.recorded or {})

    def succeeded(self, driver: Driver) -> bool:
        """Whether the machine has taken that the call ended well."""
        events = driver.machine.events
        return len(events) > self._kept and isinstance(events[self._kept], StepSucceeded | CompensationSucceeded)

    def take_back(self, driver: Driver) -> None:
        """Make everything what it was before the call, which is commanded again."""
        driver.machine.take_back(self._kept)
        driver.machine.commands[:] = self._commands
        binding = driver.context.__binding__
        binding.results.clear()
        binding.results.update(self._results)
        binding.previous, binding.recorded = self._previous, dict(self._recorded)
        assert driver.journal is not None
        driver.journal.revert(driver.context)


def transact_here(driver: Driver, call: Call) -> None:
    """Make a transactional call of a plain function in this thread: see :func:`transact`."""
    _to_its_end(partial(transact, driver, call, _Here(driver)))


def settle_here(driver: Driver) -> None:
    """Find out in this thread what came of a transactional call: see :func:`settle`."""
    _to_its_end(partial(settle, driver))


def _to_its_end(begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        begin().send(None)  # in one line: an interrupt leaves none that has not begun
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


async def transact(driver: Driver, call: Call, way: Way) -> None:
    """Make a transactional call, again where the database says so, and feed to the machine how it ended.

    What ended well is stored when this returns, with what the machine decided to follow. Where messages are to be read first,
    the call is commanded again.

    :raises StorageError: it cannot be stored; everything is as it was before the call.
    """
    driver.transacted = transacted = Transacted(driver, call, way.in_loop)  # first: whatever strikes from here on is settled
    while not await _is_made(driver, transacted, call, way):
        driver.transacted = transacted
        driver.machine.commands.pop(0)


async def settle(driver: Driver) -> bool:
    """Find out what came of a transactional call that something struck, and take it back where it was not committed.

    Return whether it was committed.

    :raises StorageError: that could not be found out.
    """
    transacted = driver.transacted
    if transacted is None:
        return False
    stored = await transacted.transaction.settle(driver.machine)
    if not stored:
        transacted.take_back(driver)
    driver.transacted = None
    return stored


async def _is_made(driver: Driver, transacted: Transacted, call: Call, way: Way) -> bool:
    """Make the call in a fresh transaction. Return whether it has had its outcome; else all is taken back."""
    transaction = transacted.transaction
    await way.whole(transaction.begin)
    view = driver._make_ready(call)
    binding = view.__binding__
    binding.connection = transaction.connection
    try:
        made = await way.make(call, view)
    finally:
        binding.connection = None
    error = None if made[1] else made[2]
    if await way.whole(partial(transaction.again, error)):
        await way.whole(partial(settle, driver))
        return False
    made = _looked_at(made, transaction.standing())
    if not made[1]:
        await way.whole(transaction.roll_back)
    driver._take(made, view)
    if made[1] and transacted.succeeded(driver):
        return await _is_committed(driver, transacted, made, view, way)
    await way.whole(transaction.roll_back)
    driver.transacted = None
    return True


def _looked_at(made: Made, standing: str) -> Made:
    """Return how a call ended, by how it has left its transaction."""
    call, returned, value, elapsed = made
    if standing == "ended" and not (returned is False and not isinstance(value, Exception)):
        error: Exception = OutcomeUnknownError(_ENDED.format(call.step.name))
        error.__cause__ = None if returned else value
        return call, False, error, elapsed
    if standing == "failed" and returned:
        return call, False, SagaDefinitionError(_FAILED.format(call.step.name)), elapsed
    return made


async def _is_committed(driver: Driver, transacted: Transacted, made: Made, view: Context, way: Way) -> bool:
    """Commit. Return whether the call has had its outcome, which is a failure where its own changes are refused only now."""
    transaction = transacted.transaction
    try:
        await way.whole(partial(transaction.commit, driver.machine))
    except Exception as error:
        if await way.whole(partial(settle, driver)):
            return True
        if isinstance(error, UnreadMessagesError):
            driver.mail = True
            return True
        if isinstance(error, LeaseLostError):
            raise
        if await way.whole(partial(transaction.again, error)):
            return False
        call, _, _, elapsed = made
        driver.machine.commands.pop(0)
        driver.raised(call, view, transaction.refusal(error), elapsed, driver.now())
        return True
    driver.transacted = None
    return True
