"""The machine: what happens next in an execution, decided from what has happened. Nothing here does anything.

Theory of operation
-------------------
A machine is one execution. **Events go in, commands come out.** An event (:mod:`saga.events`) is a fact: a call returned, a
signal came, a person decided. The machine records it, folds it into its state, decides what follows, records what it decided
(intents are events too) and leaves commands. A driver takes the commands, has the events stored that led to them, does what
they say, and sends the next facts. Times come in with the events, so the machine has no clock, and no thread, disk or log.

**The state is a fold over the events**, and nothing else: live and replayed it is the same. So a recovery needs nothing but the
journal. It records the events in a fresh machine, which leaves no commands, and then asks :func:`recover` what to go on with:
what was begun and has no outcome is in doubt.

Doubt
-----
A call has an unknown outcome where it was cut off, interrupted or its answer was lost. From then its step is *in doubt*, until
that is settled: a later attempt returns, ``verify`` tells what came of it, its compensation runs to its end, or a person skips
it. An attempt that fails and did nothing settles nothing of those before it. What follows, in this order:

1. ``verify`` is asked, where the step has one, before anything else is decided. That it is done is a success; that it is not,
   a clean failure of that attempt. It is asked again after a crash that cut it off, after each later attempt that leaves the
   step in doubt, and where a person has decided.
2. What it does not tell, ``in_doubt`` says. COMPENSATE: a retry goes on, and what it leaves in doubt is compensated, in the
   undo or before the step is skipped or replaced. RERUN: another attempt, whatever ``retry_on`` says, as long as there is one;
   without a retry, one after each crash; then as COMPENSATE. ASK: no attempt and no compensation until a person has decided.
   Live, the saga gives up; where it could go on without the step, after a crash or past the pivot it stops there.
3. A crash gives the saga up, unless ``in_doubt`` says otherwise. Past the pivot there is only forward: what is in doubt is
   executed again.

A unit, which is a flow with policies of its own, is a step that stands for it, and those within. Where one of these failed for
good, the unit gives up in the place of the saga (``UnitCompensating``): nothing within goes forward, what was done is undone as
in an undo of all, while what stands beside the unit goes on. When all is undone, the step that stands for it has failed, and
what follows is what follows any step that failed. A compensation that fails within, an interrupt, a timeout of the saga and a
person's action give up the saga. A step that is executed again in another attempt of its unit counts its attempts on, and its
retry's budget anew.

Where ``on_error`` says Ask, a step that failed for good (``PersonAsked``) asks as one in doubt does: what runs beside it ends,
and a person decides. Where the saga gives up meanwhile, there is nothing left to decide about it.

In an undo no compensation begins while a step is verified, because what is undone next depends on it.

Statuses
--------
An execution that is *submitted* waits for somebody to begin it. It is *running* until it gives up (``SagaCompensating``);
from then on nothing goes forward, ever again. What changes its status, and nothing else does:

============  ================  ============  =========================
status        event             status then
============  ================  ============  =========================
running       SagaSubmitted     submitted
submitted     SagaStarted       running
submitted     SagaCompensating  compensating
submitted     SagaStuck         stuck
submitted     SagaPaused        paused
running       SagaPaused        paused
paused        OperatorActed     submitted     where it had not begun
paused        OperatorActed     running       where it had begun
running       SagaCompensating  compensating
running       SagaCompleted     completed
running       SagaStuck         stuck
compensating  SagaCompensated   compensated
compensating  SagaStuck         stuck
compensating  SagaRewound       paused
completed     SagaCompensating  compensating
stuck         OperatorActed     submitted     where it had not begun
stuck         OperatorActed     running       where it had not given up
stuck         OperatorActed     compensating  where it had given up
============  ================  ============  =========================

The state
---------
Steps stand for themselves by their index in the plan. Where a step is *in* one of these, this holds, after every event:

* ``status``: changes as TRANSITIONS says, and in no other way.
* ``unbegun``: it was submitted, and nobody has begun it.
* ``cause``: why the execution gave up; None as long as it has not.
* ``failed``: the step that raised the cause; None where no step did.
* ``cancelled``: a person said to give up; obeyed at the next decision.
* ``held``: what runs ends, and nothing else is decided: that is for whoever takes the execution up.
* ``pausing``: a person said to pause it, which it is when no call runs any more.
* ``past_end``: the flow's end was reached, so that it completes when nothing is under way.
* ``past_pivot``: the pivot has succeeded before the saga gave up: nothing is compensated any more.
* ``executing``: an execute, or a wait, that the saga waits for.
* ``stragglers``: an execute that outlived its timeout and still runs.
* ``units``: one that stands for a unit whose steps are under way, or undone.
* ``units_ended``: ... whose steps have ended well.
* ``undoing``: ... that gave up: none of its steps goes forward any more.
* ``retries``: an execute that failed and is to be attempted again.
* ``compensating``: a compensation that runs, or is in compensation_retries too.
* ``compensation_retries``: one that failed and is to be attempted again.
* ``compensation_stragglers``: a compensation that outlived its timeout and still runs.
* ``in_doubt``: an execute has an unknown outcome that nothing has settled: no later attempt, verification, compensation or
  person.
* ``to_verify``: in doubt; its verify is to be asked before anything else is decided of it.
* ``verifying``: a verify that runs, or is in verification_retries too.
* ``verification_retries``: one that told nothing and is to be attempted again.
* ``to_compensate``: what there is to undo, in order of completion: succeeded or in doubt, has a compensation, and that has not
  begun.
* ``undone_to``: a person had what follows this step undone; None: all of it.
* ``kept``: what an undo back to a step leaves as it is: of what there is to undo.
* ``again``: undone so, and to be executed again when the saga comes to it.
* ``compensations_failed``: compensations that failed for good, in the order tried.
* ``asking``: a person must decide; the execution is stuck when nothing else is under way.
* ``exhausted``: asking, because it failed for good; until its next attempt, or the saga goes on.
* ``to_rerun``: to be executed again: a person said so, or it was cut off past the pivot.
* ``to_skip``: a person said to go on without it, or its policy did and it is undone first.
* ``left_in_doubt``: a person said to undo it, and it has no compensation: nobody is asked again.
* ``falling_back``: its fallback is to start when it has ended and is undone; skipped too.
* ``skipped``: the saga goes on without it, for good.
* ``unready``: an attempt returned, not what its retry waits for: undone, whatever later ones tell.
* ``attempts``: of executes; where there is none, it is the first.
* ``tries_before``: of these: how many came before the saga began the step anew.
* ``compensation_attempts``: of compensations that failed or were attempted again.
* ``verification_attempts``: of verifies: that of the last one.
* ``branches_begun``: by group: how many of its branches have begun, in the order declared.
* ``branches_ended``: by group: how many of its branches ended well.
* ``merged``: groups whose branches' views are merged.
* ``ways``: by step that decided: the way that was taken.
* ``signals``: names and values: those that came and no step has taken, in their order.

Commands
--------
* ``Call``: call a step's ``execute``, ``verify`` or ``compensate``, as its first or another attempt. Its outcome comes back as
  an event.
* ``Wait``: call :meth:`Machine.wake` with it after some seconds: another attempt is due, or a step's wait is over.
* ``Finish``: a step that waited (for its time, its signal) ends with this value, as a call that returned it; or a unit ends.
* ``Merge``: merge the views of a group's branches; ``GroupMerged`` comes back, or the conflict as :meth:`Machine.give_up`.

Intents are recorded before their commands are left, and commands are taken in order. What is commanded stands in no event: a
replayed machine has none, and :func:`recover` makes those that still matter from the state.

Who may do what
---------------
* Only a fold (``FOLDS``) changes the state; only ``TRANSITIONS`` say how a status changes. Decisions read, and record events.
* A driver sends facts (``start``, ``send``, ``wake``, ``time_out``, ``give_up``, ``finish``), takes commands out, and asks how
  things stand. It notes calls one after the other where nobody listens: see the theory of the log.
* A person's action comes in by :func:`act`, which refuses it where it does not fit. :func:`check` has the rules, once, for
  those too who know no more of an execution than its row in a store.
* Whoever replays records events (``record``) in a fresh machine, in order, and decides nothing.
* A plan is changed by nobody, but for an open one, which a block adds steps to, and one with lists in it (``Each``), which the
  folds let grow: every execution has its own.

Files
-----
==================  ==========================================================================================================
file                what it has
==================  ==========================================================================================================
``plan``            a compiled flow: named steps with their policies, what follows each, parallel groups, the fingerprint
``following``       what may come after a step
``compile``         a flow into a plan, which checks it; open plans
``growing``         plans that grow by a list
``contexts``        which class of contexts a saga is for, and those within it
``keys``            which keys of the context are there when a step begins
``tasks``           tasks as they are called, with their policies
``commands``        what is commanded
``state``           the state, the transitions
``folds``           what each kind of event does to the state
``decided``         what a person's decisions do to it
``decide``          the machine: facts in, what follows from each
``failures``        what follows where an attempt did not end well: verification, retry, skip, fallback, or the undo
``choices``         steps that decide how the saga goes on
``waits``           steps that wait for a time or a signal
``timeout``         what ends when an execution, or a unit, takes longer than it may
``back``            giving up: a saga, a unit
``doubt``           what is decided of steps whose work is not known to be done
``undo``            which step is compensated next; why a person must act
``background``      what a call may know of what came before it
``resume``          going on from a journal
``operators``       what a person may do, and what follows
``contradictions``  what cannot follow from what a journal says before it
``log``             the events, and the notes that stand for some of them until somebody looks
==================  ==========================================================================================================
"""

