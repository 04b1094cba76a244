"""Random histories of a machine: any flow at all, with outcomes delivered in any order. No clock, thread or driver is here.

Hypothesis picks what happens next: a call ends in some way, one takes too long, a verification tells something or nothing, a
wait is over, the deadline comes, or the driver gives up (an interrupt between steps).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from saga import Ask, InDoubt, NotDone, Retry, Skip, parallel, sequence, step, unit
from saga.errors import MergeConflictError, NotReadyError, OutcomeUnknownError, StepTimeoutError
from saga.events import (
    CompensationFailed,
    CompensationSucceeded,
    CompensationTimedOut,
    GroupMerged,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    StepVerified,
    VerificationFailed,
)
from saga.machine import Call, Finish, Machine, Merge, State, Wait, back, time_out

policies = st.fixed_dictionaries(
    {"undoable": st.booleans(), "compensate_on_failure": st.booleans()},
    optional={
        "verify": st.just(NotDone),
        "verification_retry": st.builds(Retry, st.integers(1, 2)),
        "retry": st.builds(Retry, st.integers(1, 3), max_elapsed=st.sampled_from([None, 3.0])),
        "compensation_retry": st.builds(Retry, st.integers(1, 2), max_elapsed=st.sampled_from([None, 3.0])),
        "on_error": st.sampled_from([Skip, Ask]),
        "in_doubt": st.sampled_from([InDoubt.ASK, InDoubt.RERUN]),
    },
)
unit_policies = st.fixed_dictionaries(
    {},
    optional={
        "retry": st.builds(Retry, st.integers(1, 3), max_elapsed=st.sampled_from([None, 9.0])),
        "on_error": st.sampled_from([Skip, Ask]),
        "timeout": st.just(9.0),
    },
)
leaves = policies.map(lambda chosen: ("step", chosen))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("seq", parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: ("par", parts)),
        st.tuples(unit_policies, inner).map(lambda part: ("unit", part)),
    ),
    max_leaves=8,
)


def build(tree: Any, names: Any) -> tuple[Any, Any]:
    """Return the flow, and the tree with names in its leaves."""
    kind, what = tree
    if kind == "step":
        name = f"s{next(names)}"
        chosen = dict(what)
        undo = (lambda: None) if chosen.pop("undoable") else None
        return step(lambda: None, undo, name=name, **chosen), name
    if kind == "unit":
        name, (flow, named) = f"u{next(names)}", build(what[1], names)
        return unit(flow, name=name, **what[0]), ("unit", [name, named])
    parts = [build(part, names) for part in what]
    make = sequence if kind == "seq" else parallel
    return make(*(flow for flow, _ in parts)), (kind, [named for _, named in parts])


def state(machine: Machine) -> dict[str, Any]:
    """What is folded from the events."""
    known = {name: getattr(machine.log.state(), name) for name in State.__slots__ if name != "plan"}
    return {name: value.copy() if hasattr(value, "copy") else value for name, value in known.items()}


@dataclass
class Drive:
    """Does what the machine commands, and lets ``data`` choose what happens next."""

    machine: Machine
    data: Any
    pool: list[Call | Wait] = field(default_factory=list)
    late: set[int] = field(default_factory=set)
    seen: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    at: float = 0.0
    deadline_came: bool = False
    conflicts: bool = True

    def run(self, interrupts: bool) -> None:
        self.machine.start(0.0)
        self.obey()
        while self.pool:
            self.at += 1
            extra = [] if self.deadline_came else ["deadline", "give up"] if interrupts else []
            chosen = self.data.draw(st.sampled_from([*range(len(self.pool)), *extra]), label="next")
            if chosen == "deadline":
                self.deadline_came = True
                self.late.update(self.machine.state.executing)
                time_out(self.machine, 9, self.at)
            elif chosen == "give up":
                self.deadline_came = True
                self.machine.give_up(KeyboardInterrupt(), self.at)
            else:
                self.go_on(self.pool[chosen])
            self.obey()

    def obey(self) -> None:
        self.note()
        while self.machine.commands:
            command = self.machine.commands.pop(0)
            if isinstance(command, Merge):
                if self.conflicts and self.data.draw(st.integers(0, 5), label="conflict") == 0:
                    back.give_up_within(self.machine, command.group.units, MergeConflictError(), self.at)
                else:
                    self.machine.send(GroupMerged(command.group.index, self.at))
                self.note()
            elif isinstance(command, Finish) and command.step.content is not None:
                self.end_unit(command)
            elif isinstance(command, Finish):
                if command.step.index in self.machine.state.executing:
                    self.machine.send(StepSucceeded(command.step.name, 1, self.at, 0.0, command.value))
                    self.note()
            else:
                self.pool.append(command)

    def end_unit(self, command: Finish) -> None:
        step, state = command.step, self.machine.state
        ended = (step.name, state.attempt(step.index), self.at, 0.0)
        if step.index not in state.units:  # the saga gave up meanwhile
            return
        self.machine.send(StepSucceeded(*ended, None) if command.error is None else StepFailed(*ended, command.error))
        self.note()

    def go_on(self, what: Call | Wait) -> None:
        if isinstance(what, Wait):
            self.pool.remove(what)
            self.machine.wake(what, self.at)
            self.late.update(self.machine.state.stragglers)  # where it was a unit's time
        elif what.phase == "compensate":
            self.compensate(what)
        elif what.phase == "verify":
            self.pool.remove(what)
            self.verify(what)
        else:
            self.execute(what)

    def compensate(self, call: Call) -> None:
        index, at = call.step.index, (call.step.name, call.attempt, self.at, 0.0)
        ways = ["ok", "ok", "error", "interrupt"] + ([] if index in self.late else ["late"])
        way = self.data.draw(st.sampled_from(ways), label=f"-{call.step.name}")
        if way == "late":  # as an execute
            self.late.add(index)
            self.machine.send(CompensationTimedOut(*at, StepTimeoutError()))
            return
        self.pool.remove(call)
        self.late.discard(index)
        if way == "ok":
            self.machine.send(CompensationSucceeded(*at))
        else:
            self.machine.send(CompensationFailed(*at, OSError() if way == "error" else KeyboardInterrupt()))

    def verify(self, call: Call) -> None:
        at = (call.step.name, call.attempt, self.at, 0.0)
        way = self.data.draw(st.sampled_from(["done", "undone", "silent", "interrupt"]), label=f"?{call.step.name}")
        if way in ("done", "undone"):
            self.machine.send(StepVerified(*at, way == "done"))
        else:
            error = OutcomeUnknownError() if way == "silent" else KeyboardInterrupt()
            self.machine.send(VerificationFailed(*at, error))

    def execute(self, call: Call) -> None:
        index, at = call.step.index, (call.step.name, call.attempt, self.at, 0.0)
        ways = ["ok", "ok", "error", "error", "unready", "unanswered", "interrupt"] + (
            [] if index in self.late else ["late", "cut off"]
        )
        way = self.data.draw(st.sampled_from(ways), label=call.step.name)
        if way == "late":  # it cannot be killed and still runs: the call stays in the pool
            self.late.add(index)
            self.machine.send(StepTimedOut(*at, StepTimeoutError(), running=True))
            return
        self.pool.remove(call)
        self.late.discard(index)
        if way == "cut off":
            self.machine.send(StepTimedOut(*at, StepTimeoutError(), running=False))
        elif way == "ok":
            ways = call.step.ways
            last = len(ways.entries) if ways is not None else 0
            value = self.data.draw(st.integers(0, last), label="decides") if ways is not None else call.step.name
            self.machine.send(StepSucceeded(*at, value))
        elif way == "unready":
            self.machine.send(StepFailed(*at, NotReadyError(), executed=True))
        else:
            error = {"error": ValueError, "unanswered": OutcomeUnknownError, "interrupt": KeyboardInterrupt}[way]()
            self.machine.send(StepFailed(*at, error, way != "error"))

    def note(self) -> None:
        self.seen.append((len(self.machine.events), state(self.machine)))
