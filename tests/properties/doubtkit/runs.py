"""A case is run: its process dies, a person acts, others recover it; wherever it stops, the laws are checked."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from saga import Effect, SagaResult, Status, transaction
from saga.blocks import block_definition
from saga.context import Context
from saga.durable.codec import Codec
from saga.durable.rebuild import load
from saga.errors import SagaExecutionException, StorageError
from saga.recovery import Recovery
from tests.kit import PATIENCE
from tests.properties.doubtkit.cases import UNKNOWN_ON, Case, steps_of
from tests.properties.doubtkit.flows import block_leaves, of_leaf, saga_of
from tests.properties.doubtkit.ledger import Ledger, must
from tests.properties.doubtkit.world import DISK, WORLDS, DiedError, World

_numbers = itertools.count()
MOST_PROCESSES = 40


class BodyError(Exception):
    """Raised by a block after its last step."""


class Run:
    """One case, run once.

    :param loop: runs what is asynchronous.
    """

    def __init__(self, case: Case, loop: asyncio.Runner) -> None:
        self.case = case
        self.loop = loop
        self.saga_id = f"d{next(_numbers)}"
        self.name = f"saga {self.saga_id}"
        self.block = "block" in case.front
        self.store = DISK if case.stored else None
        self.steps = steps_of(case)
        self.world = World(self.steps, self.store, self.saga_id)
        self.seen: list[Any] = []
        self.result: Any = None  # as it was when it was looked at last
        self.people = list(case.people)
        self.stops: list[str] = []

    def go(self) -> None:
        """Run it to its end.

        :raises BrokenError: a law does not hold.
        """
        try:
            self.process(0)
            result = self.live()
            self.stop(result, live=True)
            for number in itertools.count(1):
                if not self.goes_on():
                    break
                must(number < MOST_PROCESSES, "it comes to an end")
                self.process(number)
                self.stop(self.recover())
            if self.store is not None:
                must(self.recover() is None, "what has ended is not taken up again")
        finally:
            WORLDS.pop(self.saga_id, None)
            DISK.worlds.pop(self.saga_id, None)
            if self.store is not None:
                DISK.purge(updated_before=DISK.now() + 1e9, status=["completed", "compensated", "stuck"])

    def process(self, number: int) -> None:
        """Let another process begin."""
        if self.world.dead:
            self.world = self.world.successor()
        world = self.world
        world.caller = world.later = None
        deaths = self.case.deaths
        world.appends, world.dies_at = 0, deaths[number] if number < len(deaths) else None
        WORLDS[self.saga_id] = DISK.worlds[self.saga_id] = world

    # -- the first process --------------------------------------------------------------------------------------------

    def live(self) -> SagaResult | None:
        """Execute it. Return its result, where nothing is raised."""
        case, world = self.case, self.world
        if case.late and not self.waits_for_stragglers():
            world.later = threading.Event()
        observers = [self.seen_event] if case.watched else []
        if self.block:
            unknown = UNKNOWN_ON[case.unknown_on][0]
            self.tx = transaction(self.name, saga_id=self.saga_id, observers=observers, store=self.store, unknown_on=unknown)
        else:
            self.saga = saga_of(case, self.name, self.store, observers)
            world.sagas = [self.saga] if case.knows else []
        if case.front in ("loop", "ablock"):
            return self.loop.run(self.in_loop())
        return self.in_threads()

    def waits_for_stragglers(self) -> bool:
        """Whether a straggler may have to end before the run returns."""
        known = self.world.steps.values()
        return any("retry" in one.leaf.policies or one.replaced_by or one.leaf.policies.get("pivot") for one in known)

    def seen_event(self, event: Any, info: Any) -> None:
        self.seen.append(event)

    def in_threads(self) -> SagaResult | None:
        """Run in threads, and wait for all that goes on then."""
        first = last = None
        with expected():
            first = self.run_block() if self.block else self.saga.try_execute(saga_id=self.saga_id)
        if self.world.later is not None:
            self.world.later.set()
        with expected():
            last = first.join(PATIENCE) if first is not None else None
        join_threads()
        return last

    async def in_loop(self) -> SagaResult | None:
        """Run in the event loop, and wait for all that goes on then."""
        first = last = None
        self.world.caller = asyncio.current_task()
        with expected():
            first = await (self.run_ablock() if self.block else self.saga.atry_execute(saga_id=self.saga_id))
        self.world.caller = None
        if self.world.later is not None:
            self.world.later.set()
        with expected():
            last = await first.ajoin(PATIENCE) if first is not None else None
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, left = await asyncio.wait(others, timeout=PATIENCE)
            must(not left, f"no task is left: {left}")
        if named_threads():
            await asyncio.to_thread(join_threads)
        return last

    def run_block(self) -> SagaResult | None:
        with suppress(BodyError, SagaExecutionException), self.tx as tx:
            for leaf in block_leaves(self.case):
                action, options = of_leaf(leaf)
                tx.step(*action, **options)
            if self.case.body:
                raise BodyError
        return self.tx.result

    async def run_ablock(self) -> SagaResult | None:
        with suppress(BodyError, SagaExecutionException):
            async with self.tx as tx:
                for leaf in block_leaves(self.case):
                    action, options = of_leaf(leaf)
                    await tx.astep(*action, **options)
                if self.case.body:
                    raise BodyError
        return self.tx.result

    # -- others -------------------------------------------------------------------------------------------------------

    def recover(self) -> SagaResult | None:
        """Let a recovery take it up. Return its result, where it is given one."""
        if self.block:
            recovery = Recovery(
                DISK,
                transactions=[self.name],
                codec=Codec(modules=["tests.properties.doubtkit"]),
                max_attempts=MOST_PROCESSES * 2,
            )
        else:
            saga = saga_of(self.case, self.name, self.store, [])
            self.world.sagas = [saga] if self.case.knows else []
            recovery = Recovery(DISK, [saga], max_attempts=MOST_PROCESSES * 2)
        result = None
        with expected():
            found = [one.join(PATIENCE) for one in recovery.run_once()]
            # What was stopped past its pivot is gone on with at once: that may have ended before the first is told of.
            result = max(found, key=lambda one: len(one.events), default=None)
        join_threads()
        return result

    def goes_on(self) -> bool:
        """Let a person act. Return whether there is anything left to do."""
        if self.store is None:
            return False
        row = DISK.get(self.saga_id)
        assert row is not None
        if row.status in ("completed", "compensated"):
            return False
        while self.people:
            action, number = self.people.pop(0)
            done = self.person(action, number)
            self.stops.append(f"a person: {action}{'' if done else ' (refused)'}")
            if done:
                self.check(self.loaded())
                return True
            if row.status != "stuck":
                break
        return row.status != "stuck"

    def person(self, action: str, number: int) -> bool:
        if action == "nothing":
            return False
        step_name = None
        if action == "skip":
            books = self.ledger(self.loaded()).steps
            waiting = [name for name, one in books.items() if one.asks or one.undo_failed]
            if not waiting:
                return False
            step_name = waiting[number % len(waiting)]
        self.world.dies_at = None  # it is another process that stores this
        done = self.world.person(action, step_name)
        if done and step_name is not None:  # the person has seen to it
            self.world.effects.discard(step_name)
        return done

    # -- what must hold -----------------------------------------------------------------------------------------------

    def stop(self, result: SagaResult | None, live: bool = False) -> None:
        """Check where the execution has stopped."""
        world = self.world
        must(not world.faults, f"{world.faults}")
        if self.store is None:
            if result is None and self.block:
                result = self.tx.result if self.tx.result.status.terminal else None
            elif result is None and self.case.watched:
                result = SagaResult(self.saga.plan, self.seen, Context())
            if result is None:  # an interrupt was raised, and its report is all there is
                return
            self.check(result)
            must(result.status.terminal, f"it has ended, and is not {result.status}")
            return
        row = DISK.get(self.saga_id)
        assert row is not None
        self.stops.append(f"{'died' if world.dead else 'stopped'}: {row.status}")
        loaded = self.loaded()
        self.check(loaded)
        must(row.status == str(loaded.status), f"the row says {row.status}, the journal {loaded.status}")
        if world.dead:
            return
        if live and self.case.watched:
            seen = [(type(one).__name__, getattr(one, "step", None)) for one in self.seen]
            stored = [(type(one).__name__, getattr(one, "step", None)) for one in loaded.events]
            must(seen == stored, "what is stored was shown, and nothing else")
        if result is not None:
            self.agree(result, loaded)

    def agree(self, one: SagaResult, other: SagaResult) -> None:
        """What is told live is what is loaded."""
        must(one.status is other.status, f"live {one.status}, loaded {other.status}")
        must(dict(one.effects) == dict(other.effects), f"live {dict(one.effects)}, loaded {dict(other.effects)}")
        must(one.in_doubt == other.in_doubt, f"live {one.in_doubt}, loaded {other.in_doubt}")
        for mine, theirs in zip(one.history, other.history, strict=True):
            told = [
                (each.name, each.status, each.effect, each.in_doubt, each.attempts, each.compensation_attempts, each.result)
                for each in (mine, theirs)
            ]
            must(told[0] == told[1], f"live {told[0]}, loaded {told[1]}")

    def loaded(self) -> SagaResult:
        if self.block:
            return load(block_definition(self.name), self.saga_id, DISK)
        return self.saga.load(self.saga_id)

    def ledger(self, result: SagaResult) -> Ledger:
        return Ledger(self.case, self.steps, result.events)

    def check(self, result: SagaResult) -> None:
        """Compare what an execution says of itself with the books, and the books with the world."""
        self.result = result
        ledger, effects = self.ledger(result), self.world.effects
        must(ledger.status == str(result.status), f"the books say {ledger.status}, the result {result.status}")
        history = {record.name: record for record in result.history}
        for name, books in ledger.steps.items():
            if name not in history:  # a block did not come to it
                must(name not in effects, f"{name}, which never began, is not there")
                continue
            told = history[name].effect
            must(told is books.effect, f"{name}: it says {told}, the books {books.effect}")
            doubtful = books.doubt or books.straggler
            must((name in result.in_doubt) == doubtful, f"in doubt are {result.in_doubt}; {name}: {doubtful}")
            must(told is not Effect.STANDS or name in effects, f"{name} is said to stand, and is not there")
            must(told not in (Effect.NONE, Effect.UNDONE) or name not in effects, f"{name} is said to be {told}, and is there")
        self.facts(result)
        if result.status is Status.COMPENSATED:
            left = {name for name in effects if ledger.steps[name].known.undoable}
            must(not left, f"compensated, and {left} are there")

    def facts(self, result: SagaResult) -> None:
        """What is told of an attempt is how it ended."""
        ended = {(one.step, one.attempt): one.ended for one in self.world.calls if one.phase == "execute" and one.ended}
        for event in result.events:
            kind = type(event).__name__
            how = ended.get((getattr(event, "step", ""), getattr(event, "attempt", 0)))
            if how is None:
                continue
            if kind == "StepSucceeded":
                must(how == "returned", f"{event} though it was {how}")
            elif kind == "StepFailed" and not event.executed and not event.in_doubt:
                must(how not in ("returned", "lost"), f"{event} though it was {how}")

    def story(self) -> str:
        """What happened, for those who must find out why."""
        lines = ["calls:", *(f"  {one}" for one in self.world.calls), "stops:", *(f"  {one}" for one in self.stops)]
        lines.append(f"effects: {sorted(self.world.effects)}")
        events = self.seen if self.result is None else self.result.events
        return "\n".join([*lines, "events:", *(f"  {_told(event)}" for event in events)])


def _told(event: Any) -> str:
    """An event, without its times and without the tracebacks of errors."""
    fields = {name: getattr(event, name) for name in event.__match_args__ if name not in ("at", "elapsed")}
    if "error" in fields:
        fields["error"] = str(fields["error"]).partition("\n")[0] or repr(fields["error"])
    return f"{type(event).__name__} {' '.join(f'{name}={value}' for name, value in fields.items())}"


@contextmanager
def expected() -> Iterator[None]:
    """What a run may raise: an interrupt of its steps, or that it could not be stored, because its process is dead."""
    with suppress(KeyboardInterrupt, asyncio.CancelledError, DiedError, StorageError):
        yield


def named_threads() -> list[threading.Thread]:
    """The threads of executions that run."""
    kept = ("saga heartbeat", "saga store")  # which outlive them
    found = [one for one in threading.enumerate() if one.name.startswith("saga ") and not one.name.startswith(kept)]
    return [one for one in found if one.is_alive()]


def join_threads() -> None:
    """Wait until no thread of an execution is left."""
    while threads := named_threads():
        for thread in threads:
            thread.join(PATIENCE)
            must(not thread.is_alive(), f"nothing hangs: {thread.name}")
