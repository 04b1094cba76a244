"""``Saga(resolver=...)``: task classes whose objects are made for each call, by a container for instance."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from saga import Context, Retry, Saga, Skip, Status, Task, fallback, parallel, step
from saga.errors import SagaDefinitionError
from saga.recovery import Recovery
from tests.kit import saga_of

with warnings.catch_warnings():  # its FastAPI part warns where FastAPI is installed
    warnings.simplefilter("ignore")
    import svcs


log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Gateway:
    """What tasks depend on."""

    def __init__(self) -> None:
        self.open = True


class Charge(Task[str]):
    """A task that cannot be made without what it depends on."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def execute(self, context: Context) -> str:
        assert self.gateway.open
        log.append("charge")
        return "charged"

    def compensate(self, context: Context) -> None:
        assert self.gateway.open
        log.append(f"refund {context.result_of(Charge)}")


class AsyncCharge(Charge):
    async def execute(self, context: Context) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().execute(context)

    async def compensate(self, context: Context) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        assert self.gateway.open
        log.append("refund")


class Fail(Task[None]):
    def execute(self, context: Context) -> None:
        raise ValueError("no")


def run(saga: Saga) -> Any:
    return asyncio.run(saga.atry_execute()) if saga.plan.asynchronous else saga.try_execute()


# -- who is made when -------------------------------------------------------------------------------------------------


def test_a_task_is_made_anew_for_each_call_and_not_before() -> None:
    made: list[type] = []

    def resolver(kind: type) -> Any:
        made.append(kind)
        return kind(Gateway())

    saga = saga_of(Charge, Charge2, Fail2, resolver=resolver)
    assert saga.plan.names == ("Charge", "Charge2", "Fail2")
    assert made == []
    assert run(saga).status is Status.COMPENSATED
    assert made == [Charge, Charge2, Fail2, Charge2, Charge]


class Charge2(Charge):
    def compensate(self, context: Context) -> None:
        log.append("refund 2")


class Fail2(Fail):
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway


def test_without_a_resolver_a_class_is_called_once() -> None:
    made: list[object] = []

    class Plain(Task[None]):
        def __init__(self) -> None:
            made.append(self)

        def execute(self, context: Context) -> None: ...

    saga = Saga("s").add_task(Plain)
    for _ in range(3):
        assert saga.execute().ok
    assert len(made) == 1


def test_a_class_that_needs_arguments_and_has_no_resolver_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match=r"Charge cannot be made without arguments.*resolver"):
        _ = Saga("s").add_task(Charge).plan


def test_task_objects_and_functions_are_left_alone() -> None:
    def resolver(kind: type) -> Any:
        raise AssertionError(kind)

    result = run(saga_of(Charge(Gateway()), step(lambda: 5, name="five"), resolver=resolver))
    assert result.results == {"Charge": "charged", "five": 5}


def test_every_attempt_has_a_task_of_its_own() -> None:
    made: list[int] = []

    class Flaky(Task[str]):
        retry = Retry(3)

        def __init__(self, number: int) -> None:
            self.number = number

        def execute(self, context: Context) -> str:
            if self.number < 3:
                raise ConnectionError
            return f"by task {self.number}"

    def resolver(kind: Any) -> Any:
        made.append(1)
        return kind(len(made))

    assert run(saga_of(Flaky, resolver=resolver)).results == {"Flaky": "by task 3"}


# -- what the classes say ---------------------------------------------------------------------------------------------


def test_policies_and_names_are_the_classes() -> None:
    class Odd(Task[None]):
        name = "odd one"
        retry = Retry(2)
        on_error = Skip

        def execute(self, context: Context) -> None:
            log.append("tried")
            raise ValueError

    result = run(saga_of(Odd, resolver=lambda kind: kind()))
    assert result.ok
    assert log == ["tried", "tried"]
    assert [record.name for record in result.history] == ["odd one"]


def test_a_step_may_bring_other_policies_than_the_class() -> None:
    assert run(saga_of(step(Fail, on_error=Skip), resolver=lambda kind: kind())).ok


