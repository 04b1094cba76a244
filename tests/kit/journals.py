"""What every journal and every ending must be, whatever was executed and wherever it died."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from saga import SagaResult, Status, StepStatus
from saga.storage import Entry


def told(entry: Entry) -> str:
    """Return an entry as ``Kind step``."""
    return f"{entry.kind} {entry.step}" if entry.step else entry.kind


def journal_of(store: Any, saga_id: str) -> list[str]:
    """Return an execution's entries as ``Kind step``."""
    return [told(entry) for entry in store.journal(saga_id)]


def outcomes(entries: Iterable[Entry], step: str, undo: bool) -> int:
    """Return how many calls of a step have an outcome of their own in the journal."""
    kinds = ("CompensationSucceeded", "CompensationFailed") if undo else ("StepSucceeded", "StepFailed", "StepTimedOut")
    return sum(entry.kind in kinds and entry.step == step and '"in_doubt":true' not in entry.payload for entry in entries)


class Outside(Protocol):
    """What was done outside: which steps' effects are there, and what was wrong with the calls that had them."""

    faults: list[str]

    def there(self) -> set[str]: ...


def check_journal(entries: Sequence[Entry]) -> None:
    """Intents before outcomes, attempts counted, nothing forward after the undo has begun, undone last first."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].kind == "SagaStarted"
    open_calls: dict[tuple[str, str | None], int] = {}
    attempts: Counter[tuple[str, str | None]] = Counter()
    done: Counter[tuple[str, str | None]] = Counter()
    skipped: set[str | None] = set()
    late: set[str | None] = set()
    undoable: list[str | None] = []
    undone: list[str | None] = []
    gave_up = ended = False
    for entry in entries:
        kind, step, payload = entry.kind, entry.step, json.loads(entry.payload)
        assert not ended or kind in ("SagaRecovered", "OperatorActed"), f"{told(entry)} after the end"
        call = ("undo" if kind.startswith("Compensation") else "verify" if "erif" in kind else "do", step)
        if kind == "VerificationStarted":
            assert ("do", step) not in open_calls, f"{told(entry)} while its execute runs"
            open_calls[call] = payload["attempt"]
        elif kind in ("StepVerified", "VerificationFailed"):
            assert open_calls.pop(call, None) == payload["attempt"], f"{told(entry)} without its intent"
        elif kind in ("StepStarted", "CompensationStarted"):
            assert payload["attempt"] == attempts[call] + 1, told(entry)
            attempts[call] = open_calls[call] = payload["attempt"]
            if kind == "StepStarted":
                assert not gave_up, f"{told(entry)} after the undo has begun"
                late.discard(step)
            else:
                assert ("do", step) not in open_calls, f"{told(entry)} while its execute runs"
                if not gave_up:  # it is undone before it is skipped
                    skipped.add(step)
                if payload["attempt"] == 1 and step not in skipped:
                    undone.append(step)
        elif kind in ("StepSucceeded", "StepFailed", "StepTimedOut", "CompensationSucceeded", "CompensationFailed"):
            assert open_calls.get(call) == payload["attempt"], f"{told(entry)} without its intent"
            if kind == "StepTimedOut" and payload.get("running"):
                late.add(step)
            else:
                del open_calls[call]
                late.discard(step)
            if kind.endswith("Succeeded"):
                done[call] += 1
                assert done[call] == 1, f"{told(entry)} twice"
            if call[0] == "do":
                undoable.append(step)
        elif kind == "RetryScheduled":
            calls = {"execute": "do", "compensate": "undo", "verify": "verify"}[payload["phase"]]
            assert calls == "verify" or payload["attempt"] == attempts[calls, step] + 1
        elif kind == "StepSkipped":
            skipped.add(step)
        elif kind == "SagaCompensating":
            assert not gave_up
            gave_up = True
        elif kind in ("SagaCompleted", "SagaCompensated", "SagaStuck"):
            assert (kind == "SagaCompensated" and gave_up) or (kind == "SagaCompleted" and not gave_up) or kind == "SagaStuck"
            assert not open_calls or kind == "SagaStuck"
            ended = True
        elif kind == "OperatorActed":
            ended = False
    if any(entry.kind == "OperatorActed" for entry in entries):
        return  # what a person had to decide about is undone when that is decided
    ends = {step: place for place, step in enumerate(undoable)}
    first_undo = [ends[step] for step in undone]
    assert first_undo == sorted(first_undo, reverse=True) or late or skipped, f"undone in the order {undone}"


def check_truth(result: SagaResult, world: Outside) -> None:
    """What the result says is what is there."""
    there = world.there()
    if result.status is Status.COMPLETED:
        decided = {record.name for record in result.history if record.name.startswith("choose")}  # which leaves nothing there
        assert there == {record.name for record in result.history if record.status is StepStatus.SUCCEEDED} - decided
    elif result.status is Status.COMPENSATED:
        assert there == set()
        assert result.error is not None
    else:
        assert result.status is Status.STUCK
        assert result.reason is not None
        if result.error is not None:  # the undo has begun, and the reason tells what of it is left
            assert there <= set(re.findall(r"\w+", result.reason))
    assert world.faults == []
