"""Any flow that has completed, in whatever way, can be undone on request, go forward again, and be undone wholly."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from saga import Status
from saga import events as e
from saga.errors import ActionRefusedError
from saga.machine import Machine, Plan, Wait, act, cancellation, check_undo_to, waits
from saga.machine.following import following
from tests.kit.histories import state
from tests.unit.machine.test_histories import Life, plans, returned


class Undoing(Life):
    """A life in which all goes well, but for processes that die in an undo."""

    deaths = 2

    def undo(self, to: str | None) -> None:
        self.at += 1
        order = e.OperatorActed("undo", to, "me", "because", self.at)
        if self.data.draw(st.booleans(), label="elsewhere"):
            self.machine.record(order)
            self.machine.record(e.SagaCompensating(None, cancellation(order), self.at))
            self.die()
        else:
            act(self.machine, order)
        self.obey()
        self.go_well()

    def resume(self) -> None:
        self.at += 1
        act(self.machine, e.OperatorActed("resume", None, "me", "because", self.at))
        self.obey()
        self.go_well()

    def go_well(self) -> None:
        while not self.machine.ended:
            self.at += 1
            undoes = self.machine.status is Status.COMPENSATING
            if undoes and self.deaths and self.data.draw(st.integers(0, 3), label="dies") == 3:
                self.deaths -= 1
                self.die()
            elif self.pool:
                what = self.pool.pop(0)
                if isinstance(what, Wait) and what.step.pause is not None and what.step.pause.signals:
                    signal = what.step.pause.signals[0]  # it comes in time
                    waits.receive(self.machine, e.SignalReceived(signal, self.at, self.at))
                elif isinstance(what, Wait):
                    self.machine.wake(what, self.at)
                else:
                    self.machine.send(returned(what, self.at))
            else:
                waits.receive(self.machine, e.SignalReceived("go", self.at, self.at))
            self.obey()
        assert state(self.machine.replayed()) == state(self.machine)

    def there(self) -> set[str]:
        """Return the steps that are done and can be undone, and are not: looked up in all events."""
        found = set[str]()
        for event in self.machine.events:
            if isinstance(event, e.StepSucceeded) or (isinstance(event, e.StepVerified) and event.done):
                found.add(event.step)
            elif isinstance(event, e.CompensationSucceeded):
                found.discard(event.step)
        return {name for name in found if self.machine.plan.by_name[name].compensates}


def places_to_go_back_to(machine: Machine) -> list[str | None]:
    found: list[str | None] = [None]
    for name in machine.plan.names:
        with suppress(ActionRefusedError):
            check_undo_to(machine, name)
            found.append(name)
    return found


@given(plans(), st.data())
def test_what_has_completed_is_undone_and_goes_forward_again(plan: Plan, data: Any) -> None:
    life = Undoing(Machine(plan, "s", "id"), data, happenings=0, conflicts=False)
    life.machine.start(0.0)
    life.obey()
    while life.pool or life.machine.state.executing:
        life.at += 1
        if life.pool:
            life.go_on(life.pool[data.draw(st.integers(0, len(life.pool) - 1), label="next")])
        else:
            waits.receive(life.machine, e.SignalReceived("go", life.at, life.at))
        life.obey()
    assume(life.machine.status is Status.COMPLETED and not life.machine.state.past_pivot)
    done, before = life.there(), len(life.machine.events)
    to = data.draw(st.sampled_from(places_to_go_back_to(life.machine)), label="to")
    after = set(plan.names) if to is None else {step.name for step in following(*plan.by_name[to].onward)}
    life.undo(to)
    undone = [event.step for event in life.machine.events[before:] if isinstance(event, e.CompensationSucceeded)]
    assert (set(undone), life.there()) == (done & after, done - after)
    assert life.machine.status is (Status.COMPENSATED if to is None else Status.PAUSED)
    if to is None:
        return
    life.resume()
    assert (life.machine.status, done - after <= life.there()) == (Status.COMPLETED, True)
    begun: dict[str, int] = {}
    for event in life.machine.events:
        if isinstance(event, e.StepStarted):
            assert event.attempt == begun.get(event.step, 0) + 1, "attempts go on counting"
            begun[event.step] = event.attempt
    if not life.machine.state.past_pivot:
        life.undo(None)
        assert (life.machine.status, life.there()) == (Status.COMPENSATED, set())
