"""One execution as it is shown: what matters first, and no more of it at once than a person reads, however much there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from starlette.datastructures import QueryParams

from saga.events import Effect, StepStatus
from saga.operations import ExecutionView, JournalLine, Offer, StepView
from saga.web.asked import number
from saga.web.decided import decided
from saga.web.timeline import timeline

__all__ = ["MOST_DRAWN", "parts_of"]

T = TypeVar("T")

MOST_DRAWN: Final = 150
"""Steps of which a diagram is drawn, at most."""
_STEPS: Final = 100
_ERRORS: Final = 20
_ENTRIES: Final = 200
_OFFERS: Final = 30

_CONCERNS: Final = {
    StepStatus.COMPENSATION_FAILED: 0,
    StepStatus.IN_DOUBT: 1,
    StepStatus.TIMED_OUT: 2,
    StepStatus.FAILED: 2,
    StepStatus.WAITING: 3,
    StepStatus.RUNNING: 3,
    StepStatus.COMPENSATING: 3,
}
"""By status: how much a step concerns a person, where there are too many to show them all; the others as they are declared."""


class Part(NamedTuple, Generic[T]):
    """Some of many.

    :ivar items: those that are shown.
    :ivar of: how many there are.
    :ivar page: which page of them this is, from 1 on.
    :ivar pages: how many pages there are.
    """

    items: Sequence[T]
    of: int
    page: int
    pages: int


class Entries(NamedTuple):
    """Some entries of a journal, in order.

    :ivar items: those that are shown.
    :ivar of: how many there are.
    :ivar older: before which number those are that come before these; ``None``: none do.
    :ivar first: before which number the first ones are; ``None``: these are.
    :ivar newest: whether these are the last ones.
    """

    items: Sequence[JournalLine]
    of: int
    older: int | None
    first: int | None
    newest: bool


def parts_of(view: ExecutionView, query: QueryParams) -> dict[str, Any]:
    """Return what is shown of an execution.

    :param query: which parts of what is too long to be shown at once.
    :raises ValueError: there is no such part.
    """
    errors = list(enumerate(view.errors, 1))
    shown = _part(errors[::-1], number(query, "errors"), _ERRORS)
    offers = sorted((offer for offer in view.offers if not _is_back(offer)), key=lambda offer: offer.signal is None)
    return {
        "steps": _part(_concerning(view.steps), number(query, "steps"), _STEPS),
        "tally": _tally(view.steps),
        "errors": shown,
        "first_error": errors[:1] if shown.page == 1 < shown.pages else [],
        "journal": _entries(view.journal, number(query, "before")),
        "offers": offers[:_OFFERS],
        "more_offers": len(offers[_OFFERS:]),
        "back": [offer for offer in view.offers if _is_back(offer)],
        "timeline": timeline(view.journal),
        "decided": decided(view),
    }


def _is_back(offer: Offer) -> bool:
    """Return whether it undoes what came after a step."""
    return offer.action == "undo" and offer.step is not None


def _part(items: Sequence[T], page: int | None, size: int) -> Part[T]:
    pages = max(1, -(-len(items) // size))
    page = min(page or 1, pages)
    return Part(items[(page - 1) * size : page * size], len(items), page, pages)


def _concerning(steps: Sequence[StepView]) -> Sequence[StepView]:
    """Return steps as they are declared; of very many, what concerns a person first."""
    return steps if len(steps) <= _STEPS else sorted(steps, key=_concern)


def _concern(step: StepView) -> int:
    if step.asks:
        return 0
    return 1 if step.in_doubt or step.effect is Effect.UNKNOWN else _CONCERNS.get(step.status, 4)


def _tally(steps: Sequence[StepView]) -> list[tuple[StepStatus, int]]:
    """Return how many steps there are of each status, where these are too many to be seen at once."""
    return Counter(step.status for step in steps).most_common() if len(steps) > _STEPS else []


def _entries(journal: Sequence[JournalLine], before: int | None) -> Entries:
    kept = [line for line in journal if before is None or line.seq < before]
    items = kept[-_ENTRIES:]
    if len(items) == len(kept):
        return Entries(items, len(journal), None, None, len(items) == len(journal))
    return Entries(items, len(journal), items[0].seq, journal[_ENTRIES].seq, len(kept) == len(journal))
