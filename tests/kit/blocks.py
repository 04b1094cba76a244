"""Blocks in either form: one is written once, as a generator that yields what it wants to be executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from saga import SagaResult, Transaction, transaction


class Do:
    """What a block yields to have a step executed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args, self.options = args, options


class Group(Do):
    """What it yields to have a group executed."""


Body = Callable[[Transaction], Generator[Do, Any, None]]
"""A block: it gets the transaction, and is sent what each step returns or raises."""


class Blocks:
    """Runs blocks.

    :ivar tx: the last one.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.log: list[str] = calls.log
        self.tx: Transaction

    def do(self, name: str, during: Any = None, during_undo: Any = None, **options: Any) -> Do:
        """Return a step that logs its calls."""
        return Do(self.calls.function(name, during), self.calls.function(f"-{name}", during_undo), name=name, **options)

    def run(self, body: Body, *args: Any, **options: Any) -> SagaResult:
        """Execute a block with the arguments of ``transaction``, and return its result."""
        self.tx = transaction(*args, **options)
        if self.calls.in_loop:
            asyncio.run(self._arun(body))
        else:
            with self.tx as tx:
                self._drive(tx, body(tx))
        assert self.tx.result is not None
        return self.tx.result

    async def _arun(self, body: Body) -> None:
        async with self.tx as tx:
            steps = body(tx)
            answer, error = None, None
            while True:
                try:
                    wanted = steps.throw(error) if error is not None else steps.send(answer)
                except StopIteration:
                    return
                answer, error = None, None
                try:
                    call = tx.aparallel if isinstance(wanted, Group) else tx.astep
                    answer = await call(*wanted.args, **wanted.options)
                except BaseException as raised:
                    error = raised

    @staticmethod
    def _drive(tx: Transaction, steps: Generator[Do, Any, None]) -> None:
        answer, error = None, None
        while True:
            try:
                wanted = steps.throw(error) if error is not None else steps.send(answer)
            except StopIteration:
                return
            answer, error = None, None
            try:
                answer = (tx.parallel if isinstance(wanted, Group) else tx.step)(*wanted.args, **wanted.options)
            except BaseException as raised:
                error = raised
