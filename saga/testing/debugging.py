"""Debug the past: an execution as it was at an entry of its journal, and a call of it made again. Nothing is ever stored."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from saga.awaitables import discard
from saga.context import Context
from saga.definition import check_codec, definitions_of
from saga.durable.codec import Codec
from saga.errors import ActionRefusedError, SagaDefinitionError
from saga.events import COMPENSATED, COMPLETED, PAUSED, STUCK
from saga.looking.shown import JournalLine
from saga.machine.commands import EXECUTE, VERIFY
from saga.names import checked_id
from saga.plain import one_line, shortened
from saga.result import error_line
from saga.saga import Saga
from saga.storage.protocol import StoreLike
from saga.task import Done
from saga.testing.again import Again, Calling
from saga.testing.past import Past, PastCall, past_of

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["Moment", "debug"]

_LONGEST: Final = 200
"""Characters of a value as it is shown."""
_FOLLOWING: Final = 8
"""Entries that are shown after a call."""


def debug(
    saga_id: str | UUID,
    saga: Saga[Any] | Iterable[Saga[Any]] | None = None,
    *,
    store: StoreLike | None = None,
    at: int | None = None,
    codec: Codec | None = None,
) -> Moment:
    """Return a stored execution as it was right before the call that went wrong: one that failed, or that is in doubt.

    The journal is only read, and nothing is stored, then or later.

    :param saga: its definition, as the code is now, or several to choose from; none is needed for a block's.
    :param store: where it is; the saga's own store where not given.
    :param at: an entry of the journal, to see it as it was then. The entry of a call, or of what came of it: right before
        that call.
    :param codec: a block's; its ``modules`` name those whose functions may be called again.
    :raises UnknownExecutionError: there is no such execution, or it was purged.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible with this one.
    :raises SagaDefinitionError: none of the definitions is its saga's, or there is no store.
    :raises UnreadableJournalError: an entry up to there is damaged.
    :raises ValueError: it has no such entry.
    :raises StorageError: the store cannot be read.
    """
    sagas = () if saga is None else (saga,) if isinstance(saga, Saga | type) else tuple(saga)
    definitions = definitions_of(sagas, "debug(): saga")
    check_codec(codec, "debug(): codec")
    if store is None:
        store = next((one.store for one in sagas if one.store is not None), None)
    if store is None:
        raise SagaDefinitionError("debug() needs a store: give store=..., or a saga that has one")
    return Moment(past_of(checked_id(saga_id, "saga_id"), definitions, store, codec), store, at)


class Moment:
    """An execution as it was at an entry of its journal: made by :func:`debug`, and by :meth:`at`.

    ``str()`` of it has all that was known then, without what the definition's loggers mask. The attributes have everything.

    :ivar saga_id: the execution's id.
    :ivar seq: the last entry of what was known: the intent of the call, where it is at one.
    :ivar step: the step that is called; ``None``: the entry is no call's.
    :ivar phase: ``"execute"``, ``"verify"`` or ``"compensate"``; ``None`` as before.
    :ivar attempt: which attempt of it; ``None`` as before.
    :ivar context: the context as the call saw it: that of its own branch. Nobody else has it.
    :ivar results: what the steps had returned, by name, as far as the call could know.
    :ivar followed: the entries that came after.
    """

    def __init__(self, past: Past, store: StoreLike, at: int | None) -> None:
        self._past = past
        self._store = store
        self._call = self._called(at)
        self.saga_id = past.row.saga_id
        self.seq = self._call.seq if self._call is not None else at if at is not None else len(past.entries)
        self.step = self._call.step if self._call is not None else None
        self.phase = self._call.phase if self._call is not None else None
        self.attempt = self._call.attempt if self._call is not None else None
        self.context = self._view()
        self.results: Mapping[str, Any] = dict(self.context.__binding__.results)
        self.followed: tuple[JournalLine, ...] = past.lines[self.seq :]

    def _called(self, at: int | None) -> PastCall | None:
        """Return the call that is looked at.

        :raises ValueError: there is no such entry.
        """
        if at is None:
            return self._past.asked_about()
        entries = len(self._past.entries)
        if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= entries:
            raise ValueError(f"execution {self._past.row.saga_id!r} has no entry {at!r}; its journal has 1 to {entries}")
        return self._past.call_at(at)

    def _view(self) -> Context:
        if self._call is not None:
            return Calling(self._past, self._call, self._store, True, False).view
        rebuilt = self._past.rebuilt_at(self.seq)
        step = rebuilt.machine.plan.by_name.get(self._past.entries[self.seq - 1].step or "")
        return rebuilt.views.context if step is None else rebuilt.views.for_compensate(step)

    @cached_property
    def error(self) -> BaseException | None:
        """What the call raised then; ``None``: it did not, or nobody knows what came of it."""
        call = self._call
        return None if call is None or call.ended is None or not call.failed else self._past.error_at(call.ended)

    @property
    def said(self) -> str | None:
        """What the call raised then, in a line: ``Class: text``; ``None`` as before."""
        return None if self.error is None else one_line(error_line(self.error))

    def at(self, seq: int) -> Moment:
        """Return the same execution at another entry: nothing is read again.

        :raises ValueError: there is none.
        """
        return Moment(self._past, self._store, seq)

    # -- made again ---------------------------------------------------------------------------------------------------

    def call(self, *, allow_effects: bool = False, pdb: bool = False) -> Again:
        """Make the call again, with the code as it is now and the context as it was then, and return what came of it.

        Nothing is stored. Sockets, subprocesses, writes of files and of stores are refused within it, in this thread and those
        that it starts; see the guide for what that cannot see. A transactional step is made in a transaction that is rolled
        back. Observers hear of nothing.

        :param allow_effects: let it have effects.
        :param pdb: stop at the first line of it, in the debugger.
        :raises ActionRefusedError: the entry is no call's, or it cannot be made again.
        :raises EffectRefusedError: the step is transactional, which is an effect.
        :raises SagaDefinitionError: it is a coroutine function, and an event loop runs: use :meth:`acall`.
        """
        calling = self._calling(allow_effects, pdb)
        if calling.in_loop:
            _check_no_loop()
            return calling.told(asyncio.run(calling.amade()))
        made = calling.made()
        if calling.is_left(made):
            _check_no_loop(made[2])
            made = asyncio.run(calling.rest_of(made))
        return calling.told(made)

    async def acall(self, *, allow_effects: bool = False, pdb: bool = False) -> Again:
        """Make the call again in the running event loop: as :meth:`call`. A plain function is called in the loop's thread."""
        calling = self._calling(allow_effects, pdb)
        if calling.in_loop:
            return calling.told(await calling.amade())
        made = calling.made()
        return calling.told(await calling.rest_of(made) if calling.is_left(made) else made)

    def _calling(self, allow_effects: bool, pdb: bool) -> Calling:
        if self._call is None:
            entry = self._past.entries[self.seq - 1]
            known = ", ".join(str(call.seq) for call in self._past.calls) or "none"
            raise ActionRefusedError(f"entry {entry.seq} ({entry.kind}) is no call; entries that are: {known}")
        calling = Calling(self._past, self._call, self._store, allow_effects, pdb)
        calling.check()
        return calling

    # -- shown --------------------------------------------------------------------------------------------------------

    @property
    def saga(self) -> str:
        """The saga's name."""
        return self._past.row.name

    @property
    def status(self) -> str:
        """Where the execution stands now."""
        return self._past.row.status

    @property
    def when(self) -> float:
        """The time of the entry, in seconds since the epoch."""
        return self._past.entries[self.seq - 1].at

    @property
    def title(self) -> str:
        """Which call it is, in a line."""
        if self._call is None:
            return f"entry {self.seq}, {one_line(self._past.entries[self.seq - 1].kind)}"
        return f"entry {self.seq}, right before {one_line(self._title(self._call))}"

    @staticmethod
    def _title(call: PastCall) -> str:
        return f"{call.phase} of {call.step}, attempt {call.attempt}"

    def shown_context(self) -> dict[str, Any]:
        """Return the context's values as they are stored, without what is masked."""
        recorded = self.context.__binding__.recorded or {}
        values = {key: json.loads(text) for key, (_, text) in recorded.items()}
        return self._past.masks.of(values)  # type: ignore[no-any-return]

    def shown_results(self) -> dict[str, Any]:
        """Return the results as they are stored, without what is masked."""
        encode, masks = self._past.codec.encode, self._past.masks
        return {step: masks.of_result(step, json.loads(encode(value))) for step, value in self.results.items()}

    def shown_again(self, made: Again) -> tuple[Any, dict[str, Any]]:
        """Return what a call that was made again returned and changed, as they would be stored, without what is masked.

        What ``verify`` returned is a dict with ``done``, and the ``result`` where it was.
        """
        masks = self._past.masks

        def shown(value: Any) -> Any:
            return masks.of_result(self.step, json.loads(self._past.codec.encode(value)))

        result = None
        if made.returned and self.phase == VERIFY:
            result = {"done": True, "result": shown(made.result.result)} if isinstance(made.result, Done) else {"done": False}
        elif made.returned and made.result is not None and self.phase == EXECUTE:
            result = shown(made.result)
        return result, masks.of(made.changes)

    def others(self) -> list[tuple[int, str]]:
        """Return the other calls that failed, or of which nobody knows: the entry of each, and what it is."""
        found = []
        for call in self._past.calls:
            if call is not self._call and (call.failed or call.ended is None):
                error = None if call.ended is None else self._past.lines[call.ended - 1].details.get("error")
                why = f"{str(error.get('type')).rpartition(':')[2]}: {error.get('text')}" if isinstance(error, dict) else "?"
                found.append((call.seq, one_line(f"{self._title(call)}: {why}")))
        return found

    def told(self, made: Again) -> str:
        """Return what came of the call that was made again, what would follow, and what does it for real: as it is shown."""
        return "\n".join(self._told(made))

    def _told(self, made: Again) -> Iterator[str]:
        for effect in made.refused:
            yield f"refused: {one_line(effect)}"
        if made.left:
            yield "the debugger was left before the call had ended: nothing came of it"
            return
        result, changes = self.shown_again(made)
        if made.error is None:
            yield "it returned" if result is None else f"it returned {_shown(result)}"
        else:
            yield f"it {'failed:' if made.traceback is None else 'raised'} {made.said}"  # what it returned may be wrong
            yield from map(one_line, (made.traceback or "").splitlines())
        yield from _values("it changed the context", {**changes, **dict.fromkeys(made.removed, "(removed)")})
        if made.refused:
            yield "so this does not tell what it does; --allow-effects lets it have its effects"
            return
        yield f"what would have followed then: {made.follows}"
        if made.offer is not None:
            yield f"to have it done: {made.offer.command(self.saga_id)}"
            yield f"  {made.does}"
        else:
            yield self._why_nobody()

    def _why_nobody(self) -> str:
        """Return why no action makes the call for real."""
        status = self.status
        if self._past.live:
            return "somebody runs it now, so what follows is up to that"
        if status in (COMPLETED, COMPENSATED):
            return f"it has ended ({status}), so nobody makes this call again: execute or submit it anew, under another id"
        if status in (STUCK, PAUSED):
            return f"no action makes this call again; saga show {shlex.quote(self.saga_id)} has those that fit"
        return "a worker or a recovery goes on with it, without a word of yours"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield one_line(f"{self.saga} {self.saga_id}, which is {self.status}")
        yield self.title
        yield from _values("context", self.shown_context())
        yield from _values("results", self.shown_results())
        if self.error is not None:
            yield f"it raised {self.said}"
        if self.followed:
            yield "what followed"
            yield from (f"  {line}" for line in self.followed[:_FOLLOWING])
            more = len(self.followed) - _FOLLOWING
            if more > 0:
                yield f"  ... and {more} more"
        others = self.others()
        if others:
            yield "other calls that went wrong"
            yield from (f"  {seq:>4}  {text}" for seq, text in others)


def _values(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield title
        most = max(len(one_line(key)) for key in values)
        for key, value in values.items():
            yield f"  {one_line(key):<{min(most, 40)}}  {_shown(value)}"


def _shown(value: Any) -> str:
    return shortened(one_line(json.dumps(value, ensure_ascii=False)), _LONGEST)


def _check_no_loop(value: Any = None) -> None:
    """See that no event loop runs in this thread.

    :param value: what was to be awaited.
    :raises SagaDefinitionError: one does.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    discard(value)
    raise SagaDefinitionError("the call is to be awaited, and an event loop runs: use `await moment.acall(...)`")