from saga.machine.commands import Call, Command, Finish, Merge, Wait
from saga.machine.compile import WITH_A_DATABASE, WITH_ASYNC_CONNECTIONS, OpenPlan, compile_flow
from saga.machine.contradictions import check_order, contradiction
from saga.machine.decide import Machine
from saga.machine.following import following
from saga.machine.growing import declared_name, grow
from saga.machine.keys import Finding, findings_of
from saga.machine.operators import (
    ACTIONS,
    Standing,
    act,
    cancellation,
    check,
    check_signal,
    check_undo_to,
    choices,
    decided_on,
    standing_of,
)
from saga.machine.plan import Each, Group, Plan, PlannedStep
from saga.machine.resume import recover
from saga.machine.state import State, status_after
from saga.machine.timeout import time_out, time_out_unit
from saga.machine.undo import DOUBTFUL, LEFT, named_in, paused_by

__all__ = [
    "ACTIONS",
    "DOUBTFUL",
    "LEFT",
    "WITH_ASYNC_CONNECTIONS",
    "WITH_A_DATABASE",
    "Call",
    "Command",
    "Each",
    "Finding",
    "Finish",
    "Group",
    "Machine",
    "Merge",
    "OpenPlan",
    "Plan",
    "PlannedStep",
    "Standing",
    "State",
    "Wait",
    "act",
    "cancellation",
    "check",
    "check_order",
    "check_signal",
    "check_undo_to",
    "choices",
    "compile_flow",
    "contradiction",
    "decided_on",
    "declared_name",
    "findings_of",
    "following",
    "grow",
    "named_in",
    "paused_by",
    "recover",
    "standing_of",
    "status_after",
    "time_out",
    "time_out_unit",
]
