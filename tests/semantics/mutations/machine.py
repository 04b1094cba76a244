"""The machine broken: its state, what it decides, its log and operators. And what plans and policies say."""

from __future__ import annotations

from . import DOUBT, DRIVERS, DURABLE, PROPERTIES, SEMANTICS, Mutant

__all__ = ["OF_MACHINE"]

SUBMITTED, LATE_UNDO = DURABLE + "submitted", DRIVERS + "compensation_timeout"
TRANSITIONS = (
    ("RUNNING", "SagaSubmitted", "SUBMITTED", SUBMITTED),
    ("SUBMITTED", "SagaStarted", "RUNNING", SUBMITTED),
    ("SUBMITTED", "SagaCompensating", "COMPENSATING", SUBMITTED),
    ("SUBMITTED", "SagaPaused", "PAUSED", DURABLE + "paused"),
    ("RUNNING", "SagaPaused", "PAUSED", DURABLE + "paused"),
    ("PAUSED", "OperatorActed", "SUBMITTED, unbegun=True", DURABLE + "paused"),
    ("PAUSED", "OperatorActed", "RUNNING, unbegun=False", DURABLE + "paused"),
    ("SUBMITTED", "SagaStuck", "STUCK", "tests/unit/machine/test_state"),
    ("STUCK", "OperatorActed", "SUBMITTED, gave_up=False, unbegun=True", SUBMITTED),
    ("RUNNING", "SagaCompensating", "COMPENSATING", DRIVERS + "notes"),
    ("RUNNING", "SagaCompleted", "COMPLETED", DRIVERS + "notes"),
    ("RUNNING", "SagaStuck", "STUCK", DURABLE + "operations -k branches_in_doubt_are_decided"),
    ("COMPENSATING", "SagaCompensated", "COMPENSATED", DRIVERS + "notes"),
    ("COMPENSATING", "SagaStuck", "STUCK", DRIVERS + "notes"),
    ("STUCK", "OperatorActed", "RUNNING, gave_up=False, unbegun=False", DURABLE + "operations"),
    ("STUCK", "OperatorActed", "COMPENSATING, gave_up=True", DURABLE + "operations"),
)

