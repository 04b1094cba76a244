"""Executions rebuilt from their journals: to look at, to act on, to go on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from saga import events as e
from saga.clocks import host_time
from saga.context import Context
from saga.definition import Definition
from saga.drivers.base import Driver
from saga.drivers.views import Views, bind
from saga.durable.codec import Codec
from saga.durable.entries import Errors, Recorded, read_entries, unreadable
from saga.durable.importable import read_step
from saga.durable.journal import Journal
from saga.durable.leases import owner
from saga.durable.messages import read_message
from saga.durable.values import apply_changes, rebuild_context, remember_recorded
from saga.errors import (
    DefinitionChangedError,
    EncodingError,
    NotReadyError,
    StorageError,
    UnknownExecutionError,
    UnreadableJournalError,
    is_a,
)
from saga.machine import Machine, OpenPlan, Plan, act, check_order, contradiction, recover
from saga.result import SagaResult
from saga.storage.protocol import Store
from saga.storage.records import Entry, Lease, StoredExecution

__all__ = ["Rebuilt", "codec_of", "entries_of", "journal_of", "load", "rebuild", "row_of", "status_of", "take_up"]

D = TypeVar("D", bound=Driver)

_default_codec: Codec | None = None


def codec_of(definition: Definition) -> Codec:
    """Return how a definition's values are stored."""
    global _default_codec
    if definition.codec is not None:
        return definition.codec
    if _default_codec is None:
        _default_codec = Codec()
    return _default_codec


class Rebuilt:
    """What a journal leads to.

    :ivar machine: with no commands.
    :ivar views: what its calls saw and changed.
    :ivar written: how many entries there are.
    :ivar errors: those that they have.
    """

    def __init__(self, machine: Machine, views: Views, written: int, errors: Errors) -> None:
        self.machine = machine
        self.views = views
        self.written = written
        self.errors = errors

    def result(self) -> SagaResult:
        """Return how the execution stands."""
        return SagaResult(self.machine.plan, self.machine.log, self.views.context)


_FIRST: Final = (e.SagaSubmitted, e.SagaStarted)


def rebuild(definition: Definition, row: StoredExecution, entries: Sequence[Entry], *, fetch: bool = True) -> Rebuilt:
    """Return what an execution's journal leads to.

    :param fetch: else only its machine is of use: values that are elsewhere have words in their place, where the plan is known
        without them.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises UnreadableJournalError: an entry is missing, cannot be read, or contradicts what comes before it.
    """
    plan = definition.plan
    if row.fingerprint != plan.fingerprint and row.version not in definition.compatible_with:
        if row.version == definition.version:
            raise DefinitionChangedError(
                f"execution {row.saga_id!r} was begun by version {row.version!r} of saga {row.name!r}, whose steps or policies "
                "have been changed since under the same version; give what was changed another version, and register the old "
                "definition beside it"
            )
        raise DefinitionChangedError(
            f"execution {row.saga_id!r} was begun by version {row.version!r} of saga {row.name!r}, whose steps or policies "
            f"differ from those of version {definition.version!r} here; register the old definition beside the new one, or, if "
            f"the new one can finish what the old one began, say compatible_with=[{row.version!r}]"
        )
    try:
        return _rebuilt(definition, row, entries, fetch)
    except UnreadableJournalError as error:
        text = f"execution {row.saga_id!r} of saga {row.name!r}: {error}"
        raise UnreadableJournalError(text, entry=error.entry, may_pass=error.may_pass) from error.__cause__


