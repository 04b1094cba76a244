"""The sagas that are killed: each is a flow of steps with what they do, and how it ends when nobody kills it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from crashkit.at_run_time import at_run_time
from crashkit.flows import Few, Instead, Pausing, Together
from crashkit.scenario import Scenario
from crashkit.steps import ALWAYS, Doing
from saga import InDoubt, OnError, Retry

FAILS = Doing(fails=ALWAYS)


def _straight() -> list[Scenario]:
    """Sequences of one to five steps, with no failure and with each failing position."""
    found = []
    for count in range(1, 6):
        flow = tuple("abcde"[:count])
        found.append(Scenario(f"{count}-steps", flow))
        found += [Scenario(f"{count}-steps-{name}-fails", flow, {name: FAILS}, "compensated") for name in flow]
    return found


def _policied() -> list[Scenario]:
    """What depends on what is done about a step in doubt."""
    base = [one for one in _straight() if one.name in ("1-steps", "3-steps", "5-steps", "3-steps-c-fails", "5-steps-e-fails")]
    base += [one for one in _parallel() if one.name in ("fork", "fork-left-fails", "branches")]
    base += [one for one in _retries() if one.name in ("retried", "retried-in-vain", "skipped")]
    return [replace(one, name=f"{one.name}-{policy}", in_doubt=policy) for one in base for policy in ("rerun", "ask")]


def _parallel() -> list[Scenario]:
    fork = ("a", ["b", "c"], "d")
    branches = [("a", "b"), ("c", "d")]
    nested = ("a", ["b", ("c", ["d", "e"])])
    return [
        Scenario("pair", ["a", "b"]),
        Scenario("three", ["a", "b", "c"]),
        Scenario("fork", fork),
        Scenario("fork-left-fails", fork, {"b": FAILS}, "compensated"),
        Scenario("fork-right-fails", fork, {"c": FAILS}, "compensated"),
        Scenario("fork-both-fail", fork, {"b": FAILS, "c": FAILS}, "compensated"),
        Scenario("fork-then-fails", fork, {"d": FAILS}, "compensated"),
        Scenario("branches", branches),
        Scenario("branches-end-fails", branches, {"d": FAILS}, "compensated"),
        Scenario("nested", nested),
        Scenario("nested-inner-fails", nested, {"e": FAILS}, "compensated"),
        # The sibling ends only when the other branch has failed.
        Scenario("fork-sibling-goes-on", fork, {"b": FAILS, "c": Doing(hangs="end b")}, "compensated"),
        # Both branches run before either ends.
        Scenario("fork-in-step", fork, {"b": Doing(fails=ALWAYS, hangs="start c"), "c": Doing(hangs="start b")}, "compensated"),
        Scenario("mixed-policies", ("a", ["b", "c", "d"]), {"b": _doubt("rerun"), "c": _doubt("ask"), "d": Doing()}),
        Scenario("mixed-rerun-ask", ("a", ["b", "c"]), {"b": _doubt("rerun"), "c": _doubt("ask")}),
    ]


def _doubt(policy: str) -> Doing:
    return Doing(policies={"in_doubt": InDoubt(policy)})


def _retries() -> list[Scenario]:
    twice = Doing(fails=2, policies={"retry": Retry(3, 0.01)})
    under_way = Doing(hangs="did b")
    waits = Doing(fails=1, policies={"retry": Retry(2, 0.05)})
    late = Doing(fails=1, fails_after=True, policies={"retry": Retry(2, 0.01)})
    vain = Doing(fails=ALWAYS, policies={"retry": Retry(3, 0.005)})
    asked = Retry(5, 0.01, max_elapsed=60.0, retry_if=lambda result: not result["ready"])
    polled = Doing(unready=2, policies={"retry": asked})
    polled_in_vain = Doing(unready=ALWAYS, policies={"retry": replace(asked, max_attempts=2)})
    skip = Doing(fails=ALWAYS, policies={"on_error": OnError.SKIP})
    own = Doing(fails=ALWAYS, fails_after=True, policies={"compensate_on_failure": True})
    undo_retried = Doing(undo_fails=1, policies={"compensation_retry": Retry(3, 0.01)})
    lacks, owes = (Doing(policies={says: ("nobody sets it",)}) for says in ("requires", "provides"))
    flow = ("a", "b", "c")
    return [
        Scenario("retried", flow, {"b": twice}),
        Scenario("retried-late", flow, {"b": late}),
        Scenario("retried-in-vain", flow, {"b": vain}, "compensated"),
        Scenario("polled", flow, {"b": polled}),
        Scenario("polled-in-vain", flow, {"b": polled_in_vain}, "compensated"),
        Scenario("polled-beside-a-failure", ("a", ["b", "c"]), {"b": polled, "c": FAILS}, "compensated"),
        Scenario("retried-beside", ("a", ["b", "c"]), {"b": twice}),
        Scenario("waits-beside", ("a", ["b", "c", "d"]), {"b": waits, "c": under_way, "d": under_way}),
        Scenario("retried-beside-a-failure", ("a", ["b", "c"]), {"b": twice, "c": FAILS}, "compensated"),
        Scenario("skipped", flow, {"b": skip}),
        Scenario("compensated-itself", flow, {"c": own}, "compensated"),
        Scenario("unstorable", flow, {"c": Doing(odd=True)}, "compensated"),
        Scenario("without-its-key", flow, {"c": lacks}, "compensated"),
        Scenario("not-provided", flow, {"b": owes}, "compensated"),
        Scenario("not-provided-beside", ("a", ["b", "c"], "d"), {"b": owes}, "compensated"),
        Scenario("without-compensation", flow, {"b": Doing(compensates=False), "c": FAILS}, "compensated"),
        Scenario("undo-retried", flow, {"b": undo_retried, "c": FAILS}, "compensated"),
        Scenario("undo-fails", flow, {"b": Doing(undo_fails=ALWAYS), "c": FAILS}, "stuck"),
        Scenario("two-undos-fail", flow, {"a": Doing(undo_fails=ALWAYS), "b": Doing(undo_fails=ALWAYS), "c": FAILS}, "stuck"),
    ]


def _late() -> list[Scenario]:
    """Steps that outlive their timeout, or the saga's deadline; and undos that outlive theirs."""
    slow, slow_undo = {"timeout": 0.04}, {"compensation_timeout": 0.04}
    undo_retried = slow_undo | {"compensation_retry": Retry(3, 0.01)}
    skipped = slow_undo | {"compensate_on_failure": True, "on_error": OnError.SKIP}
    flow = ("a", "b", "c")
    return [
        Scenario("straggler", flow, {"b": Doing(hangs="cancelled", policies=slow)}, "compensated"),
        Scenario("straggler-after-the-undo", flow, {"b": Doing(hangs="undid a", policies=slow)}, "compensated"),
        Scenario("straggler-has-done-it", flow, {"b": Doing(hangs_after="undid a", policies=slow)}, "compensated"),
        Scenario("straggler-raises", flow, {"b": Doing(fails=ALWAYS, hangs="cancelled", policies=slow)}, "compensated"),
        Scenario("straggler-succeeds-late", flow, {"b": Doing(hangs="cancelled", policies=slow | {"retry": Retry(2)})}),
        Scenario(
            "straggler-is-retried", flow, {"b": Doing(fails=1, hangs="cancelled", policies=slow | {"retry": Retry(3, 0.01)})}
        ),
        Scenario(
            "straggler-skipped",
            flow,
            {"b": Doing(hangs="did c", policies=slow | {"on_error": OnError.SKIP})},
            forward_after_undo=frozenset("b"),
        ),
        Scenario("straggler-beside", ("a", ["b", "c"]), {"b": Doing(hangs="cancelled", policies=slow)}, "compensated"),
        Scenario("in-time", flow, {"b": Doing(policies={"timeout": 10.0})}),
        Scenario("undo-late", flow, {"b": Doing(undo_hangs="undid a", policies=slow_undo), "c": FAILS}, "compensated"),
        Scenario(
            "undo-late-and-raises",
            flow,
            {"b": Doing(undo_fails=1, undo_hangs="cancelled", policies=undo_retried), "c": FAILS},
            "compensated",
        ),
        Scenario(
            "undo-late-then-skipped",
            flow,
            {"b": Doing(fails=ALWAYS, fails_after=True, undo_hangs="cancelled", policies=skipped)},
            forward_after_undo=frozenset("b"),
        ),
        Scenario("undo-late-beside", ("a", ["b", "c"], "d"), {**_late_undos("bc"), "d": FAILS}, "compensated"),
        Scenario("undo-in-time", flow, {"b": Doing(policies={"compensation_timeout": 10.0}), "c": FAILS}, "compensated"),
        Scenario("deadline", flow, {"b": Doing(hangs="cancelled")}, "compensated", timeout=0.15),
    ]


