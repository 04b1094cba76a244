"""What a bank and a store must tell when all transfers have ended, whatever became of the processes that ran them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from hostkit.bank import Bank
from hostkit.transfers import STEPS, UNDO
from saga.storage import Entry, Store

_DONE = {"completed": True, "compensated": False}


def faults_of(store: Store, bank: Bank, ids: Iterable[str]) -> list[str]:
    """Return what is wrong."""
    faults = [] if bank.total() == 0 else [f"the accounts are {bank.total():+} in all"]
    for saga_id in ids:
        row = store.get(saga_id)
        if row is None or row.status not in _DONE:
            faults.append(f"{saga_id} is {row}")
            continue
        done = bank.done.get(saga_id, set())
        if done - {"screen"} != ({"withdraw", "deposit"} if _DONE[row.status] else set()):
            faults.append(f"{saga_id} is {row.status}, and of it is done: {sorted(done)}")
        if row.owner is not None:
            faults.append(f"{saga_id} has ended, and {row.owner} has it")
        faults += [f"{saga_id}: {fault}" for fault in _faults_of_journal(store.journal(saga_id), row.status)]
        faults += [f"{saga_id}: {fault}" for fault in _faults_of_calls(store.journal(saga_id), bank, saga_id, row.version)]
    return faults


def recovered(store: Store, ids: Iterable[str]) -> int:
    """Return how many were taken over from a process that was lost."""
    return sum(any(entry.kind == "SagaRecovered" for entry in store.journal(saga_id)) for saga_id in ids)


def _faults_of_journal(journal: list[Entry], status: str) -> list[str]:
    faults = []
    if [entry.seq for entry in journal] != list(range(1, len(journal) + 1)):
        faults.append("its journal has gaps")
    if journal[-1].kind != f"Saga{status.capitalize()}":
        faults.append(f"it is {status}, and its last entry {journal[-1].kind}")
    for ended, begun in (("StepSucceeded", "StepStarted"), ("CompensationSucceeded", "CompensationStarted")):
        over: set[str | None] = set()
        for entry in journal:
            if entry.kind == begun and entry.step in over:
                faults.append(f"{begun} of {entry.step} follows its {ended}")
            if entry.kind == ended:
                over.add(entry.step)
    kinds = [entry.kind for entry in journal]
    if "SagaCompensating" in kinds and "StepStarted" in kinds[kinds.index("SagaCompensating") :]:
        faults.append("it went forward while it was undone")
    return faults


def _faults_of_calls(journal: list[Entry], bank: Bank, saga_id: str, version: str) -> list[str]:
    """Every call was told before, and made once; one that was made again was in flight when its process was lost."""
    told: Counter[tuple[str, int]] = Counter()
    for entry in journal:
        if entry.kind in ("StepStarted", "CompensationStarted"):
            step = entry.step or ""
            verb = step if entry.kind == "StepStarted" else UNDO.get(step, "")
            told[verb, json.loads(entry.payload)["attempt"]] += 1
    made = {(verb, attempt): number for (which, verb, attempt), number in bank.calls.items() if which == saga_id}
    twice = {call: (number, told[call]) for call, number in made.items() if not number == told[call] == 1}
    faults = [f"{call} was made {number} times, and told {said} times" for call, (number, said) in twice.items()]
    strange = {verb for verb, _ in made} - {*STEPS[version], *UNDO.values()}
    return [*faults, *(f"{verb} is no step of version {version}" for verb in sorted(strange))]
