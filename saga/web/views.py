"""What each page shows, from ``Operations`` alone: values for its template. Nothing is rendered or done here."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import QueryParams

from saga.errors import SagaDefinitionError, UnknownExecutionError
from saga.events import Status
from saga.looking.waits import why
from saga.operations import Cause, Offer, Operations
from saga.plain import one_line
from saga.web.asked import Asked, asked
from saga.web.execution import MOST_DRAWN, parts_of
from saga.web.shown import STYLE

if TYPE_CHECKING:
    from saga.definition import Definition
    from saga.diagram.shape import Certified
    from saga.saga import Saga
    from saga.storage import StoredExecution

__all__ = ["AT_ONCE", "FEW", "ON_MANY", "Seen", "Views", "key_of"]

ON_MANY: Final = ("retry", "resume", "skip", "pause", "cancel", "compensate")
"""What can be done with many at once."""
AT_ONCE: Final = 1000
"""With how many that can be."""
FEW: Final = 50
"""Of how many it is shown then what becomes of them."""
_GROUPS: Final = 50
"""Causes that are shown: the most frequent ones."""
_ASKED: Final = 10
"""Of how many causes it is found out at once what can be done."""
_FLEET: Final = 100
"""Workers, versions and what is held: how many of each are shown."""
_NAMES: Final = 200
"""Sagas that the filter proposes."""
_IDLE: Final = 300.0
"""Seconds after which it is worth saying that nothing has happened with what goes on."""
_LOOKED_AT: Final = 20
"""With how many it is looked up why."""
_GOES_ON: Final = (Status.RUNNING, Status.COMPENSATING, Status.SUBMITTED)


@dataclass(frozen=True)
class Seen:
    """
    :ivar template: its name; what changes is in ``live/`` under the same name.
    :ivar code: the status of the answer.
    """

    template: str
    title: str
    values: dict[str, Any]
    code: int = 200


class _Standing:
    """How the certificates of a saga's tasks stand, asked once: sources are read for it."""

    def __init__(self, standing: Mapping[str, str]) -> None:
        self._standing = standing

    def standing(self, definition: Definition) -> Mapping[str, str]:
        return self._standing


