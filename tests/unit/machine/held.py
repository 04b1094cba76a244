"""The table, handed over: what is held begins nothing new, and who takes it up decides what follows what came meanwhile.

A row is what it is called, the flow, what happened so far (after the beginning) and the facts; what follows, and what is
commanded. Words: see :mod:`tests.unit.machine.notation`.
"""

from __future__ import annotations

from saga import Done, Retry, Skip, fallback, parallel, sequence
from tests.unit.machine.notation import ASK, PAST, A, B, Block, C, P, R, T, do, together

# fmt: off
V = do("a", verify=Done)
TWICE = do("a", retry=Retry(2, 5.0))
UNDO = "a starts, a returns, b starts, b returns, c starts, c raises, gives up on c, -b starts"
TOGETHER = "a starts, b starts, a returns, b returns, merged, c starts, c raises, gives up on c, -b starts, -a starts"
HOLDING = [
    ("a step that returns while it is held is followed by nothing", (A, B), "a starts", "hold, a returns", "held", ""),
    ("a step that fails while it is held gives nothing up",
        (A, B), "a starts, a returns, b starts", "hold, b raises", "held", ""),
    ("a step that was interrupted while it is held gives nothing up", (A, B), "a starts", "hold, a stops", "held", ""),
    ("the last step that returns while it is held completes nothing", A, "a starts", "hold, a returns", "held", ""),
    ("a step in doubt is not verified while it is held", V, "a starts", "hold, a unanswered", "held", ""),
    ("a compensation that returns while it is held is followed by none", (A, B, C), UNDO, "hold, -b returns", "held", ""),
    ("an attempt that is due while it is held is not made",
        TWICE, "a starts, a raises, a waits 2 in 5", "hold, a due 2", "held", ""),
    ("a wait that is over while it is held ends nothing", T, "t starts", "hold, t due", "held", ""),
    ("a signal that comes while it is held ends the wait", R, "r starts", "hold, signal go 1", "held", "finish r with 1"),
    ("branches that have ended are merged while it is held",
        A & B, "a starts, b starts, a returns", "hold, b returns", "held", ""),
    ("its time is up while it is held",
        (A, B), "a starts, a returns, b starts", "hold, time is up", "held, b late, gives up", ""),
    ("what is held is held", (A, B), "a starts, held", "hold, a returns", "", ""),
    ("what has ended is not held", A, "a starts, a returns, completed", "hold", "", ""),
]
TAKEN_UP = [
    ("a step that returned while it was held is followed",
        (A, B), "a starts, held, a returns", "recovered", "b starts", "call b"),
    ("the last step that returned while it was held completes it",
        A, "a starts, held, a returns", "recovered", "completed", ""),
    ("a step that failed while it was held is given up on",
        (A, B), "a starts, a returns, b starts, held, b raises", "recovered", "gives up on b, -a starts", "call -a"),
    ("a step that was interrupted while it was held is undone",
        (A, B), "a starts, held, a stops", "recovered", "gives up on a, -a starts", "call -a"),
    ("a step that failed while it was held waits for its next attempt",
        TWICE, "a starts, held, a raises", "recovered", "a waits 2 in 5", "wait 5 for a 2"),
    ("what waited when it was held waits on",
        (TWICE, T), "a starts, a raises, a waits 2 in 15, held", "recovered", "", "wait 5 for a 2"),
    ("a wait goes on when it was held", T, "t starts, held", "recovered", "", "wait 50 for t"),
    ("a wait that begins when it was held begins once",
        (A, T), "a starts, held, a returns", "recovered", "t starts", "wait 60 for t"),
    ("a step that failed while it was held is skipped",
        (A | Skip, B), "a starts, held, a raises", "recovered", "a skipped, b starts", "call b"),
    ("a step that failed while it was held is replaced",
        fallback(A, B), "a starts, held, a raises", "recovered", "a replaced, b starts", "call b"),
    ("a step in doubt since it was held is verified", V, "a starts, held, a unanswered", "recovered", "?a starts", "call ?a"),
    ("what a verification told while it was held counts",
        (V, B), "a starts, a unanswered, ?a starts, held, ?a done", "recovered", "b starts", "call b"),
    ("a step in doubt since it was held asks a person", A | ASK | Skip, "a starts, held, a cut", "recovered", "stuck", ""),
    ("branches of which the last returned while it was held are merged once",
        A & B, "a starts, b starts, a returns, held, b returns", "recovered", "", "merge"),
    ("branches that all returned while it was held are merged once",
        A & B, "a starts, b starts, held, a returns, b returns", "recovered", "", "merge"),
    ("branches that were merged while it was held are followed",
        (A & B, C), "a starts, b starts, a returns, b returns, held, merged", "recovered", "c starts", "call c"),
    ("a branch that asks leaves its sibling to go on",
        (A | ASK | Skip) & B, "a starts, b starts, held, a cut, b returns", "recovered", "stuck", ""),
    ("a branch that asks since it was held waits for its sibling to go on",
        parallel(A | ASK | Skip, sequence(B, C)), "a starts, b starts, held, a cut, b returns", "recovered",
        "c starts", "call c"),
    ("a branch that failed while it was held is not undone before its sibling is known to have returned",
        A & B, "a starts, b starts, held, b raises, a returns", "recovered", "gives up on b, -a starts", "call -a"),
    ("a step that returned late while it was held has returned",
        (A | Skip, B), "a starts, held, a late, a returns", "recovered", "b starts", "call b"),
    ("a step that failed late while it was held has failed",
        (A | Skip, B), "a starts, held, a late, a raises", "recovered", "a skipped, b starts", "call b"),
    ("a step that still ran when its process died while it was held is in doubt",
        (A, B), "a starts, held, a late", "recovered", "a lost, gives up on a, -a starts", "call -a"),
    ("a step that was under way when its process died while it was held is in doubt",
        A & B, "a starts, b starts, held, a returns", "recovered", "b lost, gives up on b, -b starts", "call -b"),
    ("a compensation that returned while it was held is followed by the next",
        (A, B, C), f"{UNDO}, held, -b returns", "recovered", "-a starts", "call -a"),
    ("a compensation that failed while it was held has failed",
        (A, B, C), f"{UNDO}, held, -b raises", "recovered", "-a starts", "call -a"),
    ("compensations together that returned while it was held end it",
        (together(A, B), C), f"{TOGETHER}, held, -a returns, -b returns", "recovered", "compensated", ""),
    ("a step past the pivot that failed while it was held is executed again",
        (A, P, B), f"{PAST}, held, b stops", "recovered", "b starts 2", "call b 2"),
    ("what was held once is decided once",
        (A, B, C), "a starts, held, a returns, recovered, b starts", "b returns", "c starts", "call c"),
    ("what was decided before it was held is not decided again",
        (A, B), "a starts, a returns, b starts, held", "recovered", "b lost, gives up on b, -b starts", "call -b"),
]
PAUSING = [
    ("what runs ends before it is paused", (A, B), "a starts", "pause, a returns", "", ""),
    ("it is paused when nothing runs", (A, B), "a starts", "pause, a returns, rest", "paused", ""),
    ("what is undone is not paused", (A, B), "a starts, pause, cancel, gives up", "a returns, rest", "", ""),
    ("what was given up before nothing ran is not paused",
        (A, B), "a starts, pause", "give up, a returns, rest", "gives up", ""),
    ("cancel comes before what was to be paused", (A, B), "a starts", "pause, cancel, a returns", "gives up", ""),
    ("what a person had paused and then cancelled is undone",
        (A, B), "a starts, pause, cancel, gives up, a returns", "recovered", "-a starts", "call -a"),
    ("what was paused is gone on with",
        (A, B), "a starts, pause, a returns, paused, resume", "recovered", "b starts", "call b"),
    ("what was cut off when it was paused is in doubt",
        (A, B), "a starts, pause, paused, resume", "recovered", "a lost, gives up on a, -a starts", "call -a"),
    ("what was paused is undone",
        (A, B), "a starts, a returns, b starts, pause, b returns, paused, cancel", "recovered",
        "gives up, -b starts", "call -b"),
    ("what a person was asked about is still asked when it is resumed",
        (A | ASK | Skip) & B, "a starts, b starts, a cut, pause, b returns, paused, resume", "recovered", "stuck", ""),
]
PAUSE_REFUSED = [
    ("what is about to be paused is not paused again", A, "a starts, pause", "pause",
        "the execution is about to be paused: what runs of it ends first"),
    ("what is about to be paused is not resumed", A, "a starts, pause", "resume",
        "the execution is about to be paused: what runs of it ends first; resume it when it is paused"),
    ("what is paused is not paused again", A, "a starts, pause, paused", "pause",
        "the execution does not go forward (paused): there is nothing to pause"),
    ("what is paused is not retried", A, "a starts, pause, paused", "retry",
        "the execution is not stuck (paused): there is nothing to retry"),
    ("what is undone is not paused", (A, B, C), UNDO, "pause",
        "the execution does not go forward (compensating): there is nothing to pause"),
    ("a block is not paused", Block(A, B), "a starts", "pause",
        "a block runs in its caller's own code, which nobody can go on with elsewhere: it cannot be paused"),
]
# fmt: on
HELD = (*HOLDING, *TAKEN_UP, *PAUSING)
