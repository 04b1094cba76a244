"""What the design's rules make of a history: an independent reference, which shares nothing with the machine.

It goes through the events one after the other, keeps its own books of what is known of each step's effect, and says where an
event breaks a rule. See :func:`tests.properties.doubtkit.runs.check` for what is compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from saga import Effect, InDoubt, Retry
from saga.errors import CrashError, SagaCancelledError, SagaTimeoutError, is_a
from tests.properties.doubtkit.cases import FOREVER, Case, Known


class BrokenError(AssertionError):
    """A law does not hold."""


def must(holds: object, law: str) -> None:
    if not holds:
        raise BrokenError(law)


@dataclass
class Books:
    """What is known of one step."""

    known: Known
    told: Effect = Effect.NONE  # what is known of its effect
    doubt: bool = False  # ... unless an outcome is unknown, and nothing has settled that
    partly: bool = False  # it failed, and may be partly done
    unkept: bool = False  # it is done past the pivot, and what came of it is not stored
    attempts: int = 0
    running: bool = False  # an execute runs
    straggler: bool = False  # ... past its time
    crashes: int = 0  # so many processes died in one
    last: Any = None  # the event with which one did not end well

    unasked: bool = False  # its verify must be asked before anything is decided
    verifying: bool = False  # one runs, or is to be attempted again
    verify_cut_off: bool = False  # ... because its process died
    verifications: int = 0

    undo_attempts: int = 0
    undoing: bool = False  # a compensation runs, or is to be attempted again
    cut_off: bool = False  # ... because its process died, or its retry says so
    half_undone: bool = False  # one was begun, and none has ended well
    undo_failed: bool = False  # ... and a person must act
    retried_by_hand: bool = False  # ... and did

    decided: str = ""  # what a person said of the doubt: resume, undo or skip
    resumes: int = 0
    resumed: bool = False  # a person wants another attempt
    by_hand: bool = False  # a person has seen to it
    skipped: bool = False
    replaced: bool = False

    @property
    def effect(self) -> Effect:
        """What may be said of its effect."""
        if self.running or self.half_undone or self.doubt or self.partly:
            return Effect.UNKNOWN
        return self.told

    @property
    def asks(self) -> bool:
        """Whether a person must decide."""
        doubtful = self.doubt and self.known.in_doubt is InDoubt.ASK and not self.running and not self.unasked
        return (doubtful and not self.verifying and not self.decided) or self.unkept

    @property
    def to_undo(self) -> bool:
        """Whether it is to be undone, where the saga goes no further or goes on without it."""
        return self.known.undoable and (self.told is Effect.STANDS or self.doubt or self.partly)

    @property
    def limit(self) -> int:
        """How many attempts there may be."""
        retry: Retry | None = self.known.leaf.policies.get("retry")
        again = self.crashes if retry is None and self.known.in_doubt is InDoubt.RERUN else 0
        return (retry.max_attempts if retry is not None else 1) + again + self.resumes


class Ledger:
    """The books of an execution, whose steps are :func:`~tests.properties.doubtkit.cases.steps_of`'s."""

    def __init__(self, case: Case, steps: dict[str, Known], events: Iterable[Any]) -> None:
        self.case = case
        self.open = "block" in case.front
        self.alone = self.open or not case.stored  # nobody can take it up where it stops past its pivot
        self.steps = {name: Books(known) for name, known in steps.items()}
        self.gave_up = self.past_pivot = self.ended = False
        self.cancelled = False
        self.status = "running"
        self.before: Any = None
        for event in events:
            try:
                self.take(event)
            except BrokenError as broken:
                raise BrokenError(f"{broken} ({type(event).__name__} {getattr(event, 'step', '')})") from None
            self.before = event

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        books = self.steps.get(getattr(event, "step", None) or "")
        must(not self.ended or kind in ("OperatorActed", "SagaRecovered"), "nothing happens after the end")
        method = getattr(self, f"on_{kind}", None)
        if method is not None:
            method(event, books)

    # -- executes -----------------------------------------------------------------------------------------------------

    def on_StepStarted(self, event: Any, books: Books) -> None:
        must(not self.gave_up, "no execute begins after the undo began")
        must(not books.running, "one attempt at a time")
        must(not books.undoing, "no execute while it is undone")
        must(event.attempt == books.attempts + 1, "attempts are counted")
        must(not books.unasked and not books.verifying, "verify is asked before another attempt")
        must(not books.asks, "no further attempt where a person must decide")
        must(not books.skipped and not books.replaced, "what the saga goes on without is not executed again")
        must(books.told is not Effect.STANDS or books.doubt, "what is done is not executed again")
        must(event.attempt <= (FOREVER if self.past_pivot else books.limit), "no more attempts than are allowed")
        allowed = books.attempts == 0 or books.resumed or self.may_go_on(books)
        must(allowed, "another attempt is made where one is allowed, or a person says so")
        replaces = books.known.replaces
        if replaces is not None:
            self.must_be_gone(self.steps[replaces], "a fallback begins when nothing is left of the step")
        books.attempts, books.running, books.straggler, books.resumed = event.attempt, True, False, False

    def on_StepSucceeded(self, event: Any, books: Books) -> None:
        self.ended_execute(event, books)
        self.done(books)

    def on_StepFailed(self, event: Any, books: Books) -> None:
        if event.executed and books.verifying:  # what the verify gave cannot be stored
            books.verifying = False
        else:
            self.ended_execute(event, books)
        books.last = event
        if event.executed:
            books.told, books.doubt, books.partly = Effect.STANDS, False, False
            books.unkept = self.past_pivot and not self.gave_up and not (books.skipped or books.replaced)
            books.decided, books.resumed = "", False
        elif event.in_doubt:
            books.crashes += is_a(event.error, CrashError)
            self.doubt(books)
        else:
            self.not_done(books)

    def on_StepTimedOut(self, event: Any, books: Books) -> None:
        books.last = event
        if event.running:
            must(books.running, "what has timed out runs")
            books.straggler = True
        else:
            self.ended_execute(event, books)
            self.doubt(books)

    def ended_execute(self, event: Any, books: Books) -> None:
        must(books.running, "what has ended was under way")
        must(event.attempt == books.attempts, "an outcome is of the last attempt")
        books.running = books.straggler = False

    def done(self, books: Books) -> None:
        books.told, books.doubt, books.partly, books.unasked = Effect.STANDS, False, False, False
        books.resumed = False
        if books.known.leaf.policies.get("pivot") and not self.gave_up:
            self.past_pivot = True

    def doubt(self, books: Books) -> None:
        books.doubt, books.unasked, books.decided = True, books.known.leaf.verify is not None, ""

    def not_done(self, books: Books) -> None:
        """An attempt did nothing: that settles nothing of those before it."""
        books.partly = books.partly or (books.known.partly and books.told is not Effect.STANDS)
        if books.doubt:
            self.doubt(books)

    # -- verification -------------------------------------------------------------------------------------------------

    def on_VerificationStarted(self, event: Any, books: Books) -> None:
        must(books.known.leaf.verify is not None, "there is a verify")
        must(books.doubt, "verify is asked where there is a doubt")
        must(not books.running and not books.undoing, "verify is asked when nothing else of the step runs")
        must(event.attempt in (1, books.verifications + 1), "attempts of a verify are counted")
        if event.attempt > 1 and not books.verify_cut_off:
            must(books.verifying, "verify is asked again where its retry says so, or its process died")
        books.unasked, books.verifying, books.verify_cut_off = False, True, False
        books.verifications = event.attempt

    def on_StepVerified(self, event: Any, books: Books) -> None:
        must(books.verifying, "verify was asked")
        books.verifying = False
        if event.done:
            self.done(books)
        else:
            books.doubt, books.told = False, Effect.NONE
            books.partly = books.known.partly

    def on_VerificationFailed(self, event: Any, books: Books) -> None:
        must(books.verifying, "verify was asked")
        books.verifying = False

    # -- what follows -------------------------------------------------------------------------------------------------

    def may_go_on(self, books: Books) -> bool:
        """Whether another attempt is allowed after the last failure, so that nothing else may follow it."""
        last, known = books.last, books.known
        retry: Retry | None = known.leaf.policies.get("retry")
        most = retry.max_attempts if retry is not None else 1
        if last is None or getattr(last, "executed", False) or books.asks or (books.running and not books.straggler):
            return False
        crash, interrupt = is_a(last.error, CrashError), not is_a(last.error, Exception)
        if self.past_pivot and not (crash and self.open):
            if crash or interrupt or not known.gives_way:
                return True
        elif interrupt:
            return False
        doubtful = books.doubt or getattr(last, "in_doubt", not getattr(last, "running", True))
        if doubtful and known.in_doubt is InDoubt.RERUN and not (crash and self.open):
            return crash if retry is None else last.attempt < most
        if crash and (books.doubt or self.open):
            return False
        return retry is not None and retry.allows(last.attempt, last.error)

    def on_SagaCompensating(self, event: Any, books: Books | None) -> None:
        must(not self.gave_up, "the saga gives up once")
        must(not self.past_pivot, "nothing is undone past the pivot")
        self.gave_up = True
        self.status = "compensating"
        for one in self.steps.values():
            if one.decided == "resume":  # nothing is executed again now, so a person must decide anew
                one.decided = ""
        error = event.error
        if not is_a(error, Exception):
            return
        if books is None:
            known = is_a(error, (SagaTimeoutError, SagaCancelledError, CrashError)) or (self.open and self.case.body)
            must(known, f"there is a reason to give up, not {error!r}")
            return
        last = books.last
        if getattr(last, "executed", False) or (books.replaced and books.undo_failed):
            return
        crash = is_a(last.error, CrashError)
        if books.asks:
            must(
                self.open or not (books.known.gives_way or crash),
                "the saga gives up nothing where a person must decide",
            )
            return
        must(not books.unasked and not books.verifying, "verify is asked before the saga gives up")
        must(not self.may_go_on(books), "the saga does not give up where another attempt is allowed")
        must(not books.known.gives_way or (crash and (books.doubt or self.open)), "what gives way makes nobody give up")

    def on_StepSkipped(self, event: Any, books: Books) -> None:
        if not books.by_hand:
            must(not books.unasked and not books.verifying, "verify is asked before a step is skipped")
            must(not books.asks, "nothing is skipped where a person must decide")
            must(not self.may_go_on(books), "nothing is skipped where another attempt is allowed")
            if not books.straggler and not books.undo_failed:
                self.must_be_gone(books, "what is skipped is undone before")
        books.skipped = True

    def on_FallbackChosen(self, event: Any, books: Books) -> None:
        must(not books.unasked and not books.verifying, "verify is asked before a step is replaced")
        must(not books.asks, "nothing is replaced where a person must decide")
        must(not self.may_go_on(books), "nothing is replaced where another attempt is allowed")
        books.replaced = True

    def must_be_gone(self, books: Books, law: str) -> None:
        under_way = books.running or books.undoing or books.half_undone
        must(not under_way and not books.to_undo and not books.asks, law)

    # -- the undo -----------------------------------------------------------------------------------------------------

    def on_CompensationStarted(self, event: Any, books: Books) -> None:
        must(books.known.undoable, "there is a compensation")
        must(not books.running, "nothing is compensated while its execute runs")
        must(not books.unasked and not books.verifying, "verify is asked before a step is compensated")
        must(not books.asks, "nothing is compensated where a person must decide")
        must(books.to_undo or books.undoing, "what is known not to be done is not compensated")
        must(event.attempt == books.undo_attempts + 1, "attempts of an undo are counted")
        skips = self.gave_up or books.skipped or books.replaced or books.known.gives_way
        must(skips, "nothing is compensated as long as the saga goes on with it")
        must(not books.undoing or books.cut_off, "one undo of a step at a time")
        if books.undo_attempts and not books.undoing:
            must(books.retried_by_hand, "a compensation that failed for good is tried again where a person says so")
        books.undo_attempts, books.undoing, books.cut_off = event.attempt, True, False
        books.half_undone, books.undo_failed = True, False

    def on_SagaRecovered(self, event: Any, books: None) -> None:
        for one in self.steps.values():
            one.cut_off, one.verify_cut_off = one.undoing, one.verifying

    def on_CompensationSucceeded(self, event: Any, books: Books) -> None:
        must(books.undoing, "what is undone was being undone")
        books.undoing = books.half_undone = books.doubt = books.partly = False
        books.told = Effect.UNDONE

    def on_CompensationFailed(self, event: Any, books: Books) -> None:
        must(books.undoing, "what fails was being undone")
        books.undoing, books.undo_failed = False, True

    def on_RetryScheduled(self, event: Any, books: Books) -> None:
        if event.phase == "compensate":
            retry: Retry | None = books.known.leaf.policies.get("compensation_retry")
            must(retry is not None and event.attempt <= retry.max_attempts, "no more undos than are allowed")
            books.undoing, books.cut_off, books.undo_failed = True, True, False
        elif event.phase == "verify":
            again: Retry | None = books.known.leaf.policies.get("verification_retry")
            must(again is not None and event.attempt <= again.max_attempts, "verify is not asked more often than is allowed")
            books.verifying = True

    # -- people and ends ----------------------------------------------------------------------------------------------

    def on_OperatorActed(self, event: Any, books: Books | None) -> None:
        self.ended = False
        self.status = "compensating" if self.gave_up else "running"
        for one in self.steps.values():
            if event.action in ("cancel", "compensate") and not self.past_pivot:
                self.decide(one, "undo")
            elif event.action == "resume" and not self.gave_up and one.asks:
                one.resumes += 1
                one.resumed = not (one.skipped or one.replaced)
                one.doubt = True  # what came of it is lost, where that cannot be stored
                self.decide(one, "undo" if one.skipped or one.replaced else "resume")
            if event.action == "retry" or (event.action in ("cancel", "compensate") and not self.past_pivot):
                one.retried_by_hand = one.retried_by_hand or one.undo_failed
                one.undo_failed = False
        if event.action == "skip" and books is not None:  # who may have done it by hand, or undone it, or neither
            books.told, books.decided = Effect.SETTLED, "skip"
            books.by_hand = True
            books.doubt = books.partly = books.unkept = books.undo_failed = books.half_undone = False

    def decide(self, books: Books, what: str) -> None:
        """A person says what is to be done of a doubt; a verification may be able to tell by now."""
        if books.asks:
            books.unasked = books.known.leaf.verify is not None and books.doubt
        if not books.running:
            books.decided, books.unkept = what, False

    def on_SagaCompleted(self, event: Any, books: None) -> None:
        must(not self.gave_up, "what gave up does not complete")
        self.end("completed")
        for name, one in self.steps.items():
            without = one.skipped or one.replaced
            must(without or one.attempts == 0 or one.told is Effect.STANDS, f"{name} is done, or the saga went on without it")
            must(not one.doubt or not one.known.undoable, f"{name} is not in doubt")
            must(not (without and one.to_undo), f"{name}, which the saga went on without, is undone")

    def on_SagaCompensated(self, event: Any, books: None) -> None:
        must(self.gave_up, "only what gave up is undone")
        self.end("compensated")
        for name, one in self.steps.items():
            must(not one.to_undo, f"{name} is undone")

    def end(self, status: str) -> None:
        self.ended, self.status = True, status
        for name, one in self.steps.items():
            must(not (one.running or one.undoing or one.verifying), f"nothing of {name} is under way at the end")
            must(self.gave_up or self.open or not one.resumed, f"{name} is executed again, where a person says so")
            if status != "stuck":
                must(not (one.undo_failed or one.asks or one.half_undone), f"a person must see to {name}")
                must(not one.unasked or not one.known.undoable, f"verify of {name} is asked before the end")

    def on_SagaStuck(self, event: Any, books: None) -> None:
        self.end("stuck")
        stopped = self.alone and self.past_pivot and "it was stopped" in event.reason
        needed = [name for name, one in self.steps.items() if one.undo_failed or one.asks]
        must(needed or stopped, f"an execution is not stuck without need: {event.reason}")
        if not stopped:
            must(all(name in event.reason for name in needed), f"the reason tells all that a person must see to: {needed}")