def test_a_class_without_a_compensation_has_nothing_to_undo() -> None:
    calls: list[type] = []

    class Quiet(Task[None]):
        def execute(self, context: Context) -> None: ...

    def resolver(kind: type) -> Any:
        calls.append(kind)
        return kind()

    assert run(saga_of(Quiet, Fail, resolver=resolver)).status is Status.COMPENSATED
    assert calls == [Quiet, Fail]


def test_results_are_found_by_class() -> None:
    result = run(saga_of(Charge, resolver=lambda kind: kind(Gateway())))
    assert result.context.result_of(Charge) == "charged"
    failed = run(saga_of(Charge, Fail, resolver=lambda kind: kind() if kind is Fail else kind(Gateway())))
    assert log[-1] == "refund charged"
    assert failed.failed_step == "Fail"
    assert "Fail" in repr(failed.failed_task)


def test_a_base_class_finds_what_is_made_of_a_subclass() -> None:
    assert run(saga_of(Charge2, resolver=lambda kind: kind(Gateway()))).context.result_of(Charge) == "charged"


# -- scopes -----------------------------------------------------------------------------------------------------------


def scoped(events: list[str]) -> Callable[[type], Any]:
    @contextmanager
    def scope(kind: Any) -> Iterator[Any]:
        gateway = Gateway()
        events.append(f"open for {kind.__name__}")
        try:
            yield kind(gateway) if issubclass(kind, Charge) else kind()
        finally:
            gateway.open = False
            events.append("closed")

    return scope


def ascoped(events: list[str]) -> Callable[[type], Any]:
    @asynccontextmanager
    async def scope(kind: Any) -> AsyncIterator[Any]:
        gateway = Gateway()
        await asyncio.sleep(0)
        events.append(f"open for {kind.__name__}")
        try:
            yield kind(gateway)
        finally:
            await asyncio.sleep(0)
            gateway.open = False
            events.append("closed")

    return scope


@pytest.mark.parametrize(("kind", "make"), [(Charge, scoped), (AsyncCharge, scoped), (AsyncCharge, ascoped)])
def test_a_context_manager_is_a_scope_around_the_call(kind: Any, make: Any) -> None:
    events: list[str] = []
    saga = saga_of(kind, step(lambda: events.append("between"), name="between"), resolver=make(events))
    saga.add_task(step(Fail(), name="fail"))
    result = run(saga)
    assert result.status is Status.COMPENSATED
    name = kind.__name__
    assert events == [f"open for {name}", "closed", "between", f"open for {name}", "closed"]
    assert len(log) == 2


@pytest.mark.parametrize("make", [scoped, ascoped])
def test_a_scope_is_closed_after_a_call_that_raised(make: Any) -> None:
    events: list[str] = []

    class Broken(AsyncCharge):
        async def execute(self, context: Context) -> str:  # type: ignore[override]
            raise ValueError("no")

    result = run(saga_of(Broken, resolver=make(events)))
    assert isinstance(result.error, ValueError)
    assert events == ["open for Broken", "closed"]


def test_a_scope_is_closed_when_the_call_is_cancelled_at_its_timeout() -> None:
    events: list[str] = []

    class Slow(AsyncCharge):
        timeout = 0.02

        async def execute(self, context: Context) -> str:  # type: ignore[override]
            await asyncio.sleep(60)
            return "never"

    result = run(saga_of(Slow, resolver=ascoped(events)))
    assert result.status is Status.COMPENSATED
    assert events == ["open for Slow", "closed"] * 2
    assert log == ["refund"]


def test_branches_have_scopes_of_their_own() -> None:
    events: list[str] = []
    result = run(saga_of(parallel(Charge, Charge2), resolver=scoped(events)))
    assert result.ok
    assert sorted(events) == ["closed", "closed", "open for Charge", "open for Charge2"]


def test_a_class_may_be_a_primary_and_a_fallback() -> None:
    events: list[str] = []
    result = run(saga_of(fallback(Fail, Charge), resolver=scoped(events)))
    assert result.ok
    assert events == ["open for Fail", "closed", "open for Charge", "closed"]


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Charge, AsyncCharge])
def test_a_resolver_that_raises_fails_the_step(kind: Any) -> None:
    def resolver(kind: type) -> Any:
        raise LookupError("nothing known of it")

    result = run(saga_of(step(lambda: 1, lambda: log.append("-a"), name="a"), kind, resolver=resolver))
    assert result.status is Status.COMPENSATED
    assert isinstance(result.error, LookupError)
    assert log == ["-a"]


