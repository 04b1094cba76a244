"""The table, where a step that failed for good asks a person: ``on_error=Ask``.

A row is what it is called, the flow, what happened so far (after the beginning) and the facts; what follows, and what is
commanded. Words: see :mod:`tests.unit.machine.notation`.
"""

from __future__ import annotations

from saga import Ask, Retry, fallback, receive
from tests.unit.machine.notation import ASK, PAST, RERUN, A, B, C, P, do, own

# fmt: off
STUCK = "a starts, a raises, a asks, stuck"
ASKED = [
    ("a step that failed for good asks a person",
        (A, B | Ask), "a starts, a returns, b starts", "b raises", "b asks, stuck", ""),
    ("it is attempted as often as its policy says before",
        A | Retry(2, then=Ask), "a starts", "a raises", "a waits 2", "wait 0 for a 2"),
    ("it asks when its attempts are used up",
        A | Retry(2, then=Ask), "a starts, a raises, a waits 2, a starts 2", "a raises 2", "a asks, stuck", ""),
    ("its siblings go on before a person is asked", (A | Ask) & B, "a starts, b starts", "a raises", "a asks", ""),
    ("a person is asked when its siblings have ended",
        ((A | Ask) & B, C), "a starts, b starts, a raises, a asks", "b returns", "stuck", ""),
    ("where two fail, both are asked about",
        (A | Ask) & (B | Ask), "a starts, b starts, a raises, a asks", "b raises", "b asks, stuck", ""),
    ("where a sibling gives the saga up, there is nothing to decide",
        (A | Ask) & (B, C), "a starts, b starts, b returns, c starts, a raises, a asks", "c raises", "gives up on c, -b starts",
        "call -b"),
    ("where a sibling gives the saga up, the undo ends it",
        (A | Ask) & (B, C), "a starts, b starts, b returns, c starts, a raises, a asks, c raises, gives up on c, -b starts",
        "-b returns", "compensated", ""),
    ("an undo that began before is not kept from its end",
        (A | Ask) & B, "a starts, b starts, b raises, gives up on b", "a raises", "compensated", ""),
    ("a straggler asks nobody: it may end well", (A | Ask, B), "a starts", "a late", "", ""),
    ("a straggler that ends well goes on", (A | Ask, B), "a starts, a late", "a returns", "b starts", "call b"),
    ("a straggler asks when it has failed", (A | Ask, B), "a starts, a late", "a raises", "a asks, stuck", ""),
    ("a step that was cut off at its timeout asks, in doubt as it is", A | Ask, "a starts", "a cut", "a asks, stuck", ""),
    ("a lost answer asks, after its verification",
        do("a", verify=lambda: None) | Ask, "a starts, a unanswered, ?a starts", "?a silent", "a asks, stuck", ""),
    ("a lost answer that says ASK waits for a person, and the rest is not undone",
        (A, B | ASK | Ask), "a starts, a returns, b starts", "b unanswered", "stuck", ""),
    ("a fallback comes first", fallback(A | Ask, B), "a starts", "a raises", "a replaced, b starts", "call b"),
    ("a fallback that is not for this error leaves it to a person",
        fallback(A | Ask, B, on=OSError), "a starts", "a raises", "a asks, stuck", ""),
    ("a step instead of another asks too", fallback(A, B | Ask), "a starts, a raises, a replaced, b starts", "b raises",
        "b asks, stuck", ""),
    ("past the pivot its attempts come to an end", (A, P, B | Ask), PAST, "b raises", "b asks, stuck", ""),
    ("a receiver whose signal did not come asks", receive("go", name="l", timeout=60.0, on_error=Ask), "l starts", "l cut",
        "l asks, stuck", ""),
    ("a crash is a doubt, and no failure", (A, B | Ask), "a starts, a returns, b starts", "recovered",
        "b lost, gives up on b, -b starts", "call -b"),
    ("what a recovery executes again asks when that fails",
        A | Ask | RERUN, "a starts, recovered, a lost, a starts 2", "a raises 2", "a asks, stuck", ""),
    ("an interrupt gives up", (A, B | Ask), "a starts, a returns, b starts", "b stops", "gives up on b, -b starts", "call -b"),
    ("resume makes another attempt", (A | Ask, B), STUCK, "resume", "a starts 2", "call a 2"),
    ("an attempt that a person let it make goes on when it returns",
        (A | Ask, B), f"{STUCK}, resume, a starts 2", "a returns 2", "b starts", "call b"),
    ("an attempt that a person let it make asks again when it fails",
        A | Ask, f"{STUCK}, resume, a starts 2", "a raises 2", "a asks, stuck", ""),
    ("resume that nobody obeyed yet is obeyed", A | Ask, f"{STUCK}, resume", "recovered", "a starts 2", "call a 2"),
    ("resume verifies what is in doubt before",
        do("a", verify=lambda: None) | Ask, "a starts, a unanswered, ?a starts, ?a silent, a asks, stuck", "resume",
        "?a starts", "call ?a"),
    ("resume past the pivot makes another attempt", (A, P, B | Ask), f"{PAST}, b raises, b asks, stuck", "resume",
        "b starts 2", "call b 2"),
    ("resume lets a receiver wait again", receive("go", name="l", timeout=60.0, on_error=Ask),
        "l starts, l cut, l asks, stuck", "resume", "l starts 2", "wait 60 for l"),
    ("skip goes on without it", (A | Ask, B), STUCK, "skip a", "a skipped, b starts", "call b"),
    ("skip of one that may have left something leaves that to the person",
        (own() | Ask, B), STUCK, "skip a", "a skipped, b starts", "call b"),
    ("what a person skipped is not undone later",
        (own() | Ask, B), f"{STUCK}, skip a, a skipped, b starts", "b raises", "gives up on b, compensated", ""),
    ("compensate undoes the rest", (A, B | Ask), "a starts, a returns, b starts, b raises, b asks, stuck", "compensate",
        "gives up, -a starts", "call -a"),
    ("compensate does not ask about it any more", A | Ask, STUCK, "compensate", "gives up, compensated", ""),
    ("compensate undoes what it may have left", own() | Ask, STUCK, "compensate", "gives up, -a starts", "call -a"),
    ("compensate undoes what is in doubt", A | Ask, "a starts, a cut, a asks, stuck", "compensate", "gives up, -a starts",
        "call -a"),
]
