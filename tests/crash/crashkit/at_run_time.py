"""Sagas that learn only at run time what their steps are, or for how long; on both drivers, and encrypted at rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crashkit.flows import Choosing, Each, Pausing
from crashkit.scenario import Scenario
from crashkit.steps import ALWAYS, Doing
from saga import OnError, Retry

FAILS = Doing(fails=ALWAYS)


def at_run_time() -> list[Scenario]:
    """Return each for the threads, and then for the event loop."""
    found = [*_lists(), *_choices(), *_waits(), *_retries()]
    sealed = [
        replace(one, name=f"sealed-{one.name}", sealed=True)
        for one in found
        if one.name in ("each-then-fails", "each-by-key", "choose-then-fails", "first-in-time", "elapsed")
    ]
    plain = [*found, *sealed]
    in_loop = [replace(one, name=f"async-{one.name}", asynchronous=True) for one in plain]
    late = Doing(
        undo_fails=1,
        undo_hangs="cancelled",
        policies={"compensation_timeout": 0.04, "compensation_retry": Retry(3, 0.01)},
    )
    return [
        *plain,
        *in_loop,
        Scenario("async-undo-late", ("a", "b", "c"), {"b": late, "c": FAILS}, "compensated", asynchronous=True),
        Scenario("async-undo-late-beside", ("a", ["b", "e"], "c"), {"b": late, "c": FAILS}, "compensated", asynchronous=True),
    ]


def _lists() -> list[Scenario]:
    one, several = Each("ship", "xyz", "ship[]"), ("all[]/b", "all[]/c")
    each, few = ("a", one, "d"), ("a", Each("all", "wxyz", several, limit=2), "d")
    together = ("a", Each("all", "xyz", several, together=True), "d")
    inner = Each("all[]/in", "uv", "all[]/in[]")
    twice = {"retry": Retry(3, 0.01)}
    skipped = {"on_error": OnError.SKIP}
    return [
        Scenario("each", each),
        Scenario("each-then-fails", each, {"d": FAILS}, "compensated"),
        Scenario("each-one-fails", each, {"ship[1]": FAILS}, "compensated"),
        Scenario("each-one-retried", each, {"ship[]": Doing(policies=twice), "ship[1]": Doing(fails=2, policies=twice)}),
        Scenario("each-one-skipped", each, {"ship[]": Doing(policies=skipped), "ship[1]": replace(FAILS, policies=skipped)}),
        Scenario("each-rerun", each, in_doubt="rerun"),
        Scenario("each-past-the-pivot", each, {"a": Doing(policies={"pivot": True})}),
        Scenario("each-by-key", ("a", replace(one, keyed=True), "d"), {"d": FAILS}, "compensated"),
        Scenario("each-of-none", ("a", Each("ship", "", "ship[]"), "d")),
        Scenario("each-few-then-fails", few, {"d": FAILS}, "compensated"),
        Scenario("each-few-one-fails", few, {"all[2]/c": FAILS}, "compensated"),
        Scenario("each-few-rerun", few, in_doubt="rerun"),
        Scenario("each-together-then-fails", together, {"d": FAILS}, "compensated"),
        Scenario("each-together-one-fails", together, {"all[1]/c": FAILS}, "compensated"),
        Scenario("each-waits", ("a", Each("all", "xyz", ("all[]/b", Pausing(0.03), "all[]/c")), "d")),
        Scenario("each-in-each", ("a", Each("all", "xy", ("all[]/b", inner)), "d"), {"d": FAILS}, "compensated"),
    ]


def _choices() -> list[Scenario]:
    choosing = Choosing("way", {"left": ("l", "m"), "right": "r"})
    choose = ("a", choosing, "d")
    by_key = ("a", replace(choosing, by="kind"), "d")
    asked, told = Doing(sets={"kind": "left"}), Doing(sets={"kind": "right"})
    of_each = Choosing("all[]/way", {"left": "all[]/l", "right": ("all[]/r", "all[]/s")})
    listing = replace(choosing, ways={"left": Each("all", "xy", ("all[]/b", "all[]/c")), "right": "r"})
    return [
        Scenario("choose", choose),
        Scenario("choose-then-fails", choose, {"d": FAILS}, "compensated"),
        Scenario("choose-way-fails", choose, {"m": FAILS, "r": FAILS}, "compensated"),
        Scenario("choose-rerun", choose, in_doubt="rerun"),
        # What is in the context says another way, as soon as the first step of this one has begun.
        Scenario("choose-by-key", by_key, {"a": asked, "l": told}),
        Scenario("choose-by-key-rerun", by_key, {"a": asked, "l": told}, in_doubt="rerun"),
        Scenario("choose-nothing", ("a", replace(choosing, ways={"left": (), "right": "r"}), "d")),
        Scenario("choose-otherwise", ("a", replace(choosing, ways={"left": "l"}, otherwise=("m", "r")), "d")),
        Scenario("choose-in-each", ("a", Each("all", "xyz", ("all[]/b", of_each)), "d"), {"d": FAILS}, "compensated"),
        Scenario("choose-each", ("a", listing, "d"), {"d": FAILS}, "compensated"),
    ]


def _waits() -> list[Scenario]:
    late = Pausing(signal="go", others=("stay",), timeout=0.05)
    in_time = replace(late, timeout=60.0)
    sends = {"a": Doing(signals="go")}
    return [
        Scenario("first-in-time", ("a", in_time, "c"), sends),
        Scenario("first-in-time-then-fails", ("a", in_time, "c"), {**sends, "c": FAILS}, "compensated"),
        Scenario("first-too-late", ("a", late, "c"), ends="compensated"),
        Scenario("first-too-late-skipped", ("a", replace(late, skipped=True), "c")),
    ]


def _retries() -> list[Scenario]:
    def retried(fails: int, seconds: float) -> dict[str, Any]:
        retry = Retry(None, 0.01, max_elapsed=seconds)
        return {"b": Doing(fails=fails, policies={"retry": retry})}

    flow = ("a", "b", "c")
    return [
        Scenario("elapsed", flow, retried(2, 60.0)),
        Scenario("elapsed-in-vain", flow, retried(ALWAYS, 0.04), "compensated"),
        Scenario("elapsed-beside", ("a", ["b", "c"]), retried(2, 60.0)),
        Scenario("elapsed-rerun", flow, retried(2, 60.0), in_doubt="rerun"),
    ]