def test_a_resolver_that_raises_for_an_undo_leaves_the_saga_stuck() -> None:
    calls: list[type] = []

    def resolver(kind: Any) -> Any:
        calls.append(kind)
        if calls.count(Charge) == 2:
            raise LookupError("the container is closed")
        return kind(Gateway()) if kind is Charge else kind()

    result = run(saga_of(step(lambda: 1, lambda: log.append("-a"), name="a"), Charge, Fail, resolver=resolver))
    assert result.status is Status.STUCK
    assert [str(error.error) for error in result.compensation_errors] == ["the container is closed"]
    assert log == ["charge", "-a"]


@pytest.mark.parametrize("resolver", [5, "text", object()])
def test_a_resolver_that_cannot_be_called_is_refused(resolver: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="give a function of a task class"):
        Saga("s", resolver=resolver)


# -- a store, and a real container ------------------------------------------------------------------------------------


def test_recovery_makes_tasks_with_the_resolver_too(left: Any) -> None:
    events: list[str] = []
    saga = saga_of(Charge, Charge2, resolver=scoped(events))
    store = left(saga, "Charge2")
    assert events == ["open for Charge", "closed"]
    (result,) = Recovery(store, [saga]).run_once()
    assert result.status is Status.COMPENSATED
    assert events[2:] == ["open for Charge2", "closed", "open for Charge", "closed"]
    assert log == ["charge", "refund 2", "refund charged"]


def test_a_container_of_svcs_makes_the_tasks_and_closes_their_scope() -> None:
    registry = svcs.Registry()
    closed: list[str] = []

    def gateway() -> Iterator[Gateway]:
        made = Gateway()
        yield made
        made.open = False
        closed.append("gateway")

    registry.register_factory(Gateway, gateway)
    registry.register_factory(Charge, lambda svcs_container: Charge(svcs_container.get(Gateway)))
    registry.register_factory(Fail, Fail)

    @contextmanager
    def resolver(kind: type[Any]) -> Iterator[Any]:
        with svcs.Container(registry) as container:
            yield container.get(kind)

    result = run(saga_of(Charge, Fail, resolver=resolver))
    assert result.status is Status.COMPENSATED
    assert log == ["charge", "refund charged"]
    assert closed == ["gateway", "gateway"]
    registry.close()


def test_an_asynchronous_container_of_svcs_does_too() -> None:
    registry = svcs.Registry()
    closed: list[str] = []

    async def gateway() -> AsyncIterator[Gateway]:
        made = Gateway()
        yield made
        made.open = False
        closed.append("gateway")

    async def charge(svcs_container: svcs.Container) -> AsyncCharge:
        return AsyncCharge(await svcs_container.aget(Gateway))

    registry.register_factory(Gateway, gateway)
    registry.register_factory(AsyncCharge, charge)

    @asynccontextmanager
    async def resolver(kind: type[Any]) -> AsyncIterator[Any]:
        async with svcs.Container(registry) as container:
            yield await container.aget(kind)

    result = run(saga_of(AsyncCharge, step(Fail(), name="fail"), resolver=resolver))
    assert result.status is Status.COMPENSATED
    assert log == ["charge", "refund"]
    assert closed == ["gateway", "gateway"]
    registry.close()


def test_a_context_manager_that_only_a_coroutine_can_enter_is_told_so() -> None:
    class A(Task[int]):
        def execute(self, context: Context) -> int:
            return 1

    @asynccontextmanager
    async def scope(kind: Any) -> Any:
        yield kind()

    result = saga_of(A, resolver=scope).try_execute()
    assert "gives an async context manager for A, whose execute is a plain function" in str(result.error)


def test_a_resolver_that_gives_no_task_is_told_so() -> None:
    class A(Task[int]):
        def execute(self, context: Context) -> int:
            return 1

    result = saga_of(A, resolver=lambda kind: "nothing").try_execute()
    assert str(result.error) == "the resolver gives 'nothing' for A, which has no execute()"
