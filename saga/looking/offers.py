"""What a person can do with an execution, and what each action would do there: tried on a machine that has read its journal.

So is what would follow a call that runs, and what an action would do, where it is known what a call comes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Final

from saga.errors import ActionRefusedError
from saga.events import (
    COMPENSATED,
    COMPLETED,
    PAUSED,
    RUNNING,
    STUCK,
    Effect,
    OperatorActed,
    SagaRewound,
    SagaStuck,
    SignalReceived,
    StepStatus,
)
from saga.looking.foreseen import PHASES, Foreseen, Outcome, foreseen, under_way
from saga.looking.reading import Reading
from saga.looking.shown import Offer
from saga.machine import (
    PlannedStep,
    Standing,
    Wait,
    check,
    check_signal,
    check_undo_to,
    recover,
    standing_of,
)
from saga.machine.commands import EXECUTE
from saga.machine.waits import receive
from saga.plain import one_line

__all__ = ["ORDER", "Outcome", "known_standing", "offers_of", "what_follows", "what_it_does"]

ORDER: Final = ("retry", "resume", "skip", "pause", "cancel", "compensate", "undo")
"""What changes least first."""
_TRIED: Final = 20
"""Steps of which it is tried what an action would do, which costs as much for each as to read the journal. Of more it is told
plainly, and back to no more of them it is offered to undo."""


def known_standing(reading: Reading) -> Standing:
    """Return where an execution stands by its journal alone, where its definition is not known."""
    standing, state = standing_of(reading.history.state), reading.history.state
    if reading.definition is not None:
        return standing
    block = reading.row.version == "block"
    return replace(standing, past_pivot=None, idle=None if state.status is RUNNING else standing.idle, block=block)


def offers_of(
    reading: Reading, standing: Standing, live: bool, why_not: dict[str, str]
) -> tuple[tuple[Offer, ...], dict[str, str]]:
    """Return the actions that fit, and why the others do not.

    :param live: whether somebody runs it.
    :param why_not: what is known already not to fit, and why.
    """
    offers: list[Offer] = []
    refused: dict[str, str] = {}
    for action in ORDER:
        for tried, step in enumerate(_of_which(reading, standing, action)):
            try:
                if action in why_not:
                    raise ActionRefusedError(why_not[action])
                check(action, step, standing)
                if action == "skip" and step is None:
                    raise ActionRefusedError("no step waits for a decision of a person")
            except ActionRefusedError as error:
                refused[action] = one_line(error)
            else:
                does = one_line(_told(reading, standing, action, step, live) if tried <= _TRIED else _PLAINLY[action])
                same = next((one.action for one in offers if one.does == does and one.action != "skip"), None)
                offers.append(Offer(action, step, does if same is None else f"as {same} does here: {does}"))
    return (*offers, *_signals(reading, standing, live)), refused


def _signals(reading: Reading, standing: Standing, live: bool) -> Iterator[Offer]:
    """Yield the signals that steps wait for, or will wait for, each once."""
    if reading.definition is None:
        return
    with suppress(ActionRefusedError):
        check_signal(standing)
        told = set[str]()
        for step in reading.plan.steps:
            ended = reading.records[step.name].status not in (StepStatus.PENDING, StepStatus.RUNNING)
            for signal in () if step.pause is None or ended else step.pause.signals:
                if signal not in told:
                    told.add(signal)
                    yield Offer("signal", step.name, one_line(_of_signal(reading, step, signal, live)), signal)


def _of_signal(reading: Reading, step: PlannedStep, signal: str, live: bool) -> str:
    """Return what a signal would do."""
    machine = reading.machine()
    if step.index not in machine.state.executing or machine.status is not RUNNING:
        return f"is kept for {step.name!r}, which receives it when it is its turn"
    found, at = Foreseen(machine), max(event.at for event in reading.events)
    try:
        if not live:
            recover(machine, "", 1, at)
        receive(machine, SignalReceived(signal, None, at))
        found.go_on(at)
    except Exception:  # as of actions, where the journal is damaged
        return f"lets {step.name!r} go on with it"
    return "; ".join([f"lets {step.name!r} go on with it", *_executed(found)])


def _of_which(reading: Reading, standing: Standing, action: str) -> Sequence[str | None]:
    """Return the steps that an action may be of, or back to; ``None``: of none in particular."""
    if action == "skip":
        return standing.undecided or (None,)
    if action == "undo" and reading.definition is not None and standing.status is COMPLETED:
        return None, *_kept(reading)
    return (None,)


def _kept(reading: Reading) -> Iterator[str]:
    """Yield the steps back to which a completed execution can be undone, the last ones first."""
    machine, left = reading.machine(), _TRIED
    for name in reversed(reading.plan.names):
        with suppress(ActionRefusedError):
            check_undo_to(machine, name)
            yield name
            left -= 1
        if not left:
            return


# -- where it is known what a call comes to ---------------------------------------------------------------------------


def what_follows(reading: Reading, outcome: Outcome) -> str:
    """Return what follows a call that the journal ends with, or one that runs then, if it comes to this, in a sentence."""
    machine, at = reading.machine(), outcome.at
    found = Foreseen(machine)
    others = [end for end in under_way(machine) if (end.step, PHASES[type(end)]) != (outcome.step, PHASES[type(outcome)])]
    state = machine.state
    waiting = (*state.retries.values(), *state.verification_retries.values(), *state.compensation_retries.values())
    machine.send(outcome)
    for end in others:
        found.ending.append(end.step)
        machine.send(end)
    for scheduled in waiting:  # nothing of what waits is commanded where a journal was read
        if scheduled.phase != EXECUTE or scheduled in state.retries.values():
            step = machine.plan.by_name[scheduled.step]
            machine.commands.append(Wait(step, scheduled.attempt, scheduled.delay, scheduled.phase))
    found.go_on(at)
    return one_line("; ".join(_said(reading, None, found)))


def what_it_does(reading: Reading, standing: Standing, offer: Offer, outcome: Outcome) -> str | None:
    """Return what an action would do if the call that came to this came to it again; ``None``: it does not make that call."""
    acted = OperatorActed(offer.action, offer.step, "", "", outcome.at)
    try:
        found = foreseen(reading, standing, acted, False, outcome)
        return one_line("; ".join(_said(reading, _seen_to(offer.action, offer.step), found))) if found.known is None else None
    except Exception:  # the journal is damaged
        return None


# -- told -------------------------------------------------------------------------------------------------------------


def _told(reading: Reading, standing: Standing, action: str, step: str | None, live: bool) -> str:
    """Return what an action would do, in a sentence."""
    if action == "pause":
        return _of_pause(reading, standing, live)
    if standing.unbegun:
        return _OF_UNBEGUN[action]
    if reading.history.state.status is not standing.status:  # the journal is damaged
        return _PLAINLY[action]
    try:
        acted = OperatorActed(action, step, "", "", max(event.at for event in reading.events))
        return "; ".join(_said(reading, _seen_to(action, step), foreseen(reading, standing, acted, live)))
    except Exception:  # as above: with the definition no action would fit
        return _PLAINLY[action]


def _seen_to(action: str, step: str | None) -> str | None:
    """Return the step that a person has seen to who does this."""
    return step if action == "skip" else None


_PLAINLY: Final = {
    "retry": "calls the compensations that failed again",
    "resume": "lets it go on",
    "skip": "lets it go on without the step",
    "cancel": "gives it up, and undoes what it has done",
    "compensate": "undoes what it has done",
    "undo": "undoes what it has done",
}
"""What actions do, where it cannot be told what that is in particular."""


_OF_UNBEGUN: Final = {
    "resume": "lets it be begun, in its turn",
    **dict.fromkeys(("cancel", "compensate"), "ends it before it has begun: nothing is done, so nothing is undone"),
}


def _of_pause(reading: Reading, standing: Standing, live: bool) -> str:
    if standing.unbegun:
        return "keeps it from being begun until a person resumes it, or gives it up"
    running = [event.step for event in under_way(reading.machine())] if live else []
    first = f"lets {_and(running)} end, and then " if running else ""
    return f"{first}lets it rest until a person resumes it, or has it undone"


def _said(reading: Reading, step: str | None, found: Foreseen) -> Iterator[str]:
    state = found.machine.state
    if step is not None:
        yield f"counts {step!r} as settled by a person, and " + (
            "calls nothing of it any more" if state.cause is not None else "goes on without it"
        )
    if found.ending:
        yield f"lets {_and(found.ending)} end"
    follows = [*_undone(reading, found), *_executed(found), *_ends(reading, found)]
    if step is None and found.machine.state.cause is None and not follows:
        follows = ["goes on from where it is"]
    if found.verified:
        asked = f"asks the verification of {_and(found.verified)}"
        yield f"{asked}; where that tells nothing, {follows[0]}" if follows else asked
        yield from follows[1:]
    else:
        yield from follows


def _undone(reading: Reading, found: Foreseen) -> Iterator[str]:
    state, steps = reading.history.state, reading.plan.steps
    failed = {steps[index].name for index in state.compensations_failed}
    doubtful = {steps[index].name for index in state.in_doubt | state.stragglers}

    def words(name: str) -> tuple[str, str]:
        if name in failed:
            return "calls the compensation of", " again"
        return ("calls the compensation of", ", whether it was done or not,") if name in doubtful else ("undoes", "")

    runs = [f"{before} {_then(list(names))}{after}" for (before, after), names in groupby(found.undone, words)]
    if runs:
        maybe = "" if reading.knows_undo or failed.issuperset(found.undone) else ", as far as they have a compensation"
        yield " then ".join(run if run.endswith(",") else f"{run}," for run in runs).removesuffix(",") + maybe


def _executed(found: Foreseen) -> Iterator[str]:
    again = [name for name, attempt in found.executed.items() if attempt > 1]
    if again:
        yield f"executes {_and(again)} again"
    first = [name for name, attempt in found.executed.items() if attempt == 1]
    if first:
        yield f"executes {_and(first)}"
    if found.waiting:
        yield f"waits on in {_and(found.waiting)}"


def _ends(reading: Reading, found: Foreseen) -> Iterator[str]:
    state = found.machine.state
    if state.status is COMPENSATED:
        yield "where that goes well, it is compensated" if found.undone else "it is compensated: nothing is left to undo"
    elif state.status is COMPLETED:
        yield "it is completed"
    if state.cause is not None and reading.knows_undo:
        kept = {reading.plan.steps[index].name for index in state.kept}
        gone = kept.union(found.undone, found.ending)
        left = [name for name, record in reading.records.items() if record.effect is Effect.STANDS and name not in gone]
        if left:
            yield f"leaves {_and(left)} as {'they are' if len(left) > 1 else 'it is'}, for want of a compensation"
    if state.status is STUCK:
        reason = next(event.reason for event in reversed(found.machine.events) if isinstance(event, SagaStuck))
        yield f"then it is stuck: {reason}"
    elif state.status is PAUSED:
        again = next(event.again for event in reversed(found.machine.events) if isinstance(event, SagaRewound))
        if not found.undone:
            left = [name for name in again if reading.records[name].effect is Effect.STANDS]
            why = f"{_and(left)} {'have' if len(left) > 1 else 'has'} no compensation" if left else "nothing of it is left"
            yield f"undoes nothing: {why}"
        yield f"then it rests, until a person resumes it from {again[0]!r} on"


def _and(names: list[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else shown[0]


def _then(names: list[str]) -> str:
    return ", then ".join(map(repr, names))