def _rebuilt(definition: Definition, row: StoredExecution, entries: Sequence[Entry], fetch: bool) -> Rebuilt:
    machine = definition.machine(row.saga_id)
    plan, codec = machine.plan, codec_of(definition)
    recorded, errors = read_entries(entries, codec, row.saga_id, fetch or plan.open or plan.grows)
    if not recorded:
        raise UnreadableJournalError("its journal has no entries")
    begun_by = recorded[0].more.get("version", row.version)  # since when another may have taken it over
    same = row.fingerprint == definition.plan.fingerprint and row.version == begun_by
    context = _context(recorded[0], entries[0], row, plan, codec)
    views = Views(plan, context, definition.timeout is not None, codec.decode)
    begun: set[str] = set()
    for entry, one in zip(entries, recorded, strict=True):
        try:
            if isinstance(plan, OpenPlan) and isinstance(one.event, e.StepStarted) and "task" in one.more:
                plan.extend(read_step(one.event.step, one.more["task"], codec))
            if entry.seq > 1:
                # A flow of another shape may have led to what this one could not.
                looked_at = same or isinstance(one.event, _FIRST)
                wrong = contradiction(machine.state, begun, one.event) if looked_at else None
                if wrong is not None:
                    raise unreadable(entry, f"it contradicts those before it: {wrong}")
            _replay(views, machine, one, codec)
            machine.record(one.event)
        except UnreadableJournalError:
            raise
        except KeyError as error:
            if same and not plan.open:
                raise unreadable(entry, f"the saga has no step {error.args[0]!r}") from error
            raise DefinitionChangedError(
                f"execution {row.saga_id!r} of saga {row.name!r} has a step {error.args[0]!r}, which version "
                f"{definition.version!r} lacks"
            ) from error
        except EncodingError as error:  # what a block calls is gone
            raise unreadable(entry, str(error), may_pass=True) from error
        except Exception as error:
            raise unreadable(entry, f"it does not follow from those before it: {error!r}") from error
        if isinstance(one.event, e.StepStarted):
            begun.add(one.event.step)
    if row.status in (e.Status.COMPLETED, e.Status.COMPENSATED) and row.status != machine.status:
        raise unreadable(entries[-1], f"the execution is said to be {row.status}, and its journal ends otherwise")
    return Rebuilt(machine, views, len(recorded), errors)


def _context(first: Recorded, entry: Entry, row: StoredExecution, plan: Plan, codec: Codec) -> Context:
    """Return the context an execution began with."""
    event = first.event
    if not isinstance(event, _FIRST):
        raise unreadable(entry, "a journal begins with SagaStarted or SagaSubmitted")
    if event.saga != row.name:
        raise unreadable(entry, f"it is one of saga {event.saga!r}")
    if not isinstance(first.more.get("context"), str):
        raise unreadable(entry, "it has no context")
    try:
        context = rebuild_context(first, codec)
        bind(context, plan, row.name, row.saga_id)
        remember_recorded(context, codec)
        return context
    except EncodingError as error:
        raise unreadable(entry, str(error), may_pass=True) from error
    except Exception as error:
        raise unreadable(entry, f"its context cannot be made: {error!r}") from error


def _replay(views: Views, machine: Machine, recorded: Recorded, codec: Codec) -> None:
    """Do to the views what the driver did when the event happened, before the machine folds it."""
    event = recorded.event
    steps, state = machine.plan.by_name, machine.state
    if isinstance(event, e.StepSucceeded):
        step = steps[event.step]
        if step.content is not None:
            views.leave(step)
            return
        given_up = state.gave_up_on(step)
        view = views.take_over(step, views.for_compensate(step) if given_up else views.of(step), given_up)
        apply_changes(view, recorded, codec)
        view.__binding__.take_result(step.name, event.result)
    elif isinstance(event, e.StepFailed):
        step = steps[event.step]
        if step.content is not None:
            views.begin_anew(step, state.undoing[step.index].again)
            return
        if event.executed and not is_a(event.error, NotReadyError):  # it has ended well but for what came of it
            view = views.take_over(step, views.for_compensate(step), True) if state.gave_up_on(step) else views.of(step)
        else:
            view = views.for_compensate(step) if step.index in state.stragglers else views.for_execute(step)
            views.keep(step, view)
        apply_changes(view, recorded, codec)
    elif isinstance(event, e.StepTimedOut):
        step = steps[event.step]
        view = views.for_execute(step)
        views.keep(step, view)
        apply_changes(view, recorded, codec)  # what was cancelled has ended, and its changes are known
    elif isinstance(event, e.StepVerified) and event.done:
        step = steps[event.step]
        view = views.for_compensate(step)
        if state.goes_on_without(step):
            views.keep(step, view)
        else:
            view = views.take_over(step, view, False)
        apply_changes(view, recorded, codec)
        view.__binding__.take_result(step.name, event.result)
    elif isinstance(event, e.CompensationSucceeded | e.CompensationFailed | e.StepVerified | e.VerificationFailed):
        apply_changes(views.for_compensate(steps[event.step]), recorded, codec)
    elif isinstance(event, e.GroupMerged):
        views.merge(machine.plan.groups[event.group])
    elif isinstance(event, e.SagaRewound):
        views.rewind(steps[event.step], event.again)


