"""The table, where a completed execution is undone on request: wholly, or back to a step.

A row is what it is called, the flow, what happened so far (after the beginning) and the facts; what follows, and what is
commanded. Words: see :mod:`tests.unit.machine.notation`.
"""

from __future__ import annotations

from saga import Retry, Skip, fallback, receive
from tests.unit.machine.notation import A, B, C, D, P, X, Y, own, together

# fmt: off
ABC = (A, B, C)
DONE = "a starts, a returns, b starts, b returns, c starts, c returns, completed"
BACK = f"{DONE}, undo a, gives up, -c starts, -c returns, -b starts"
REWOUND = f"{BACK}, -b returns, rewound a b c"
FORWARD = f"{REWOUND}, resume, b starts 2"
FAILED = f"{DONE}, undo a, gives up, -c starts, -c raises, -b starts, -b returns, stuck"
GROUP = "a starts, a returns, b starts, c starts, b returns, c returns, merged, d starts, d returns, completed"
GROUP_BACK = f"{GROUP}, undo a, gives up, -d starts, -d returns, -c starts, -c returns, -b starts, -b returns, rewound a b c d"
CHOSEN = "a starts, a returns, y starts, y returns, y goes 'result of y', b starts, b returns, d starts, d returns, completed"
UNDONE = [
    ("undo begins with what completed last", ABC, DONE, "undo", "gives up, -c starts", "call -c"),
    ("undo goes on as any other", ABC, f"{DONE}, undo, gives up, -c starts", "-c returns", "-b starts", "call -b"),
    ("undo of all ends compensated", A, "a starts, a returns, completed, undo, gives up, -a starts", "-a returns",
        "compensated", ""),
    ("undo of what leaves nothing ends at once", X, "x starts, x returns, completed", "undo", "gives up, compensated", ""),
    ("undo whose compensation fails is stuck",
        A, "a starts, a returns, completed, undo, gives up, -a starts", "-a raises", "stuck", ""),
    ("undo that was only recorded is carried out", ABC, f"{DONE}, undo, gives up", "recovered", "-c starts", "call -c"),
    ("undo that a crash cut off goes on",
        ABC, f"{DONE}, undo, gives up, -c starts", "recovered", "-c starts 2", "call -c 2"),
    ("undo of branches that are undone together",
        together(A, B), "a starts, b starts, a returns, b returns, merged, completed", "undo", "gives up, -b starts, -a starts",
        "call -b, call -a"),
    ("undo leaves alone what was skipped",
        (own(on_error=Skip), B), "a starts, a raises, -a starts, -a returns, a skipped, b starts, b returns, completed", "undo",
        "gives up, -b starts", "call -b"),
    # -- back to a step
    ("back to a step, that stays done", ABC, BACK, "-b returns", "rewound a b c", ""),
    ("back to a step before which there is more to undo",
        ABC, f"{DONE}, undo b, gives up, -c starts", "-c returns", "rewound b c", ""),
    ("back to a step after which nothing is to be undone",
        (A, X), "a starts, a returns, x starts, x returns, completed", "undo a", "gives up, rewound a x", ""),
    ("back to a step, a crash in it", ABC, BACK, "recovered", "-b starts 2", "call -b 2"),
    ("back to a step, and not all can be undone", ABC, f"{DONE}, undo a, gives up, -c starts, -c raises, -b starts",
        "-b returns", "stuck", ""),
    ("back to a step, where a person has seen to what could not be undone", ABC, FAILED, "skip c", "rewound a b c", ""),
    ("back to a step, where what failed is undone at last", ABC, f"{FAILED}, retry, -c starts 2", "-c returns 2",
        "rewound a b c", ""),
    ("a whole undo takes the place of one back to a step",
        ABC, f"{BACK}, compensate", "-b returns", "-a starts", "call -a"),
    ("what is back at a step is undone wholly", ABC, REWOUND, "compensate", "gives up, -a starts", "call -a"),
    ("back to a step of a flow with a group", (A, B & C, D), GROUP, "undo a", "gives up, -d starts", "call -d"),
    ("back to a choice undoes the way that it took", (A, Y, D), CHOSEN, "undo y", "gives up, -d starts", "call -d"),
    # -- and forward again
    ("a choice goes forward again by the way that it took",
        (A, Y, D), f"{CHOSEN}, undo y, gives up, -d starts, -d returns, -b starts, -b returns, rewound y d b", "resume",
        "b starts 2", "call b 2"),
    ("what came before a choice goes forward to decide anew",
        (A, Y, D), f"{CHOSEN}, undo a, gives up, -d starts, -d returns, -b starts, -b returns, rewound a y d b, resume, "
        "y starts 2", "y returns 2", "y goes 'result of y', b starts 2", "call b 2"),
    ("resume executes again what is undone", ABC, REWOUND, "resume", "b starts 2", "call b 2"),
    ("resume of what is back at a step that nobody obeyed yet is obeyed", ABC, f"{REWOUND}, resume", "recovered", "b starts 2",
        "call b 2"),
    ("what follows is executed again too", ABC, FORWARD, "b returns 2", "c starts 2", "call c 2"),
    ("attempts go on counting", (A, B | Retry(3)),
        "a starts, a returns, b starts, b raises, b waits 2, b starts 2, b returns 2, "
        "completed, undo a, gives up, -b starts, -b returns, rewound a b", "resume", "b starts 3", "call b 3"),
    ("it completes again", ABC, f"{FORWARD}, b returns 2, c starts 2", "c returns 2", "completed", ""),
    ("it is undone again", ABC, f"{FORWARD}, b returns 2, c starts 2, c returns 2, completed", "undo", "gives up, -c starts",
        "call -c"),
    ("its undo ends with what was kept", ABC, f"{FORWARD}, b raises 2, gives up on b, -a starts", "-a returns", "compensated",
        ""),
    ("a failure undoes what was kept too", ABC, FORWARD, "b raises 2", "gives up on b, -a starts", "call -a"),
    ("what is compensated again counts from one",
        ABC, f"{FORWARD}, b returns 2, c starts 2", "c raises 2", "gives up on c, -b starts", "call -b"),
    ("a group is begun again", (A, B & C, D), GROUP_BACK, "resume", "b starts 2, c starts 2", "call b 2, call c 2"),
    ("a group that is begun again is merged again",
        (A, B & C, D), f"{GROUP_BACK}, resume, b starts 2, c starts 2, b returns 2", "c returns 2", "", "merge"),
    ("a step that was replaced has its turn again",
        (A, fallback(B, C)), "a starts, a returns, b starts, b raises, b replaced, c starts, c returns, completed, undo a, "
        "gives up, -c starts, -c returns, rewound a b c", "resume", "b starts 2", "call b 2"),
    ("what takes its place again is another attempt",
        (A, fallback(B, C)), "a starts, a returns, b starts, b raises, b replaced, c starts, c returns, completed, undo a, "
        "gives up, -c starts, -c returns, rewound a b c, resume, b starts 2", "b raises 2", "b replaced, c starts 2",
        "call c 2"),
    ("what takes its place for the first time is its first",
        (A, fallback(B, C)), "a starts, a returns, b starts, b returns, completed, undo a, gives up, -b starts, -b returns, "
        "rewound a b, resume, b starts 2", "b raises 2", "b replaced, c starts", "call c"),
    ("a receiver waits for another signal",
        (A, receive("go", name="r")), "a starts, a returns, r starts, signal go 1, r returns, completed, undo a, gives up, "
        "rewound a r", "resume", "r starts 2", ""),
    ("past a pivot that is passed only now there is no way back",
        (A, fallback(B, P)), "a starts, a returns, b starts, b returns, completed, undo a, gives up, -b starts, -b returns, "
        "rewound a b, resume, b starts 2, b raises 2, b replaced, p starts", "p returns", "completed", ""),
]

