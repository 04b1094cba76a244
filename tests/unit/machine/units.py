"""The table, of units: what is undone when one gives up, what its policies say then, and what of the rest goes on meanwhile."""

from __future__ import annotations

from typing import Any, Final

from saga import Ask, Retry, Skip, fallback
from tests.unit.machine.notation import ASK, A, B, C, D, P, T, do, one

U: Final = one(A, B)
RETRIED: Final = one(A, B, retry=Retry(2, 5.0))
SKIPPED: Final = one(A, B, on_error=Skip)
ASKED: Final = one(A, B, on_error=Ask)
REPLACED: Final = fallback(U, D)
GROUP: Final = one(A & B, retry=Retry(2, 5.0))
INNER: Final = one(one(A, B, name="v"), C, retry=Retry(2, 5.0))
BRANCH: Final = one(one(A, name="v", on_error=Skip) & C, retry=Retry(2, 5.0))
OF_ASK: Final = one(A | ASK, B, retry=Retry(2, 5.0))
OF_RETRY: Final = one(do("a", retry=Retry(2, 5.0)), retry=Retry(2, 5.0))

RUNS: Final = "u starts, a starts, a returns, b starts"
BACK: Final = f"{RUNS}, b raises, u turns back on b for a b"
UNDONE: Final = f"{BACK}, -a starts, -a returns"
AGAIN: Final = f"{UNDONE}, u raises, u waits 2 in 5, u starts 2, a starts 2"
BESIDE: Final = "u starts, a starts, c starts, a returns, b starts, b raises, u turns back on b for a b, -a starts"
PAST: Final = "p starts, p returns"

