"""The invariants: what an effects log and a journal must tell about an execution whose processes were killed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from crashkit import doubts, run_time
from crashkit.scenario import Scenario
from crashkit.steps import ALWAYS
from crashkit.world import Line
from saga import Retry, SagaResult
from saga.storage import Entry, StoredExecution

EXECUTE, VERIFY, COMPENSATE = "execute", "verify", "compensate"
CALL = {"StepStarted": EXECUTE, "VerificationStarted": VERIFY, "CompensationStarted": COMPENSATE}
END = {
    "StepSucceeded": EXECUTE,
    "StepFailed": EXECUTE,
    "StepVerified": VERIFY,
    "VerificationFailed": VERIFY,
    "CompensationSucceeded": COMPENSATE,
    "CompensationFailed": COMPENSATE,
}


@dataclass
class Case:
    """What a case's processes left.

    :ivar snapshots: what was stored when each killed process was dead.
    :ivar row: how it ended; :ivar journal: its entries; :ivar folded: the result its journal leads to.
    :ivar operator: the operator's action and its step, if any.
    """

    scenario: Scenario
    lines: Sequence[Line]
    snapshots: Sequence[tuple[StoredExecution | None, Sequence[Entry]]]
    row: StoredExecution | None
    journal: Sequence[Entry]
    folded: SagaResult | None
    operator: tuple[str, str | None] | None = None
    faults: list[str] = field(default_factory=list)

    def expect(self, truth: bool, text: str) -> None:
        if not truth:
            self.faults.append(text)


def judge(case: Case) -> list[str]:
    """Return what is wrong."""
    if case.row is None:
        case.expect(not case.lines, "an execution that was never stored has run")
        return case.faults
    if case.scenario.sealed:
        case.faults.extend(run_time.faults_at_rest(case.journal))
        case.journal = run_time.unsealed(case.scenario, case.row.saga_id, case.journal)
        case.snapshots = [(row, run_time.unsealed(case.scenario, case.row.saga_id, entries)) for row, entries in case.snapshots]
    dead = [in_flight(entries) for _, entries in case.snapshots]
    case.faults.extend(run_time.faults_of(case.scenario, case.lines, case.journal, dead, case.folded))
    case.scenario = case.scenario.told_by(case.journal)
    _status(case)
    _journal(case)
    _intents(case)
    _repeats(case)
    _direction(case)
    _effects(case)
    _truth(case)
    _crashes(case)
    _asked(case)
    _order(case)
    case.faults.extend(doubts.faults_of(case.scenario, case.journal))
    case.expect(not any(line.verb == "bad" for line in case.lines), "a call saw another context than was recorded")
    return case.faults


def in_flight(entries: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return the calls (kind, step) that are under way in a journal: intended, without an outcome."""
    calls: set[tuple[str, str]] = set()
    for entry in entries:
        if entry.kind in CALL:
            calls.add((CALL[entry.kind], entry.step or ""))
        elif entry.kind in END:
            calls.discard((END[entry.kind], entry.step or ""))
    return calls


def gave_up(entries: Sequence[Entry]) -> bool:
    return any(entry.kind == "SagaCompensating" for entry in entries)


def past_pivot(scenario: Scenario, entries: Sequence[Entry]) -> bool:
    return any(entry.kind == "StepSucceeded" and entry.step == scenario.pivot for entry in entries)


def cut_off(case: Case) -> dict[str, str]:
    """Return the steps that a kill left in doubt while the execution went forward, and what follows from that."""
    found = {}
    scenario = case.scenario
    for row, entries in case.snapshots:
        if row is None or gave_up(entries):
            continue
        skipped = {entry.step for entry in entries if entry.kind in ("StepSkipped", "FallbackChosen")}
        for kind, step in in_flight(entries):
            if kind != EXECUTE or step not in scenario.names() or step in skipped:
                continue
            retry = scenario.doing(step).policies.get("retry")
            attempts = sum(entry.kind == "StepStarted" and entry.step == step for entry in entries)
            used_up = scenario.policy(step) == "rerun" and retry is not None and attempts >= most_of(retry)
            found[step] = "compensate" if used_up else scenario.policy(step)
            if past_pivot(scenario, entries):
                found[step] = "rerun"
    return found


