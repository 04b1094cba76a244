"""Two versions of a saga that moves money: neither can finish what the other began."""

from __future__ import annotations

from typing import Any, Final

from hostkit.bank import aask, ask
from saga import Context, InDoubt, Saga, Task

LEASE: Final = 2.0
VERSIONS: Final = ("1", "2")
STEPS: Final = {"1": ("withdraw", "deposit"), "2": ("withdraw", "screen", "deposit")}
UNDO: Final = {"withdraw": "refund", "deposit": "take back"}


def call_of(context: Context, verb: str, account: str) -> tuple[Any, ...]:
    """Return a call of the bank in words of its own."""
    return context.step.saga_id, verb, context.step.attempt, account, context.amount


class Withdraw(Task[None]):
    """What it was in doubt about is undone."""

    name = "withdraw"

    def __init__(self, bank: str) -> None:
        self.bank = bank

    def execute(self, context: Context) -> None:
        ask(self.bank, *call_of(context, "withdraw", context.payer))

    def compensate(self, context: Context) -> None:
        ask(self.bank, *call_of(context, "refund", context.payer))


class Deposit(Task[None]):
    """What it was in doubt about is done again."""

    name = "deposit"
    in_doubt = InDoubt.RERUN

    def __init__(self, bank: str) -> None:
        self.bank = bank

    def execute(self, context: Context) -> None:
        ask(self.bank, *call_of(context, "deposit", context.payee))

    def compensate(self, context: Context) -> None:
        ask(self.bank, *call_of(context, "take back", context.payee))


class AsyncWithdraw(Task[None]):
    """As :class:`Withdraw`."""

    name = "withdraw"

    def __init__(self, bank: str) -> None:
        self.bank = bank

    async def execute(self, context: Context) -> None:
        await aask(self.bank, *call_of(context, "withdraw", context.payer))

    async def compensate(self, context: Context) -> None:
        await aask(self.bank, *call_of(context, "refund", context.payer))


class Screen(Task[None]):
    """New in the second version."""

    name = "screen"
    in_doubt = InDoubt.RERUN

    def __init__(self, bank: str) -> None:
        self.bank = bank

    async def execute(self, context: Context) -> None:
        await aask(self.bank, *call_of(context, "screen", context.payer))


class AsyncDeposit(Task[None]):
    """As :class:`Deposit`."""

    name = "deposit"
    in_doubt = InDoubt.RERUN

    def __init__(self, bank: str) -> None:
        self.bank = bank

    async def execute(self, context: Context) -> None:
        await aask(self.bank, *call_of(context, "deposit", context.payee))

    async def compensate(self, context: Context) -> None:
        await aask(self.bank, *call_of(context, "take back", context.payee))


def transfer(version: str, bank: str, lease: float = LEASE) -> Saga:
    """Return a version of the saga; the second one runs in an event loop."""
    saga = Saga("transfer", version=version, lease=lease)
    if version == "1":
        return saga.add_task(Withdraw(bank)).add_task(Deposit(bank))
    return saga.add_task(AsyncWithdraw(bank)).add_task(Screen(bank)).add_task(AsyncDeposit(bank))
