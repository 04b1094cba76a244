"""A journal read to be looked at: with its definition's plan, or with one made of the steps that it names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from saga.definition import Definition
from saga.durable.entries import Recorded, read_as_stored
from saga.errors import SagaError
from saga.events import (
    CompensationStarted,
    Event,
    OperatorActed,
    SagaCompensated,
    SagaCompensating,
    SagaRewound,
    SagaStuck,
    StepSucceeded,
)
from saga.machine import DOUBTFUL, LEFT, Each, Machine, Plan, PlannedStep, grow, named_in
from saga.policy import InDoubt
from saga.result import History, StepRecord
from saga.storage.records import Entry, StoredExecution
from saga.task import Task

__all__ = ["Reading", "fitting"]


class _Told(Task[None]):
    """Stands for a task of which nothing is known but that a journal names it."""


class Reading:
    """What a journal says.

    :ivar row: the row of the execution.
    :ivar entries: the entries of its journal.
    :ivar definition: the execution's, where it is known and has every step that the journal names.
    :ivar plan: its plan, or one of the steps that the journal names, one after the other.
    :ivar knows_undo: whether it is known which steps have a compensation.
    :ivar events: what can be read, in order, and follows from what comes before it.
    :ivar records: what became of each step, by name; results as they are stored.
    :ivar history: what they were folded by.
    """

    def __init__(self, row: StoredExecution, entries: Sequence[Entry], definition: Definition | None) -> None:
        self.row = row
        self.entries = entries
        recorded = read_as_stored(entries)
        names = dict.fromkeys(name for one in recorded for name in _names_in(one.event))
        plan = None if definition is None or definition.plan.open else _grown(definition.plan, recorded)
        if plan is not None and names.keys() <= plan.by_name.keys():
            self.definition: Definition | None = definition
            self.plan = plan
            self.knows_undo = True
        else:
            self.definition = None
            self.plan = _plan_of(names, recorded)
            self.knows_undo = row.version == "block" or _undone([one.event for one in recorded], names) is not None
        self.events: list[Event] = []
        self.history = History(self.plan)
        for one in recorded:
            try:
                self.history.take(one.event)
            except (LookupError, AssertionError, TypeError, ValueError):  # it does not follow from those before it
                continue
            self.events.append(one.event)
        self.records: dict[str, StepRecord] = self.history.records()

    def machine(self) -> Machine:
        """Return a machine that has read the journal, to try things on."""
        stop = self.definition is not None and self.definition.stop_on_compensation_failure
        machine = Machine(self.plan, self.row.name, self.row.saga_id, stop)
        for event in self.events:
            machine.record(event)
        return machine


def fitting(definitions: Iterable[Definition], row: StoredExecution) -> Definition | None:
    """Return the definition that an execution goes on by, where it is among these."""
    own = [one for one in definitions if one.name == row.name]
    same = (one for one in own if one.plan.fingerprint == row.fingerprint)
    return next(same, next((one for one in own if row.version in one.compatible_with), None))


def _grown(plan: Plan, recorded: Sequence[Recorded]) -> Plan:
    """Return a plan as it has grown by what the journal says was listed."""
    if not plan.grows:
        return plan
    plan = plan.for_execution()
    for one in recorded:
        step = plan.by_name.get(one.event.step) if isinstance(one.event, StepSucceeded) else None
        if step is not None and isinstance(step.then, Each) and isinstance(one.event, StepSucceeded):
            with suppress(SagaError):  # it is stored in another way
                grow(plan, step.then, one.event.result)
    return plan


def _names_in(event: Event) -> list[str]:
    """Return the steps that an event names."""
    if isinstance(event, SagaRewound):
        return [event.step, *event.again]
    name = getattr(event, "step", None)
    return [] if name is None else [name]


def _plan_of(names: Iterable[str], recorded: Sequence[Recorded]) -> Plan:
    """Return a plan of these steps, one after the other, with what the journal tells of each."""
    told = {one.event.step: one.more["task"] for one in recorded if "task" in one.more and hasattr(one.event, "step")}
    events = [one.event for one in recorded]
    doubtful = _named(events, DOUBTFUL, names)
    undone = _undone(events, names)
    plan = Plan("")
    for index, name in enumerate(names):
        policies = _policies_of(told.get(name))
        if undone is not None and name not in undone | doubtful:
            policies["compensates"] = False
        if name in doubtful:
            policies["in_doubt"] = InDoubt.ASK
        step = PlannedStep(index, name, _Told(), 0, policies)
        if plan.steps:
            plan.steps[-1].then = (step,)
        plan.steps.append(step)
        plan.by_name[name] = step
    plan.entry = tuple(plan.steps[:1])
    return plan


def _policies_of(told: Any) -> dict[str, Any]:
    """Return what is known of a step's policies.

    :param told: what a block's journal keeps of it, or ``None``.
    """
    found: dict[str, Any] = {"compensates": True}  # it may have one
    if isinstance(told, dict):
        found["compensates"] = told.get("undo", "") is not None
        found["verifies"] = "verify" in told
        policies = told.get("policies")
        if isinstance(policies, dict) and policies.get("compensate_on_failure") is True:
            found["compensate_on_failure"] = True
    return found


def _named(events: Iterable[Event], clause: str, names: Iterable[str]) -> set[str]:
    """Return the steps for which an execution was stuck."""
    return {name for event in events if isinstance(event, SagaStuck) for name in named_in(event.reason, clause, names)}


def _undone(events: Sequence[Event], names: Iterable[str]) -> set[str] | None:
    """Return the steps that have a compensation, where an undo has come to its end, which passes over the others."""
    gave_up = next((place for place, event in enumerate(events) if isinstance(event, SagaCompensating)), len(events))
    if not any(isinstance(event, SagaStuck | SagaCompensated) for event in events[gave_up:]):
        return None
    if any(isinstance(event, OperatorActed) and event.action == "undo" and event.step is not None for event in events):
        return None  # which left some as they are
    return {event.step for event in events if isinstance(event, CompensationStarted)} | _named(events, LEFT, names)
