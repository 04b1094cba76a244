"""The notation of the machine's table: what happened and what is commanded, as words and back.

Events are clauses, separated by commas. One of a step is its name and a verb; ``-a`` is the compensation of ``a``, ``?a`` its
verification; a number at the end is the attempt, where it is not the first.

- ``a starts``: the intent to call it; ``a returns``; ``a raises`` a ``ValueError``.
- ``a stops``: it was interrupted (Ctrl-C), which leaves it in doubt, or before it was called (``a missed``);
  ``a unanswered``: its answer was lost, and ``a lost``: its
  process died, which do so too; ``a unkept``: what it returned cannot be stored; ``a unready``: it is not what its retry waits
  for.
- ``a late``: it outlived its timeout and still runs, and so has ``-a late``; ``a cut``: it was cut off then, which leaves it
  in doubt.
- ``?a done`` and ``?a undone``: what its verification said of ``a``; ``?a raises``: it told nothing; ``?a silent``: it does not
  know.
- ``a waits 2 in 5``: its second attempt is due in 5 seconds.
- ``a skipped``: the saga goes on without it; ``a replaced``: its fallback is to start;
  ``y goes 'x'``: what it decided leads that way;
  ``a asks``: it failed for good, and a person is to decide.
- ``u turns back on b for a b``: the unit ``u`` gave up, as ``b`` failed; ``a`` and ``b`` are executed again where it is.

Of the whole: ``submitted``, ``begins``, ``gives up`` (``gives up on a``), ``merged`` (``merged 1``, the second group),
``signal go 1`` (its value is 1), ``recovered``, ``held``, ``paused``, ``refused``, ``completed``, ``compensated``,
``rewound a b`` (back to ``a``; ``b`` is executed again), ``stuck``. What a person does: ``cancel``, ``compensate``, ``pause``,
``resume``, ``retry``, ``skip a``, ``undo`` (``undo a``: back to it); and ``whistle``, which nobody knows.

A fact is such a clause, or what a driver does besides: ``begin``; ``a due 2`` (a wait is over); ``time is up`` (the saga's;
``time is up but a`` where the driver cancels what runs of ``a``); ``give up``; ``stop`` (of an execution halted past its
pivot); ``hold``, and ``rest`` where a person has it paused; ``add a`` and ``finish`` (of a block). Commands are ``call a 2``,
``wait 5 for a 2``, ``finish a with 1``, ``merge``, and of a unit ``finish u`` and ``fail u``.

What happened so far, happened at time 0; the fact comes at :data:`NOW`.
"""

from __future__ import annotations

from typing import Any, Final

from saga import InDoubt, Saga, choose, parallel, receive, receive_first, step, timer, unit
from saga import events as e
from saga.errors import CrashError, NotReadyError, OutcomeUnknownError, SagaError, StepTimeoutError
from saga.machine import Call, Command, Finish, Machine, Merge, OpenPlan, Plan, Wait, act, recover, time_out, waits

NOW: Final = 10.0
WHOLE: Final = {
    "submitted": e.SagaSubmitted,
    "begins": e.SagaStarted,
    "merged": e.GroupMerged,
    "recovered": e.SagaRecovered,
    "held": e.SagaHeld,
    "paused": e.SagaPaused,
    "refused": e.MessageRefused,
    "completed": e.SagaCompleted,
    "compensated": e.SagaCompensated,
    "stuck": e.SagaStuck,
}
MARKS: Final = {"execute": "", "verify": "?", "compensate": "-"}
DOUBTS: Final = {CrashError: "lost", KeyboardInterrupt: "stops"}
ACTIONS: Final = ("cancel", "compensate", "pause", "resume", "retry", "skip", "undo", "whistle")


class Block:
    """A flow that stands for a block of these steps, one after the other."""

    def __init__(self, *flows: Any) -> None:
        self.flows = flows


# -- flows ------------------------------------------------------------------------------------------------------------


def do(name: str, *, undo: bool = True, **policies: Any) -> Any:
    """Return a step, with a compensation unless it is said to have none."""
    return step(lambda: None, (lambda: None) if undo else None, name=name, **policies)


def own(name: str = "a", **policies: Any) -> Any:
    """Return a step that is undone when it has failed, too."""
    return do(name, compensate_on_failure=True, **policies)


