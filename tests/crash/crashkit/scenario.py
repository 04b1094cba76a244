"""What a scenario is: a flow of steps with what they do, how it ends when nobody kills it, and the saga that is made of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crashkit.flows import (
    Choosing,
    Each,
    Few,
    Instead,
    Pausing,
    Together,
    all_of,
    alternatives,
    declared,
    instances,
    keyed,
    local,
    names_in,
    parts,
    primaries,
    results_of,
    told,
)
from crashkit.steps import Doing, asked, task
from crashkit.stores import DyingBlobs
from crashkit.world import World
from saga import InDoubt, OnError, Saga, choose, each, fallback, parallel, receive, receive_first, sequence, timer
from saga.durable.codec import Codec
from saga.flow import step as as_step
from saga.storage import Entry

LEASE = 0.2


class AesGcm:
    """AES-GCM by a key that all processes know."""

    def __init__(self) -> None:
        self._key = AESGCM(bytes(range(16)))

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._key.encrypt(nonce, data, context)

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        return self._key.decrypt(data[:12], data[12:], context)


@dataclass(frozen=True)
class Scenario:
    """A saga to be killed.

    :ivar flow: a step's name; a tuple of flows is a sequence, a list of flows is a parallel group.
    :ivar steps: what steps do. Those of an item do what is said of them, else what is said of the declared one: ``ship[]``.
    :ivar ends: its status when nobody interferes.
    :ivar in_doubt: the policy of every step.
    :ivar timeout: the saga's.
    :ivar forward_after_undo: steps that are undone while the saga goes on: skipped stragglers, primaries of fallbacks.
    :ivar asynchronous: the tasks are ``async def``.
    :ivar sealed: its values are encrypted at rest.
    :ivar elsewhere: all but the shortest of its values are kept in a folder.
    """

    name: str
    flow: Any
    steps: dict[str, Doing] = field(default_factory=dict)
    ends: str = "completed"
    in_doubt: str = "compensate"
    timeout: float | None = None
    forward_after_undo: frozenset[str] = frozenset()
    asynchronous: bool = False
    sealed: bool = False
    elsewhere: bool = False

    def names(self) -> list[str]:
        return names_in(self.flow)

    def doing(self, name: str) -> Doing:
        return self.steps.get(name) or self.steps.get(declared(name)) or Doing()

    def skips(self, name: str) -> bool:
        """Whether the saga goes on without the step when it fails."""
        return self.doing(name).policies.get("on_error") is OnError.SKIP or name in alternatives(self.flow)

    def gives_way(self, name: str) -> bool:
        """Whether the saga goes on without the step when it has failed for good: it is skipped or replaced."""
        return self.doing(name).policies.get("on_error") is OnError.SKIP or name in primaries(self.flow)

    def policy(self, name: str) -> str:
        own = self.doing(name).policies.get("in_doubt")
        return str(own.value) if own is not None else self.in_doubt

    def waits_in_vain(self, name: str) -> bool:
        """Whether a step of that name waits for signals, and has its time."""
        return any(one.signal == name and one.timeout for one in all_of(Pausing, self.flow))

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

    @property
    def codec(self) -> Codec | None:
        return Codec(cipher=AesGcm()) if self.sealed else None

    # -- as it came about -----------------------------------------------------------------------------------------------------

    def told_by(self, journal: Sequence[Entry]) -> Scenario:
        """Return the scenario as a journal tells it: with the branches that it lists, and the ways that it takes.

        What is not listed, or decided, has no steps.
        """
        return replace(self, flow=told(self.flow, results_of(journal)))

    def lists(self, journal: Sequence[Entry]) -> dict[str, list[tuple[str, str]]]:
        """Return, by the name of each step that lists items, those that it has listed, each with its branch's name."""
        found: dict[str, list[tuple[str, str]]] = {}
        results = results_of(journal)
        for name in instances(Each, self.flow, results):
            if name in results:
                found[name] = [(f"{name}[{key}]", item) for key, item in keyed(results[name]).items()]
        return found

    def list_of(self, name: str) -> Each:
        """Return what the step of that name lists, in whichever branch it is."""
        return next(one for one in all_of(Each, self.flow) if one.name == declared(name))

    def choice(self, name: str) -> Choosing:
        """Return what the step of that name decides, in whichever branch it is."""
        return next(one for one in all_of(Choosing, self.flow) if one.name == declared(name))

    def decisions(self, journal: Sequence[Entry]) -> dict[str, str | None]:
        """Return, by the name of each step that asks which way is taken, what it decided, if it has."""
        results = results_of(journal)
        return {name: results.get(name) for name in instances(Choosing, self.flow, results) if self.choice(name).by is None}

    # -- the saga -------------------------------------------------------------------------------------------------------------

    def build(self, world: World, name: str, store: Any = None, lease: float = LEASE, **options: Any) -> Saga:
        """Return the saga as this process defines it."""
        codec = self.codec
        if self.elsewhere:
            blobs = DyingBlobs(world.folder / "blobs", world)
            codec = Codec(cipher=AesGcm() if self.sealed else None, blobs=blobs, larger_than=20)
        saga = Saga(name, store=store, lease=lease, timeout=self.timeout, codec=codec, **options)
        saga.add_task(self._flow(self.flow, frozenset(), world)[0])
        world.signal = partial(saga.signal, store=store)
        return saga

    def _flow(self, flow: Any, before: frozenset[str], world: World) -> tuple[Any, frozenset[str]]:
        if isinstance(flow, str):
            policies = {"in_doubt": InDoubt(self.in_doubt), **self.doing(flow).policies}
            known = frozenset(name for name in before if not self.skips(name))
            return as_step(task(flow, self.doing, known, world, self.asynchronous), **policies), before | {flow}
        if isinstance(flow, Pausing):
            return _waiting(flow), before
        if isinstance(flow, Each):
            return self._each(flow, before, world)
        if isinstance(flow, Choosing):
            return self._choice(flow, before, world), before
        if isinstance(flow, Instead):
            primary, alternative = (self._flow(name, before, world)[0] for name in (flow.primary, flow.alternative))
            return fallback(primary, alternative), before
        built, after = [], before
        for child in parts(flow):
            made, then = self._flow(child, after if isinstance(flow, tuple) else before, world)
            built.append(made)
            after |= then
        if isinstance(flow, tuple):
            return sequence(*built), after
        limit = flow.limit if isinstance(flow, Few) else None
        return parallel(*built, compensate_together=isinstance(flow, Together), limit=limit), after

    def _each(self, flow: Each, before: frozenset[str], world: World) -> tuple[Any, frozenset[str]]:
        child, within = self._flow(flow.flow, before, world)
        keys = flow.items if flow.keyed else range(len(flow.items))
        branches = {name.replace(f"{flow.name}[]", f"{flow.name}[{key}]") for name, key in product(within - before, keys)}
        made = each(
            asked(world, flow.listed, self.asynchronous),
            child,
            limit=flow.limit,
            name=local(flow.name),
            key=(lambda item: item) if flow.keyed else None,
            compensate_together=flow.together,
        )
        return made, before | branches

    def _choice(self, flow: Choosing, before: frozenset[str], world: World) -> Any:
        by = flow.by or asked(world, flow.decided, self.asynchronous)
        ways = {decision: self._flow(way, before, world)[0] for decision, way in flow.ways.items()}
        otherwise = None if flow.otherwise is None else self._flow(flow.otherwise, before, world)[0]
        return choose(by, ways, otherwise, name=local(flow.name))


def _waiting(flow: Pausing) -> Any:
    if flow.seconds is None:
        signal = flow.signal or ""
        if not flow.others:
            return receive(signal, accept=int)
        on_error = OnError.SKIP if flow.skipped else None
        return receive_first(*flow.others, signal, name=signal, timeout=flow.timeout, on_error=on_error)
    seconds = flow.seconds
    return timer(lambda context: seconds, name="told") if flow.told else timer(seconds)