NOT_COMPLETED = "the execution is not completed"
REFUSED = [
    ("what runs is cancelled", A, "a starts", "undo", f"{NOT_COMPLETED} (running): use cancel, which undoes what it has done"),
    ("what is being undone is being undone", ABC, BACK, "undo", "the execution is being undone already"),
    ("what is stuck is compensated", ABC, FAILED, "undo",
        f"{NOT_COMPLETED} (stuck): use compensate, which undoes what it has done"),
    ("what is paused is compensated", ABC, REWOUND, "undo",
        f"{NOT_COMPLETED} (paused): use compensate, which undoes what it has done"),
    ("what is undone is undone", A, "a starts, a raises, gives up on a, compensated", "undo",
        "the execution is undone already"),
    ("what is past its pivot stays", (A, P), "a starts, a returns, p starts, p returns, completed", "undo",
        "the saga is past its pivot: nothing is undone any more"),
    ("there is such a step", ABC, DONE, "undo d", "there is no step 'd'; steps: a, b, c"),
    ("a branch is no place to go back to", (A, B & C, D), GROUP, "undo b",
        "step 'b' stands in a parallel group; give a step before or after the group"),
    ("what failed is no place to go back to", (A | Skip, B), "a starts, a raises, a skipped, b starts, b returns, completed",
        "undo a", "step 'a' was not done, so nothing is undone back to it; give one that was"),
    ("what was never begun is no place to go back to", (fallback(A, B), C),
        "a starts, a returns, c starts, c returns, completed", "undo b",
        "step 'b' was not done, so nothing is undone back to it; give one that was"),
    ("the last step is no place to go back to", ABC, DONE, "undo c",
        "nothing came after step 'c'; give an earlier one, or none to undo all"),
    ("what has completed is not compensated", ABC, DONE, "compensate",
        "the execution has ended (completed); there is nothing to compensate"),
]