# fmt: off
#: A row: its name, the flow, what happened so far, a fact, what follows, what is commanded.
UNITS: Final[list[tuple[str, Any, str, str, str, str]]] = [
    ("a unit begins with its first step", (RETRIED, C), "", "begin",
        "begins, u starts, a starts", "call a"),
    ("it ends when its last step has ended", (RETRIED, C), f"{RUNS}", "b returns",
        "", "finish u"),
    ("what follows it begins when it has ended", (RETRIED, C), f"{RUNS}, b returns", "u returns",
        "c starts", "call c"),
    ("a step fails, and what was done of the unit is undone", (RETRIED, C), f"{RUNS}", "b raises",
        "u turns back on b for a b, -a starts", "call -a"),
    ("a unit that is undone has failed", (RETRIED, C), f"{BACK}, -a starts", "-a returns",
        "", "fail u"),
    ("it fails where there is nothing to undo", RETRIED, "u starts, a starts", "a raises",
        "u turns back on a for a", "fail u"),
    ("it is attempted again after its retry's backoff", (RETRIED, C), f"{UNDONE}", "u raises",
        "u waits 2 in 5", "wait 5 for u 2"),
    ("but not when the time of the last one is over", (RETRIED, C), f"{UNDONE}, u raises, u waits 2 in 5", "u due",
        "", ""),
    ("another attempt begins with its first step", (RETRIED, C), f"{UNDONE}, u raises, u waits 2 in 5", "u due 2",
        "u starts 2, a starts 2", "call a 2"),
    ("and goes on as the first", (RETRIED, C), f"{AGAIN}", "a returns 2",
        "b starts 2", "call b 2"),
    ("and gives up as the first", (RETRIED, C), f"{AGAIN}", "a raises 2",
        "u turns back on a for a b", "fail u"),
    ("no attempt is left, and the saga gives up", (RETRIED, C), f"{AGAIN}, a raises 2, u turns back on a for a b", "u raises 2",
        "gives up on u, compensated", ""),
    ("a step's own attempts are counted anew", OF_RETRY,
        "u starts, a starts, a raises, a waits 2 in 5, a starts 2, a raises 2, u turns back on a for a, "
        "u raises, u waits 2 in 5, u starts 2, a starts 3", "a raises 3",
        "a waits 4 in 5", "wait 5 for a 4"),
    ("as often as its retry says", OF_RETRY,
        "u starts, a starts, a raises, a waits 2 in 5, a starts 2, a raises 2, u turns back on a for a, "
        "u raises, u waits 2 in 5, u starts 2, a starts 3, a raises 3, a waits 4 in 5, a starts 4", "a raises 4",
        "u turns back on a for a", "fail u"),
    ("the saga goes on without a unit", (SKIPPED, C), f"{UNDONE}", "u raises",
        "u skipped, c starts", "call c"),
    ("a person is asked about a unit", (ASKED, C), f"{UNDONE}", "u raises",
        "u asks, stuck", ""),
    ("who has it executed again", (ASKED, C), f"{UNDONE}, u raises, u asks, stuck", "resume",
        "u starts 2, a starts 2", "call a 2"),
    ("or goes on without it", (ASKED, C), f"{UNDONE}, u raises, u asks, stuck", "skip u",
        "u skipped, c starts", "call c"),
    ("or has all of it undone", (D, ASKED, C), f"d starts, d returns, {UNDONE}, u raises, u asks, stuck", "compensate",
        "gives up, -d starts", "call -d"),
    ("something is done instead of a unit", (REPLACED, C), f"{UNDONE}", "u raises",
        "u replaced, d starts", "call d"),
    ("what runs of a unit that gave up ends", GROUP, "u starts, a starts, b starts", "a raises",
        "u turns back on a for a b", ""),
    ("and is undone when it has ended well", GROUP,
        "u starts, a starts, b starts, a raises, u turns back on a for a b", "b returns",
        "-b starts", "call -b"),
    ("and is not retried when it has not", one(A & do("b", retry=Retry(2)), on_error=Skip),
        "u starts, a starts, b starts, a raises, u turns back on a for a b", "b raises",
        "", "fail u"),
    ("what waits in a unit that gave up waits no more", one(A & T, on_error=Skip), "u starts, a starts, t starts", "a raises",
        "u turns back on a for a t, t raises", "fail u"),
    ("an attempt that is due in a unit that gave up is not made", one(A & do("b", retry=Retry(2, 5.0)), on_error=Skip),
        "u starts, a starts, b starts, b raises, b waits 2 in 5, a raises, u turns back on a for a b", "b due 2",
        "", ""),
    ("a branch beside a unit goes on while that is undone", RETRIED & C, f"{BESIDE}", "c returns",
        "", ""),
    ("what was undone is not undone again, where the saga gives up meanwhile", RETRIED & C,
        f"{BESIDE}, c raises, gives up on c", "-a returns",
        "compensated", ""),
    ("a saga that gives up ends what waits for a unit's undo", RETRIED & C, f"{BESIDE}", "c raises",
        "gives up on c", ""),
    ("a unit within another is retried by itself", one(one(A, B, name="v", retry=Retry(2, 5.0)), C),
        "u starts, v starts, a starts, a raises, v turns back on a for a", "v raises",
        "v waits 2 in 5", "wait 5 for v 2"),
    ("one within another that says nothing of what follows leaves that to the other", INNER,
        "u starts, v starts, a starts", "a raises",
        "u turns back on a for v a", "fail u"),
    ("one that has no attempt left gives up the other", one(one(A, name="v", retry=Retry(1)), retry=Retry(2, 5.0)),
        "u starts, v starts, a starts, a raises, v turns back on a for a", "v raises",
        "u turns back on v for v a", "fail u"),
    ("one that says nothing is the saga, where it gives up", (C, U), f"c starts, c returns, {RUNS}", "b raises",
        "gives up on b, -a starts", "call -a"),
    ("so that it need not wait for a straggler", U, f"{RUNS}", "b late",
        "gives up on b, -a starts", "call -a"),
    ("what was done of one within is undone with the other", INNER,
        "u starts, v starts, a starts, a returns, b starts, b returns, v returns, c starts", "c raises",
        "u turns back on c for v a b c, -b starts", "call -b"),
    ("one that is undone in another that gives up does not end for itself", BRANCH,
        "u starts, v starts, a starts, c starts, a unanswered, v turns back on a for a, -a starts, c raises, "
        "u turns back on c for v a c", "-a returns",
        "", "fail u"),
    ("an interrupt is the saga's end, not the unit's", (RETRIED, C), f"{RUNS}", "b stops",
        "gives up on b, -b starts", "call -b"),
    ("before a step is called, too", (C, RETRIED), "c starts, c returns, u starts, a starts", "a missed",
        "gives up on a, -c starts", "call -c"),
    ("and so is the saga's timeout", (RETRIED, C), f"{RUNS}", "time is up",
        "b late, gives up, -a starts", "call -a"),
    ("a compensation fails, and the saga gives up", (C, RETRIED), f"c starts, c returns, {BACK}, -a starts", "-a raises",
        "gives up on b, -c starts", "call -c"),
    ("what is in doubt is undone", (RETRIED, C), "u starts, a starts", "a unanswered",
        "u turns back on a for a, -a starts", "call -a"),
    ("a person is asked about what is in doubt before anything is undone", OF_ASK, "u starts, a starts", "a unanswered",
        "stuck", ""),
    ("and goes on with the unit", OF_ASK, "u starts, a starts, a unanswered, stuck", "resume",
        "a starts 2", "call a 2"),
    ("a straggler's unit undoes the rest", RETRIED, f"{RUNS}", "b late",
        "u turns back on b for a b, -a starts", "call -a"),
    ("and the straggler when it ends", RETRIED,
        f"{RUNS}, b late, u turns back on b for a b, -a starts, -a returns", "b returns",
        "-b starts", "call -b"),
    ("and fails only then", RETRIED, f"{RUNS}, b late, u turns back on b for a b, -a starts", "-a returns",
        "", ""),
    ("a process that dies in a step leaves its unit to be undone", (RETRIED, C), f"{RUNS}", "recovered",
        "b lost, u turns back on b for a b, -b starts", "call -b"),
    ("or its undo to be gone on with", (RETRIED, C), f"{BACK}, -a starts", "recovered",
        "-a starts 2", "call -a 2"),
    ("or to be begun", (RETRIED, C), f"{BACK}", "recovered",
        "-a starts", "call -a"),
    ("or its failure to be told", (RETRIED, C), f"{UNDONE}", "recovered",
        "", "fail u"),
    ("or another attempt to be waited for", (RETRIED, C), f"{UNDONE}, u raises, u waits 2 in 5", "recovered",
        "", "wait 0 for u 2"),
    ("or its end to be told", (RETRIED, C), f"{RUNS}, b returns", "recovered",
        "", "finish u"),
    ("a unit gives up while it is held: nothing follows", (RETRIED, C), f"{RUNS}, held", "b raises",
        "", ""),
    ("and what follows is left to whoever goes on", (RETRIED, C), f"{RUNS}, held, b raises", "recovered",
        "u turns back on b for a b, -a starts", "call -a"),
    ("one that ended while it was held ends once", (RETRIED, C), f"{RUNS}, held, b returns", "recovered",
        "", "finish u"),
    ("past the pivot a unit is undone, too", (P, U), f"{PAST}, {RUNS}", "b raises",
        "u turns back on b for a b, -a starts", "call -a"),
    ("and attempted again, whatever its policies", (P, U), f"{PAST}, {UNDONE}", "u raises",
        "u waits 2 in 0.1", "wait 0.1 for u 2"),
    ("or not, where the saga may go on without it", (P, SKIPPED, C), f"{PAST}, {UNDONE}", "u raises",
        "u skipped, c starts", "call c"),
    ("a person is asked where it cannot be undone", (P, RETRIED), f"{PAST}, {BACK}, -a starts", "-a raises",
        "stuck", ""),
    ("who has that tried again", (P, RETRIED), f"{PAST}, {BACK}, -a starts, -a raises, stuck", "retry",
        "-a starts 2", "call -a 2"),
    ("or has seen to it", (P, RETRIED), f"{PAST}, {BACK}, -a starts, -a raises, stuck", "skip a",
        "", "fail u"),
]
# fmt: on