def _late_undos(names: str) -> dict[str, Doing]:
    return {name: Doing(undo_hangs="undid a", policies={"compensation_timeout": 0.04}) for name in names}


def _more() -> list[Scenario]:
    """Fallbacks, pivots, waits, branches undone together, asynchronous tasks."""
    instead = ("a", Instead("b", "x"), "c")
    pivot = Doing(policies={"pivot": True})
    flow, fork = ("a", "b", "c"), ("a", ["b", "c"], "d")
    apart = ("a", Together((("b", "e"), "c")), "d")
    few = ("a", Few(1, (("b", "c"), "d", "e")), "f")
    leaves = Doing(fails=ALWAYS, fails_after=True, policies={"compensate_on_failure": True})
    return [
        Scenario("fallback", instead, {"b": FAILS}),
        Scenario("fallback-not-needed", instead),
        Scenario("fallback-after-an-undo", instead, {"b": leaves}, forward_after_undo=frozenset("b")),
        Scenario("fallback-fails", instead, {"b": FAILS, "x": FAILS}, "compensated"),
        Scenario("fallback-then-fails", instead, {"b": FAILS, "c": FAILS}, "compensated"),
        Scenario(
            "fallback-from-a-straggler",
            instead,
            {"b": Doing(hangs="cancelled", policies={"timeout": 0.04})},
            forward_after_undo=frozenset("b"),
        ),
        Scenario("pivot", flow, {"b": pivot}),
        Scenario("pivot-then-retried", flow, {"b": pivot, "c": Doing(fails=2, policies={"retry": Retry(3, 0.01)})}),
        Scenario("pivot-fails", flow, {"b": Doing(fails=ALWAYS, policies={"pivot": True})}, "compensated"),
        Scenario("timer", ("a", Pausing(0.05), "c")),
        Scenario("timer-then-fails", ("a", Pausing(0.05), "c"), {"c": FAILS}, "compensated"),
        Scenario("timer-told", ("a", Pausing(0.05, told=True), "c")),
        Scenario("signal-first", ("a", Pausing(signal="go", others=("stay",)), "c"), {"a": Doing(signals="go")}),
        Scenario("signal", ("a", Pausing(signal="go"), "c"), {"a": Doing(signals="go")}),
        Scenario("signal-then-fails", ("a", Pausing(signal="go"), "c"), {"a": Doing(signals="go"), "c": FAILS}, "compensated"),
        Scenario("apart-then-fails", apart, {"d": FAILS}, "compensated"),
        Scenario("few-at-a-time", few),
        Scenario("few-then-fails", few, {"f": FAILS}, "compensated"),
        Scenario("few-one-fails", few, {"d": FAILS}, "compensated"),
        Scenario("few-rerun", ("a", Few(2, ("b", "c", "d", "e")), "f"), in_doubt="rerun"),
        Scenario("few-past-the-pivot", few, {"a": pivot}),
        Scenario("async", flow, asynchronous=True),
        Scenario("async-fails", flow, {"c": FAILS}, "compensated", asynchronous=True),
        Scenario("async-fork-fails", fork, {"d": FAILS}, "compensated", asynchronous=True),
        Scenario("async-rerun", flow, in_doubt="rerun", asynchronous=True),
    ]


