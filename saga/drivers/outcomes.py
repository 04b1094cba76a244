"""What follows the outcome of a call: its event, what it changed in the context, its value. No clock and no thread lives here.

A driver, or an engine that makes the calls by other means, says how each call ended and when. Its event is made here, with what
the journal has to keep of it, and the machine takes it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from saga.awaitables import answer, discard, is_awaitable, unrun
from saga.context import Context
from saga.definition import Definition
from saga.drivers.calls import HERE
from saga.drivers.provided import fails_to_provide
from saga.drivers.views import Views, adopt, share
from saga.errors import (
    ActionRefusedError,
    EncodingError,
    MergeConflictError,
    MissingKeyError,
    NotReadyError,
    OutcomeUnknownError,
    SagaDefinitionError,
    add_note,
    is_exception,
    set_traceback,
    traceback_of,
)
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    GroupMerged,
    MessageRefused,
    OperatorActed,
    SignalReceived,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
)
from saga.flow import refusal
from saga.machine import Call, Finish, Machine, Merge, PlannedStep, act, back, waits
from saga.machine.background import cause_of, error_before, failed_step
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.own_log import LOG
from saga.plain import shortened
from saga.task import Done, NotDone, StepInfo

__all__ = ["Message", "Outcomes", "Values", "struck_here"]

_GATHER: Final = "which nobody awaits: make the function that calls them an `async def` which awaits asyncio.gather(*them)"
_MAKE_ASYNC: Final = (
    "which nobody awaits: execute the saga with aexecute(), a block as `async with`, or make the function that calls it an "
    "`async def` which awaits it"
)
_DO_NOT_YIELD: Final = "of which nothing has run: do the work without `yield`, and return a list of what there is"

_SHORT: Final = 60
Message = Callable[[float], OperatorActed | SignalReceived | MessageRefused]
"""What came from outside, to be called with the time."""


class Values(Protocol):
    """What a journal does with values; drivers know no more of it here."""

    def read(self, text: str) -> Any:
        """Return the value that a text stores.

        :raises EncodingError: it cannot be rebuilt.
        """

    def take_result(self, step: str, view: Context, value: Any) -> tuple[Any, str]:
        """Return a result as it will be read, and the text that stores it with what its call changed in the view.

        :raises EncodingError: something cannot be stored; the view is as it was recorded last.
        """

    def take_changes(self, view: Context) -> str:
        """Return the text that stores what a call changed in its view. What cannot be stored is taken back and logged."""


class Outcomes:
    """Feeds one execution's machine.

    :param context: the execution's own view of the context.
    :param values: what encodes values, where there is a journal.
    :param views: those of an execution that another process began.
    :ivar awaits: whether what calls return is awaited before it comes here.
    :ivar plain: whether the execution's own view is the only one.
    :ivar interrupt: the first interrupt that a call raised, to be raised again in the end.
    """

    awaits = False
    interrupt: BaseException | None = None
    _views: Views | None = None

    def __init__(
        self, definition: Definition, machine: Machine, context: Context, values: Values | None, views: Views | None = None
    ) -> None:
        self.definition = definition
        self.machine = machine
        self.context = context
        self.values = values
        if views is not None:
            self._views = views
        if machine.plan.grows:
            context.__binding__.plan = machine.plan
        self.plain = machine.plan.plain and definition.timeout is None  # a plain plan's views are all the context itself

    @property
    def views(self) -> Views:
        """The execution's views: made when the first is asked for, because a plan that is plain has but one."""
        if self._views is None:
            read = None if self.values is None else self.values.read
            self._views = Views(self.machine.plan, self.context, self.definition.timeout is not None, read)
        return self._views

    def view_for(self, call: Call) -> Context:
        """Return the view that a call works on."""
        if self.plain:
            view = self.context
        elif call.phase is EXECUTE:
            view = self.views.for_execute(call.step)
        else:
            view = self.views.for_compensate(call.step)
            view.__binding__.limit(None, None)  # that of its execute is over
        if call.attempt > 1 or call.phase is COMPENSATE:
            view.__binding__.run = weakref.ref(self)  # no more: it knows the errors, and their tracebacks the context
        return view

    def inform(self, call: Call, info: StepInfo) -> None:
        """Tell a call what came before it."""
        if call.phase is COMPENSATE:
            info.cause, info.failed_step = cause_of(self.machine, call.step), failed_step(self.machine, call.step)
        info.previous_error = error_before(self.machine, call)

    def view_beside(self, call: Call) -> Context:
        """Return the view that a call works on while others may work on it too."""
        view = self.view_for(call)
        if call.phase is COMPENSATE and call.step.compensation_timeout is not None:
            return self.views.apart(call.step, view)
        return view if call.phase is EXECUTE else share(view)

    def interrupted(self, error: BaseException) -> None:
        """Take what is to be raised again in the end: the first of several."""
        if self.interrupt is None:
            self.interrupt = error

    # -- outcomes -----------------------------------------------------------------------------------------------------

    def returned(self, call: Call, view: Context, value: Any, elapsed: float, at: float) -> None:
        """Take that a call returned."""
        step, machine = call.step, self.machine
        what = None if value is None else unrun(value)
        if what is not None and not (self.awaits and is_awaitable(value) and not step.transactional):
            self._returned_unrun(call, view, value, what, elapsed, at)
        elif call.phase is EXECUTE:
            given_up = False
            if not self.plain:
                given_up = machine.state.gave_up_on(step)
                if step.retry.retry_if is not None and not given_up and self._is_unready(call, view, value, elapsed, at):
                    return
                if step.provides and not given_up and fails_to_provide(self, call, view, value, elapsed, at):
                    return
            taken = self._take_result(call, view, value, given_up, elapsed, at)
            if taken is not None:
                machine.send(StepSucceeded(step.name, call.attempt, at, elapsed, *taken))
        elif call.phase is COMPENSATE:
            changes = self._changes(view)
            if step.compensation_timeout is not None:
                self.views.take_changes(step, view)
            machine.send(CompensationSucceeded(step.name, call.attempt, at, elapsed, changes))
        else:
            self._verified(call, view, value, elapsed, at)

    def _returned_unrun(self, call: Call, view: Context, value: Any, what: str, elapsed: float, at: float) -> None:
        """Take that a call returned what is still to be awaited or iterated: it has not done its work."""
        step, mend = call.step, _MAKE_ASYNC if is_awaitable(value) else _DO_NOT_YIELD
        if type(value) is list or type(value) is tuple:
            mend = _GATHER
        discard(value)
        unrun = SagaDefinitionError(f"{call.phase} of step {step.name!r} returned {what}, {mend}")
        if call.phase is not EXECUTE:
            self.raised(call, view, unrun, elapsed, at)
            return
        if not self.plain:
            self.views.keep(step, view)
        self.machine.send(StepFailed(step.name, call.attempt, at, elapsed, unrun, encoded=self._changes(view)))

    def _is_unready(self, call: Call, view: Context, value: Any, elapsed: float, at: float) -> bool:
        """Whether a step's result is not what its retry waits for: the attempt has failed then, though it took effect."""
        step, ask = call.step, call.step.retry.retry_if
        assert ask is not None
        stays = not step.transactional  # else it is rolled back
        error: Exception
        try:
            if not answer(ask(value), f"{ask!r}, given as retry_if,", "let it return a bool"):
                return False
            error = NotReadyError(f"step {step.name!r} returned {_briefly(value)}, which is not what its retry waits for")
            self.views.keep(step, view)
        except Exception as wrong:  # the user's own function: it is done, and nobody knows whether it is what is waited for
            error = wrong
            add_note(wrong, f"raised by retry_if of step {step.name!r}, asked about {_kind_of(value)}")
            if stays:
                view = self.views.take_over(step, view, False)
            else:
                self.views.keep(step, view)
        changes = self._changes(view)
        self.machine.send(StepFailed(step.name, call.attempt, at, elapsed, error, executed=stays, encoded=changes))
        return True

    def _take_result(
        self, call: Call, view: Context, value: Any, given_up: bool, elapsed: float, at: float
    ) -> tuple[Any, str] | None:
        """Take over what a step's work gave, and return its result with the text that stores it.

        Return ``None`` where that cannot be stored: the step has failed then, but is done.
        """
        step = call.step
        if type(value) is type(view):
            adopt(view, value)
            value = None
        if not self.plain:
            if self.values is None:
                view.__binding__.results[step.name] = value  # it may be one of the view's own values
            view = self.views.take_over(step, view, given_up)
            if self.values is None:
                value = view.__binding__.results[step.name]
        encoded = ""
        if self.values is not None:
            try:
                value, encoded = self.values.take_result(step.name, view, value)
            except EncodingError as error:
                attempt = self.machine.state.attempt(step.index)
                executed = not step.transactional  # that is rolled back
                self.machine.send(StepFailed(step.name, attempt, at, elapsed, error, executed=executed))
                return None
        binding = view.__binding__
        binding.results[step.name] = binding.previous = value
        return value, encoded

    def _verified(self, call: Call, view: Context, value: Any, elapsed: float, at: float) -> None:
        """Take what a verification said."""
        step, machine = call.step, self.machine
        if issubclass(type(value), Done) and unrun(value.result) is not None:
            discard(value.result)
            wrong = f"verify of step {step.name!r} returned Done of {unrun(value.result)}; return Done of the result itself"
            self.raised(call, view, SagaDefinitionError(wrong), elapsed, at)
        elif issubclass(type(value), Done):
            given_up = not self.plain and machine.state.goes_on_without(step)
            if given_up:
                self.views.keep(step, view)
            taken = self._take_result(call, view, value.result, given_up, elapsed, at)
            if taken is not None:
                machine.send(StepVerified(step.name, call.attempt, at, elapsed, True, *taken))
        elif issubclass(type(value), NotDone) or value is NotDone:
            machine.send(StepVerified(step.name, call.attempt, at, elapsed, False, encoded=self._changes(view)))
        elif value is None:
            self.raised(call, view, OutcomeUnknownError(f"verify of step {step.name!r} does not know"), elapsed, at)
        else:
            wrong = f"verify of step {step.name!r} returned {_kind_of(value)}; return Done(result), NotDone() or None"
            self.raised(call, view, SagaDefinitionError(wrong), elapsed, at)

    def raised(self, call: Call, view: Context, error: BaseException, elapsed: float, at: float) -> None:
        """Take that a call raised."""
        step, machine = call.step, self.machine
        trace = whole = traceback_of(error)
        while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == HERE:
            trace = trace.tb_next  # nobody wants to read about the lines that make the call
        if trace is not None and trace is not whole:
            set_traceback(error, trace)
        del trace, whole
        interrupt = not is_exception(error)
        if interrupt:
            self.interrupted(error)
            if call.phase is COMPENSATE and struck_here(error):
                machine.commands.insert(0, call)  # the compensation itself was not reached, or had returned
                return
        changes = self._changes(view)
        if call.phase is EXECUTE:
            if not self.plain:
                self.views.keep(step, view)
            lost = interrupt or _leaves_doubt(step, error)
            in_doubt = isinstance(error, OutcomeUnknownError) if step.transactional else lost  # else it is rolled back
            machine.send(StepFailed(step.name, call.attempt, at, elapsed, error, in_doubt, False, changes))
            return
        if call.phase is VERIFY:
            machine.send(VerificationFailed(step.name, call.attempt, at, elapsed, error, changes))
            return
        if step.compensation_timeout is not None:
            self.views.take_changes(step, view)
        machine.send(CompensationFailed(step.name, call.attempt, at, elapsed, error, changes))
        handler = self.definition.on_compensation_failure
        if handler is not None and step.index in machine.state.compensations_failed:
            try:
                answer(handler(view, step.name, error), "it", "give a plain function")
            except Exception:
                LOG.exception("the handler of failed compensations raised at step %r", step.name)

    def cut_off(self, call: Call, view: Context, error: Exception, elapsed: float, at: float) -> None:
        """Take that a call whose time was up has ended."""
        step, changes = call.step, self._changes(view)
        self.machine.send(StepTimedOut(step.name, call.attempt, at, elapsed, error, running=False, encoded=changes))

    def finished(self, finish: Finish, at: float) -> None:
        """Take that a step that nobody calls has come to its end: one that waited, as a call that returned the value."""
        step = finish.step
        if step.content is not None:
            self._unit_ended(step, finish.error, at)
        elif step.index in self.machine.state.executing:
            elapsed = at - self.machine.log.started_at(step.name)
            call = Call(step, self.machine.state.attempt(step.index))
            self.returned(call, self.views.of(step), finish.value, elapsed, at)

    def _unit_ended(self, step: PlannedStep, error: BaseException | None, at: float) -> None:
        """Take that a unit has come to its end: what it changed is taken over, or forgotten."""
        machine, state = self.machine, self.machine.state
        if step.index not in state.units:  # the saga has given up meanwhile
            return
        attempt, elapsed = state.attempt(step.index), at - machine.log.started_at(step.name)
        if error is None:
            view, encoded = self.views.leave(step), ""
            if self.values is not None:
                _, encoded = self.values.take_result(step.name, view, None)
            machine.send(StepSucceeded(step.name, attempt, at, elapsed, None, encoded))
        else:
            self.views.begin_anew(step, state.undoing[step.index].again)
            machine.send(StepFailed(step.name, attempt, at, elapsed, error))

    def merge(self, merge: Merge, at: float) -> None:
        """Merge the views of a group's branches."""
        try:
            self.views.merge(merge.group)
        except MergeConflictError as error:
            back.give_up_within(self.machine, merge.group.units, error, at)
        else:
            self.machine.send(GroupMerged(merge.group.index, at))

    def take_messages(self, messages: Sequence[Message], at: float) -> None:
        """Give the machine what came from outside."""
        for message in messages:
            event = message(at)
            if isinstance(event, SignalReceived):
                refused = refusal(self.machine.plan.accepts, event.name, event.value)
                if refused is None:
                    waits.receive(self.machine, event)
                    continue
                event = MessageRefused(f"signal {event.name!r}{_sender(event)}", refused, at)
            if isinstance(event, OperatorActed):
                try:
                    act(self.machine, event)
                    continue
                except ActionRefusedError as error:
                    event = MessageRefused(f"{event.action} by {event.who}: {event.why}", str(error), at)
                    LOG.warning("an operator's action on saga %s: %s", self.machine.saga_id, error)
            else:
                LOG.warning("a message to saga %s: %s", self.machine.saga_id, event.reason)
            self.machine.record(event)

    def _changes(self, view: Context) -> str:
        return self.values.take_changes(view) if self.values is not None else ""


def _sender(signal: SignalReceived) -> str:
    return "" if signal.who is None else f" by {signal.who}: {signal.why}"


def _briefly(value: Any) -> str:
    """Return a plain value as it is written, shortened; of all else what it is, which tells no secrets."""
    return shortened(repr(value), _SHORT) if value is None or type(value) in (bool, int, float, str) else _kind_of(value)


def _kind_of(value: Any) -> str:
    """Return what a value is: a class by its name, all else by that of its class."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _leaves_doubt(step: PlannedStep, error: Any) -> bool:
    """Whether the error of an execute says that its answer was lost: nobody knows then what came of it."""
    if issubclass(type(error), MissingKeyError):  # it was not called, or it is rolled back
        return False
    try:
        return bool(step.unknown_on(error))
    except Exception:
        LOG.exception("unknown_on of step %r raised on %s", step.name, type(error).__name__)
        return True  # it is not known


def struck_here(error: BaseException) -> bool:
    """Whether an interrupt struck in this package's own lines, not in the user's."""
    trace = traceback_of(error)
    while trace is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith("saga."):
            return False
        trace = trace.tb_next
    return True
