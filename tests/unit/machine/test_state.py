"""The state: what each kind of event does to it. What holds of it in any history is tried beside this."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Ask, Done, Skip, Status, choose, fallback, sequence
from saga import events as e
from saga.machine import Plan, State, status_after
from saga.machine.folds import FOLDS, fold
from saga.machine.state import TRANSITIONS
from tests.unit.machine.notation import ASK, PAST, RERUN, A, B, C, F, L, P, R, X, Y, clauses, do, event_of, one, own, plan_of

# -- each fold ----------------------------------------------------------------------------------------------------------

BACK = "a starts, a returns, b starts, b raises, gives up on b"
FAILED = f"{BACK}, -a starts, -a raises, stuck"
IN_DOUBT = "a starts, a stops, stuck"
ABC = (A, B, C)
DONE = "a starts, a returns, b starts, b returns, c starts, c returns, completed"
REWOUND = f"{DONE}, undo a, gives up, -c starts, -c returns, -b starts, -b returns, rewound a b c"
ASKED = "a starts, a raises, a asks, stuck"
V = do("a", verify=Done)
V_FOR_GOOD = do("a", undo=False, verify=Done)
RUNS = "u starts, a starts, a returns, b starts"
UNIT_BACK = f"{RUNS}, b raises, u turns back on b for a b"
V_STUCK = "a starts, a unanswered, ?a starts, ?a raises, stuck"

# fmt: off
# A flow, what happened so far, an event, and all that it changes.
FOLDED: list[tuple[Any, str, str, dict[str, Any]]] = [
    (A, "", "submitted", {"status": Status.SUBMITTED, "unbegun": True}),
    (A, "submitted", "begins", {"status": Status.RUNNING, "unbegun": False}),
    (A, "submitted", "gives up", {"status": Status.COMPENSATING, "cause": "given up"}),
    (A, "submitted", "stuck", {"status": Status.STUCK}),
    (A, "submitted, stuck", "resume", {"status": Status.SUBMITTED}),
    (A, "submitted, stuck", "cancel", {"status": Status.SUBMITTED, "cancelled": "cancel"}),
    (A, "submitted", "pause", {"held": True, "pausing": "pause"}),
    (A, "submitted, pause", "paused", {"status": Status.PAUSED, "pausing": None}),
    (A, "submitted, pause, paused", "resume", {"status": Status.SUBMITTED}),
    (A, "submitted, pause, paused", "cancel", {"status": Status.SUBMITTED, "cancelled": "cancel"}),
    (A, "submitted, pause, paused, resume", "begins", {"status": Status.RUNNING, "unbegun": False, "held": False}),
    (A, "a starts", "held", {"held": True}),
    (A, "a starts, held, a returns", "recovered", {"held": False}),
    (A, "a starts", "pause", {"held": True, "pausing": "pause"}),
    (A, "a starts, pause, a returns", "paused", {"status": Status.PAUSED, "pausing": None}),
    (A, "a starts, pause, a returns, paused", "resume", {"status": Status.RUNNING}),
    (A, "a starts, pause", "cancel", {"cancelled": "cancel", "pausing": None}),
    ((A | ASK) & B, "a starts, b starts, a stops, pause, b returns, paused", "resume", {"status": Status.RUNNING}),
    (A, "", "begins", {}),
    (A, "", "a starts", {"executing": "a"}),
    (A, "a starts, a raises, a waits 2", "a starts 2", {"executing": "a", "attempts": {"a": 2}, "retries": {}}),
    (A, "a starts, a late", "a starts 2", {"executing": "a", "attempts": {"a": 2}, "stragglers": ""}),
    (A, "a starts, a cut", "a starts 2", {"executing": "a", "attempts": {"a": 2}, "to_compensate": ""}),
    (V, "a starts, a cut", "a starts 2", {"executing": "a", "attempts": {"a": 2}, "to_verify": ""}),
    (A | Ask, ASKED, "a starts 2", {"executing": "a", "attempts": {"a": 2}, "asking": "", "exhausted": ""}),
    (A | ASK, IN_DOUBT, "a starts 2", {"executing": "a", "attempts": {"a": 2}, "asking": ""}),
    ((P, A), "p starts, p returns, a starts, a raises", "a starts 2",
        {"executing": "a", "attempts": {"a": 2}, "to_rerun": ""}),
    (fallback(A, B), "a starts, a raises, a replaced", "b starts", {"executing": "b", "falling_back": ""}),
    (A & B, "a starts", "b starts", {"executing": "a b", "branches_begun": {0: 2}}),
    (sequence(A, B) & C, "a starts, c starts, a returns", "b starts", {"executing": "b c"}),
    ((A, B), "a starts", "a returns", {"executing": "", "to_compensate": "a"}),
    ((X, B), "x starts", "x returns", {"executing": ""}),
    (A, "a starts", "a returns", {"executing": "", "to_compensate": "a", "past_end": True}),
    ((A, B), "a starts, a late", "a returns", {"stragglers": "", "to_compensate": "a"}),
    ((P, A), "p starts", "p returns", {"executing": "", "to_compensate": "p", "past_pivot": True}),
    ((R, A), "r starts, signal go 1, signal go 2", "r returns", {"executing": "", "signals": [("go", "2")]}),
    ((F, A), "f starts, signal go 1, signal stay 2, signal go 3", "f returns",
        {"executing": "", "signals": [("stay", "2"), ("go", "3")]}),
    (A & B, "a starts, b starts", "a returns", {"executing": "b", "to_compensate": "a", "branches_ended": {0: 1}}),
    ((A | Skip) & B, "a starts, b starts, a late, a skipped", "a returns", {"stragglers": "", "to_compensate": "a"}),
    (A & B, "a starts, b starts, a raises, gives up on a", "b returns", {"executing": "", "to_compensate": "b"}),
    ((A, B), "a starts", "a raises", {"executing": ""}),
    ((A, B), "a starts, a late", "a raises", {"stragglers": ""}),
    (own(), "a starts", "a raises", {"executing": "", "to_compensate": "a"}),
    (own(undo=False), "a starts", "a raises", {"executing": ""}),
    ((A, B), "a starts, a unanswered, a starts 2", "a returns 2", {"executing": "", "in_doubt": "", "to_compensate": "a"}),
    ((A, B), "a starts, a unanswered, a starts 2", "a raises 2", {"executing": "", "to_compensate": "a"}),
    ((A, B), "a starts, a unanswered, a starts 2", "a unkept 2", {"executing": "", "in_doubt": "", "to_compensate": "a"}),
    ((V, B), "a starts, a unanswered, a starts 2", "a raises 2", {"executing": "", "to_verify": "a"}),
    (A, "a starts", "a unkept", {"executing": "", "to_compensate": "a"}),
    (A, "a starts", "a unready", {"executing": "", "to_compensate": "a", "unready": "a"}),
    (X, "x starts", "x unready", {"executing": "", "unready": "x"}),
    (A, "a starts, a unanswered, a starts 2", "a unready 2",
        {"executing": "", "in_doubt": "", "to_compensate": "a", "unready": "a"}),
    (A, "a starts, a unready, a starts 2", "a raises 2", {"executing": "", "to_compensate": "a"}),
    ((P, A), "p starts, p returns, a starts", "a unready", {"executing": "", "to_rerun": "a", "unready": "a"}),
    (X, "x starts", "x unkept", {"executing": ""}),
    (A, "a starts", "a stops", {"executing": "", "in_doubt": "a", "to_compensate": "a"}),
    (A, "a starts", "a unanswered", {"executing": "", "in_doubt": "a", "to_compensate": "a"}),
    (A | RERUN, "a starts", "a unanswered", {"executing": "", "in_doubt": "a", "to_compensate": "a"}),
    (X, "x starts", "x stops", {"executing": "", "in_doubt": "x"}),
    (A | ASK, "a starts", "a stops", {"executing": "", "in_doubt": "a", "asking": "a"}),
    (V, "a starts", "a stops", {"executing": "", "in_doubt": "a", "to_verify": "a"}),
    (V | ASK, "a starts", "a unanswered", {"executing": "", "in_doubt": "a", "to_verify": "a"}),
    ((A, P, B), PAST, "b raises", {"executing": "", "to_rerun": "b"}),
    ((A, P, B | Skip), PAST, "b raises", {"executing": ""}),
    ((A, P, B), PAST, "b stops", {"executing": "", "in_doubt": "b", "to_rerun": "b"}),
    ((A, P, B | ASK), PAST, "b stops", {"executing": "", "in_doubt": "b", "asking": "b"}),
    ((A, P, B | Skip), PAST, "b unanswered", {"executing": "", "in_doubt": "b", "to_compensate": "a p b"}),
    ((A, P, B), PAST, "b unkept", {"executing": "", "asking": "b"}),
    ((A, P, B | Skip), f"{PAST}, b late, b skipped", "b stops",
        {"stragglers": "", "in_doubt": "b", "to_compensate": "a p b"}),
    (A, "a starts", "a late", {"executing": "", "stragglers": "a"}),
    (A, "a starts", "a cut", {"executing": "", "in_doubt": "a", "to_compensate": "a"}),
    (A | ASK, "a starts", "a cut", {"executing": "", "in_doubt": "a", "asking": "a"}),
    ((A, P, B), PAST, "b cut", {"executing": "", "in_doubt": "b", "to_rerun": "b"}),
    ((L, A), "l starts", "l cut", {"executing": ""}),
    ((P, L), "p starts, p returns, l starts", "l cut", {"executing": "", "to_rerun": "l"}),
    ((V, B), "a starts, a unanswered", "?a starts", {"to_verify": "", "verifying": "a", "verification_attempts": {"a": 1}}),
    ((V, B), "a starts, a unanswered, ?a starts, ?a raises, ?a waits 2", "?a starts 2",
        {"verification_retries": {}, "verification_attempts": {"a": 2}}),
    ((V, B), "a starts, a unanswered, ?a starts", "?a done", {"verifying": "", "in_doubt": "", "to_compensate": "a"}),
    (V, "a starts, a unanswered, ?a starts", "?a done",
        {"verifying": "", "in_doubt": "", "to_compensate": "a", "past_end": True}),
    (do("p", verify=Done, pivot=True), "p starts, p lost, ?p starts", "?p done",
        {"verifying": "", "in_doubt": "", "to_compensate": "p", "past_end": True, "past_pivot": True}),
    (do("p", verify=Done, pivot=True), "p starts, p stops, gives up on p, ?p starts", "?p done",
        {"verifying": "", "in_doubt": "", "to_compensate": "p"}),
    ((V, B), "a starts, a unanswered, ?a starts", "?a undone", {"verifying": "", "in_doubt": ""}),
    (own("a", verify=Done), "a starts, a unanswered, ?a starts", "?a undone",
        {"verifying": "", "in_doubt": "", "to_compensate": "a"}),
    ((V, B), "a starts, a unanswered, ?a starts, ?a raises, ?a waits 2, ?a starts 2", "?a undone 2",
        {"verifying": "", "in_doubt": "", "to_compensate": ""}),
    (V | ASK, f"{V_STUCK}, resume, ?a starts", "?a undone", {"verifying": "", "in_doubt": ""}),  # and still to_rerun
    ((P, V), "p starts, p returns, a starts, a unanswered, ?a starts", "?a undone",
        {"verifying": "", "in_doubt": "", "to_rerun": "a"}),
    ((V, B), "a starts, a unanswered, ?a starts", "?a raises", {"verifying": "", "to_compensate": "a"}),
    (V | ASK, "a starts, a unanswered, ?a starts", "?a silent", {"verifying": "", "asking": "a"}),
    ((P, V), "p starts, p returns, a starts, a unanswered, ?a starts", "?a raises", {"verifying": "", "to_rerun": "a"}),
    ((P, V), "p starts, p returns, a starts, a unanswered, ?a starts", "?a stops", {"verifying": "", "to_rerun": "a"}),
    ((V, B), "a starts, a unanswered, ?a starts", "?a stops", {"verifying": "", "to_compensate": "a"}),
    ((V, B), "a starts, a unanswered, ?a starts, ?a raises", "?a waits 2",
        {"verifying": "a", "verification_retries": {"a": 2}}),
    ((A | Skip, B), "a starts, a raises", "a skipped", {"skipped": "a"}),
    (A | Skip, "a starts, a raises", "a skipped", {"skipped": "a", "past_end": True}),
    ((A | Skip) & B, "a starts, b starts, a raises", "a skipped", {"skipped": "a", "branches_ended": {0: 1}}),
    ((P, A | Skip, B), "p starts, p returns, a starts, a raises", "a skipped", {"skipped": "a"}),
    (own(on_error=Skip), "a starts, a raises, -a starts, -a returns", "a skipped",
        {"skipped": "a", "to_skip": "", "past_end": True}),
    ((A | ASK, B), f"{IN_DOUBT}, skip a", "a skipped", {"skipped": "a", "to_skip": ""}),
    (A | Ask, "a starts, a raises", "a asks", {"asking": "a", "exhausted": "a"}),
    (fallback(A, B), "a starts, a raises", "a replaced", {"skipped": "a", "falling_back": "a"}),
    ((P, fallback(A, B)), "p starts, p returns, a starts, a raises", "a replaced",
        {"skipped": "a", "falling_back": "a"}),
    ((Y, A), "y starts", "y returns", {"executing": ""}),
    (Y, "y starts", "y returns", {"executing": ""}),
    ((Y, A), "y starts, y returns", "y goes 'else'", {"ways": {"y": "'else'"}}),
    (Y, "y starts, y returns", "y goes 'else'", {"ways": {"y": "'else'"}}),
    (choose("k", {1: (), 2: A}, name="y"), "y starts, y returns", "y goes 1", {"ways": {"y": "1"}, "past_end": True}),
    (choose("k", {1: (), 2: A}, name="y") & B, "y starts, b starts, y returns", "y goes 1",
        {"ways": {"y": "1"}, "branches_ended": {0: 1}}),
    (one(A), "", "u starts", {"units": "u"}),
    (one(A), "u starts, a starts", "a returns", {"executing": "", "to_compensate": "a", "units_ended": "u"}),
    (one(A), "u starts, a starts, a returns", "u returns", {"units": "", "units_ended": "", "past_end": True}),
    (one(A, B), f"{RUNS}, b raises", "u turns back on b for a b", {"undoing": {"u": "b"}}),
    (one(A & B), "u starts, a starts, b starts, a raises, b raises, b waits 2", "u turns back on a for a b",
        {"undoing": {"u": "a"}, "retries": {}}),
    (one(A & (B | Ask)), "u starts, a starts, b starts, b raises, b asks, a raises", "u turns back on a for a b",
        {"undoing": {"u": "a"}, "asking": "", "exhausted": ""}),
    (one(A & (B | Skip)), "u starts, a starts, b starts, b unanswered, -b starts, a raises", "u turns back on a for a b",
        {"undoing": {"u": "a"}, "to_skip": ""}),
    (one(A & fallback(B, C)), "u starts, a starts, b starts, b raises, b replaced, a raises", "u turns back on a for a b",
        {"undoing": {"u": "a"}, "falling_back": ""}),
    (one(one(A, name="v") & B), "u starts, v starts, a starts, b starts, a returns, b raises", "u turns back on b for v a b",
        {"undoing": {"u": "b"}, "units": "u", "units_ended": ""}),
    (one(one(A, name="v") & B), "u starts, v starts, a starts, b starts, a raises, v turns back on a for a, b raises",
        "u turns back on b for v a b", {"undoing": {"u": "b"}, "units": "u"}),
    (one(A, B), UNIT_BACK, "-a starts", {"to_compensate": "", "compensating": "a"}),
    (one(A, B), f"{UNIT_BACK}, -a starts, -a returns", "u raises",
        {"units": "", "undoing": {}, "attempts": {"a": 1, "b": 1}, "tries_before": {"a": 1, "b": 1}, "again": "a b"}),
    (one(A & B), "u starts, a starts, b starts, a returns, b raises, u turns back on b for a b, -a starts, -a returns",
        "u raises", {"units": "", "undoing": {}, "attempts": {"a": 1, "b": 1}, "tries_before": {"a": 1, "b": 1}, "again": "a b",
            "branches_begun": {}, "branches_ended": {}}),
    (one(A, B), f"{UNIT_BACK}, -a starts", "gives up", {"status": Status.COMPENSATING, "cause": "given up", "units": "",
        "undoing": {}}),
    ((A, Y), "a starts, a returns, y starts, y returns, y goes 'else', c starts, c returns, completed, undo a, gives up, "
        "-c starts, -c returns", "rewound a y c",
        {"status": Status.PAUSED, "cause": None, "cancelled": None, "past_end": False, "kept": "", "to_compensate": "a",
         "ways": {}, "attempts": {"y": 1, "c": 1},
         "tries_before": {"y": 1, "c": 1}, "again": "y c"}),
    ((R, A), "r starts", "signal go 1", {"signals": [("go", "1")]}),
    ((A & B, C), "a starts, b starts, a returns, b returns", "merged", {"merged": [0]}),
    (A & B, "a starts, b starts, a returns, b returns", "merged", {"merged": [0], "past_end": True}),
    (A & B, "a starts, b starts, a returns, b returns, gives up", "merged", {"merged": [0]}),
    (A, "a starts, a raises", "a waits 2 in 5", {"retries": {"a": 2}}),
    ((P, A), "p starts, p returns, a starts, a raises", "a waits 2", {"retries": {"a": 2}, "to_rerun": ""}),
    ((A, B), f"{BACK}, -a starts, -a raises", "-a waits 2",
        {"compensating": "a", "compensation_retries": {"a": 2}, "compensations_failed": {}}),
    ((A, B), "a starts, a returns, b starts, b raises", "gives up on b",
        {"status": Status.COMPENSATING, "cause": "given up", "failed": "b"}),
    (A, "a starts, a raises, a waits 2", "gives up", {"status": Status.COMPENSATING, "cause": "given up", "retries": {}}),
    (A | ASK, f"{IN_DOUBT}, resume", "gives up",
        {"status": Status.COMPENSATING, "cause": "given up", "to_rerun": "", "asking": "a"}),
    (V | ASK, f"{V_STUCK}, resume, ?a starts", "gives up",
        {"status": Status.COMPENSATING, "cause": "given up", "to_rerun": ""}),  # what verify says, is decided then
    ((A | Ask, B), "a starts, a raises, a asks", "gives up",
        {"status": Status.COMPENSATING, "cause": "given up", "asking": "", "exhausted": ""}),
    ((A, B), BACK, "-a starts", {"to_compensate": "", "compensating": "a"}),
    (own(on_error=Skip), "a starts, a raises", "-a starts", {"to_compensate": "", "compensating": "a", "to_skip": "a"}),
    ((A | Skip, B), "a starts, a late, a skipped, a returns", "-a starts", {"to_compensate": "", "compensating": "a"}),
    (A & B, "a starts, b starts, a returns, b returns, gives up", "-a starts", {"to_compensate": "b", "compensating": "a"}),
    ((A, B), f"{BACK}, -a starts, -a raises, -a waits 2", "-a starts 2",
        {"compensation_attempts": {"a": 2}, "compensation_retries": {}}),
    ((A, B), f"{BACK}, -a starts", "-a returns", {"compensating": ""}),
    (A, "a starts, a stops, gives up on a, -a starts", "-a returns", {"compensating": "", "in_doubt": ""}),
    ((A, B), f"{BACK}, -a starts", "-a raises",
        {"compensating": "", "compensation_attempts": {"a": 1}, "compensations_failed": {"a": "-a"}}),
    ((A, B), f"{BACK}, -a starts", "-a late", {"compensating": "", "compensation_stragglers": "a"}),
    ((A, B), f"{BACK}, -a starts, -a late", "-a returns", {"compensation_stragglers": ""}),
    ((A, B), f"{BACK}, -a starts, -a late", "-a raises",
        {"compensation_stragglers": "", "compensation_attempts": {"a": 1}, "compensations_failed": {"a": "-a"}}),
    ((A, B), f"{BACK}, -a starts, -a late", "-a starts 2",
        {"compensation_stragglers": "", "compensating": "a", "compensation_attempts": {"a": 2}}),
    (A, "a starts, a returns", "completed", {"status": Status.COMPLETED}),
    ((A, B), f"{BACK}, -a starts, -a returns", "compensated", {"status": Status.COMPENSATED}),
    ((A, B), f"{BACK}, -a starts, -a raises", "stuck", {"status": Status.STUCK}),
    (A | ASK, "a starts, a stops", "stuck", {"status": Status.STUCK}),
    (A, "a starts, a stops, gives up on a, -a starts", "-a raises",
        {"compensating": "", "compensation_attempts": {"a": 1}, "compensations_failed": {"a": "-a"}}),  # and in doubt
    (A, "a starts", "recovered", {}),
    (A, "a starts", "refused", {}),
    (A, "a starts", "cancel", {"cancelled": "cancel"}),
    ((P, A), "p starts, p returns, a starts", "cancel", {}),
    (A | ASK, IN_DOUBT, "compensate",
        {"status": Status.RUNNING, "cancelled": "compensate", "asking": "", "to_compensate": "a"}),
    (V | ASK, V_STUCK, "compensate",
        {"status": Status.RUNNING, "cancelled": "compensate", "asking": "", "to_verify": "a", "to_compensate": "a"}),
    (V | ASK, "a starts, a unanswered, ?a starts", "compensate", {"cancelled": "compensate", "to_compensate": "a"}),
    (X | ASK, "x starts, x stops, stuck", "compensate",
        {"status": Status.RUNNING, "cancelled": "compensate", "asking": "", "left_in_doubt": "x"}),
    (V_FOR_GOOD | ASK, f"{V_STUCK}, compensate, gives up, ?a starts", "?a raises", {"verifying": ""}),  # nor asking
    ((A, B), FAILED, "compensate",
        {"status": Status.COMPENSATING, "compensations_failed": {}, "to_compensate": "a"}),
    (A, "a starts, a returns, completed", "gives up", {"status": Status.COMPENSATING, "cause": "given up"}),
    (A, "a starts, a returns, completed", "undo", {"cancelled": "undo"}),
    (ABC, DONE, "undo a", {"cancelled": "undo", "undone_to": "a", "kept": "a", "to_compensate": "b c"}),
    (ABC, f"{DONE}, undo a, gives up", "compensate", {"undone_to": "", "kept": "", "to_compensate": "a b c"}),
    (ABC, f"{DONE}, undo a, gives up, -c starts, -c returns, -b starts, -b returns", "rewound a b c",
        {"status": Status.PAUSED, "cause": None, "cancelled": None, "past_end": False, "kept": "", "to_compensate": "a",
         "attempts": {"b": 1, "c": 1}, "tries_before": {"b": 1, "c": 1}, "again": "b c"}),
    (ABC, REWOUND, "resume", {"status": Status.RUNNING, "undone_to": "", "to_rerun": "b"}),
    (ABC, REWOUND, "compensate", {"status": Status.RUNNING, "undone_to": "", "cancelled": "compensate"}),
    (ABC, f"{REWOUND}, resume", "b starts 2", {"executing": "b", "attempts": {"b": 2, "c": 1}, "to_rerun": "", "again": "c"}),
    ((A, own("b", on_error=Skip)), "a starts, a returns, b starts, b raises, -b starts, -b raises, -b waits 2, -b starts 2, "
        "-b returns 2, b skipped, completed, undo a, gives up", "rewound a b",
        {"status": Status.PAUSED, "cause": None, "cancelled": None, "past_end": False, "kept": "", "to_compensate": "a",
         "skipped": "", "compensation_attempts": {}, "attempts": {"b": 1}, "tries_before": {"b": 1}, "again": "b"}),
    ((A, B & C), "a starts, a returns, b starts, c starts, b returns, c returns, merged, completed, undo a, gives up, "
        "-c starts, -c returns, -b starts, -b returns", "rewound a b c",
        {"status": Status.PAUSED, "cause": None, "cancelled": None, "past_end": False, "kept": "", "to_compensate": "a",
         "branches_begun": {}, "branches_ended": {}, "merged": [], "attempts": {"b": 1, "c": 1},
         "tries_before": {"b": 1, "c": 1}, "again": "b c"}),
    (own() | Ask, ASKED, "compensate",
        {"status": Status.RUNNING, "cancelled": "compensate", "asking": "", "exhausted": ""}),
    (X | Ask, "x starts, x cut, x asks, stuck", "compensate",
        {"status": Status.RUNNING, "cancelled": "compensate", "asking": "", "exhausted": "", "left_in_doubt": "x"}),
    (A | Ask, ASKED, "resume", {"status": Status.RUNNING, "asking": "", "exhausted": "", "to_rerun": "a"}),
    (own() | Ask, ASKED, "skip a",
        {"status": Status.RUNNING, "asking": "", "exhausted": "", "to_skip": "a", "to_compensate": ""}),
    (A | ASK, IN_DOUBT, "resume", {"status": Status.RUNNING, "asking": "", "to_rerun": "a"}),
    ((P, A), "p starts, p returns, a starts, a unkept, stuck", "resume",
        {"status": Status.RUNNING, "asking": "", "in_doubt": "a", "to_rerun": "a"}),
    (V | ASK, V_STUCK, "resume", {"status": Status.RUNNING, "asking": "", "to_rerun": "a", "to_verify": "a"}),
    ((V | ASK | Skip, B), "a starts, a late, a skipped, a unanswered, ?a starts, ?a raises, stuck", "resume",
        {"status": Status.RUNNING, "asking": "", "to_verify": "a", "to_compensate": "a"}),
    ((A, B | ASK), "a starts, a returns, b starts, b stops, gives up on b, stuck", "resume", {"status": Status.COMPENSATING}),
    ((A, B), FAILED, "retry", {"status": Status.COMPENSATING, "compensations_failed": {}, "to_compensate": "a"}),
    (A & B, "a starts, b starts, a returns, b returns, gives up, -b starts, -b raises, -a starts, -a raises, stuck", "retry",
        {"status": Status.COMPENSATING, "compensations_failed": {}, "to_compensate": "a b"}),
    ((A | ASK, B), IN_DOUBT, "skip a", {"status": Status.RUNNING, "in_doubt": "", "asking": "", "to_skip": "a"}),
    ((A, B | ASK), "a starts, a returns, b starts, b stops, gives up on b, stuck", "skip b",
        {"status": Status.COMPENSATING, "in_doubt": "", "asking": ""}),
    ((A, B), FAILED, "skip", {"status": Status.COMPENSATING}),
    ((A, B), FAILED, "skip a", {"status": Status.COMPENSATING, "compensations_failed": {}}),
]
# fmt: on


def known(state: State) -> dict[str, Any]:
    """Return all that is known, with names for steps."""
    steps = state.plan.steps

    def named(value: Any, field: str) -> Any:
        if field == "merged":
            return sorted(value)
        if isinstance(value, set):
            return " ".join(steps[index].name for index in sorted(value))
        if field in ("to_compensate", "kept"):
            return " ".join(steps[index].name for index in value)
        if field in ("signals", "branches_begun", "branches_ended"):
            return value.copy()
        if isinstance(value, dict):
            return {steps[index].name: named(one, "") for index, one in value.items()}
        if isinstance(value, e.RetryScheduled):
            return value.attempt
        if isinstance(value, e.UnitCompensating):
            return value.failed_step
        if isinstance(value, e.OperatorActed):
            return value.action
        if field == "undone_to":
            return "" if value is None else steps[value].name
        return str(value) if isinstance(value, BaseException) else getattr(value, "name", value) if field == "failed" else value

    return {field: named(getattr(state, field), field) for field in State.__slots__ if field != "plan"}


def state_of(plan: Plan, so_far: str) -> State:
    made = State(plan)
    for clause in clauses(so_far):
        fold(made, event_of(clause, 0.0))
    return made


@pytest.mark.parametrize(("flow", "so_far", "event", "changes"), FOLDED, ids=[f"{row[1]}; {row[2]}" for row in FOLDED])
def test_what_an_event_changes(flow: Any, so_far: str, event: str, changes: dict[str, Any]) -> None:
    state = state_of(plan_of(flow), so_far)
    before = known(state)
    fold(state, event_of(event, 0.0))
    after = known(state)
    assert {field: value for field, value in after.items() if value != before[field]} == changes


def test_a_later_attempt_of_a_compensation_takes_it_out_of_what_is_left_wherever_it_stands() -> None:
    state = state_of(plan_of(A & B), "a starts, b starts, a returns, b returns, gives up")
    fold(state, event_of("-a starts", 0.0))
    assert known(state)["to_compensate"] == "b"
    fold(state, event_of("-a starts 2", 0.0))
    assert (known(state)["to_compensate"], known(state)["compensating"]) == ("b", "a")


def test_every_kind_of_event_has_a_fold_and_a_row() -> None:
    assert FOLDS.keys() == set(e.Event.__args__)
    assert {type(event_of(event, 0.0)) for _, _, event, _ in FOLDED} == FOLDS.keys()


def test_every_field_is_changed_by_some_event() -> None:
    assert {field for *_, changes in FOLDED for field in changes} == set(State.__slots__) - {"plan"}


def test_nothing_is_known_at_first() -> None:
    first = known(State(plan_of(A)))
    assert first.pop("status") is Status.RUNNING
    assert not any(first.values())


# -- questions ----------------------------------------------------------------------------------------------------------


def test_the_first_attempt_is_the_one_that_is_not_noted() -> None:
    state = state_of(plan_of(A), "a starts, a raises, a waits 2")
    assert state.attempt(0) == 1
    fold(state, event_of("a starts 2", 0.0))
    assert state.attempt(0) == 2


@pytest.mark.parametrize(
    ("so_far", "gave_up"),
    [
        ("a starts", False),
        ("a starts, a late", False),
        ("a starts, a late, a skipped", True),
        ("a starts, a late, gives up on a", True),
        ("a starts, a late, gives up on a, a returns", False),
        ("a starts, a raises, a skipped", False),
    ],
)
def test_nobody_waits_for_a_straggler_that_is_skipped_or_whose_saga_gave_up(so_far: str, gave_up: bool) -> None:
    plan = plan_of((A | Skip, B))
    assert state_of(plan, so_far).gave_up_on(plan.steps[0]) is gave_up


# -- the status ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbegun", [False, True])
@pytest.mark.parametrize("gave_up", [False, True])
@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("kind", FOLDS)
def test_the_status_changes_as_the_transitions_say_and_in_no_other_way(
    kind: type, before: Status, gave_up: bool, unbegun: bool
) -> None:
    fitting = [
        one
        for one in TRANSITIONS
        if (one.before, one.event) == (before, kind) and one.gave_up in (None, gave_up) and one.unbegun in (None, unbegun)
    ]
    assert len(fitting) <= 1
    assert status_after(before, kind, gave_up, unbegun) is (fitting[0].after if fitting else before)


def test_what_is_undone_never_changes_and_what_has_ended_well_can_only_be_undone() -> None:
    ended = {(one.before, one.after) for one in TRANSITIONS if one.before in (Status.COMPLETED, Status.COMPENSATED)}
    assert ended == {(Status.COMPLETED, Status.COMPENSATING)}