def expected_status(case: Case) -> str:
    """Return how the execution has to end."""
    if doubts.asked_left(case.scenario, case.journal):
        return "stuck"
    if case.scenario.doubtful:  # whether it was right to give up is another question
        return "compensated" if gave_up(case.journal) else "completed"
    in_doubt, ends = cut_off(case), case.scenario.ends
    if ends == "stuck" and not _undoable_done(case):  # it was undone before it came to what cannot be
        ends = "compensated"
    if "compensate" in in_doubt.values():
        ends = "compensated" if ends == "completed" else ends
    if case.operator is not None and case.operator[0] in ("compensate", "cancel"):
        return "compensated"
    if case.operator is not None and case.operator[0] == "skip" and case.scenario.doing(case.operator[1] or "").fails == ALWAYS:
        others = [name for name in case.scenario.names() if name != case.operator[1]]
        failing = [n for n in others if case.scenario.doing(n).fails == ALWAYS and not case.scenario.skips(n)]
        return ends if failing or gave_up(case.journal) else "completed"
    if case.operator is not None and ends == "stuck":
        return "compensated"
    return ends


def _undoable_done(case: Case) -> bool:
    """Whether a step was executed whose undo fails."""
    return any(
        entry.step is not None
        and case.scenario.doing(entry.step).undo_fails == ALWAYS
        and (entry.kind == "StepSucceeded" or '"in_doubt":true' in entry.payload)
        for entry in case.journal
    )


def _status(case: Case) -> None:
    row = case.row
    assert row is not None
    expected = expected_status(case)
    case.expect(row.status == expected, f"it is {row.status} and should be {expected}")
    case.expect(row.owner is None and row.lease_until == 0, f"it has ended and is still owned by {row.owner}")
    assert case.folded is not None
    case.expect(case.folded.status == row.status, f"its row says {row.status}, its journal {case.folded.status}")


def _journal(case: Case) -> None:
    case.expect([entry.seq for entry in case.journal] == list(range(1, len(case.journal) + 1)), "the journal has gaps")
    for _, entries in case.snapshots:
        case.expect(list(entries) == list(case.journal[: len(entries)]), "the journal was rewritten")
    ends = [entry.kind for entry in case.journal if entry.kind in ("SagaCompleted", "SagaCompensated")]
    case.expect(len(ends) <= 1, f"it ended more than once: {ends}")


def _intents(case: Case) -> None:
    """Each call has its intent in the journal, and each outcome there has happened."""
    intended = {
        (CALL[entry.kind], entry.step, json.loads(entry.payload)["attempt"]) for entry in case.journal if entry.kind in CALL
    }
    calls = {"start": EXECUTE, "asking": VERIFY, "undoing": COMPENSATE}
    did = {(line.step, line.attempt) for line in case.lines if line.verb == "did"}
    undid = {(line.step, line.attempt) for line in case.lines if line.verb == "undid"}
    for line in case.lines:
        if line.verb in calls:
            kind = calls[line.verb]
            case.expect((kind, line.step, line.attempt) in intended, f"{kind} {line.step} {line.attempt} ran without intent")
    for entry in case.journal:
        if entry.kind in ("StepSucceeded", "CompensationSucceeded") and entry.step in case.scenario.names():
            attempt = json.loads(entry.payload)["attempt"]
            done = did if entry.kind == "StepSucceeded" else undid
            # A late success is that of an attempt which was given up, and is counted with it.
            case.expect((entry.step, attempt) in done, f"the journal has {entry.kind} {entry.step} {attempt}, which is not so")


def _repeats(case: Case) -> None:
    """Only a call that was in flight at a kill is made again, and never as the same attempt."""
    starts = Counter((line.verb, line.step, line.attempt) for line in case.lines if line.verb in ("start", "undoing"))
    for (verb, step, attempt), count in starts.items():
        case.expect(count == 1, f"{verb} {step}, attempt {attempt}, ran {count} times")
    killed_in: Counter[tuple[str, str]] = Counter()
    for _, entries in case.snapshots:
        killed_in.update(in_flight(entries))
    resumed = case.operator is not None and case.operator[0] in ("resume", "retry", "compensate", "cancel")
    calls = Counter((EXECUTE if verb == "start" else COMPENSATE, step) for verb, step, _ in starts)
    for (kind, step), count in calls.items():
        allowed = _attempts(case.scenario, kind, step) + killed_in[kind, step]
        if resumed and (killed_in[EXECUTE, step] or kind == COMPENSATE or case.scenario.doing(step).lost):
            allowed += _attempts(case.scenario, kind, step)
        case.expect(count <= allowed, f"{kind} {step} was called {count} times, and should be at most {allowed} times")