def together(*flows: Any) -> Any:
    """Return branches that are undone together."""
    return parallel(*flows, compensate_together=True)


def at_most(limit: int, *flows: Any) -> Any:
    """Return branches, so many of which are under way at a time."""
    return parallel(*flows, limit=limit)


def one(*flows: Any, name: str = "u", **policies: Any) -> Any:
    """Return a unit."""
    return unit(*flows, name=name, **policies)


class Wrong:
    """A backoff that raises."""

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        raise ZeroDivisionError


A, B, C, D = map(do, "abcd")
X = do("x", undo=False)
P = do("p", pivot=True)
Y = choose("k", {"result of y": B, "else": C}, name="y")
T = timer(60.0, name="t")
R, S, L = receive("go", name="r"), receive("go", name="s"), receive("go", name="l", timeout=60.0)
F = receive_first("go", "stay", name="f")
ASK, RERUN = InDoubt.ASK, InDoubt.RERUN
STOP: Final = {"stop_on_compensation_failure": True}

PAST = "a starts, a returns, p starts, p returns, b starts"
LEFT = "a starts, a returns, b starts, b raises, gives up on b"
STUCK_UNDO = "a starts, a returns, b starts, b raises, gives up on b, -a starts, -a raises, stuck"


def plan_of(flow: Any) -> Plan:
    """Return the plan of a flow, of several one after the other, or of a block."""
    if isinstance(flow, Block):
        plan = OpenPlan("s")
        for one in flow.flows:
            plan.extend(one)
        return plan
    saga = Saga("s")
    for one in flow if isinstance(flow, tuple) else (flow,):
        saga.add_task(one)
    return saga.plan


def phase_of(name: str) -> str:
    """Return the call that a name with its mark stands for."""
    return {"-": "compensate", "?": "verify"}.get(name[0], "execute")


# -- words to events --------------------------------------------------------------------------------------------------


def clauses(text: str) -> list[str]:
    """Return what stands between the commas."""
    return [clause.strip() for clause in text.split(",") if clause.strip()]


def event_of(clause: str, at: float) -> e.Event:
    """Return the event that a clause stands for."""
    words = clause.split()
    if words[:2] == ["gives", "up"]:
        return e.SagaCompensating(words[3] if len(words) > 2 else None, SagaError("given up"), at)
    if words[0] == "signal":
        return e.SignalReceived(words[1], words[2], at)
    if words[0] in ACTIONS:
        return e.OperatorActed(words[0], words[1] if len(words) > 1 else None, "me", "because", at)
    if words[0] == "rewound":
        return e.SagaRewound(words[1], words[2:], "because", at)
    if words[0] in WHOLE:
        more = {
            "submitted": ("s", "id"),
            "begins": ("s", "id"),
            "merged": (int(words[1]) if len(words) > 1 else 0,),
            "recovered": ("me", 2),
            "refused": ("cancel", "too late"),
            "stuck": ("",),
            "paused": ("",),
        }
        made: e.Event = WHOLE[words[0]](*more.get(words[0], ()), at)
        return made
    if words[1] == "turns":
        failed = words[4] if words[3:4] == ["on"] else None
        again = words[words.index("for") + 1 :] if "for" in words else []
        return e.UnitCompensating(words[0], failed, ValueError(failed), again, at)
    if words[1] == "goes":
        return e.WayChosen(words[0], " ".join(words[2:]), at)
    return _of_step(words[0], words[1], [float(word) for word in words[2:] if word != "in"], at)


