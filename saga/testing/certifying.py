"""Certifying: each task of a saga is called in its place, and what it does to the world is measured.

Its place is where the saga comes to it when nothing fails, or, within a fallback, when what that stands in for has failed; on a
way that is not taken, when that is decided; of what is done for each item of a list, the first branch that is there. For each
measurement the saga is run until there, in a world of its own, and goes no further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

from saga.context import Context
from saga.drivers.views import adopt, fork
from saga.errors import CrashError, SagaDefinitionError
from saga.flow.choosing import ChoiceTask
from saga.machine import Call, declared_name
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.machine.plan import PlannedStep
from saga.plain import names_of, one_line, repr_of
from saga.policy import InDoubt
from saga.saga import Saga
from saga.task import Done, NotDone, StepInfo
from saga.testing.certificates import DOES_NOT_APPLY, HOLDS, Certificates, certificate_of, tasks_of
from saga.testing.faults import Died, InjectedError, Kind
from saga.testing.histories import History
from saga.testing.loops import VirtualLoop, quietly
from saga.testing.records import Setting
from saga.testing.settings import check_progress, setting_of
from saga.testing.simulated import Process
from saga.testing.worlds import UNKNOWN, differences, state_of

__all__ = ["certify"]

_MOST_SHOWN: Final = 5
_FAILS: Final = ""


def certify(
    saga: Saga[Any] | Callable[..., Saga[Any]],
    context: Any = None,
    *,
    world: Callable[[], Any],
    signals: Mapping[str, Any] | None = None,
    durable: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Certificates:
    """Measure each task of a saga: call it in its place, and look at what it does to the world.

    * Undo restores the world.
    * Undo twice does no harm: the second time changes nothing, and raises nothing.
    * Undo alone does no harm: nor does it where nothing was executed.
    * Execute twice, under the same idempotency key, leaves the same as once: of a task that is retried, or run again in doubt.
    * Verify tells the truth: never that what was not done is done, nor the reverse.

    Of a stand-in of a transactional step, the first alone: what such a step does twice, or half, is rolled back.

    :param progress: called with the number of tasks that are measured, and of those that are left.

    The others are as :func:`explore`'s; the world's state has to be seen.

    :raises SagaDefinitionError: something is wrong with what is given, or a step is never come to.
    """
    __tracebackhide__ = True
    check_progress(progress, "tasks measured, tasks left")
    setting = setting_of(saga, context, world, None, None, (), signals, (), durable)
    made, definition, _ = setting.make()
    if setting.block is not None:
        raise SagaDefinitionError(
            f"transaction {definition.name!r}: certificates are of a saga's tasks; explore() what a block does"
        )
    if state_of(made) is UNKNOWN:
        raise SagaDefinitionError(
            f"the state of {repr_of(made)} cannot be seen; give a world that has a state(), or is a mapping, a sequence, a set "
            "or a dataclass"
        )
    with quietly() as loop:
        ways = _ways_to(setting, loop)
        found, tasks = [], tasks_of(definition)
        for step in tasks:
            measured = {
                what: _Place(setting, loop, *ways[step.name], measure).found() if applies(step) else DOES_NOT_APPLY
                for what, (applies, measure) in _MEASUREMENTS.items()
            }
            found.append(certificate_of(definition, step, measured))
            if progress is not None:
                progress(len(found), len(tasks) - len(found))
    return Certificates(found)


_Turns = frozenset[tuple[str, str]]
"""Where an execution goes otherwise than by itself: steps that fail, with an empty text, and those that decide, with a way."""


def _ways_to(setting: Setting, loop: Callable[[], VirtualLoop]) -> dict[str, tuple[_Turns, str]]:
    """Return, by declared name, where the saga has to turn to come to a step, and what it is called there.

    :raises SagaDefinitionError: it never does.
    """
    ways: dict[str, tuple[_Turns, str]] = {}
    left = [_Turns()]
    said = "nothing was called"
    while left:
        turns = left.pop(0)
        place = _Place(setting, loop, turns)
        place.run()
        for name, (declared, step) in place.come_to.items():
            if declared in ways:
                continue
            ways[declared] = turns, name
            if step.fallback:
                left.append(turns | {(name, _FAILS)})
            if step.ways is not None:
                left += [turns | {(name, way)} for way in step.ways.entries]
        if place.lines and not turns:
            last = next((line for line in place.lines if line.came.startswith("raises")), place.lines[-1])
            said = f"{last.what} of {last.step} {last.came}"
    unknown = [step.name for step in tasks_of(place.definition) if step.name not in ways]
    if unknown:
        if unknown[0].rpartition("[]")[0] in ways:  # which lists what it is done for
            said = "its list is empty; give a context with an item to list"
        raise SagaDefinitionError(
            f"saga {place.definition.name!r} never comes to step {unknown[0]!r}, so it cannot be measured there: {said}"
        )
    return ways


class _Place(History):
    """A run of a saga until it comes to a step, where that is measured.

    :param turns: where it goes otherwise than by itself.
    :param step: the step's name; without one, it is run to its end.
    :ivar come_to: by name, the steps that were come to, and did not fail, each with its declared name.
    """

    def __init__(
        self,
        setting: Setting,
        loop: Callable[[], VirtualLoop],
        turns: _Turns,
        step: str | None = None,
        measure: Callable[[_Calls], str] | None = None,
    ) -> None:
        super().__init__(setting, (), loop)
        self.come_to: dict[str, tuple[str, PlannedStep]] = {}
        self._turns = dict(turns)
        self._step = step
        self._measure = measure
        self._found: str | None = None
        self._struck: BaseException | None = None

    def found(self) -> str:
        """Return what was measured."""
        self.run()
        assert self._found is not None, "the saga comes there, as it did before"
        return self._found

    def run(self) -> None:
        """Run it.

        :raises BaseException: what struck it that no task is to raise: a Ctrl-C.
        """
        super().run()
        if self._struck is not None:
            raise self._struck

    def make(self, process: Process, call: Call, method: Any, view: Context, fault: Kind | None) -> Any:
        """Make a call; where it is the one that is to be measured, do that instead, and end."""
        name = call.step.name
        turn = self._turns.get(name)
        if turn == _FAILS:
            return _without_effect(call)
        if turn is not None:
            assert isinstance(call.step.inner_task, ChoiceTask)
            return call.step.inner_task.value_for(turn)
        try:
            if call.phase is EXECUTE:
                self.come_to[name] = declared_name(process.machine.plan, call.step), call.step
                if name == self._step:
                    self._found = self._measured(_Calls(self, process, call.step, view))
                    self._end()
            return super().make(process, call, method, view, fault)
        except (Exception, Died):
            raise
        except BaseException as error:
            self._struck = error
            self._end()

    def _measured(self, calls: _Calls) -> str:
        assert self._measure is not None
        try:
            return self._measure(calls)
        except _Raised as raised:
            return str(raised)
        except Exception as error:  # the world raised
            self._struck = error
            self._end()

    def _end(self) -> NoReturn:
        """End it here: nobody goes on with it."""
        self.endless = True
        raise Died


def _without_effect(call: Call) -> Any:
    """Stand for a call of a step that fails as its fallback is for, and has done nothing."""
    if call.phase is EXECUTE:
        kind = call.step.fallback_on[0]
        raise InjectedError if issubclass(InjectedError, kind) else kind.__new__(kind)
    return NotDone() if call.phase is VERIFY else None


class _Raised(Exception):
    """A call raised."""


class _Calls:
    """Makes calls of a step in its place, each with the context as it is there, or as it was stored afterwards."""

    def __init__(self, history: History, process: Process, step: PlannedStep, view: Context) -> None:
        self._history = history
        self._process = process
        self._step = step
        self._view = view

    def state(self) -> Any:
        """Return the world's state."""
        return state_of(self._history.world)

    def changed_since(self, before: Any) -> str:
        """Return how the world has changed, if it has."""
        lines = differences(before, self.state())
        more = [f"and {len(lines) - _MOST_SHOWN} more"] if len(lines) > _MOST_SHOWN else []
        return "; ".join((*lines[:_MOST_SHOWN], *more)) or HOLDS

    def execute(self, attempt: int = 1) -> Context:
        """Execute it, and return the context with what it changed, and with its result."""
        view, value = self._make(EXECUTE, self._view, attempt)
        if type(value) is type(view):
            adopt(view, value)
            value = None
        view.__binding__.take_result(self._step.name, value)
        return view

    def compensate(self, view: Context | None = None, attempt: int = 1) -> None:
        self._make(COMPENSATE, self._view if view is None else view, attempt)

    def verify(self) -> Any:
        return self._make(VERIFY, self._view, 1)[1]

    def _make(self, phase: str, view: Context, attempt: int) -> tuple[Context, Any]:
        own, binding = fork(view, None), self._view.__binding__
        call = own.__binding__.call = Call(self._step, attempt, phase)
        own.__binding__.limit(binding.deadline, binding.cancelled)
        own.__binding__.run = cast(Any, lambda: _GIVEN_UP)
        try:
            return own, self._process.complete(call, getattr(self._step.task, phase)(own))
        except Exception as error:
            raise _Raised(f"{phase} raised {names_of(type(error))[1]}: {one_line(error)}") from error


