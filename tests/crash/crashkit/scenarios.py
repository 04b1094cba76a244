"""The sagas that are killed: each is a flow of steps with what they do, and how it ends when nobody kills it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from crashkit.steps import ALWAYS, Doing, task
from crashkit.world import World
from saga import InDoubt, OnError, Retry, Saga, fallback, parallel, receive, receive_first, sequence, timer
from saga.flow import step as as_step

LEASE = 0.2


@dataclass(frozen=True)
class Instead:
    """A step, and another that is done instead when it fails."""

    primary: str
    alternative: str


@dataclass(frozen=True)
class Together:
    """A parallel group, the branches of which are undone at the same time."""

    branches: tuple[Any, ...]


@dataclass(frozen=True)
class Few:
    """A parallel group, so many branches of which are under way at a time."""

    limit: int
    branches: tuple[Any, ...]


@dataclass(frozen=True)
class Pausing:
    """A wait for some seconds, or for a signal, or the first of several.

    :ivar told: a function of the context says how many seconds.
    """

    seconds: float | None = None
    signal: str | None = None
    told: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A saga to be killed.

    :ivar flow: a step's name; a tuple of flows is a sequence, a list of flows is a parallel group.
    :ivar ends: its status when nobody interferes.
    :ivar in_doubt: the policy of every step.
    :ivar timeout: the saga's.
    :ivar forward_after_undo: steps that are undone while the saga goes on: skipped stragglers, primaries of fallbacks.
    :ivar asynchronous: the tasks are ``async def``.
    """

    name: str
    flow: Any
    steps: dict[str, Doing] = field(default_factory=dict)
    ends: str = "completed"
    in_doubt: str = "compensate"
    timeout: float | None = None
    forward_after_undo: frozenset[str] = frozenset()
    asynchronous: bool = False

    def names(self) -> list[str]:
        return _names(self.flow)

    def doing(self, name: str) -> Doing:
        return self.steps.get(name, Doing())

    def skips(self, name: str) -> bool:
        """Whether the saga goes on without the step when it fails."""
        return self.doing(name).policies.get("on_error") is OnError.SKIP or name in _alternatives(self.flow)

    def gives_way(self, name: str) -> bool:
        """Whether the saga goes on without the step when it has failed for good: it is skipped or replaced."""
        return self.doing(name).policies.get("on_error") is OnError.SKIP or name in _primaries(self.flow)

    def policy(self, name: str) -> str:
        own = self.doing(name).policies.get("in_doubt")
        return str(own.value) if own is not None else self.in_doubt

    @property
    def pivot(self) -> str | None:
        """The step after which nothing is undone."""
        return next((name for name in self.names() if self.doing(name).policies.get("pivot")), None)

    def is_past_pivot(self, name: str) -> bool:
        """Whether the step follows the pivot."""
        return self.pivot is not None and self.names().index(name) > self.names().index(self.pivot)

    @property
    def doubtful(self) -> bool:
        """Whether steps are left in doubt without a kill, or can be asked about."""
        return any(doing.lost or doing.verify for doing in self.steps.values())

    @property
    def undone_together(self) -> bool:
        return isinstance(self.flow, tuple) and any(isinstance(part, Together) for part in self.flow)

    def build(self, world: World, name: str, store: Any = None, lease: float = LEASE, **options: Any) -> Saga:
        """Return the saga as this process defines it."""
        saga = Saga(name, store=store, lease=lease, timeout=self.timeout, **options)
        saga.add_task(self._flow(self.flow, frozenset(), world)[0])
        world.signal = partial(saga.signal, store=store)
        return saga

    def _flow(self, flow: Any, before: frozenset[str], world: World) -> tuple[Any, frozenset[str]]:
        if isinstance(flow, str):
            doing = self.doing(flow)
            policies = {"in_doubt": InDoubt(self.in_doubt), **doing.policies}
            known = frozenset(name for name in before if not self.skips(name))
            return as_step(task(flow, doing, known, world, self.asynchronous), **policies), before | {flow}
        if isinstance(flow, Pausing):
            return _waiting(flow), before
        if isinstance(flow, Instead):
            primary, alternative = (self._flow(name, before, world)[0] for name in (flow.primary, flow.alternative))
            return fallback(primary, alternative), before
        built, after = [], before
        for child in _parts(flow):
            made, then = self._flow(child, after if isinstance(flow, tuple) else before, world)
            built.append(made)
            after |= then
        if isinstance(flow, tuple):
            return sequence(*built), after
        limit = flow.limit if isinstance(flow, Few) else None
        return parallel(*built, compensate_together=isinstance(flow, Together), limit=limit), after


def _waiting(flow: Pausing) -> Any:
    if flow.seconds is None:
        signal = flow.signal or ""
        return receive_first(*flow.others, signal, name=signal) if flow.others else receive(signal, accept=int)
    seconds = flow.seconds
    return timer(lambda context: seconds, name="told") if flow.told else timer(seconds)


def _parts(flow: Any) -> tuple[Any, ...]:
    if isinstance(flow, Together | Few):
        return flow.branches
    if isinstance(flow, Instead):
        return flow.primary, flow.alternative
    return () if isinstance(flow, Pausing) else tuple(flow)


def _names(flow: Any) -> list[str]:
    return [flow] if isinstance(flow, str) else [name for part in _parts(flow) for name in _names(part)]


def _alternatives(flow: Any) -> set[str]:
    """Return both steps of each fallback: a saga may complete without either."""
    if isinstance(flow, str):
        return set()
    found = {flow.primary, flow.alternative} if isinstance(flow, Instead) else set()
    return found.union(*(_alternatives(part) for part in _parts(flow)))


def _primaries(flow: Any) -> set[str]:
    if isinstance(flow, str):
        return set()
    found = {flow.primary} if isinstance(flow, Instead) else set()
    return found.union(*(_primaries(part) for part in _parts(flow)))


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
ALL = STRAIGHT | PARALLEL | RETRIES | LATE | POLICIED | MORE | DOUBTFUL
