"""The table, of compensations that have outlived their timeout and still run.

A row is what it is called, the flow, what happened so far (after the beginning) and the facts; what follows, and what is
commanded. Words: see :mod:`tests.unit.machine.notation`.
"""

from __future__ import annotations

from saga import Retry, Skip, fallback
from tests.unit.machine.notation import LEFT, A, B, C, D, P, do, own, together

TWO = "a starts, a returns, b starts, b returns, c starts, c raises, gives up on c, -b starts"
AGAIN = do("b", compensation_retry=Retry(2, 5.0))

# fmt: off
LATE_UNDO = [
    ("the rest is undone while a compensation outlives its timeout", (A, B, C), TWO, "-b late", "-a starts", "call -a"),
    ("the end waits for a compensation that outlived its timeout", (A, B), f"{LEFT}, -a starts", "-a late", "", ""),
    ("... though all the rest is undone", (A, B, C), f"{TWO}, -b late, -a starts", "-a returns", "", ""),
    ("a compensation that returns late ends the saga", (A, B), f"{LEFT}, -a starts, -a late", "-a returns", "compensated", ""),
    ("a compensation that raises late has failed", (A, B), f"{LEFT}, -a starts, -a late", "-a raises", "stuck", ""),
    ("... and keeps what is left from nothing",
        (A, B, C), f"{TWO}, -b late, -a starts", "-b raises, -a returns", "stuck", ""),
    ("a compensation that returns late lets the one under way end", (A, B, C), f"{TWO}, -b late, -a starts", "-b returns",
        "", ""),
    ("a compensation that raises late is attempted again where its policy says so",
        (A, AGAIN, C), f"{TWO}, -b late, -a starts, -a returns", "-b raises", "-b waits 2 in 5", "wait 5 for -b 2"),
    ("a compensation that was interrupted late has failed", (A, B), f"{LEFT}, -a starts, -a late", "-a stops", "stuck", ""),
    ("another attempt may outlive its timeout, too", (A, AGAIN, C),
        f"{TWO}, -b late, -a starts, -a returns, -b raises, -b waits 2 in 5, -b starts 2", "-b late 2, -b returns 2",
        "compensated", ""),
    ("what is undone together goes on", (together(A, B), C),
        "a starts, b starts, a returns, b returns, merged, c starts, c raises, gives up on c, -b starts, -a starts",
        "-b late, -a returns, -b returns", "compensated", ""),
    ("what stood before those that are undone together does not wait for one that is late", (A, together(B, C), D),
        "a starts, a returns, b starts, c starts, b returns, c returns, merged, d starts, d raises, gives up on d, "
        "-c starts, -b starts, -b returns", "-c late", "-a starts", "call -a"),
    ("a step is skipped when its compensation has ended", (own(on_error=Skip), B), "a starts, a raises, -a starts", "-a late",
        "", ""),
    ("... late as it is", (own(on_error=Skip), B), "a starts, a raises, -a starts, -a late", "-a returns",
        "a skipped, b starts", "call b"),
    ("a fallback begins when the compensation has ended", fallback(own(), B), "a starts, a raises, a replaced, -a starts",
        "-a late", "", ""),
    ("... late as that is", fallback(own(), B), "a starts, a raises, a replaced, -a starts, -a late", "-a returns", "b starts",
        "call b"),
    ("the end of a saga that goes on waits for it", (A | Skip, B),
        "a starts, a late, a skipped, b starts, a returns, -a starts, -a late", "b returns, -a returns", "completed", ""),
    ("a saga that gives up meanwhile undoes the rest", (own(on_error=Skip) & B, C),
        "a starts, b starts, a raises, -a starts, -a late, b returns", "give up", "gives up, -b starts", "call -b"),
    ("nothing is said of what is to be decided before it has ended", own(on_error=Skip) & (B | Skip),
        "a starts, b starts, a raises, -a starts, -a late", "b raises", "b skipped", ""),
    ("past the pivot a saga that was stopped waits for it", (P, own(on_error=Skip), B),
        "p starts, p returns, a starts, a raises, -a starts", "give up, -a late, -a returns", "a skipped", ""),
    ("it is made again where its process died", (A, B), f"{LEFT}, -a starts, -a late", "recovered", "-a starts 2", "call -a 2"),
    ("... beside one that was under way", (A, B, C), f"{TWO}, -b late, -a starts", "recovered", "-a starts 2, -b starts 2",
        "call -a 2, call -b 2"),
    ("... before the step is skipped", (own(on_error=Skip), B), "a starts, a raises, -a starts, -a late", "recovered",
        "-a starts 2", "call -a 2"),
]

#: ... where the saga stops at a compensation that fails.
STOPPED = [
    ("nothing more is undone before it is known how it ends", (A, B, C), TWO, "-b late", "", ""),
    ("what is left is undone when it has ended well", (A, B, C), f"{TWO}, -b late", "-b returns", "-a starts", "call -a"),
    ("what is left stays where it has failed", (A, B, C), f"{TWO}, -b late", "-b raises", "stuck", ""),
]
# fmt: on
