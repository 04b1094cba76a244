"""Methods that are steps: what they take, what undoes them, and where they may be put."""

from __future__ import annotations

from typing import Any

import pytest

from saga import Saga, Status, saga_step
from saga.errors import SagaDefinitionError
from tests.kit import saga_of


def test_a_lambda_in_a_class_body_that_takes_no_saga_undoes_a_method(log: list[str], plain: Any) -> None:
    class Declared(Saga):
        @saga_step(compensate=lambda: log.append("-a"))
        def a(self) -> None: ...

        flow = (a, plain.step("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "-a"]


def test_a_lambda_in_a_class_body_may_take_the_saga(log: list[str], plain: Any) -> None:
    class Declared(Saga):
        mark = "mine"

        @saga_step(compensate=lambda self: log.append(self.mark))
        def a(self) -> None: ...

        flow = (a, plain.step("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "mine"]


def test_a_method_that_takes_no_self_is_refused() -> None:
    class Declared(Saga):
        @saga_step
        def a() -> None:  # type: ignore[misc]
            ...

        flow = (a,)

    with pytest.raises(SagaDefinitionError, match="is a method, and takes no self"):
        Declared().try_execute()


def test_one_method_step_may_undo_another(log: list[str], plain: Any) -> None:
    class Declared(Saga):
        @saga_step
        def undo_a(self) -> None:
            log.append("-a")

        @saga_step(compensate=undo_a)
        def a(self) -> None: ...

        flow = (a, plain.step("f", ValueError()))

    assert Declared().try_execute().status is Status.COMPENSATED
    assert log == ["f", "-a"]


def test_a_method_step_can_be_added() -> None:
    class Declared(Saga):
        @saga_step
        def a(self) -> int:
            return 1

    saga = Declared()
    assert saga.add_task(saga.a).execute().results == {"a": 1}


def test_a_saga_class_where_an_object_belongs_is_told_so(plain: Any) -> None:
    class Inner(Saga):
        flow = (plain.step("a"),)

    with pytest.raises(SagaDefinitionError, match=r"Inner\(\)"):
        saga_of(Inner)  # type: ignore[arg-type]
