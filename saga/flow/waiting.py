"""Builders of steps that wait: for a time, or for signals. Nothing waits here."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from saga.awaitables import answer, check_callable, is_coroutine_function, refuse_generator
from saga.composing import Flow
from saga.errors import SagaDefinitionError
from saga.flow.accepting import Accept, check_accept
from saga.flow.functions import FunctionTask, function_name
from saga.flow.nodes import Pause, Sequence, Step
from saga.flow.policies import check_policies
from saga.names import checked_name
from saga.policy import InDoubt, OnError, Seconds, in_seconds, needed_seconds

__all__ = ["receive", "receive_first", "timer"]

Moment: TypeAlias = "float | timedelta | datetime"
"""How long, or until when: seconds, a ``timedelta``, or a ``datetime`` with a time zone."""


def timer(
    wait: Moment | Callable[[Any], Moment] | Callable[[Any], Awaitable[Moment]],
    *,
    name: str | None = None,
) -> Flow:
    """Return a step that lets time pass. With a store it goes on across restarts.

    :param wait: seconds, a ``timedelta``, the moment it ends (a ``datetime`` with a time zone; one that is past passes at
        once), or a function of the context that returns one of these. The function is called once, when the saga comes there,
        as a step before that is called as the timer is, with ``": until"`` after it: what it returned is in the journal.
    :raises SagaDefinitionError: it is none of these.
    """
    if isinstance(wait, datetime):
        if wait.tzinfo is None:
            raise SagaDefinitionError(f"timer(): wait is {wait!r}, of no time zone; give it one: datetime(..., tzinfo=UTC)")
        return Pause(_named(name, "timer()", f"timer until {wait.isoformat()}"), None, until=wait)
    if callable(wait) and not isinstance(wait, type):
        return _asking(wait, _named(name, "timer()", f"timer {function_name(wait)}"))
    try:
        seconds = needed_seconds(wait, "timer(): wait")  # type: ignore[arg-type]
    except SagaDefinitionError:
        raise SagaDefinitionError(
            f"timer(): wait is {wait!r}; give seconds as a number above 0, a timedelta, a datetime, or a function of the "
            "context that returns one of these"
        ) from None
    return Pause(_named(name, "timer()", f"timer {seconds:g} s"), float(seconds))


def _asking(function: Callable[[Any], Any], name: str) -> Sequence:
    """Return a step that calls the function, and one that waits as it says."""
    check_callable(function, "timer(): wait", "the context", 1)
    refuse_generator(function, "timer(): wait", "return how long, or until when")
    where = f"timer {name!r}: {function_name(function)}"

    def ask(context: Any) -> float | str:
        return _told(answer(function(context), where), where)

    async def ask_in_loop(context: Any) -> float | str:
        return _told(await function(context), where)

    asks = ask_in_loop if is_coroutine_function(function) else ask
    asks.__name__ = function_name(function)
    task = FunctionTask(asks)
    asked = Step(task, checked_name(f"{name}: until", "timer(): name"), {"in_doubt": InDoubt.RERUN})
    return Sequence((asked, Pause(name, None, asks=True)))


def _told(moment: Any, where: str) -> float | str:
    """Return what a function said as a journal has it: seconds, or the moment as a text.

    :raises SagaDefinitionError: it is neither.
    """
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return moment.astimezone(UTC).isoformat()
    seconds = moment.total_seconds() if isinstance(moment, timedelta) else moment
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        what = "a datetime of no time zone" if isinstance(moment, datetime) else f"{type(moment).__name__} {moment!r}"
        raise SagaDefinitionError(f"{where} returned {what}; return seconds, a timedelta, or a datetime with a time zone")
    return max(0.0, float(seconds))


def receive(
    signal: str,
    *,
    name: str | None = None,
    timeout: Seconds | None = None,
    accept: Accept | None = None,
    on_error: OnError | None = None,
) -> Pause:
    """Return a step that waits for a signal and has its value as result: see :meth:`saga.Saga.signal`. It needs a store.

    :param signal: its name.
    :param timeout: seconds, or a ``timedelta``, to wait.
    :param accept: what its value must be: a class, several as ``int | str``, or a function of the value that is true of one
        that fits; what it raises is told to whoever sends. Another value is refused to its sender, and the step waits on. It
        holds for the signal wherever the saga receives it.
    :param on_error: what follows when it does not come in time; what the saga says where ``None``.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    signal = checked_name(signal, "receive(): signal")
    check_policies("receive()", {"timeout": timeout, "on_error": on_error})
    check_accept(accept, "receive(): accept")
    accepts = {} if accept is None else {signal: accept}
    return Pause(_named(name, "receive()", signal), in_seconds(timeout), (signal,), {"on_error": on_error}, accepts)


def receive_first(
    *signals: str,
    name: str | None = None,
    timeout: Seconds | None = None,
    accept: Mapping[str, Accept] | None = None,
    on_error: OnError | None = None,
) -> Pause:
    """Return a step that waits for the first of several signals. Its result is a :class:`~saga.Received`: ``(name, value)``.

    What has come already, and no step has received, is taken first, in the order in which it came. The others stay for steps
    that come later. It needs a store.

    :param signals: their names, two at least.
    :param name: the step's name; where not given the signals' names, with ``" or "`` between them.
    :param timeout: seconds, or a ``timedelta``, to wait.
    :param accept: by a signal's name, what its value must be: as for :func:`receive`.
    :param on_error: what follows when none comes in time; what the saga says where ``None``.
    :raises SagaDefinitionError: a parameter is wrong.
    """
    where = "receive_first()"
    names = tuple(checked_name(one, f"{where}: one of signals") for one in signals)
    if len(names) < 2:
        raise SagaDefinitionError(f"{where}: signals are {', '.join(map(repr, names)) or 'none'}; give at least two names")
    if len(set(names)) < len(names):
        raise SagaDefinitionError(f"{where}: signals has a name twice ({', '.join(map(repr, names))}); give each once")
    check_policies(where, {"timeout": timeout, "on_error": on_error})
    if accept is not None and not isinstance(accept, Mapping):
        raise SagaDefinitionError(f"{where}: accept is {accept!r}; give a dict, {{a signal's name: what its value must be}}")
    for signal, one in (accept or {}).items():
        if signal not in names:
            raise SagaDefinitionError(f"{where}: accept has {signal!r}, which is none of the signals {', '.join(names)}")
        check_accept(one, f"{where}: accept of {signal!r}")
    accepts = {signal: one for signal, one in (accept or {}).items() if one is not None}
    return Pause(_named(name, where, " or ".join(names)), in_seconds(timeout), names, {"on_error": on_error}, accepts)


def _named(given: str | None, where: str, otherwise: str) -> str:
    return checked_name(otherwise if given is None else given, f"{where}: name")