def status_of(row: StoredExecution) -> e.Status:
    """Return an execution's status.

    :raises StorageError: its row has one that there is not.
    """
    try:
        return e.Status(row.status)
    except ValueError:
        raise StorageError(f"execution {row.saga_id!r} is stored with a status that there is not: {row.status!r}") from None


def load(definition: Definition, saga_id: str, store: Store) -> SagaResult[Any]:
    """Return a stored execution as it stands now.

    :raises UnknownExecutionError: there is none.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises UnreadableJournalError: its journal is damaged.
    """
    return rebuild(definition, row_of(definition, saga_id, store), entries_of(store, saga_id)).result()


def row_of(definition: Definition, saga_id: str, store: Store) -> StoredExecution:
    """Return the row of an execution of this definition's saga.

    :raises UnknownExecutionError: there is none.
    """
    row = store.get(saga_id)
    if row is None or row.name != definition.name:
        raise UnknownExecutionError(f"there is no execution {saga_id!r} of saga {definition.name!r}")
    return row


def entries_of(store: Store, saga_id: str) -> list[Entry]:
    """Return an execution's entries, none where its journal is gone.

    :raises UnknownExecutionError: it was purged.
    """
    entries = store.journal(saga_id)
    if not entries and store.get(saga_id) is None:
        raise UnknownExecutionError(f"execution {saga_id!r} was purged")
    return entries


def take_up(
    definition: Definition,
    drivers: Callable[[Plan], type[D]],
    row: StoredExecution,
    store: Store,
    entries: Sequence[Entry],
    mail: bool = True,
) -> D:
    """Return what goes on with an execution that this process has claimed, or begins it, where it was submitted.

    :param drivers: chooses the driver by the plan: that of a block is known only when its journal is read.
    :param entries: its journal, read since it was claimed.
    :param mail: whether its inbox may hold anything.
    :raises DefinitionChangedError: it was begun by a definition that is not compatible.
    :raises UnreadableJournalError: its journal cannot be read.
    """
    rebuilt = rebuild(definition, row, entries)
    machine = rebuilt.machine
    if machine.status is e.Status.RUNNING and not machine.plan.open:
        check_order(machine.plan, machine.events)
    journal = journal_of(definition, row, store, rebuilt)
    execution = drivers(machine.plan)(definition, machine, rebuilt.views.context, journal, rebuilt.views)
    if machine.status is e.Status.SUBMITTED:
        if not (mail and _given_up(machine, journal)):
            machine.start(host_time(), "", execution.carried())
    else:
        recover(machine, owner(), row.epoch, host_time(), execution.carried())
    journal.keep_lease(definition.lease, execution)
    return execution


def journal_of(definition: Definition, row: StoredExecution, store: Store, rebuilt: Rebuilt) -> Journal:
    """Return the journal of an execution that this process has claimed, to be gone on with by a definition.

    From then on it is one of that definition: another that is compatible with its beginning may not know of what follows.
    """
    journal = Journal(store, codec_of(definition), Lease(row.saga_id, owner(), row.epoch), status_of(row))
    journal.written, journal.errors = rebuilt.written, rebuilt.errors
    journal.keep, journal.in_line = definition.undoable_for, definition.in_line
    if row.fingerprint != definition.plan.fingerprint:
        journal.take_over(definition.version, definition.plan.fingerprint)
    return journal


def _given_up(machine: Machine, journal: Journal) -> bool:
    """Whether a person gave up what nobody has begun, while somebody had claimed it: then it never begins."""
    for message in journal.store.inbox(machine.saga_id):
        event = read_message(message.body, journal.codec, machine.saga_id)(host_time())
        if isinstance(event, e.OperatorActed) and event.action in ("cancel", "compensate"):
            journal.taken.append(message.id)
            act(machine, event)
            return True
    return False
