"""The rules of doubt, as a journal and an effects log must keep them: written down again here, and not asked of the machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from crashkit.scenario import Scenario
from saga import Retry
from saga.storage import Entry

_ENDS_OF_EXECUTE = ("StepSucceeded", "StepFailed", "StepTimedOut")


@dataclass
class Told:
    """What a journal tells of a step so far.

    :ivar attempt: its last; :ivar ended: how that ended: an entry's kind.
    :ivar doubt: whether it is in doubt; :ivar crashed: whether the process died in its last attempt.
    :ivar executed: whether it ran to its end and what it returned cannot be stored.
    :ivar asked: a person is to decide; :ivar resumed: how often a person said to execute it again.
    :ivar lost: how many attempts left it in doubt; :ivar crashes: in how many a process died.
    :ivar began: when its first attempt began; :ivar ended_at: when the last one ended.
    """

    attempt: int = 0
    ended: str = ""
    doubt: bool = False
    crashed: bool = False
    executed: bool = False
    asked: bool = False
    resumed: int = 0
    lost: int = 0
    crashes: int = 0
    began: float = 0.0
    ended_at: float = 0.0


def told_by(scenario: Scenario, entries: Sequence[Entry]) -> Iterator[tuple[Entry, dict[str, Any], dict[str, Told]]]:
    """Yield each entry with its payload, and what the journal told of each step before it; at the end of it, a last one."""
    steps = {name: Told() for name in scenario.names()}
    forward = True
    for entry in entries:
        payload = json.loads(entry.payload)
        yield entry, payload, steps
        if entry.kind == "SagaCompensating":
            forward = False
        elif entry.kind == "OperatorActed":
            _act(payload["action"], steps, entry.step, forward)
        elif entry.step in steps:
            _tell(steps[entry.step], entry, payload, scenario.policy(entry.step))
    yield Entry(len(entries) + 1, "", None, "{}", 0.0), {}, steps


def _tell(step: Told, entry: Entry, payload: dict[str, Any], policy: str) -> None:
    kind = entry.kind
    if kind == "StepStarted":
        step.attempt, step.asked, step.began = payload["attempt"], False, step.began or entry.at
    elif kind in _ENDS_OF_EXECUTE:
        step.ended_at = entry.at
        unknown = bool(payload.get("in_doubt")) or (kind == "StepTimedOut" and not payload.get("running"))
        step.ended, step.executed = kind, bool(payload.get("executed"))
        step.crashed = unknown and payload.get("error", {}).get("type", "").endswith("CrashError")
        step.lost, step.crashes = step.lost + unknown, step.crashes + step.crashed
        step.doubt = (step.doubt or unknown) and kind != "StepSucceeded" and not step.executed
        step.asked = step.doubt and policy == "ask"
    elif kind in ("StepVerified", "CompensationSucceeded"):
        step.doubt = step.asked = False
        step.ended = "StepSucceeded" if payload.get("done") else step.ended


def _act(action: str, steps: dict[str, Told], which: str | None, forward: bool) -> None:
    for name, step in steps.items():
        if action == "skip":
            step.doubt, step.asked = step.doubt and name != which, step.asked and name != which
        elif action in ("compensate", "cancel"):
            step.asked = False
        elif action == "resume" and forward:
            step.resumed += step.asked
            step.asked = False


def asked_left(scenario: Scenario, entries: Sequence[Entry]) -> set[str]:
    """Return the steps a person was asked about and has not decided on."""
    *_, (_, _, steps) = told_by(scenario, entries)
    return {name for name, step in steps.items() if step.asked}


def left_in_doubt(scenario: Scenario, entries: Sequence[Entry]) -> set[str]:
    """Return the steps that nothing has settled."""
    *_, (_, _, steps) = told_by(scenario, entries)
    return {name for name, step in steps.items() if step.doubt}


def faults_of(scenario: Scenario, entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what a journal does against the rules."""
    past_pivot = person = False
    unanswered: set[str] = set()  # in doubt, and not asked about since
    for entry, payload, steps in told_by(scenario, entries):
        name = entry.step or ""
        step = steps.get(name, Told())
        if entry.kind == "OperatorActed":
            person = person or payload["action"] in ("compensate", "cancel")
            if payload["action"] != "skip":  # who decides is told what there is to know by now
                unanswered |= {one for one, told in steps.items() if told.asked and scenario.doing(one).verify}
        elif entry.kind == "SagaCompensating" and not person:
            if past_pivot or not (_may_give_up(scenario, name, step) if name else scenario.timeout is not None):
                yield f"it gave up because of step {name!r}, which was {step}"
        elif entry.kind == "StepStarted" and step.attempt:
            if not past_pivot and not _may_be_made_again(scenario, name, step):
                yield f"attempt {payload['attempt']} of {name} follows what was {step}"
        elif entry.kind == "VerificationStarted" and not step.doubt:
            yield f"verify of {name} is asked though it is not in doubt"
        if name in unanswered and entry.kind != "VerificationStarted" and entry.kind not in _ENDS_OF_EXECUTE:
            yield f"{entry.kind} of {name}, which is in doubt, before its verify is asked"
        unanswered.discard(name)
        in_doubt = entry.kind == "StepFailed" and not payload.get("executed") and (payload.get("in_doubt") or step.doubt)
        if in_doubt and scenario.doing(name).verify:
            unanswered.add(name)
        past_pivot = past_pivot or (name == scenario.pivot and (entry.kind == "StepSucceeded" or bool(payload.get("done"))))
    if unanswered:
        yield f"verify of {sorted(unanswered)} was never asked"


def _may_give_up(scenario: Scenario, name: str, step: Told) -> bool:
    """Whether the saga may give up because of the step, before the pivot."""
    if scenario.waits_in_vain(name):
        return True
    retry, policy = scenario.doing(name).policies.get("retry"), scenario.policy(name)
    used_up = not _lasts(retry, step)
    if step.executed or (step.resumed and not scenario.gives_way(name)):
        return True
    if step.crashed and policy == "rerun" and retry is None:
        return False
    if step.crashed and step.doubt:
        return policy == "compensate" or (policy == "rerun" and used_up)
    if step.doubt and policy == "ask":
        return not scenario.gives_way(name)
    return used_up and not scenario.gives_way(name)


def _may_be_made_again(scenario: Scenario, name: str, step: Told) -> bool:
    """Whether another attempt may follow, before the pivot."""
    retry, policy = scenario.doing(name).policies.get("retry"), scenario.policy(name)
    if step.resumed:
        return True
    if step.doubt and policy == "ask":
        return False
    if step.crashed and policy == "rerun" and retry is None:
        return True
    if step.crashed and step.doubt and policy != "rerun":
        return False
    return _lasts(retry, step)


def _lasts(retry: Retry | None, step: Told) -> bool:
    """Whether a policy has another attempt."""
    if retry is None or (retry.max_attempts is not None and step.attempt >= retry.max_attempts):
        return False
    return retry.max_elapsed is None or step.ended_at + retry.backoff - step.began <= retry.max_elapsed