def _doubtful() -> list[Scenario]:
    """Answers, or requests, that are lost at every place of a flow, and what comes of asking about them."""
    twice = Retry(2, 0.005)
    flow, fork = ("a", "b", "c"), ("a", ["b", "c"], "d")
    nested = ("a", ["b", ("c", ["d", "e"])], "f")
    instead = ("a", Instead("b", "x"), "c")
    places: list[tuple[str, Any, str, dict[str, Any], dict[str, Doing], str]] = [
        ("first", flow, "a", {}, {}, "compensated"),
        ("middle", flow, "b", {}, {}, "compensated"),
        ("last", flow, "c", {}, {}, "compensated"),
        ("retried", flow, "b", {"lost": 1, "policies": {"retry": twice}}, {}, "completed"),
        ("retried-in-vain", flow, "b", {"policies": {"retry": twice}}, {}, "compensated"),
        ("then-fails", flow, "b", {"lost": 1, "fails": ALWAYS, "policies": {"retry": twice}}, {}, "compensated"),
        ("skipped", flow, "b", {"policies": {"on_error": OnError.SKIP}}, {}, "completed"),
        ("replaced", instead, "b", {}, {}, "completed"),
        ("beside", fork, "b", {}, {}, "compensated"),
        ("beside-a-failure", fork, "b", {}, {"c": FAILS}, "compensated"),
        ("nested", nested, "d", {}, {}, "compensated"),
        ("at-the-pivot", flow, "b", {"policies": {"pivot": True}}, {}, "compensated"),
        ("past-the-pivot", flow, "c", {"lost": 2}, {"a": Doing(policies={"pivot": True})}, "completed"),
    ]
    found = []
    for place, shape, step, own, others, ends in places:
        for policy in ("compensate", "rerun", "ask"):
            for verify in (None, "knows nothing", "raises", "tells"):
                for lost_before in (False, True) if verify == "tells" else (False,):
                    policies = own.get("policies", {}) | {"in_doubt": InDoubt(policy), "verification_retry": twice}
                    doing = Doing(
                        **{"lost": ALWAYS} | own | {"policies": policies, "verify": verify, "lost_before": lost_before}
                    )
                    end = ends
                    if doing.tells and "c" not in others:
                        end = ends if lost_before else "completed"
                    elif policy == "ask" and not doing.tells:
                        end = "stuck"
                    name = f"lost-{place}-{policy}-{verify or 'is not asked'}{'-not-done' if lost_before else ''}"
                    found.append(Scenario(name.replace(" ", "-"), shape, {step: doing} | others, end))
    nothing_undoes = Doing(lost=ALWAYS, compensates=False)
    asked = replace(nothing_undoes, verify="tells")
    cut_off = Doing(verify="tells", policies={"in_doubt": InDoubt.RERUN})
    return [
        *found,
        Scenario("lost-and-nothing-undoes-it", flow, {"b": nothing_undoes}, "compensated"),
        Scenario("asked-and-nothing-undoes-it", flow, {"b": asked}),
        Scenario("asked-then-fails", flow, {"b": asked, "c": FAILS}, "compensated"),
        Scenario("asked-after-a-crash-alone", flow, {"a": cut_off, "b": Doing(verify="tells"), "c": cut_off}),
        Scenario("asked-of-all-then-fails", fork, {**dict.fromkeys("abc", Doing(verify="tells")), "d": FAILS}, "compensated"),
        Scenario("async-lost", flow, {"b": Doing(lost=1, policies={"retry": twice})}, asynchronous=True),
        Scenario("async-asked", flow, {"b": Doing(lost=ALWAYS, verify="tells")}, asynchronous=True),
    ]


