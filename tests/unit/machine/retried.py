"""The table, of what a retry looks at: the error, the time since the first attempt, and what was returned.

A row: its name, the flow, what happened so far, a fact, what follows, what is commanded. What happened so far, happened 10
seconds before the fact.
"""

from __future__ import annotations

from typing import Any, Final

from saga import Ask, Retry, Skip, fallback
from tests.unit.machine.notation import PAST, RERUN, A, B, P, Wrong, do, own


def of_a(error: Exception) -> bool:
    return str(error) == "a"


def wrong(error: Exception) -> bool:
    raise ZeroDivisionError


class AsTold:
    """A backoff that waits for as long as the error's text has letters."""

    def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
        return float(len(str(error)))


def polled(name: str = "a", attempts: int | None = 2, elapsed: float | None = None, **policies: Any) -> Any:
    retry = Retry(attempts, 5.0, retry_on=(), max_elapsed=elapsed, retry_if=lambda result: True)
    return do(name, retry=retry, **policies)


SO_LONG: Final = Retry(None, 5.0, max_elapsed=15.0)
TOO_LONG: Final = Retry(None, 5.0, max_elapsed=14.0)
AGAIN: Final = "a starts, a unready, a waits 2 in 5, a starts 2"
BACK: Final = "a starts, a returns, b starts, b raises, gives up on b, -a starts"
V: Final = do("a", verify=lambda: None, verification_retry=SO_LONG)
V_TOO_LONG: Final = do("a", verify=lambda: None, verification_retry=TOO_LONG)