def _of_step(name: str, verb: str, numbers: list[float], at: float) -> e.Event:
    phase, step = phase_of(name), name.lstrip("-?")
    attempt = int(numbers[0]) if numbers else 1
    if verb == "waits":
        return e.RetryScheduled(step, attempt, at, numbers[1] if len(numbers) > 1 else 0.0, phase)
    call = (step, attempt, at)
    if phase == "verify":
        return {
            "starts": lambda: e.VerificationStarted(*call),
            "done": lambda: e.StepVerified(*call, 0.0, True),
            "undone": lambda: e.StepVerified(*call, 0.0, False),
            "raises": lambda: e.VerificationFailed(*call, 0.0, ValueError(name)),
            "silent": lambda: e.VerificationFailed(*call, 0.0, OutcomeUnknownError(name)),
            "stops": lambda: e.VerificationFailed(*call, 0.0, KeyboardInterrupt(name)),
        }[verb]()
    if phase == "compensate":
        return {
            "starts": lambda: e.CompensationStarted(*call),
            "returns": lambda: e.CompensationSucceeded(*call, 0.0),
            "raises": lambda: e.CompensationFailed(*call, 0.0, ValueError(name)),
            "late": lambda: e.CompensationTimedOut(*call, 0.0, StepTimeoutError(name)),
            "stops": lambda: e.CompensationFailed(*call, 0.0, KeyboardInterrupt(name)),
        }[verb]()
    return {
        "starts": lambda: e.StepStarted(*call),
        "returns": lambda: e.StepSucceeded(*call, 0.0, f"result of {step}"),
        "raises": lambda: e.StepFailed(*call, 0.0, ValueError(name)),
        "stops": lambda: e.StepFailed(*call, 0.0, KeyboardInterrupt(name), in_doubt=True),
        "missed": lambda: e.StepFailed(*call, 0.0, KeyboardInterrupt(name)),
        "lost": lambda: e.StepFailed(*call, 0.0, CrashError(name), in_doubt=True),
        "unanswered": lambda: e.StepFailed(*call, 0.0, OutcomeUnknownError(name), in_doubt=True),
        "unkept": lambda: e.StepFailed(*call, 0.0, ValueError(name), executed=True),
        "unready": lambda: e.StepFailed(*call, 0.0, NotReadyError(name), executed=True),
        "late": lambda: e.StepTimedOut(*call, 0.0, StepTimeoutError(name)),
        "cut": lambda: e.StepTimedOut(*call, 0.0, StepTimeoutError(name), running=False),
        "skipped": lambda: e.StepSkipped(step, at),
        "replaced": lambda: e.FallbackChosen(step, at),
        "asks": lambda: e.PersonAsked(step, at),
    }[verb]()


# -- events and commands to words -------------------------------------------------------------------------------------


def told(events: list[e.Event]) -> str:
    """Return what happened, in words."""
    return ", ".join(map(_told, events))


def _told(event: Any) -> str:
    kind = type(event)
    if kind is e.SagaCompensating:
        return "gives up" if event.step is None else f"gives up on {event.step}"
    if kind is e.SignalReceived:
        return f"signal {event.name} {event.value}"
    if kind is e.OperatorActed:
        return f"{event.action} {event.step}" if event.step else str(event.action)
    if kind is e.WayChosen:
        return f"{event.step} goes {event.way}"
    if kind is e.UnitCompensating:
        on = "" if event.failed_step is None else f" on {event.failed_step}"
        return " ".join((f"{event.step} turns back{on}", *(("for", *event.again) if event.again else ())))
    if kind is e.SagaRewound:
        return " ".join(("rewound", event.step, *event.again))
    for word, whole in WHOLE.items():
        if kind is whole:
            return f"{word} {group}" if (group := getattr(event, "group", 0)) else word
    attempt = getattr(event, "attempt", 1)
    text = f"{event.step} {_verb(event)}{f' {attempt}' if attempt > 1 else ''}"
    phase = getattr(event, "phase", "execute")
    if kind.__name__.startswith("Compensation"):
        phase = "compensate"
    elif kind in (e.VerificationStarted, e.StepVerified, e.VerificationFailed):
        phase = "verify"
    delay = f" in {event.delay:g}" if kind is e.RetryScheduled and event.delay else ""
    return f"{MARKS[phase]}{text}{delay}"


def _verb(event: Any) -> str:
    if isinstance(event, e.StepFailed):
        if event.in_doubt:
            return DOUBTS.get(type(event.error), "unanswered")
        if event.executed:
            return "unready" if isinstance(event.error, NotReadyError) else "unkept"
        return "raises" if isinstance(event.error, Exception) else "missed"
    if isinstance(event, e.StepTimedOut):
        return "late" if event.running else "cut"
    if isinstance(event, e.StepVerified):
        return "done" if event.done else "undone"
    if isinstance(event, e.CompensationFailed | e.VerificationFailed):
        silent = isinstance(event.error, OutcomeUnknownError)
        return "silent" if silent else "raises" if isinstance(event.error, Exception) else "stops"
    return {
        e.StepStarted: "starts",
        e.CompensationStarted: "starts",
        e.VerificationStarted: "starts",
        e.StepSucceeded: "returns",
        e.CompensationSucceeded: "returns",
        e.CompensationTimedOut: "late",
        e.StepSkipped: "skipped",
        e.FallbackChosen: "replaced",
        e.PersonAsked: "asks",
        e.RetryScheduled: "waits",
    }[type(event)]


