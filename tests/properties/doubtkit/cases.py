"""A case: a flow, its policies, and all that goes wrong in it. Pure data, made from a seed; nothing runs here.

What a call does is a word or two, its *act*. With ``done`` it has its effect.

* Of an execute: ``ok``; ``fail`` and ``refused``, known not to be done; ``timeout``, ``reset``, ``unknown`` and ``gateway``,
  whose answers were lost, where the policy says so; ``interrupt`` and ``cancel``; ``hang``, until its time is up (``lost`` and
  ``stubborn`` say how it ends then); ``unstorable``; ``die``, its process; ``person``, who acts meanwhile.
* Of a verify: ``truth``, ``none``, ``raise``, ``wrong``, ``unstorable``, ``interrupt``, ``die``, ``person`` (and ``truth``).
* Of an undo: ``ok``, ``fail``, ``interrupt``, ``die``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from saga import LOST_ANSWERS, InDoubt, Retry, Skip

FOREVER = 10**9


class GatewayError(Exception):
    """An error of a client that nobody knows."""


def broken(error: Exception) -> bool:
    """An ``unknown_on`` that raises: then nobody knows."""
    raise RuntimeError("this unknown_on is broken")


def only_timeouts(error: Exception) -> bool:
    """An ``unknown_on`` that is a function."""
    return isinstance(error, TimeoutError)


#: What ``unknown_on`` may be, and the acts whose answers are lost by it.
UNKNOWN_ON: dict[str, tuple[Any, set[str]]] = {
    "default": (LOST_ANSWERS, {"timeout", "reset", "unknown"}),
    "none": ((), {"unknown"}),
    "gateway": (GatewayError, {"unknown", "gateway"}),
    "both": ((LOST_ANSWERS, GatewayError), {"timeout", "reset", "unknown", "gateway"}),
    "function": (only_timeouts, {"timeout", "unknown"}),
    "broken": (broken, {"timeout", "reset", "unknown", "gateway", "fail", "refused"}),
}


@dataclass(frozen=True)
class Leaf:
    """A step.

    :ivar execute: what its calls do, and then ``ok``; :ivar verify: ... and the last one for ever, ``None``: it has none;
    :ivar undo: the same. :ivar colours: which of the three are coroutine functions.
    """

    name: str
    execute: tuple[str, ...] = ()
    verify: tuple[str, ...] | None = None
    undo: tuple[str, ...] | None = ("ok",)
    policies: dict[str, Any] = field(default_factory=dict)
    unknown_on: str = ""
    colours: tuple[bool, bool, bool] = (False, False, False)

    def act(self, phase: str, number: int) -> str:
        """What the call with this number does, counted from 0."""
        if phase == "execute":
            return self.execute[number] if number < len(self.execute) else "ok"
        acts = self.verify if phase == "verify" else self.undo
        assert acts is not None
        return acts[min(number, len(acts) - 1)]


@dataclass(frozen=True)
class Many:
    """Flows: ``sequence``, ``parallel``, ``together`` (a group that is undone at the same time) or ``saga``."""

    kind: str
    children: tuple[Node, ...]
    name: str = ""
    unknown_on: str = ""


@dataclass(frozen=True)
class Instead:
    """A fallback."""

    primary: Leaf
    alternative: Node


Node = Leaf | Many | Instead


@dataclass(frozen=True)
class Case:
    """What is run.

    :ivar front: ``threads``, ``loop``, or ``block`` and ``ablock``. :ivar stored: whether there is a store.
    :ivar deaths: for each process, the append at which it dies: before it, or after it where negative; ``None``: it lives.
    :ivar people: what a person does at each stop. :ivar late: stragglers end when the run has returned, not before.
    :ivar watched: whether somebody observes; :ivar body: a block's own error after its last step.
    :ivar knows: whether the person has the definition at hand.
    """

    flow: Node
    front: str = "threads"
    stored: bool = True
    deaths: tuple[int | None, ...] = ()
    people: tuple[tuple[str, int], ...] = ()
    timeout: float | None = None
    stop: bool = False
    unknown_on: str = "default"
    late: bool = False
    watched: bool = True
    body: bool = False
    knows: bool = True


@dataclass(frozen=True)
class Known:
    """A step of a case, as the rules see it."""

    leaf: Leaf
    lost: set[str]
    replaces: str | None = None
    replaced_by: tuple[str, ...] = ()

    @property
    def gives_way(self) -> bool:
        """Whether the saga can go on without it."""
        return self.leaf.policies.get("on_error") is Skip or bool(self.replaced_by)

    @property
    def in_doubt(self) -> InDoubt:
        found: InDoubt = self.leaf.policies.get("in_doubt", InDoubt.COMPENSATE)
        return found

    @property
    def undoable(self) -> bool:
        return self.leaf.undo is not None

    @property
    def partly(self) -> bool:
        """Whether what it raises may have done a part of its work, which is to be undone then."""
        return bool(self.leaf.policies.get("compensate_on_failure")) and self.undoable


def steps_of(case: Case) -> dict[str, Known]:
    """Every step of a case by its name in the plan, in the order declared."""
    found: dict[str, Known] = {}

    def walk(node: Node, prefix: str, unknown: str, replaces: str | None = None) -> tuple[str, ...]:
        """Note the steps, and return those that the node begins with."""
        if isinstance(node, Leaf):
            found[prefix + node.name] = Known(node, UNKNOWN_ON[node.unknown_on or unknown][1], replaces)
            return (prefix + node.name,)
        if isinstance(node, Instead):
            (name,) = walk(node.primary, prefix, unknown, replaces)
            first = walk(node.alternative, prefix, unknown, name)
            found[name] = Known(node.primary, found[name].lost, replaces, first)
            return (name,)
        if node.kind == "saga":
            prefix, unknown = f"{prefix}{node.name}/", node.unknown_on or unknown
        begins: tuple[str, ...] = ()
        for number, child in enumerate(node.children):
            first = node.kind not in ("parallel", "together") and number > 0
            begun = walk(child, prefix, unknown, None if first else replaces)
            begins += () if first else begun
        return begins

    walk(case.flow, "", case.unknown_on)
    return found


# -- from a seed ------------------------------------------------------------------------------------------------------


def case_of(seed: str) -> Case:
    """Return the case that a seed stands for."""
    return _Maker(Random(seed)).case()


class _Maker:
    """Makes a case, with so many things going wrong that most cases have two or three, which may meet."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.count = 0
        self.front = random.choice(["threads", "threads", "threads", "loop", "loop", "block", "ablock"])
        self.stored = self.likely(0.75)
        self.pivot_free = self.pivoted = self.likely(0.6)
        self.limited = self.likely(0.06)

    def likely(self, chance: float) -> bool:
        return self.random.random() < chance

    def case(self) -> Case:
        random, block = self.random, "block" in self.front
        if block:
            flow: Node = Many("sequence", tuple(self.leaf(inside=False) for _ in range(random.randint(1, 4))))
        else:
            flow = Many("sequence", tuple(self.node(2, False) for _ in range(random.randint(1, 4))))
        deaths: tuple[int | None, ...] = ()
        if self.stored:
            deaths = tuple(self.death() for _ in range(random.choice([0, 0, 1, 1, 2, 3])))
        people = tuple(self.person() for _ in range(random.choice([0, 1, 2, 4]))) if self.stored else ()
        return Case(
            flow,
            self.front,
            self.stored,
            deaths,
            people,
            random.choice([0.002, 0.01]) if self.limited and not block else None,
            self.likely(0.1) and not block,
            random.choice(["default"] * 6 + ["both", "gateway", "none"]),
            self.likely(0.3),
            self.likely(0.85),
            self.likely(0.25),
            self.likely(0.7),
        )

    def death(self) -> int | None:
        number = min(int(self.random.expovariate(0.2)), 40)
        return None if self.likely(0.3) else -number if self.likely(0.5) else number

    def person(self) -> tuple[str, int]:
        actions = ["nothing", "cancel", "compensate", "resume", "resume", "retry", "skip", "skip"]
        return self.random.choice(actions), self.random.randrange(6)

    def node(self, depth: int, inside: bool) -> Node:
        kind = self.random.choice(["leaf"] * 5 + ["parallel", "together", "saga", "sequence", "instead"] * bool(depth))
        if kind == "leaf":
            return self.leaf(inside)
        if kind == "instead":
            return Instead(self.leaf(inside, primary=True), self.node(depth - 1, inside))
        group = kind in ("parallel", "together")
        children = tuple(self.node(depth - 1, inside or group) for _ in range(self.random.randint(2, 3)))
        self.count += 1
        unknown = self.random.choice(["", "", "both", "none"]) if kind == "saga" else ""
        return Many(kind, children, f"n{self.count}" if kind == "saga" else "", unknown)

    def leaf(self, inside: bool, primary: bool = False) -> Leaf:
        random = self.random
        self.count += 1
        undo = None if self.likely(0.2) else self.undo()
        verify = self.verify() if self.likely(0.5) else None
        policies = self.policies(inside, undo is not None)
        partly = bool(policies.get("compensate_on_failure")) and verify is None
        execute = self.execute(partly, primary)
        if any(act.startswith("hang") for act in execute) and not (self.limited and self.pivot_free and self.likely(0.5)):
            policies["timeout"] = 0.002
        in_loop = self.front in ("loop", "ablock")
        colours = tuple(in_loop and self.likely(0.6) for _ in range(3))
        unknown = random.choice([""] * 8 + list(UNKNOWN_ON))
        return Leaf(f"s{self.count}", execute, verify, undo, policies, unknown, colours)  # type: ignore[arg-type]

    def policies(self, inside: bool, undoable: bool) -> dict[str, Any]:
        random = self.random
        chosen: dict[str, Any] = {}
        if self.likely(0.4):
            kinds = random.choice([(Exception,), (Exception,), (ConnectionError,), (ValueError,)])
            chosen["retry"] = Retry(random.randint(1, 3), retry_on=kinds)
        if self.likely(0.25):
            chosen["on_error"] = Skip
        if self.likely(0.6):
            chosen["in_doubt"] = random.choice([InDoubt.RERUN, InDoubt.ASK])
        if undoable and self.likely(0.15):
            chosen["compensate_on_failure"] = True
        if undoable and self.likely(0.3):
            chosen["compensation_retry"] = Retry(random.randint(1, 3))
        if self.likely(0.3):
            chosen["verification_retry"] = Retry(random.randint(1, 3))
        if not self.pivoted and not inside and self.likely(0.5):
            chosen["pivot"] = self.pivoted = True
        return chosen

    def execute(self, partly: bool, primary: bool) -> tuple[str, ...]:
        wrong = ["fail", "fail", "refused", "timeout", "reset", "unknown", "gateway"] * 2
        wrong += ["interrupt", "hang", "hang", "unstorable"]
        if self.front in ("loop", "ablock"):
            wrong.append("cancel")
        if self.stored:
            wrong += ["die", "die", "die", "person cancel", "person compensate"]
        acts = []
        chance = 0.7 if primary else 0.45
        while self.likely(chance) and len(acts) < 4:
            act = self.random.choice(wrong)
            if act == "hang":
                act = self.random.choice(["hang", "hang", "hang lost", "hang stubborn"])
            may_be_done = act.split()[0] not in ("fail", "refused", "person", "unstorable") or (act == "fail" and partly)
            if may_be_done and self.likely(0.5):
                act += " done"
            acts.append(act)
        return tuple(acts)

    def verify(self) -> tuple[str, ...]:
        before = ["truth", "none", "raise", "wrong", "interrupt", "unstorable"]
        before += ["die", "person cancel", "person compensate"] if self.stored else []
        acts = [self.random.choice(before) for _ in range(self.random.choice([0, 0, 1, 2]))]
        return (*acts, self.random.choice(["truth", "truth", "truth", "none", "raise", "wrong"]))

    def undo(self) -> tuple[str, ...]:
        acts = []
        while self.likely(0.25) and len(acts) < 3:
            act = self.random.choice(["fail", "fail", "interrupt"] + ["die", "die"] * self.stored)
            acts.append(f"{act} done" if self.likely(0.5) else act)
        return (*acts, "fail" if self.likely(0.04) else "ok")
