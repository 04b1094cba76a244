"""An execution as its journal has it, read once: the calls that were made, what was known at each entry. Nothing is called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from saga.definition import Definition
from saga.durable.codec import Codec
from saga.durable.entries import read_entries
from saga.durable.rebuild import Rebuilt, codec_of, entries_of, rebuild
from saga.durable.shown import details_of
from saga.errors import SagaDefinitionError, StorageError, UnknownExecutionError
from saga.events import RUNNING
from saga.looking.looks import lines_of
from saga.looking.masks import Masks
from saga.looking.reading import Reading, fitting
from saga.machine import standing_of
from saga.machine.commands import COMPENSATE, EXECUTE, VERIFY
from saga.machine.operators import Standing
from saga.storage.opened import check_store, open_store, place_of
from saga.storage.protocol import Store, StoreLike
from saga.storage.records import Entry, StoredExecution

__all__ = ["Past", "PastCall", "opened", "past_of"]

_INTENTS: Final = {"StepStarted": EXECUTE, "CompensationStarted": COMPENSATE, "VerificationStarted": VERIFY}
_OUTCOMES: Final = {
    "StepSucceeded": EXECUTE,
    "StepFailed": EXECUTE,
    "StepTimedOut": EXECUTE,
    "CompensationSucceeded": COMPENSATE,
    "CompensationFailed": COMPENSATE,
    "CompensationTimedOut": COMPENSATE,
    "StepVerified": VERIFY,
    "VerificationFailed": VERIFY,
}
_FAILED: Final = ("StepFailed", "StepTimedOut", "CompensationFailed", "CompensationTimedOut", "VerificationFailed")


@dataclass(slots=True)
class PastCall:
    """A call that a journal tells of.

    :ivar seq: the entry of its intent: what was known before it is what the entries up to that one say.
    :ivar phase: ``"execute"``, ``"verify"`` or ``"compensate"``.
    :ivar ended: the entry that says what came of it; ``None``: there is none.
    :ivar failed: whether that is an error.
    """

    seq: int
    step: str
    phase: str
    attempt: int
    ended: int | None = None
    failed: bool = False


class Past:
    """An execution's row and journal, and its definition as it is now.

    :ivar lines: the journal's entries as they are shown.
    :ivar calls: those that it tells of, in the order they were begun.
    :ivar reading: all of it, to be looked at.
    :ivar live: whether somebody runs it.
    """

    def __init__(
        self, row: StoredExecution, entries: Sequence[Entry], definition: Definition, now: float, longest_text: int
    ) -> None:
        self.row = row
        self.entries = entries
        self.definition = definition
        self.longest_text = longest_text
        self.codec = codec_of(definition)
        self.masks = Masks(definition)
        self.lines = tuple(map(self.masks.of_line, lines_of(entries)))
        self.calls = list(_calls(entries, definition))
        self.reading = Reading(row, entries, definition)
        self.live = row.owner is not None and row.lease_until > now

    def rebuilt_at(self, seq: int) -> Rebuilt:
        """Return what the entries up to this one lead to: made anew each time.

        :raises DefinitionChangedError: the definition is not compatible with what began it.
        :raises UnreadableJournalError: one of the entries is damaged.
        """
        return rebuild(self.definition, self.row._replace(status=str(RUNNING)), self.entries[:seq])

    def reading_at(self, seq: int) -> Reading:
        """Return the entries up to this one, to be looked at."""
        return Reading(self.row, self.entries[:seq], self.definition)

    def error_at(self, seq: int) -> BaseException | None:
        """Return the error that an entry has."""
        recorded, _ = read_entries(self.entries[:seq], self.codec, self.row.saga_id)
        return getattr(recorded[-1].event, "error", None)

    def standing(self) -> Standing | None:
        """Return where the execution stands; ``None``: its journal is damaged."""
        try:
            return standing_of(rebuild(self.definition, self.row, self.entries).machine.state)
        except StorageError:
            return None

    def call_at(self, seq: int) -> PastCall | None:
        """Return the call that an entry begins, or tells the outcome of."""
        return next((call for call in self.calls if seq in (call.seq, call.ended)), None)

    def asked_about(self) -> PastCall | None:
        """Return the call that somebody looks for who is told nothing else: the one that went wrong.

        That is the last one that failed of a step which a person is asked about; else one of which nobody knows what came, in
        an execution that has not ended; else the last one that failed before the execution gave up, or at all.
        """
        state, steps = self.reading.history.state, self.reading.plan.steps
        over = state.status.terminal
        asked = {steps[index].name for index in (*state.asking, *state.compensations_failed)} if over else set[str]()
        failed = [call for call in self.calls if call.failed]
        unknown = [call for call in self.calls if call.ended is None]
        gave_up = [call for call in failed if state.failed is not None and call.step == state.failed.name]
        executes = [call for call in gave_up if call.phase == EXECUTE]
        for found in (
            [call for call in failed if call.step in asked],
            [] if over else unknown,
            executes,
            failed,
            self.calls,
        ):
            if found:
                return found[-1]
        return None


def _calls(entries: Sequence[Entry], definition: Definition) -> Iterator[PastCall]:
    """Yield the calls that a journal tells of. A step that waits for a time or a signal is none."""
    calls: list[PastCall] = []
    last: dict[tuple[str | None, str], PastCall] = {}
    for entry, details in zip(entries, details_of(entries), strict=True):
        step = definition.plan.by_name.get(entry.step or "")
        attempt = details.get("attempt")
        if entry.kind in _INTENTS and entry.step is not None and isinstance(attempt, int) and not (step and step.pause):
            call = PastCall(entry.seq, entry.step, _INTENTS[entry.kind], attempt)
            last[entry.step, call.phase] = call
            calls.append(call)
        elif entry.kind in _OUTCOMES and (found := last.get((entry.step, _OUTCOMES[entry.kind]))) is not None:
            found.ended, found.failed = entry.seq, entry.kind in _FAILED
    yield from calls


# -- from the store ---------------------------------------------------------------------------------------------------


def past_of(saga_id: str, definitions: Sequence[Definition], store: StoreLike, codec: Codec | None = None) -> Past:
    """Read an execution. The store is not needed after that.

    :param codec: of a block's values and functions.
    :raises UnknownExecutionError: there is none.
    :raises SagaDefinitionError: none of the definitions is its saga's.
    :raises StorageError: the store cannot be read.
    """
    with opened(store) as one:
        row = one.get(saga_id)
        if row is None:
            raise UnknownExecutionError(f"there is no execution {saga_id!r} here; of what was purged, nothing is left")
        entries, now = entries_of(one, saga_id), one.now()
        longest = getattr(one, "longest_text", Store.longest_text)
    return Past(row, entries, _definition(definitions, row, codec), now, longest)


def _definition(definitions: Sequence[Definition], row: StoredExecution, codec: Codec | None) -> Definition:
    same = [one for one in definitions if one.name == row.name]
    if not same and row.version == "block":  # whose journal says what its steps are
        from saga.blocks import block_definition

        return block_definition(row.name, codec=codec)
    if not same:
        raise SagaDefinitionError(
            f"the definition of saga {row.name!r} is not known here; give debug(..., saga) that saga, or `saga debug --import` "
            "the module that has it"
        )
    return fitting(same, row) or same[0]


@contextmanager
def opened(store: StoreLike) -> Iterator[Store]:
    """Open a store for a while; a file that is not there is not made.

    :raises StorageError: it cannot be opened.
    """
    check_store(store)
    if not isinstance(store, str | os.PathLike):
        yield store
        return
    place = place_of(store)
    if place is not None and place[0] == "file" and not Path(str(place[1])).exists():
        raise StorageError(f"there is no file {os.fspath(store)!r}; give the path of a store that is there")
    with open_store(store) as one:
        yield one