def commanded(commands: list[Command]) -> str:
    """Return what is commanded, in words."""
    return ", ".join(map(_commanded, commands))


def _commanded(command: Command) -> str:
    if isinstance(command, Merge):
        return "merge"
    if isinstance(command, Finish) and command.step.content is not None:
        return f"{'finish' if command.error is None else 'fail'} {command.step.name}"
    if isinstance(command, Finish):
        return f"finish {command.step.name} with {command.value}"
    name = f"{MARKS[command.phase]}{command.step.name}{f' {command.attempt}' if command.attempt > 1 else ''}"
    return f"call {name}" if isinstance(command, Call) else f"wait {command.delay:g} for {name}"


# -- a machine --------------------------------------------------------------------------------------------------------


def folded(plan: Plan, so_far: str, **options: Any) -> Machine:
    """Return the machine that has folded what happened so far, as it is read from a journal."""
    machine = Machine(plan, "s", "id", **options)
    for clause in clauses(so_far):
        machine.record(event_of(clause, 0.0))
    return machine


#: The facts that some events come of.
_FACTS: Final = {"begins": "begin", "gives up": "give up", "held": "hold", "paused": "rest"}


def lived(plan: Plan, so_far: str, **options: Any) -> Machine:
    """Return the machine to which what happened so far has happened: what it decides itself has to be what is told of it."""
    machine = Machine(plan, "s", "id", **options)
    told_so_far = clauses(so_far)
    while len(machine.events) < len(told_so_far):
        machine.commands.clear()
        happened = told_so_far[len(machine.events)]
        words = happened.split()
        if happened in _FACTS:
            happened = _FACTS[happened]
        elif happened == "recovered":  # by another process, which knows no more than the events
            machine = machine.replayed()
        elif words[1:2] == ["starts"]:  # by itself the machine has not begun it
            happened = f"{words[0]} due {words[2]}" if len(words) > 2 else f"add {words[0]}"
        before = len(machine.events)
        happen(machine, happened, 0.0)
        assert len(machine.events) > before, f"{happened}: nothing came of it"
        assert told(machine.events) == ", ".join(told_so_far[: len(machine.events)])
    machine.commands.clear()
    return machine


def happen(machine: Machine, fact: str, at: float = NOW) -> e.Event | None:
    """Let a fact happen. Return its event, where it is one."""
    words = fact.split()
    if fact == "begin":
        machine.start(at)
    elif fact == "give up":
        machine.give_up(SagaError("given up"), at)
    elif fact == "stop":
        assert machine.halted
        machine.stop(at)
    elif fact == "hold":
        machine.hold(at)
    elif fact == "rest":
        machine.pause(at)
    elif fact == "finish":
        machine.finish(at)
    elif words[0] == "add":
        machine.start_steps((machine.plan.by_name[words[1]],), at)
    elif words[:3] == ["time", "is", "up"]:
        time_out(machine, 60.0, at, [machine.plan.by_name[name].index for name in words[4:]])
    elif words[1:2] == ["due"]:
        step = machine.plan.by_name[words[0].lstrip("-?")]
        machine.wake(Wait(step, int(words[2]) if len(words) > 2 else 1, 0.0, phase_of(words[0])), at)
    else:
        return _take(machine, event_of(fact, at), at)
    return None


def _take(machine: Machine, event: e.Event, at: float) -> e.Event:
    if isinstance(event, e.OperatorActed):
        act(machine, event)
    elif isinstance(event, e.SignalReceived):
        waits.receive(machine, event)
    elif isinstance(event, e.SagaRecovered):
        place = len(machine.events)
        recover(machine, event.owner, event.epoch, at)
        return machine.events[place]
    else:
        machine.send(event)
    return event