class _GivenUp:
    """Knows what is undone for, and that what is made again was cut off before."""

    def inform(self, call: Call, info: StepInfo) -> None:
        if call.phase == COMPENSATE:
            info.cause = InjectedError("a later step failed")
        if call.attempt > 1:
            info.previous_error = CrashError("the process died")


_GIVEN_UP: Final = _GivenUp()


# -- what is measured -------------------------------------------------------------------------------------------------


def _undo_restores(calls: _Calls) -> str:
    before = calls.state()
    calls.compensate(calls.execute())
    return calls.changed_since(before)


def _undo_twice(calls: _Calls) -> str:
    view = calls.execute()
    calls.compensate(view)
    once = calls.state()
    calls.compensate(view, 2)
    return calls.changed_since(once)


def _undo_alone(calls: _Calls) -> str:
    before = calls.state()
    calls.compensate()
    return calls.changed_since(before)


def _execute_twice(calls: _Calls) -> str:
    calls.execute()
    once = calls.state()
    calls.execute(2)
    return calls.changed_since(once)


def _verify_is_true(calls: _Calls) -> str:
    said = calls.verify()
    if said is not None and not isinstance(said, NotDone):
        return f"it said {one_line(repr_of(said))} before"
    calls.execute()
    said = calls.verify()
    return HOLDS if said is None or isinstance(said, Done) else f"it said {one_line(repr_of(said))} afterwards"


def _is_undone(step: PlannedStep) -> bool:
    return step.compensates


def _is_undone_in_doubt(step: PlannedStep) -> bool:
    return step.compensates and not step.transactional


def _is_repeated(step: PlannedStep) -> bool:
    return not step.transactional and (step.retry.max_attempts != 1 or step.in_doubt is InDoubt.RERUN)


def _is_verified(step: PlannedStep) -> bool:
    return step.verifies


_MEASUREMENTS: Final[dict[str, tuple[Callable[[PlannedStep], bool], Callable[[_Calls], str]]]] = {
    "undo restores the world": (_is_undone, _undo_restores),
    "undo twice does no harm": (_is_undone_in_doubt, _undo_twice),
    "undo alone does no harm": (_is_undone_in_doubt, _undo_alone),
    "execute twice leaves the same as once": (_is_repeated, _execute_twice),
    "verify tells the truth": (_is_verified, _verify_is_true),
}
"""What is measured: of which steps, and how."""
