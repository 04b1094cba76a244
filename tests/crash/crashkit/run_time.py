"""What must be so of what is known only when a saga runs: what it lists, by which way it goes, what can be read at rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from crashkit.scenario import Scenario
from crashkit.world import Line
from saga import SagaResult
from saga.durable.sealed import opened
from saga.storage import Entry

SECRETS = ("receipt", "refuses attempt", '"at"', "$tuple")
"""What the values and errors of steps say, and nothing else."""


def faults_at_rest(journal: Sequence[Entry]) -> Iterator[str]:
    """Yield what can be read of values that are encrypted."""
    for entry in journal:
        yield from (f"{secret} can be read in entry {entry.seq}" for secret in SECRETS if secret in entry.payload)


def unsealed(scenario: Scenario, saga_id: str, journal: Sequence[Entry]) -> list[Entry]:
    """Return entries as they were before they were encrypted."""
    codec = scenario.codec
    assert codec is not None
    assert codec.cipher is not None
    return [entry._replace(payload=opened(entry, saga_id, codec.cipher)) for entry in journal]


def faults_of(
    scenario: Scenario,
    lines: Sequence[Line],
    journal: Sequence[Entry],
    dead: Sequence[set[tuple[str, str]]],
    folded: SagaResult | None,
) -> Iterator[str]:
    """Yield what is wrong.

    :param scenario: as it is declared.
    :param dead: for each process that was killed, the calls (kind, step) that were under way.
    """
    lists = scenario.lists(journal)
    asked = Counter(line.step for line in lines if line.verb == "asked")
    killed_in = Counter(step for calls in dead for kind, step in calls if kind == "execute")
    for step, count in asked.items():
        if count > 1 + killed_in[step]:
            yield f"{step} was asked {count} times, and died in {killed_in[step]}"
    # Each answer differs from the one before, so that the wrong one is told from the right one.
    for step, decision in scenario.decisions(journal).items():
        if decision is not None and decision != scenario.choice(step).decided(asked[step] - 1):
            yield f"{step} decided {decision!r}, which was not its last answer"
    for step, listed in lists.items():
        if [item for _, item in listed] != scenario.list_of(step).listed(asked[step] - 1):
            yield f"{step} listed {listed}, which was not its last answer"
    items = {branch: item for listed in lists.values() for branch, item in listed}
    steps = scenario.told_by(journal).names()
    for line in lines:
        if line.verb in ("start", "undoing") and line.step not in steps:
            yield f"{line.verb} {line.step}, which is in no branch that was listed, and on no way that was taken"
        if line.verb.startswith("for-"):
            branch = line.step if line.step in items else line.step.rpartition("/")[0]
            if line.verb != f"for-{items.get(branch)}":
                yield f"{line.step} was executed {line.verb}, and its item is {items.get(branch)}"
    if folded is not None and folded.status == "completed":
        yield from _results_of_lists(scenario, steps, lines, lists, folded)


def _results_of_lists(
    scenario: Scenario,
    steps: Sequence[str],
    lines: Sequence[Line],
    lists: dict[str, list[tuple[str, str]]],
    folded: SagaResult,
) -> Iterator[str]:
    """Yield where the results of a list are not those of its branches, in order; what was skipped has none."""
    done = {line.step for line in lines if line.verb == "did"}
    for step, listed in lists.items():
        if scenario.list_of(step).ends_in_a_step:
            of = [[name for name in steps if name in done and f"{name}/".startswith(f"{branch}/")] for branch, _ in listed]
            found = [result and result["receipt"] for result in folded.results[step]]
            if found != [names[-1] if names else None for names in of]:
                yield f"the results of {step} are those of {found}"