class Views:
    """
    :param operations: what is asked.
    :param sagas: the definitions that are known.
    """

    def __init__(self, operations: Operations, sagas: Sequence[Saga[Any]], certificates: Certified | None) -> None:
        self._operations = operations
        self._sagas = sagas
        self._certified = {}
        if certificates is not None:
            self._certified = {id(saga): _Standing(certificates.standing(saga.definition)) for saga in sagas}
        self._samples: dict[tuple[Any, ...], tuple[str, list[Offer]]] = {}

    async def executions(self, query: QueryParams) -> Seen:
        """The list: chips, filters, a page of rows."""
        try:
            wanted, wrong = asked(query), None
            text = wanted.given("q")
            if text:
                rows: Sequence[StoredExecution] = await self._operations.afind(text, limit=50)
                following = None
            else:
                page = await self._operations.alist(**wanted.filters, limit=50, after=wanted.after)
                rows, following = page.executions, page.next
            now = await asyncio.to_thread(self._operations.store.now)
            rows = [row._replace(reason=why(row, now)) for row in rows]
        except (ValueError, SagaDefinitionError) as error:
            wanted, rows, following, wrong = asked(QueryParams()), (), None, one_line(error)
        counts: dict[str, int | None] = dict.fromkeys(map(str, Status))
        if {"status", "name"}.issuperset(wanted.filters):  # else it is not known how many those are
            found = await self._operations.acount(("status",), name=wanted.filters.get("name"))
            counts = {status: dict(found).get((status,), 0) for status in counts}
        names = [values[0] for values, _ in await self._operations.acount(("name",))][:_NAMES]
        return Seen(
            "executions.html",
            "Executions",
            {
                "asked": wanted,
                "rows": rows,
                "counts": counts,
                "chips": _chips(wanted, counts),
                "names": names,
                "many": ON_MANY,
                "following": None if following is None else wanted.address(after=following),
                "wrong": wrong,
            },
            200 if wrong is None else 400,
        )

    async def causes(self, query: QueryParams) -> Seen:
        """What is stuck, by saga, step and class of error."""
        found = await self._operations.acauses()
        samples = await self._samples_of(found[:_GROUPS])
        groups = [(key_of(cause), cause, _address_of(cause), samples.get(cause[:3])) for cause in found[:_GROUPS]]
        values = {
            "groups": groups,
            "more": len(found) - len(groups),
            "total": sum(one.executions for one in found),
            "at_once": AT_ONCE,
        }
        return Seen("causes.html", "Causes", values)

    async def _samples_of(self, causes: Sequence[Cause]) -> dict[tuple[Any, ...], list[Offer]]:
        """Return for causes what can be done with the sample of each, and so with all that are stuck for the same.

        What is known stays known. Of the others, no more are looked at than an answer has time for: they come next time.
        """
        before, known = self._samples, {}
        for cause in causes:
            if before.get(cause[:3], ("",))[0] == cause.sample:
                known[cause[:3]] = before[cause[:3]]
        for cause in [cause for cause in causes if cause[:3] not in known][:_ASKED]:
            with suppress(UnknownExecutionError):  # it is gone by now
                view = await self._operations.ashow(cause.sample)
                row = view.execution
                if (row.status, row.name, row.step, row.cause) == (Status.STUCK, *cause[:3]):
                    offers = [one for one in view.offers if one.action in ON_MANY and one.step in (None, cause.step)]
                    known[cause[:3]] = cause.sample, offers
        self._samples = known
        return {which: offers for which, (_, offers) in known.items()}

    async def execution(self, query: QueryParams) -> Seen:
        """One execution.

        :raises UnknownExecutionError: there is none of this id.
        """
        view = await self._operations.ashow(query.get("id", ""))
        row = view.execution
        saga = self._saga_of(row)
        picture, why_none = await asyncio.to_thread(self._picture, saga, row.saga_id)
        return Seen(
            "execution.html",
            row.saga_id,
            {
                "view": view,
                "row": row,
                "known": saga is not None,
                "picture": picture,
                "why_none": why_none,
                "query": query,
                **parts_of(view, query),
            },
        )

    async def some(self, query: QueryParams) -> Seen:
        """Executions by their ids: what has become of those that were acted on."""
        rows = []
        for saga_id in query.getlist("of")[:FEW]:
            with suppress(UnknownExecutionError, SagaDefinitionError):  # it is gone by now, or there never was one
                rows.append(await self._operations.aget(saga_id))
        tally = Counter(row.status for row in rows).most_common()
        of = [("of", row.saga_id) for row in rows]
        return Seen("some.html", "Executions", {"rows": rows, "tally": tally, "of": of, "back": None})

    async def health(self, query: QueryParams) -> Seen:
        """Workers, versions, what is held, what is oldest, with what nothing happens."""
        operations = self._operations
        causes = await operations.acauses()
        idle, more_idle = await self._idle()
        counts = {status: number for (status,), number in await operations.acount(("status",))}
        return Seen(
            "health.html",
            "Health",
            {
                "workers": await operations.aworkers(),
                "versions": await operations.aversions(),
                "holds": await operations.aholds(),
                "most": _FLEET,
                "stuck": counts.get("stuck", 0),
                "submitted": counts.get("submitted", 0),
                "oldest": min((cause.oldest for cause in causes), default=None),
                "idle": idle,
                "more_idle": more_idle,
                "minutes": round(_IDLE / 60),
                "store": type(operations.store).__name__,
                "tables": operations.store.schema_version,
            },
        )

    async def _idle(self) -> tuple[list[StoredExecution], bool]:
        """Return executions that go on, and with which nothing has happened, with why; and whether there are more.

        What waits on purpose is none of them: for a time, or for a signal.
        """
        page = await self._operations.alist(status=_GOES_ON, idle_for=_IDLE, limit=200)
        now = await asyncio.to_thread(self._operations.store.now)
        rows = [row for row in page.executions if row.opens <= now and (row.owner is not None or row.due <= now)]
        idle = []
        for row in rows[:_LOOKED_AT]:
            with suppress(UnknownExecutionError):  # it is gone by now
                waits = (await self._operations.ashow(row.saga_id)).waits
                held = row.owner is not None and row.lease_until > now
                if waits is None or not held:  # who holds it waits for nothing else
                    idle.append(row._replace(reason=waits or f"{row.step or 'a call'} runs, and has not ended"))
        return idle, page.next is not None or len(rows) > _LOOKED_AT

    def _saga_of(self, row: StoredExecution) -> Saga[Any] | None:
        """Return the saga whose definition an execution fits."""
        for saga in self._sagas:
            definition = saga.definition
            fits = definition.plan.fingerprint == row.fingerprint or row.version in definition.compatible_with
            if definition.name == row.name and fits:
                return saga
        return None

    def _picture(self, saga: Saga[Any] | None, saga_id: str) -> tuple[str | None, str | None]:
        """Return a diagram of what happened, or why there is none. Codecs' functions are called here."""
        if saga is None:
            return None, "no definition that it fits is known here"
        if len(saga.definition.plan.steps) > MOST_DRAWN:
            return None, f"its saga has {len(saga.definition.plan.steps)} steps, too many to be drawn here"
        try:
            result = saga.load(saga_id, store=self._operations.store)
            svg = saga.diagram(result, certificates=self._certified.get(id(saga))).svg()
            return svg.replace(f"<style>{STYLE}</style>", ""), None
        except Exception as error:  # a user's codec may raise anything
            return None, one_line(error)


def _chips(wanted: Asked, counts: Mapping[str, int | None]) -> list[tuple[str, int | None, str, bool]]:
    """Return for each status: how many there are, if that is known, the address that asks for it, whether it is asked for."""
    chosen = wanted.statuses
    return [
        (status, number, wanted.address(status=None if [status] == chosen else status, q=None), status in chosen)
        for status, number in counts.items()
    ]


def key_of(cause: Cause) -> str:
    """Return what stands for a cause in a form."""
    return hashlib.sha256(json.dumps(cause[:3]).encode()).hexdigest()[:16]


def _address_of(cause: Cause) -> str:
    wanted = Asked((("status", "stuck"), ("name", cause.name)), {}, None)
    return wanted.address(**{key: value for key, value in (("step", cause.step), ("cause", cause.cause)) if value is not None})
