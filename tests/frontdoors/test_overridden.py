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


def test_a_subclass_overrides_a_step_of_a_flow_in_an_attribute() -> None:
    class Base(Saga):
        @saga_step
        def a(self) -> str:
            return "base"

        flow = (a,)

    class Child(Base):
        @saga_step
        def a(self) -> str:
            return "child"

    class Plain(Base):
        def a(self) -> str:
            return "plain"

    assert Base().execute().results == {"a": "base"}
    assert Child().execute().results == {"a": "child"}
    assert Plain().execute().results == {"a": "plain"}


def test_an_override_has_its_own_policies_and_undo_and_keeps_what_the_flow_says(log: list[str], plain: Any) -> None:
    class Base(Saga):
        @saga_step(timeout=5.0)
        def a(self) -> None:
            log.append("base")

        @a.compensation
        def undo_a(self) -> None:
            log.append("-base")

        flow = (a | Retry(3), plain.step("f", ValueError()))

    class Undo(Base):
        def undo_a(self) -> None:
            log.append("-undo")

    class Whole(Base):
        @saga_step(timeout=7.0, retry=Retry(9))
        def a(self) -> None:
            log.append("whole")

        @a.compensation
        def other(self) -> None:
            log.append("-whole")

    class Half(Base):
        @saga_step
        def a(self) -> None:
            log.append("half")

    for kind, told in (
        (Base, ["base", "f", "-base"]),
        (Undo, ["base", "f", "-undo"]),
        (Whole, ["whole", "f", "-whole"]),
        (Half, ["half", "f", "-base"]),
    ):
        log.clear()
        kind().try_execute()
        assert log == told
    planned = Whole().plan.steps[0]
    assert (planned.timeout, planned.retry.max_attempts) == (7.0, 3)


def test_a_step_that_undoes_another_may_be_a_coroutine_and_overridden(log: list[str], plain: Any) -> None:
    class Base(Saga):
        @saga_step
        async def undo_a(self) -> None:
            log.append("-base")

        @saga_step
        async def a(self) -> None: ...

        flow = (a >> undo_a, plain.step("f", ValueError()))

    class Child(Base):
        @saga_step
        async def undo_a(self) -> None:
            log.append("-child")

    assert [kind().try_execute().status for kind in (Base, Child)] == [Status.COMPENSATED] * 2
    assert log == ["f", "-base", "f", "-child"]
