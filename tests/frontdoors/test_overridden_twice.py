"""A saga of three classes: what the one in the middle declares of a step holds for the last one too."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Retry, Saga, Status, saga_step

log: list[Any] = []
flaws: list[str] = []


class Base(Saga):
    @saga_step
    def charge(self) -> int:
        return 1

    @saga_step
    def fail(self) -> None:
        raise ValueError

    flow = charge, fail


class Middle(Base):
    @saga_step(retry=Retry(2))
    def charge(self) -> int:
        return 2

    @charge.compensation
    def refund(self, charged: int) -> None:
        log.append(("refunded", charged))


class Last(Middle):
    def charge(self) -> int:
        if flaws:
            raise OSError(flaws.pop())
        return super().charge() + 1


class LastRefunds(Middle):
    def refund(self, charged: int) -> None:
        log.append(("refunded otherwise", charged))


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()
    flaws.clear()


@pytest.mark.parametrize(
    ("kind", "expected"), [(Middle, ("refunded", 2)), (Last, ("refunded", 3)), (LastRefunds, ("refunded otherwise", 2))]
)
def test_what_the_class_in_the_middle_compensates_is_compensated(kind: type[Saga], expected: Any) -> None:
    result = kind("s").try_execute()
    assert (result.status, log) == (Status.COMPENSATED, [expected])


def test_the_policies_of_the_class_in_the_middle_hold() -> None:
    flaws.append("only once")
    result = Last("s").try_execute()
    assert (result.failed_step, log) == ("fail", [("refunded", 3)])
