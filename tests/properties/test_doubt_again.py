"""Cases that once broke a law of doubt, each as small as it can be: what each comes to now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saga import Effect, InDoubt, Retry, Skip, Status
from tests.properties.doubtkit.cases import Case, Instead, Leaf, Many
from tests.properties.doubtkit.runs import Run

ASK, RERUN = {"in_doubt": InDoubt.ASK}, {"in_doubt": InDoubt.RERUN}
PIVOT = Leaf("p", policies={"pivot": True})
COMPLETED, COMPENSATED, STUCK = Status.COMPLETED, Status.COMPENSATED, Status.STUCK
NONE, STANDS, UNDONE, UNKNOWN = Effect.NONE, Effect.STANDS, Effect.UNDONE, Effect.UNKNOWN


def leaf(name: str, *execute: str, **more: Any) -> Leaf:
    """A step ``name`` whose calls do this; more: what else a :class:`Leaf` has, and policies."""
    own = {key: more.pop(key) for key in ("verify", "undo", "unknown_on", "colours") if key in more}
    return Leaf(name, execute, policies=more, **own)


def case(*steps: Any, **more: Any) -> Case:
    return Case(Many("sequence", steps), **more)


CASES: dict[str, tuple[Case, Status, dict[str, Effect]]] = {
    "a step that says RERUN is executed again when an attempt fails cleanly, as long as one before it is unknown": (
        case(leaf("a", "timeout", "refused", retry=Retry(3, retry_on=ValueError), **RERUN)),
        COMPLETED,
        {"a": STANDS},
    ),
    "what a block that died had under way past its pivot is not executed again": (
        case(PIVOT, leaf("a", "die done"), front="block"),
        STUCK,
        {"p": STANDS, "a": UNKNOWN},
    ),
    "a block's step that is undone past the pivot before it is skipped is read again": (
        case(
            PIVOT,
            leaf("a", "hang done", on_error=Skip, timeout=0.002, colours=(True, False, False)),
            front="ablock",
        ),
        COMPLETED,
        {"p": STANDS, "a": UNDONE},
    ),
    "nor what was interrupted there, when a person has acted": (
        case(PIVOT, leaf("a", "interrupt"), front="block", people=(("compensate", 0),)),
        STUCK,
        {"p": STANDS, "a": UNKNOWN},
    ),
    "a fallback past the pivot does not begin where the undo of its step has failed": (
        case(PIVOT, Instead(leaf("a", "reset done", undo=("fail", "ok")), leaf("b"))),
        STUCK,
        {"p": STANDS, "a": UNKNOWN, "b": NONE},
    ),
    "it begins when a person has had the undo tried again": (
        case(PIVOT, Instead(leaf("a", "reset done", undo=("fail", "ok")), leaf("b")), people=(("retry", 0),)),
        COMPLETED,
        {"p": STANDS, "a": UNDONE, "b": STANDS},
    ),
    "or has seen to it": (
        case(PIVOT, Instead(leaf("a", "reset done", undo=("fail",)), leaf("b")), people=(("skip", 0),)),
        COMPLETED,
        {"p": STANDS, "a": Effect.SETTLED, "b": STANDS},
    ),
    "a step that a person says to undo, and whose verify gives what cannot be stored, is compensated once": (
        case(leaf("a", "reset done", verify=("none", "unstorable"), **ASK), people=(("compensate", 0),)),
        COMPENSATED,
        {"a": UNDONE},
    ),
    "a step without a compensation that a person says to undo is not asked about again": (
        case(leaf("a", "reset", verify=("none",), undo=None, **ASK), people=(("compensate", 0),)),
        COMPENSATED,
        {"a": UNKNOWN},
    ),
    "nor is one that a person says to undo while its verify is asked": (
        case(leaf("a", "reset done", verify=("die", "none"), **ASK), people=(("compensate", 0),)),
        COMPENSATED,
        {"a": UNDONE},
    ),
    "what was done past the pivot is not forgotten where a person has it executed again, and that fails": (
        case(PIVOT, leaf("a", "unstorable", "fail", on_error=Skip), people=(("resume", 0),)),
        COMPLETED,
        {"p": STANDS, "a": UNDONE},
    ),
    "it is asked about, before it is executed again": (
        case(PIVOT, leaf("a", "unstorable", "fail", verify=("truth",)), people=(("resume", 0),)),
        COMPLETED,
        {"p": STANDS, "a": STANDS},
    ),
    "it is executed again, where its verify does not tell": (
        case(PIVOT, leaf("a", "unstorable", verify=("none",)), people=(("resume", 0),)),
        COMPLETED,
        {"p": STANDS, "a": STANDS},
    ),
    "a step past the pivot that may have done a part of its work is undone before it is skipped": (
        case(PIVOT, leaf("a", "fail done", on_error=Skip, compensate_on_failure=True)),
        COMPLETED,
        {"p": STANDS, "a": UNDONE},
    ),
    "nobody says of a step that may have done a part of its work that it did nothing": (
        case(
            leaf("a", "fail done", undo=("fail",), on_error=Skip, compensate_on_failure=True),
            leaf("b", "fail done", compensate_on_failure=True),
            leaf("c", "fail"),
            stop=True,
        ),
        STUCK,
        {"a": UNKNOWN, "b": UNKNOWN, "c": NONE},
    ),
    "nobody says of a step whose undo has failed that it stands, though a person has that tried again": (
        case(leaf("a", undo=("fail done", "fail")), leaf("b", "fail"), people=(("retry", 0),)),
        STUCK,
        {"a": UNKNOWN, "b": NONE},
    ),
    "an execute that waits for its time to be over is told when its execution is left to a recovery": (
        case(
            Many(
                "parallel",
                (
                    leaf("a", "hang", timeout=3600.0),
                    leaf("b", "reset done", undo=("interrupt", "ok"), on_error=Skip),
                ),
            )
        ),
        COMPENSATED,
        {"a": UNDONE, "b": UNDONE},
    ),
    "and a coroutine is cut off when its time is over, all the same": (
        case(
            Many(
                "parallel",
                (
                    leaf("a", "hang", timeout=0.2, colours=(True, False, False)),
                    leaf("b", "reset done", undo=("interrupt", "ok"), on_error=Skip),
                ),
            ),
            front="loop",
        ),
        COMPENSATED,
        {"a": UNDONE, "b": UNDONE},
    ),
}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", CASES)
def test_a_case_that_once_broke_a_law(name: str, loop: asyncio.Runner) -> None:
    case, status, effects = CASES[name]
    run = Run(case, loop)
    run.go()
    assert (run.result.status, dict(run.result.effects)) == (status, effects), run.story()