# fmt: off
BY_ERROR = [
    ("a function of the error allows another attempt", A | Retry(2, 5.0, of_a), "a starts", "a raises", "a waits 2 in 5",
        "wait 5 for a 2"),
    ("a function of the error allows none", B | Retry(2, 5.0, of_a), "b starts", "b raises", "gives up on b, compensated",
        ""),
    ("a function beside a class is asked, too", A | Retry(2, 5.0, (OSError, of_a)), "a starts", "a raises", "a waits 2 in 5",
        "wait 5 for a 2"),
    ("a function that raises allows none", A | Retry(2, 5.0, wrong), "a starts", "a raises", "gives up on a, compensated", ""),
    ("a class beside a function that raises, and before it, is looked at first", A | Retry(2, 5.0, (ValueError, wrong)),
        "a starts", "a raises", "a waits 2 in 5", "wait 5 for a 2"),
    ("no function is asked about an interrupt of an undo",
        (do("a", compensation_retry=Retry(2, 5.0, lambda error: True)), B), BACK, "-a stops", "stuck", ""),
    ("a function that raises keeps a saga past its pivot from nothing", (A, P, B | Retry(2, 5.0, wrong)), PAST, "b raises",
        "b waits 2 in 0.1", "wait 0.1 for b 2"),
    ("the undo is attempted again for what a function allows",
        (do("a", compensation_retry=Retry(2, 5.0, lambda error: True)), B), BACK, "-a raises", "-a waits 2 in 5",
        "wait 5 for -a 2"),
    ("the undo is attempted once where a function raises", (do("a", compensation_retry=Retry(2, 5.0, wrong)), B),
        BACK, "-a raises", "stuck", ""),
    ("a backoff looks at the error", A | Retry(2, AsTold()), "a starts", "a raises", "a waits 2 in 1", "wait 1 for a 2"),
    ("a backoff looks at the error of an undo", (do("a", compensation_retry=Retry(2, AsTold())), B), BACK, "-a raises",
        "-a waits 2 in 2", "wait 2 for -a 2"),
    ("a step is skipped when its undo's backoff raises", (own(on_error=Skip, compensation_retry=Retry(2, Wrong())), B),
        "a starts, a raises, -a starts", "-a raises", "a skipped, b starts", "call b"),
]
BY_TIME = [
    ("an attempt is made that begins when the time is just over", A | SO_LONG, "a starts", "a raises", "a waits 2 in 5",
        "wait 5 for a 2"),
    ("an attempt that would begin later is not made", A | TOO_LONG, "a starts", "a raises", "gives up on a, compensated", ""),
    ("the first attempt counts, not the last", A | TOO_LONG, "a starts, a raises, a waits 2 in 5, a starts 2", "a raises 2",
        "gives up on a, compensated", ""),
    ("an attempt that is due when the time is over is made", A | Retry(None, 5.0, max_elapsed=6.0),
        "a starts, a raises, a waits 2 in 5", "a due 2", "a starts 2", "call a 2"),
    ("a step is skipped when its time is over", (A | Retry(None, 5.0, max_elapsed=14.0, then=Skip), B), "a starts", "a raises",
        "a skipped, b starts", "call b"),
    ("attempts are counted, too", A | Retry(1, 5.0, max_elapsed=60.0), "a starts", "a raises", "gives up on a, compensated",
        ""),
    ("a step past the pivot goes on when its time is over", (A, P, B | TOO_LONG), PAST, "b raises", "b waits 2 in 0.1",
        "wait 0.1 for b 2"),
    ("a step past the pivot that may be skipped is when its time is over",
        (A, P, B | Retry(None, 5.0, max_elapsed=14.0, then=Skip)), PAST, "b raises", "b skipped, completed", ""),
    ("an undo is attempted again while there is time", (do("a", compensation_retry=SO_LONG), B), BACK, "-a raises",
        "-a waits 2 in 5", "wait 5 for -a 2"),
    ("an undo is not attempted later", (do("a", compensation_retry=TOO_LONG), B), BACK, "-a raises", "stuck", ""),
    ("a verification is attempted again while there is time", V, "a starts, a unanswered, ?a starts", "?a raises",
        "?a waits 2 in 5", "wait 5 for ?a 2"),
    ("a verification is not attempted later", V_TOO_LONG, "a starts, a unanswered, ?a starts", "?a raises",
        "gives up on a, -a starts", "call -a"),
    ("a step in doubt is run again while there is time", do("a", in_doubt=RERUN, retry=Retry(None, 5.0, OSError, 15.0)),
        "a starts", "a unanswered", "a waits 2 in 5", "wait 5 for a 2"),
    ("a step in doubt is not run again later", do("a", in_doubt=RERUN, retry=Retry(None, 5.0, OSError, 9.0)), "a starts",
        "a unanswered", "gives up on a, -a starts", "call -a"),
    ("a crash begins no time anew", do("a", in_doubt=RERUN, retry=Retry(None, 5.0, max_elapsed=9.0)), "a starts", "recovered",
        "a lost, gives up on a, -a starts", "call -a"),
    ("a crash is run after while there is time", do("a", in_doubt=RERUN, retry=Retry(None, 5.0, max_elapsed=15.0)), "a starts",
        "recovered", "a lost, a starts 2", "call a 2"),
]
BY_RESULT = [
    ("what is not ready yet is asked for again", polled(), "a starts", "a unready", "a waits 2 in 5", "wait 5 for a 2"),
    ("what is ready at last is the result", (polled(), B), AGAIN, "a returns 2", "b starts", "call b"),
    ("what is never ready fails the step, which is undone", polled(), AGAIN, "a unready 2", "gives up on a, -a starts",
        "call -a"),
    ("what is not ready in time fails the step", polled(attempts=None, elapsed=14.0), "a starts", "a unready",
        "gives up on a, -a starts", "call -a"),
    ("an attempt that raised leaves what returned before it to be undone", polled(), AGAIN, "a raises 2",
        "gives up on a, -a starts", "call -a"),
    ("what returned before, and is asked about, is undone whatever is told of the last attempt",
        polled(verify=lambda: None), f"{AGAIN}, a unanswered 2, ?a starts", "?a undone", "gives up on a, -a starts", "call -a"),
    ("what was not ready is undone where the saga gives up as it waits",
        (polled() & B), "a starts, b starts, a unready, a waits 2 in 5", "b raises", "gives up on b, -a starts", "call -a"),
    ("a step that may be skipped is undone first", (polled(on_error=Skip), B), AGAIN, "a unready 2", "-a starts", "call -a"),
    ("a step without an undo is skipped at once", (polled("x", undo=False, on_error=Skip), B),
        "x starts, x unready, x waits 2 in 5, x starts 2", "x unready 2", "x skipped, b starts", "call b"),
    ("a person is asked when it is never ready", polled(on_error=Ask), AGAIN, "a unready 2", "a asks, stuck", ""),
    ("a fallback begins when it is undone", fallback(polled(), B), AGAIN, "a unready 2", "a replaced, -a starts", "call -a"),
    ("what is not ready past the pivot is asked for until it is", (A, P, polled("b", attempts=1)), PAST, "b unready",
        "b waits 2 in 0.1", "wait 0.1 for b 2"),
    ("a straggler that returns what is not ready is attempted again",
        do("a", retry=Retry(2, 5.0, retry_if=lambda result: True)),
        "a starts, a late", "a unready", "a waits 2 in 5", "wait 5 for a 2"),
]
# fmt: on

RETRIED = [*BY_ERROR, *BY_TIME, *BY_RESULT]