OF_MACHINE = [
    # -- state: what an event changes ---------------------------------------------------------------------------------
    *(
        Mutant(f"no transition: {before}, {event}, {after}", f"    Transition({before}, {event}, {after}),\n", "", tests)
        for before, event, after, tests in TRANSITIONS
    ),
    Mutant(
        "a recovered execution ends before all that is left to do is begun",
        " or state.held or self.deciding:",
        " or state.held:",
        "tests/unit/machine/test_table",
    ),
    Mutant(
        "a person's action leads forward though the undo has begun",
        "    Transition(STUCK, OperatorActed, COMPENSATING, gave_up=True),",
        "    Transition(STUCK, OperatorActed, RUNNING, gave_up=True),",
        DURABLE + "operations",
    ),
    Mutant(
        "what was begun stays unbegun",
        "state.unbegun = state.held = False",
        "state.held = False",
        "tests/unit/machine/test_state",
    ),
    Mutant(
        "what was submitted counts as begun in another step of its journal",
        "return None if state.status is SUBMITTED and isinstance(event, SagaStarted) else",
        "return None if isinstance(event, SagaStarted) else",
        SUBMITTED,
    ),
    Mutant(
        "a submitted execution is recovered, not begun",
        "    if machine.status is e.Status.SUBMITTED:\n        if not (mail",
        "    if False:\n        if not (mail",
        SUBMITTED,
    ),
    Mutant(
        "what was given up while it was claimed begins",
        "        if not (mail and _given_up(machine, journal)):\n            machine.start",
        "        if True:\n            machine.start",
        SUBMITTED,
    ),
    Mutant(
        "the timeout counts from when it was submitted",
        "            if type(event) is SagaStarted:\n                return event.at\n",
        "            if event is self.events[0]:\n                return event.at\n",
        SUBMITTED,
    ),
    Mutant(
        "who cancels what is submitted leaves it to be begun",
        "unbegun = standing.unbegun and acted.action in",
        "unbegun = False and acted.action in",
        SUBMITTED,
    ),
    Mutant(
        "compensate the failing step",
        "elif (step.compensate_on_failure or step.index in state.unready) and step.compensates:",
        "elif step.compensates:",
        SEMANTICS + "failures",
    ),
    Mutant(
        "an interrupt is not in doubt",
        "elif event.in_doubt or index in state.in_doubt:",
        "elif False:",
        SEMANTICS + "interrupts",
    ),
    Mutant(
        "compensate a straggler before it ends",
        "state.stragglers.add(step.index)",
        "doubt(state, step)",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "a late success is owed no undo",
        "    if step.compensates:\n        state.to_compensate.append(index)\n    if step.pivot",
        "    if step.compensates and index not in state.skipped:\n        state.to_compensate.append(index)\n    if step.pivot",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "compensate what a person is to be asked about",
        "    if step.in_doubt is InDoubt.ASK:\n        state.asking",
        "    if False:\n        state.asking",
        DOUBT + " -k branches_in_doubt",
    ),
    # -- decide: what follows from it ---------------------------------------------------------------------------------
    Mutant(
        "undo in forward order",
        "self.compensate(self.plan.steps[state.to_compensate[-1]], at)",
        "self.compensate(self.plan.steps[state.to_compensate[0]], at)",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "stop at the first failing compensation",
        "not (bad and self.stop_on_compensation_failure)",
        "not bad",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "call it compensated though an undo failed",
        "if state.compensations_failed or state.asking:\n            self.record",
        "if state.asking:\n            self.record",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "call it compensated though a person must decide about a step",
        "if state.compensations_failed or state.asking:\n            self.record",
        "if state.compensations_failed:\n            self.record",
        SEMANTICS + "interrupts -k a_step_to_ask_about",
    ),
    Mutant(
        "an interrupt is taken for a lost answer",
        "if (event.in_doubt or step.transactional) and not is_exception(event.error) and state.status is RUNNING:",
        "if False:",
        SEMANTICS + "interrupts",
    ),
    Mutant(
        "terminal with a straggler open",
        "        if state.stragglers or state.compensation_stragglers:\n            return\n",
        "        if state.compensation_stragglers:\n            return\n",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "terminal with a compensation that still runs",
        "        if state.stragglers or state.compensation_stragglers:\n            return\n",
        "        if state.stragglers:\n            return\n",
        LATE_UNDO + " -k the_rest_is_undone_meanwhile",
    ),
    Mutant(
        "attempt a compensation again while it still runs",
        "    machine.progress(event.at)  # what can be undone without it is",
        "    compensation_failed(machine, event)  # what can be undone without it is",
        LATE_UNDO + " -k no_other_begins_before",
    ),
    Mutant(
        "nothing is undone while a compensation outlives its timeout",
        "            if state.compensating and not self.plan.compensate_together:\n",
        "            if state.compensation_stragglers or (state.compensating and not self.plan.compensate_together):\n",
        LATE_UNDO + " -k the_rest_is_undone_meanwhile",
    ),
    Mutant(
        "a saga that stops at a failed undo goes on beside one that is late",
        "            bad = state.compensations_failed or state.compensation_stragglers\n",
        "            bad = state.compensations_failed\n",
        LATE_UNDO + " -k stops_at_a_failure",
    ),
    Mutant(
        "a late undo is forgotten with its process",
        "state.compensation_retries.keys() | state.compensation_stragglers)\n    waiting",
        "state.compensation_retries.keys())\n    waiting",
        LATE_UNDO + " -k wherever_its_process_died",
    ),
    Mutant(
        "retry beside a straggler",
        "    if not event.running:\n        decide(machine, step, event, event.at)",
        "    if True:\n        decide(machine, step, event, event.at)",
        SEMANTICS + "stragglers",
    ),
    Mutant(
        "the deadline ends compensations",
        "if state.status.terminal or state.past_pivot or state.past_end or machine.closed:\n        return None\n"
        "    error = SagaTimeoutError",
        "state.compensating.clear()\n    error = SagaTimeoutError",
        SEMANTICS + "timeout",
    ),
    Mutant(
        "the deadline waits for running steps",
        "machine.record(StepTimedOut(step.name, state.attempt(index), at, elapsed, error))",
        "pass",
        SEMANTICS + "timeout",
    ),
    Mutant(
        "the deadline waits for steps that have not begun",
        "if step.pause is None and index not in cancelled and index not in never:",
        "if step.pause is None and index not in cancelled:",
        SEMANTICS + "timeout -k taken_up",
    ),
    Mutant(
        "steps begin after the deadline, as long as nothing waits",
        "if not over or call.phase is not EXECUTE:",
        "if True:",
        SEMANTICS + "timeout -k taken_up",
    ),
    Mutant(
        "undo while siblings run",
        "if state.executing or state.status.terminal or",
        "if state.status.terminal or",
        SEMANTICS + "parallel",
    ),
    Mutant(
        "an attempt after the saga gave up",
        "elif state.status is RUNNING and self.halt is None:\n            scheduled = state.retries.get(step.index)\n"
        "            if scheduled is not None and scheduled.attempt == wait.attempt:",
        "else:\n            if True:",
        SEMANTICS + "failures -k no_attempt_is_made",
    ),
    Mutant(
        "compensations are not retried",
        "if _allows(step, step.compensation_retry, event.attempt, event.error):",
        "if False:",
        PROPERTIES + "machine_sequences",
    ),
    Mutant(
        "state that no event tells",
        "    # Spread without randomness",
        "    machine.state.attempts[step.index] = attempt\n    # Spread without randomness",
        PROPERTIES + "machine_sequences",
    ),
    # -- log: notes, and the series that a driver notes ---------------------------------------------------------------
    Mutant(
        "undo in forward order while nobody looks",
        "for index in reversed(state.to_compensate)]\n    calls.append(None)",
        "for index in state.to_compensate]\n    calls.append(None)",
        SEMANTICS + "reverse_order",
    ),
    Mutant(
        "a note says compensated though an undo failed",
        "or state.compensations_failed or state.asking:\n        return None",
        "or state.asking:\n        return None",
        DRIVERS + "notes",
    ),
    Mutant(
        "a note says compensated though a person must decide about a step",
        "or state.compensations_failed or state.asking:\n        return None",
        "or state.compensations_failed:\n        return None",
        DRIVERS + "notes",
    ),
    Mutant(
        "the execution ends with each note",
        "if last[1] is not None:\n            return None",
        "if False:\n            return None",
        DRIVERS + "notes",
    ),
    Mutant(
        "an undo that nobody looked at ends as completed",
        "return COMPLETED if len(last) == _OF_EXECUTE else COMPENSATED",
        "return COMPLETED",
        DRIVERS + "notes",
    ),
    Mutant(
        "the notes at the log's end are not in the state when a fact comes",
        "        if log.unfolded is not None:\n            log.state()\n",
        "",
        DRIVERS + "notes",
    ),
    Mutant(
        "the notes at the log's end are not in the state when a decision is recorded",
        "        if (state is None and self.noted) or self.unfolded is not None:\n            state = self.state()\n",
        "",
        DRIVERS + "notes",
    ),
    Mutant(
        "what a series adds is never folded",
        "        if self.unfolded is None:\n            self.unfolded = len(self.entries)\n",
        "",
        DRIVERS + "notes",
    ),
    Mutant(
        "of the notes at the log's end the last alone is folded",
        "_fold_notes(state, entries[at:])",
        "_fold_notes(state, entries[-1:])",
        DRIVERS + "notes",
    ),
    Mutant(
        "a series passes over a compensation that failed",
        "bool(state.compensations_failed or state.asking)",
        "bool(state.asking)",
        DRIVERS + "series",
    ),
    Mutant(
        "notes are folded as if the first one's next call ran",
        "following: Call | None = notes[-1][1]",
        "following: Call | None = notes[0][1]",
        DRIVERS + "notes",
    ),
    Mutant(
        "notes leave nothing to undo",
        "state.to_compensate.extend([note[0].index for note in notes if note[0].compensates])",
        "pass",
        DRIVERS + "notes",
    ),
    Mutant(
        "notes undo one step alone",
        "del state.to_compensate[-len(notes) :]",
        "del state.to_compensate[-1:]",
        DRIVERS + "notes",
    ),
    Mutant(
        "a note is told as the intent of its own step",
        "SagaCompleted(at) if following is None else StepStarted(following.step.name, 1, at)",
        "SagaCompleted(at) if following is None else StepStarted(step.name, 1, at)",
        DRIVERS + "notes",
    ),
    Mutant(
        "notes stay in the log when somebody looks",
        "self.entries[:] = [event for entry in self.entries for event in self.events_of(entry)]",
        "pass",
        DRIVERS + "notes",
    ),
    Mutant(
        "observers hear of a series when it has ended",
        "        log.entries += log.events_of(note)\n        self._show()\n",
        "        log.entries += log.events_of(note)\n",
        DRIVERS + "notes",
    ),
    # -- operators: what a person may do ------------------------------------------------------------------------------
    Mutant(
        "what does not fit is not refused",
        "    if refusal is not None:\n        raise ActionRefusedError(refusal)\n",
        "",
        DURABLE + "operations -k what_does_not_fit",
    ),
    Mutant(
        "an action on what has ended is not refused",
        'if standing.status in (COMPLETED, COMPENSATED) and action != "undo":',
        "if False:",
        DURABLE + "operations -k what_does_not_fit",
    ),
    Mutant(
        "what does not fit is refused with another error",
        "        raise ActionRefusedError(refusal)\n",
        "        raise ValueError(refusal)\n",
        DURABLE + "operations -k what_does_not_fit",
    ),
    Mutant(
        "an action that does not fit ends who runs the execution",
        "            except ActionRefusedError as error:\n",
        "            except ZeroDivisionError as error:\n",
        DURABLE + "operations_running -k what_comes_too_late",
        file="saga/drivers/outcomes.py",
    ),
    # -- what plans, policies and tasks say ---------------------------------------------------------------------------
    Mutant(
        "one attempt too many",
        "and attempt >= self.max_attempts:",
        "and attempt > self.max_attempts:",
        SEMANTICS + "failures",
    ),
    Mutant(
        "a key of its own for every attempt",
        """return f"{saga}/{saga_id}/{quote(self.name, safe='/', errors='surrogatepass')}{again}\"""",
        """return f"{saga}/{saga_id}/{quote(self.name, safe='/', errors='surrogatepass')}/{self.attempt}\"""",
        SEMANTICS + "failures",
    ),
    Mutant(
        "an id with a slash has a key that another saga's step has",
        """(quote(text, safe="", errors="surrogatepass") for text in (self.saga, self.saga_id))""",
        """(self.saga, self.saga_id)""",
        PROPERTIES + "keys",
    ),
    Mutant(
        "two sagas' executions of one id have the same keys",
        "{saga}/{saga_id}/{quote(",
        "{saga_id}/{quote(",
        PROPERTIES + "keys",
    ),
    Mutant(
        "an id that is no text of UTF-8 has no key",
        """quote(text, safe="", errors="surrogatepass")""",
        """quote(text, safe="")""",
        PROPERTIES + "keys",
    ),
    Mutant(
        "the key of an undo is that of a step with such a name",
        "quote(self.name, safe='/', errors='surrogatepass')",
        "self.name",
        SEMANTICS + "one_saga_many_executions -k key_of_an_undo",
    ),
    Mutant(
        "a call beside others has another key",
        "twin = Binding(self.plan, self.saga, self.saga_id)",
        'twin = Binding(self.plan, "", self.saga_id)',
        DRIVERS + "both_drivers -k every_attempt_and_every_undo",
    ),
    Mutant(
        "in doubt is done again unless the task says otherwise",
        "in_doubt: InDoubt = InDoubt.COMPENSATE",
        "in_doubt: InDoubt = InDoubt.RERUN",
        DOUBT + " -k branches_in_doubt",
        file="saga/machine/plan.py",
    ),
]