def _attempts(scenario: Scenario, kind: str, step: str) -> float:
    doing = scenario.doing(step)
    retry = doing.policies.get("retry" if kind == EXECUTE else "compensation_retry")
    fails = max(doing.fails, doing.lost, doing.unready) if kind == EXECUTE else doing.undo_fails
    if kind == EXECUTE and scenario.is_past_pivot(step):
        return fails + 1
    if kind == EXECUTE and doing.hangs == "cancelled" and retry is not None:
        fails = max(fails, 1)
    return min(fails + 1, most_of(retry))


def most_of(retry: Retry | None) -> float:
    """Return how many attempts a policy allows, whatever time they take."""
    if retry is None:
        return 1
    return math.inf if retry.max_attempts is None else retry.max_attempts


def _direction(case: Case) -> None:
    """Nothing goes forward once undo has begun, and nothing is undone while it runs."""
    scenario = case.scenario
    given_way = _undone_before_it_gave_up(case)
    for name in given_way - scenario.forward_after_undo:
        case.expect(scenario.gives_way(name), f"{name} was undone before the saga gave up")
    undo_began: Line | None = None
    running: set[tuple[str, int]] = set()
    for line in case.lines:
        if line.verb == "start":
            case.expect(undo_began is None, f"{line.step} was started after the undo of {undo_began and undo_began.step} began")
            running.add((line.step, line.pid))
        elif line.verb == "end":
            running.discard((line.step, line.pid))
        elif line.verb == "undoing":
            case.expect((line.step, line.pid) not in running, f"{line.step} was undone while it ran")
            if line.step not in scenario.forward_after_undo | given_way:
                undo_began = undo_began or line
    began = False
    for entry in case.journal:
        began = began or entry.kind == "SagaCompensating"
        case.expect(not (began and entry.kind == "StepStarted"), f"the journal starts {entry.step} after it gave up")


def _effects(case: Case) -> None:
    """What was done is undone in the end, or stays, as the status says."""
    row = case.row
    assert row is not None
    scenario, lines = case.scenario, case.lines
    doubted: set[str] = set()
    for _, entries in case.snapshots:
        doubted |= {step for kind, step in in_flight(entries) if kind == EXECUTE}
    doubted |= {entry.step or "" for entry in case.journal if '"in_doubt":true' in entry.payload}
    seen_to = {case.operator[1]} if case.operator is not None and case.operator[0] == "skip" else set()
    left_alone = doubts.asked_left(case.scenario, case.journal) | seen_to
    failed_undo = _failed_undos(case)
    for name in scenario.names():
        doing = scenario.doing(name)
        did = [index for index, line in enumerate(lines) if line.verb == "did" and line.step == name]
        undid = [index for index, line in enumerate(lines) if line.verb == "undid" and line.step == name]
        happened = bool(did) and (not undid or undid[-1] < did[-1])
        if undid and not did:
            case.expect(name in doubted or name in scenario.forward_after_undo, f"{name} was undone and never happened")
        if name in left_alone:
            continue
        if row.status == "completed":
            if scenario.skips(name) or name in scenario.forward_after_undo:
                gone = name in _gone_on_without(case)
                case.expect(not (happened and gone), f"{name} was skipped and is not undone")
                continue
            case.expect(happened, f"the saga completed without {name}")
            once = doing.hangs is None and not (doing.fails_after or doing.unready) and name not in doubted
            case.expect(len(did) == 1 or not once, f"{name} was done {len(did)} times")
            case.expect(not undid, f"{name} was undone in a saga that completed")
        elif not gave_up(case.journal):
            given_way = name in _undone_before_it_gave_up(case)
            case.expect(given_way or not undid, f"{name} was undone in a saga that waits for a person to go on")
        elif doing.compensates and name not in failed_undo:
            case.expect(not happened, f"the saga is {row.status}, and {name} is not undone")


