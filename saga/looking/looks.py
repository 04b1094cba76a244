"""How operators look at executions: a part of ``Operations``. Nothing is changed here, and lists read no journal."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from saga.awaited import awaited
from saga.definition import Definition
from saga.durable.rebuild import rebuild, status_of
from saga.durable.shown import details_of, details_of_message
from saga.durable.undoing import check_undo
from saga.errors import ActionRefusedError, DefinitionChangedError, StorageError, UnknownExecutionError
from saga.events import SagaCompensating, SagaRewound, SagaStarted, SagaSubmitted, Status
from saga.fleet import Fleet, statuses
from saga.looking.masks import masked_lines
from saga.looking.offers import known_standing, offers_of
from saga.looking.reading import Reading, fitting
from saga.looking.shown import ExecutionView, JournalLine, Offer
from saga.looking.steps import decisions_of, errors_of, steps_of
from saga.looking.waits import why_it_waits
from saga.machine import ACTIONS, Standing, check, standing_of
from saga.names import checked_id, checked_name
from saga.plain import one_line
from saga.policy import Seconds, in_seconds
from saga.storage.pages import each_of
from saga.storage.records import NONE, Cause, Entry, Page, StoredExecution
from saga.storage.rules import check_number
from saga.turns import checked_tags

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["Looks", "lines_of"]


_NOT_DONE: Final = tuple(status for status in Status if status is not Status.COMPLETED)
"""What has completed is at no step, and was given up for nothing; as most are, they need not be looked through for that."""
_KEYS: Final = 20
"""Keys of tags among which a value is looked for, at most."""


class Looks(Fleet):
    """Lists, rows, journals, causes."""

    def list(
        self,
        *,
        status: Collection[str] | str | None = None,
        name: str | None = None,
        version: str | None = None,
        step: str | None = None,
        cause: str | None = None,
        tags: Mapping[str, Any] | None = None,
        older_than: Seconds | None = None,
        newer_than: Seconds | None = None,
        idle_for: Seconds | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Return a page of executions, newest first. Each row tells where it stands; no journal is read.

        :param status: one :class:`~saga.events.Status`, or several.
        :param step: only those that are at this step, or that failed there; of those that are stuck, where an undo failed last,
            or a person is asked.
        :param cause: only those that were given up for an error of a class of this name; of those that are stuck, with such
            an error of what a person is asked about.
        :param tags: only those that have all of these: ``{"order": "A1"}``.
        :param older_than: only those created at least so many seconds ago.
        :param newer_than: at most.
        :param idle_for: only those with which nothing has happened for so many seconds.
        :param after: the ``next`` of the page before.
        :raises ValueError: there is no such status, the cursor is wrong, or a number is no finite one.
        """
        for what, given in (("older_than", older_than), ("newer_than", newer_than), ("idle_for", idle_for)):
            age = in_seconds(given)
            if age is not None:
                check_number(what, age)
        if status is None and (step is not None or cause is not None):
            status = _NOT_DONE
        now = self.store.now()
        return self.store.list(
            status=None if status is None else statuses(status),
            name=None if name is None else checked_name(name, "name"),
            version=None if version is None else checked_name(version, "version"),
            step=None if step is None else checked_name(step, "step"),
            cause=None if cause is None else checked_name(cause, "cause"),
            tags=NONE if tags is None else checked_tags(tags, "tags"),
            progressed_before=None if idle_for is None else now - in_seconds(idle_for),
            created_before=None if older_than is None else now - in_seconds(older_than),
            created_after=None if newer_than is None else now - in_seconds(newer_than),
            limit=limit,
            after=after,
        )

    alist = awaited(list)

    def all(self, **filters: Any) -> Iterator[StoredExecution]:
        """Yield every execution, page after page; filters as in :meth:`list`."""
        return each_of(self.list, **filters)

    async def aall(self, **filters: Any) -> AsyncGenerator[StoredExecution, None]:
        """Yield every execution, as :meth:`all`; pages are read as by :meth:`alist`."""
        page = await self.alist(**filters)
        while True:
            for execution in page.executions:
                yield execution
            if page.next is None:
                return
            page = await self.alist(**filters, after=page.next)

    def get(self, saga_id: str | UUID) -> StoredExecution:
        """Return an execution's row, which tells where it stands. No journal is read.

        :raises UnknownExecutionError: there is none.
        """
        row = self.store.get(checked_id(saga_id, "saga_id"))
        if row is None:
            raise UnknownExecutionError(f"there is no execution {saga_id!r}")
        return row

    aget = awaited(get)

    def show(self, saga_id: str | UUID) -> ExecutionView:
        """Return an execution, its journal, and what follows from it. Of what is damaged there, what can be read is shown.

        What the definition masks is hidden, where ``sagas`` has it: under each key that the ``mask`` of a
        :class:`~saga.logging.SagaLogger` of its ends with.

        :raises StorageError: there is none.
        """
        row = self.get(saga_id)
        saga_id = row.saga_id
        journal, now = self.store.journal(saga_id), self.store.now()
        definition = fitting(self._definitions, row)
        lines = masked_lines(lines_of(journal), definition)
        reading = Reading(row, journal, definition)
        offers, refused = self._offers(reading, now)
        return ExecutionView(
            execution=row,
            journal=lines,
            inbox=tuple(details_of_message(message.body) for message in self.store.inbox(saga_id)),
            steps=steps_of(reading, lines),
            errors=errors_of(reading, lines),
            decisions=decisions_of(reading),
            offers=offers,
            refused=refused,
            waits=why_it_waits(self.store, reading, definition, now),
        )

    ashow = awaited(show)

    def causes(self, name: str | None = None) -> builtins.list[Cause]:
        """Return why executions are stuck: how many of which saga, at which step, for which class of error; most first.

        Each is counted once: where several undos failed, with the last. Its reason names them all.

        :param name: of this saga alone.
        """
        causes = self.store.causes(None if name is None else checked_name(name, "name"))
        return sorted(causes, key=lambda one: (-one.executions, one.oldest))

    acauses = awaited(causes)

    def find(self, text: str, limit: int = 20) -> builtins.list[StoredExecution]:
        """Return the executions that a text may mean, whatever they are: by an id, by the beginning of ids, and by a tag, which
        is given as ``key=value``, or by its value alone (of the first 20 keys that there are).

        :param limit: how many at most.
        :raises ValueError: ``limit`` is no whole number of at least 1.
        """
        text = checked_name(text, "text")
        found = self.store.beginning_with(text, limit)  # the id itself comes first
        key, equals, value = text.partition("=")
        for tag in [(key, value)] if equals and key and value else [(key, text) for key in self._tag_keys()]:
            tagged = self.list(tags=dict([tag]), limit=limit).executions
            known = {row.saga_id for row in found}
            found += [row for row in tagged if row.saga_id not in known]
            if len(found) >= limit:
                break
        return found[:limit]

    def _tag_keys(self) -> Iterator[str]:
        """Yield the keys that tags have, in order, as far as they are few."""
        key = ""
        for _ in range(_KEYS):
            found = self.store.next_tag(key)
            if found is None:
                return
            yield (key := found)

    afind = awaited(find)

    # -- what fits ----------------------------------------------------------------------------------------------------

    def _offers(self, reading: Reading, now: float) -> tuple[tuple[Offer, ...], dict[str, str]]:
        """Return the actions that fit, and why the others do not."""
        row = reading.row
        try:
            standing = self._known_standing(reading)
        except StorageError as error:  # so would each action say
            return (), dict.fromkeys(ACTIONS, one_line(error))
        why_not = {}
        if standing.status is Status.COMPLETED:
            try:
                self._check("undo", None, row, reading.entries)
            except (ActionRefusedError, StorageError) as error:
                why_not["undo"] = str(error)
        return offers_of(reading, standing, row.owner is not None and row.lease_until > now, why_not)

    def _known_standing(self, reading: Reading) -> Standing:
        standing = self._standing(reading.row, reading.entries)
        if standing.undecided is None and reading.history.state.status is standing.status:  # else the journal is damaged
            return known_standing(reading)
        return standing

    def _asked_about_besides(self, row: StoredExecution) -> tuple[str, ...]:
        """Return the steps that a person is asked about, but for the one that the row names."""
        with suppress(StorageError):  # it was purged, or cannot be read
            reading = Reading(row, self.store.journal(row.saga_id), fitting(self._definitions, row))
            return tuple(step for step in self._known_standing(reading).undecided or () if step != row.step)
        return ()

    _aasked_about_besides = awaited(_asked_about_besides)

    def _check(self, action: str, step: str | None, row: StoredExecution, journal: Sequence[Entry]) -> Standing:
        """Refuse an action that does not fit where an execution stands; return where that is."""
        standing = self._standing(row, journal)
        check(action, step, standing)
        if action == "undo":
            definition = self._definition(row)
            machine = rebuild(definition, row, journal, fetch=False).machine
            check_undo(definition, machine, step, self.store.now())
        return standing

    def _definition(self, row: StoredExecution) -> Definition:
        """Return the definition of an execution, or the one that says what does not fit."""
        known = [one for one in self._definitions if one.name == row.name]
        if not known and row.version == "block":  # whose journal says what its steps are
            from saga.blocks import block_definition

            return block_definition(row.name)
        if not known:
            raise ActionRefusedError(
                f"whether the execution can be undone is known by its definition; give Operations(..., sagas=[...]) that of "
                f"saga {row.name!r}"
            )
        fitting = [one for one in known if one.plan.fingerprint == row.fingerprint or row.version in one.compatible_with]
        return (fitting or known)[0]

    def _standing(self, row: StoredExecution, journal: Sequence[Entry]) -> Standing:
        """Return where an execution stands, as far as that can be told here."""
        for definition in self._definitions:
            if definition.name == row.name:
                with suppress(DefinitionChangedError):
                    return standing_of(rebuild(definition, row, journal, fetch=False).machine.state)
        rewound = max((entry.seq for entry in journal if entry.kind == SagaRewound.__name__), default=0)
        kinds = {entry.kind for entry in journal if entry.seq > rewound}
        unbegun = SagaSubmitted.__name__ in kinds and SagaStarted.__name__ not in kinds
        return Standing(status_of(row), SagaCompensating.__name__ in kinds, unbegun)


def lines_of(journal: Sequence[Entry]) -> tuple[JournalLine, ...]:
    """Return a journal as it is shown, with nothing masked."""
    return tuple(
        JournalLine(entry.seq, entry.at, entry.kind, entry.step, details)
        for entry, details in zip(journal, details_of(journal), strict=True)
    )