def _elsewhere() -> list[Scenario]:
    """Sagas whose values are kept in a folder: the input, results, what steps set."""
    flow, fork = ("a", "b", "c"), ("a", ["b", "c"], "d")
    found = [
        Scenario("elsewhere", flow, elsewhere=True),
        Scenario("elsewhere-rerun", flow, in_doubt="rerun", elsewhere=True),
        Scenario("elsewhere-c-fails", flow, {"c": FAILS}, "compensated", elsewhere=True),
        Scenario("elsewhere-fork-then-fails", fork, {"d": FAILS}, "compensated", elsewhere=True),
        Scenario("elsewhere-sealed-c-fails", flow, {"c": FAILS}, "compensated", sealed=True, elsewhere=True),
    ]
    return [*found, *(replace(one, name=f"async-{one.name}", asynchronous=True) for one in found)]


def _unique(scenarios: list[Scenario]) -> dict[str, Scenario]:
    for one, other in itertools.combinations(scenarios, 2):
        assert one.name != other.name, one.name
    return {one.name: one for one in scenarios}


STRAIGHT = _unique(_straight())
PARALLEL = _unique(_parallel())
RETRIES = _unique(_retries())
LATE = _unique(_late())
POLICIED = _unique(_policied())
MORE = _unique(_more())
DOUBTFUL = _unique(_doubtful())
AT_RUN_TIME = _unique(at_run_time())
ELSEWHERE = _unique(_elsewhere())
ALL = STRAIGHT | PARALLEL | RETRIES | LATE | POLICIED | MORE | DOUBTFUL | AT_RUN_TIME | ELSEWHERE