def _truth(case: Case) -> None:
    """What the result says of each effect is so."""
    assert case.row is not None
    assert case.folded is not None
    seen_to = {entry.step for entry in case.journal if '"action":"skip"' in entry.payload.replace(" ", "")}
    in_doubt = doubts.left_in_doubt(case.scenario, case.journal)
    failed_undo = _failed_undos(case)
    says, effects = case.folded.in_doubt, case.folded.effects
    case.expect(set(says) == in_doubt, f"in doubt is {sorted(in_doubt)}, and the result says {says}")
    for name in case.scenario.names():
        doing, effect = case.scenario.doing(name), effects[name]
        if name in seen_to or (doing.fails_after and not doing.policies.get("compensate_on_failure")):
            continue  # what a person did is not in the log, and a task that lies is believed
        verbs = [line.verb for line in case.lines if line.step == name and line.verb in ("did", "undid")]
        there = verbs[-1:] == ["did"]
        if effect == "unknown":
            case.expect(name in in_doubt | failed_undo, f"the effect of {name} is unknown, and should be known")
            settled = name not in in_doubt or not doing.compensates or case.row.status == "stuck"
            case.expect(settled, f"it is {case.row.status}, and {name} is in doubt")
        else:
            case.expect(
                there == (effect == "stands"), f"the effect of {name} is {effect}, and it is {'' if there else 'not '}there"
            )


def _crashes(case: Case) -> None:
    """A recovery first of all tells of each execute that was cut off."""
    for row, entries in case.snapshots:
        later = case.journal[len(entries) :]
        for kind, step in sorted(in_flight(entries)):
            if row is None or kind != EXECUTE or step not in case.scenario.names():
                continue
            told = next((entry for entry in later if entry.step == step and entry.kind != "SagaCompensating"), None)
            in_doubt = told is not None and told.kind == "StepFailed" and '"in_doubt":true' in told.payload
            case.expect(in_doubt, f"{step} was cut off, and then comes {told}")


def _asked(case: Case) -> None:
    """Where asking tells what came of a step, it is never done twice, and never undone where there is nothing."""
    for name in case.scenario.names():
        if not case.scenario.doing(name).tells:
            continue
        verbs = [line.verb for line in case.lines if line.step == name]
        case.expect(verbs.count("did") <= 1, f"{name} was done {verbs.count('did')} times, though its verify tells")
        if "undoing" in verbs:
            case.expect(
                "did" in verbs[: verbs.index("undoing")], f"{name} was undone, though its verify tells that it was not done"
            )


def _undone_before_it_gave_up(case: Case) -> set[str]:
    """Return the steps that were to be skipped or replaced, and what may have been left of them."""
    found = set()
    for entry in case.journal:
        if entry.kind == "SagaCompensating":
            break
        if entry.kind == "CompensationStarted":
            found.add(entry.step or "")
    return found


def _gone_on_without(case: Case) -> set[str | None]:
    return {entry.step for entry in case.journal if entry.kind in ("StepSkipped", "FallbackChosen")}


def _failed_undos(case: Case) -> set[str | None]:
    last = {entry.step: entry.kind for entry in case.journal if entry.kind.startswith("Compensation")}
    return {step for step, kind in last.items() if kind == "CompensationFailed"}


def _order(case: Case) -> None:
    """Steps are undone in the reverse order of their ends, as the journal has it; stragglers when they have ended."""
    if case.scenario.undone_together:
        return
    late = {entry.step for entry in case.journal if entry.kind in ("StepTimedOut", "FallbackChosen")}
    late |= _undone_before_it_gave_up(case)
    ended: list[str] = []
    unsettled: set[str | None] = set()  # known to be in doubt for good, unless it is asked again
    for entry, told, steps in doubts.told_by(case.scenario, case.journal):
        left = told.get("in_doubt") or told.get("executed") or (entry.step in steps and steps[entry.step].doubt)
        in_doubt = entry.kind == "StepFailed" and left
        unknown = entry.kind == "VerificationFailed" and entry.step not in unsettled
        if entry.kind == "StepStarted":
            unsettled.discard(entry.step)
        elif entry.kind == "StepSucceeded" or in_doubt or unknown or told.get("done"):
            if unknown:
                unsettled.add(entry.step)
            if entry.step in ended:
                ended.remove(entry.step)
            ended.append(entry.step or "")
    undone = list(dict.fromkeys(line.step for line in case.lines if line.verb == "undoing"))
    asked = {name for name in undone if case.scenario.policy(name) == "ask"}  # undone last, when a person says so
    undone = [name for name in undone if name not in late | asked]
    expected = [name for name in reversed(ended) if name in undone]
    case.expect(
        [name for name in undone if name in ended] == expected, f"undone in the order {undone}, and should be in {expected}"
    )
