"""One call of one task, without a saga around it. No flow is compiled here, and nothing is retried, stored or undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, Literal

from saga.clocks import host_time
from saga.context import Binding, Context, ContextLike, set_binding
from saga.definition import as_context
from saga.errors import ContextKeyError, SagaDefinitionError, near
from saga.flow import FunctionTask, MethodStep, Step, as_flow, step
from saga.flow.build import default_name
from saga.flow.functions import is_function
from saga.flow.keys import requiring
from saga.flow.policies import policies_of
from saga.flow.wrapped import compensates, verifies
from saga.in_use import running_task
from saga.task import StepInfo, Task

if TYPE_CHECKING:
    from saga.events import OperatorActed

__all__ = ["call"]

_PHASES: Final = ("execute", "verify", "compensate")
_WHERE: Final = "call()"


def call(
    task: Any,
    context: ContextLike = None,
    *,
    phase: Literal["execute", "verify", "compensate"] = "execute",
    attempt: int = 1,
    results: Mapping[Any, Any] | None = None,
    cause: BaseException | OperatorActed | None = None,
    failed_step: str | None = None,
    previous_error: BaseException | None = None,
    deadline: float | None = None,
    cancelled: bool | threading.Event = False,
    idempotency_key: str | None = None,
    connection: Any = None,
    saga: str = "test",
    saga_id: str = "test",
) -> Any:
    """Call one method of a task as a saga does, and return what it returns; of an ``async def``, what is to be awaited.

    There is no saga: nothing is attempted again, undone or stored, and what the task raises is raised.

    :param task: a task, a task class, a function, ``step(...)``, or a :func:`~saga.saga_step` of a saga object.
    :param context: what it is given: a :class:`~saga.Context` is worked on itself, a mapping is copied into one.
    :param phase: which method.
    :param attempt: which attempt it is: ``context.step.attempt``.
    :param results: what other steps returned, by their class, function or name: ``context.result_of`` has them, and a function
        the last of them, as of the step before. A compensation finds its own step's result here too.
    :param cause: what a compensation undoes for: ``context.step.cause``.
    :param failed_step: the step that raised it: ``context.step.failed_step``.
    :param previous_error: what the attempt before has ended with: ``context.step.previous_error``.
    :param deadline: seconds since the epoch when it is timed out; where not given, as the task's ``timeout`` says, or its
        ``compensation_timeout``.
    :param cancelled: whether nobody waits for it any more; a :class:`threading.Event` can say so while it runs.
    :param idempotency_key: ``context.step.idempotency_key``; what it is in a saga where not given: ``saga/saga_id/step``.
    :param connection: that of a transactional step: ``context.step.connection``.
    :param saga: the saga's name: ``context.step.saga``.
    :param saga_id: the execution's id: ``context.step.saga_id``.
    :raises SagaDefinitionError: the task cannot be called this way.
    :raises MissingKeyError: the context lacks a key that the task requires.
    """
    if phase not in _PHASES:
        raise SagaDefinitionError(
            f"{_WHERE}: phase is {phase!r}{near(phase, _PHASES)}; give 'execute', 'verify' or 'compensate'"
        )
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
        raise SagaDefinitionError(f"{_WHERE}: attempt is {attempt!r}; give a whole number of 1 or more")
    for what, given in (("cause", cause), ("failed_step", failed_step)):
        if given is not None and phase != "compensate":
            raise SagaDefinitionError(f"{_WHERE}: only a compensation has a {what}; leave it out, or give phase='compensate'")
    if previous_error is not None and attempt == 1:
        raise SagaDefinitionError(f"{_WHERE}: the first attempt has no previous_error; leave it out, or give attempt=2")
    found = _step_of(task)
    made = _made(found)
    if phase != "execute" and not (compensates if phase == "compensate" else verifies)(made):
        raise SagaDefinitionError(f"{_WHERE}: step {found.name!r} has no {phase}, so a saga never calls it; write one")
    policies = policies_of(made, {key: value for key, value in found.policies.items() if key != "breaker"})
    if deadline is None and phase != "verify":
        timeout = policies.get("timeout" if phase == "execute" else "compensation_timeout")
        deadline = None if timeout is None else host_time() + timeout
    flag = cancelled if isinstance(cancelled, threading.Event) else threading.Event()
    if cancelled is True:
        flag.set()
    info = _Info(saga, saga_id, found.name, attempt, deadline, flag)
    info.cause, info.failed_step, info.previous_error = cause, failed_step, previous_error
    info.key, info._connection = idempotency_key, connection
    binding = _Alone(info)
    for key, value in (results or {}).items():
        binding.give(found.name if key is task or key is found.task else None, key, value)
    if phase != "compensate":
        _check_previous(made, phase, binding)
    if phase == "execute":
        made = requiring(made, policies.get("requires") or ())
    return _within(Context() if context is None else as_context(context, saga), binding, getattr(made, phase))


class _Info(StepInfo):
    """What is known of a call that may have been given its key."""

    __slots__ = ("key",)

    key: str | None

    @property
    def idempotency_key(self) -> str:
        return super().idempotency_key if self.key is None else self.key


class _Alone(Binding):
    """The binding of a context that one call is given, with the results that the test gives."""

    def __init__(self, info: StepInfo) -> None:
        super().__init__(None, info.saga, info.saga_id)
        self.info = info
        self.given: list[tuple[Any, str]] = []
        """What results were given by, and the names of their steps."""

    def give(self, name: str | None, key: Any, value: Any) -> None:
        """Take a result by its class, task, function or name.

        :raises SagaDefinitionError: it is given by something else.
        """
        if name is None:
            name = _name_of(key)
        self.given.append((key, name))
        self.results[name] = value
        if name != self.info.name:
            self.previous = value

    def step_info(self) -> StepInfo:
        return self.info

    def result_of(self, step: Any) -> Any:
        wanted = _shown(step)
        names = {name for key, name in self.given if key is step}
        if isinstance(step, type):
            names = names or {name for key, name in self.given if isinstance(key, type) and issubclass(key, step)}
        name = _name_of(step)
        names = names or {one for one in self.results if one == name or one.endswith(f"/{name}")}
        if len(names) != 1:
            given = ", ".join(self.results) or "none"
            fault = f"{len(names)} results" if names else "no result"
            raise ContextKeyError(
                f"{_WHERE} was given {fault} of {wanted}{near(name, self.results)}; write results={{{wanted}: ...}}; "
                f"given: {given}"
            )
        return self.results[names.pop()]


def _name_of(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, MethodStep | Step):
        return str(key.name)
    if isinstance(key, Task) or (isinstance(key, type) and issubclass(key, Task)) or is_function(key):
        return default_name(key)
    raise SagaDefinitionError(f"{_WHERE}: there is no step of {key!r}; name it by its task's class, its function or its name")


def _shown(step: Any) -> str:
    return step.__name__ if isinstance(step, type) else repr(step)


def _step_of(task: Any) -> Step:
    """Return the one step that is called.

    :raises SagaDefinitionError: it is none, or more than one.
    """
    if isinstance(task, MethodStep):
        if task.saga is None:
            raise SagaDefinitionError(f"{_WHERE}: {task!r} is of a class; give that of a saga, TheSaga().{task.name}")
        return task.bound_to(task.saga)
    given = step(task) if is_function(task) and not hasattr(task, "__saga_flow__") else task
    flow = as_flow(given, _WHERE)
    if not isinstance(flow, Step):
        raise SagaDefinitionError(f"{_WHERE}: {task!r} is not one task; give a task, a task class, a function or step(...)")
    return flow


def _made(found: Step) -> Task[Any]:
    task = found.task
    if isinstance(task, Task):
        return task
    try:
        return task()
    except TypeError as error:
        name = task.__name__
        raise SagaDefinitionError(f"{_WHERE}: {name} cannot be made without arguments ({error}); give {name}(...)") from error


def _check_previous(task: Task[Any], phase: str, binding: _Alone) -> None:
    """Refuse a function that needs the result of the step before, where none is given."""
    if not isinstance(task, FunctionTask) or binding.results.keys() - {binding.info.name}:
        return
    function = task.action if phase == "execute" else task.verification
    if function is not None and function.result is not None:
        raise SagaDefinitionError(
            f"{_WHERE}: {binding.info.name} needs {function.result!r}, the result of the step before; give it as "
            "results={'the step before': ...}"
        )


def _within(context: Context, binding: Binding, method: Callable[[Context], Any]) -> Any:
    """Call the method with the context, which is bound meanwhile."""
    with _bound(context, binding, threading.get_ident()):
        value = method(context)
    return _awaited(context, binding, value) if isawaitable(value) else value


async def _awaited(context: Context, binding: Binding, value: Any) -> Any:
    with _bound(context, binding, running_task()):
        return await value


@contextmanager
def _bound(context: Context, binding: Binding, user: object) -> Iterator[None]:
    before, binding.user = context.__binding__, user
    set_binding(context, binding)
    try:
        yield
    finally:
        binding.user = None
        set_binding(context, before)
