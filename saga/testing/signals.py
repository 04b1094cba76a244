"""Signals of a history: they come when the execution waits for them, unless faults have it otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga.durable.messages import signal_message
from saga.durable.rebuild import codec_of
from saga.machine import PlannedStep
from saga.storage.memory import MemoryStore
from saga.testing.faults import SIGNAL, START, WHICH, Kind
from saga.testing.records import Line

if TYPE_CHECKING:
    from saga.testing.histories import History
    from saga.testing.simulated import Process

__all__ = ["Signals"]


class Signals:
    """Sends the signals that an execution waits for.

    :param history: what they are part of.
    :param store: where they are sent; without one, nothing receives any.
    """

    def __init__(self, history: History, store: MemoryStore | None) -> None:
        self._history = history
        self._store = store
        self._dealt_with: set[str] = set()  # names of steps whose signal has come, or is not to come
        self._late: set[str] = set()
        self._which_comes: dict[str, str] = {}  # by step: the signal that comes, or would

    def send_early(self, process: Process) -> None:
        """Send those that faults let come before anything happens."""
        for step in process.machine.plan.steps:
            if step.pause is not None and step.pause.signals:
                kinds = (Kind.SIGNAL_EARLY,) if Kind.SIGNAL_EARLY in self._history.setting.kinds else ()
                fault = self._history.at(step.name, START, kinds)
                if fault is not None:
                    self._dealt_with.add(step.name)
                    self._send(process, step, fault)

    def send(self, process: Process) -> bool:
        """Send the signals that the execution waits for. Return whether one was sent."""
        machine, sent = process.machine, False
        for step in [machine.plan.steps[index] for index in sorted(machine.state.executing)]:
            if step.pause is None or not step.pause.signals or step.name in self._dealt_with:
                continue
            self._dealt_with.add(step.name)
            fault = self._history.at(step.name, SIGNAL, self._kinds(step.pause.seconds is not None))
            if fault is Kind.NO_SIGNAL or fault is Kind.SIGNAL_LATE:
                self._write_down(step, "does not come", fault)
                if fault is Kind.SIGNAL_LATE:
                    self._late.add(step.name)
                continue
            for _ in range(2 if fault is Kind.SIGNAL_TWICE else 1):
                self._send(process, step, fault)
            sent = True
        for step in [machine.plan.by_name[name] for name in sorted(self._late)]:
            if step.index not in machine.state.executing and not machine.ended:
                self._late.discard(step.name)
                self._send(process, step, Kind.SIGNAL_LATE)
                sent = True
        return sent

    def _kinds(self, limited: bool) -> tuple[Kind, ...]:
        kinds = (Kind.SIGNAL_TWICE, Kind.SIGNAL_LATE, Kind.NO_SIGNAL)
        wanted = self._history.setting.kinds
        return tuple(kind for kind in kinds if kind in wanted and (limited or kind is not Kind.SIGNAL_LATE))

    def _which(self, step: PlannedStep) -> str:
        """Return which of the signals that a step waits for comes: the first, unless faults have it otherwise."""
        if step.name not in self._which_comes:
            assert step.pause is not None
            names = list(step.pause.signals)
            kinds = (Kind.OTHER_SIGNAL,) if Kind.OTHER_SIGNAL in self._history.setting.kinds else ()
            while len(names) > 1 and self._history.at(step.name, WHICH, kinds) is not None:
                del names[0]
            self._which_comes[step.name] = names[0]
        return self._which_comes[step.name]

    def _send(self, process: Process, step: PlannedStep, fault: Kind | None) -> None:
        assert self._store is not None
        name = self._which(step)
        value = self._history.setting.signals.get(name)
        codec, saga_id = codec_of(self._history.definition), self._history.saga_id
        self._store.post(saga_id, signal_message(name, value, codec, self._store, saga_id))
        self._write_down(step, "comes", fault)
        process.notify()

    def _write_down(self, step: PlannedStep, came: str, fault: Kind | None) -> None:
        name = self._which(step)
        self._history.lines.append(Line(self._history.lives, step.name, f"signal {name}", came=came, fault=fault))
