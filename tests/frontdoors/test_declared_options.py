"""What a saga's class declares beside its flow: every option there is, and none that is misspelt."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

import pytest

from saga import LOST_ANSWERS, Ask, Context, Retry, Saga, Skip, Task, saga_step, step
from saga.described import Described
from saga.durable.codec import Codec
from saga.errors import SagaDefinitionError
from saga.events import SagaStarted
from saga.flow.policies import DEFAULTS
from saga.storage import MemoryStore
from saga.stored import Stored
from tests.kit.runners import saga_of


def nothing() -> int:
    return 1


def watch(event: Any, info: Any) -> None:
    """An observer."""


def watch_too(event: Any, info: Any) -> None:
    """Another."""


def handle(context: Any, name: str, error: BaseException) -> None:
    """A handler of failed compensations."""


def handle_too(context: Any, name: str, error: BaseException) -> None:
    """Another."""


def make(kind: type) -> Any:
    return kind()


def make_too(kind: type) -> Any:
    return kind()


def key(context: Any) -> str:
    return "account"


def key_too(context: Any) -> str:
    return "customer"


def tag(context: Any) -> dict[str, str]:
    return {"order": "A1"}


def lost(error: Exception) -> bool:
    return isinstance(error, ValueError)


class Nothing(Task[int]):
    def execute(self, context: Any) -> int:
        return 1


#: Of each option: two values, and where it is found in what an execution is run by.
class OrderContext(Context):
    pass


class ParcelContext(Context):
    pass


OPTIONS: Final[dict[str, tuple[Any, Any, Callable[[Saga], Any]]]] = {
    "name": ("place-order", "other", lambda saga: saga.definition.name),
    "context": (OrderContext, ParcelContext, lambda saga: saga.definition.context),
    "logger": (watch, watch_too, lambda saga: saga.definition.observers[0]),
    "observers": ([watch], [watch_too], lambda saga: [*saga.definition.observers]),
    "timeout": (60.0, 30.0, lambda saga: saga.definition.timeout),
    "stop_on_compensation_failure": (True, False, lambda saga: saga.definition.stop_on_compensation_failure),
    "on_compensation_failure": (handle, handle_too, lambda saga: saga.definition.on_compensation_failure),
    "store": (MemoryStore(), MemoryStore(), lambda saga: saga.store),
    "codec": (Codec(), Codec(), lambda saga: saga.definition.codec),
    "resolver": (make, make_too, lambda saga: saga.resolver),
    "version": ("7", "8", lambda saga: saga.definition.version),
    "compatible_with": (["1", "2"], ["3"], lambda saga: sorted(saga.definition.compatible_with)),
    "undoable_for": (timedelta(days=30), 60.0, lambda saga: saga.undoable_for),
    "retry": (Retry(2), Retry(3), lambda saga: saga.retry),
    "step_timeout": (5.0, 6.0, lambda saga: saga.step_timeout),
    "compensation_retry": (Retry(2), Retry(3), lambda saga: saga.compensation_retry),
    "compensation_timeout": (5.0, 6.0, lambda saga: saga.compensation_timeout),
    "verification_retry": (Retry(2), Retry(3), lambda saga: saga.verification_retry),
    "unknown_on": (lost, LOST_ANSWERS, lambda saga: saga.unknown_on),
    "on_error": (Skip, Ask, lambda saga: saga.on_error),
    "lease": (5.0, 6.0, lambda saga: saga.definition.lease),
    "limit": (20, 30, lambda saga: saga.definition.limit),
    "rate": (5, 0.5, lambda saga: saga.definition.rate),
    "exclusive": (key, key_too, lambda saga: saga.definition.exclusive),
    "tags": (tag, ["order", "card"], lambda saga: saga.definition.tags if callable(saga.tags) else list(saga.definition.tags)),
}


def declaring(**attributes: Any) -> type[Saga]:
    return type("Declared", (Saga,), {"flow": Nothing, **attributes})


def test_every_keyword_of_a_saga_is_tried_here() -> None:
    assert OPTIONS.keys() == inspect.signature(Saga).parameters.keys()


def test_all_that_an_execution_is_run_by_can_be_declared() -> None:
    assert {field.name for field in fields(Saga("s").add_task(Nothing).definition)} - {"plan"} <= OPTIONS.keys()


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_the_classes_or_the_one_that_is_given(option: str) -> None:
    declared, given, found = OPTIONS[option]
    kind = declaring(**{option: declared})
    assert found(kind()) == declared
    assert found(kind(**{option: None})) == declared
    assert found(kind(**{option: given})) == given
    assert found(type("Child", (kind,), {option: given})()) == given
    assert getattr(kind(**{option: given}), option) == given


@pytest.mark.parametrize("option", OPTIONS)
def test_a_made_saga_keeps_its_options(option: str) -> None:
    saga = Saga("s")
    with pytest.raises(SagaDefinitionError, match=rf"its {option} stays as it is; .*Saga\({option}=\.\.\.\)$"):
        setattr(saga, option, OPTIONS[option][1])


def test_a_declared_store_timeout_and_observer_are_those_of_an_execution(tmp_path: Any) -> None:
    seen: list[Any] = []

    class PlaceOrder(Saga):
        store = tmp_path / "orders.db"
        timeout = 60.0
        flow = Nothing

        def logger(self, event: Any, info: Any) -> None:
            seen.append((self, event))

    saga = PlaceOrder()
    saga.execute(saga_id="A1")
    assert saga.load("A1").results == {"Nothing": 1}
    assert (tmp_path / "orders.db").exists()
    assert seen[0][0] is saga
    assert isinstance(seen[0][1], SagaStarted)


def test_a_method_is_given_its_saga_and_a_function_is_not() -> None:
    class PlaceOrder(Saga):
        flow = Nothing

        def on_compensation_failure(self, context: Any, name: str, error: BaseException) -> None:
            """Handle it."""

        def unknown_on(self, error: Exception) -> bool:
            return True

        @staticmethod
        def logger(event: Any, info: Any) -> None:
            """Watch it."""

    saga = PlaceOrder()
    assert saga.definition.on_compensation_failure == saga.on_compensation_failure
    assert saga.definition.on_compensation_failure.__self__ is saga  # type: ignore[union-attr]
    assert saga.plan.step("Nothing").unknown_on(ValueError())
    assert saga.definition.observers == (PlaceOrder.logger,)


def test_a_property_may_be_an_option_and_its_error_is_its_own() -> None:
    class Settings(Saga):
        flow = Nothing

        @property
        def timeout(self) -> float:
            return self.seconds  # type: ignore[attr-defined,no-any-return]

        def __init__(self, **settings: float) -> None:
            vars(self).update(settings)
            super().__init__()

    assert Settings(seconds=3.0).definition.timeout == 3.0
    with pytest.raises(AttributeError, match="seconds"):
        Settings()


def test_what_a_saga_sets_before_it_is_made_is_as_declared() -> None:
    class PlaceOrder(Saga):
        def __init__(self, seconds: float) -> None:
            self.timeout = seconds
            super().__init__("s")

    assert PlaceOrder(3.0).add_task(Nothing).definition.timeout == 3.0


# -- misspelt ones ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("deadline", 1.0, "timeout"),
        ("time_out", 1.0, "timeout"),
        ("timeouts", 1.0, "timeout"),
        ("observer", [watch], "observers"),
        ("loger", [print], "logger"),
        ("versoin", "2", "version"),
        ("unknow_on", ValueError(), "unknown_on"),
        ("codecs", Codec(), "codec"),
        ("on_compensation_failed", handle, "on_compensation_failure"),
    ],
)
def test_an_attribute_of_a_class_that_is_nearly_an_option_is_refused(name: str, value: Any, meant: str) -> None:
    kind = declaring(**{name: value})
    with pytest.raises(SagaDefinitionError, match=rf"^Declared: a saga has no '{name}', .*; did you mean '{meant}'\?$"):
        kind()


@pytest.mark.parametrize("name", ["steps", "tasks", "flows"])
@pytest.mark.parametrize("value", [Nothing, (Nothing, Nothing), step(nothing)])
def test_a_flow_by_another_name_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=rf"a saga has no '{name}', .*did you mean 'flow'"):
        type("Declared", (Saga,), {name: value})()


def test_what_a_class_has_of_its_own_is_its_own() -> None:
    class PlaceOrder(Saga):
        release = "1.2"
        code = "PO-7"
        all_names = ("Ann",)
        inversion = "1"
        please = "now"
        first_name = "Ann"
        lock_timeout = 5.0
        steps = (1, 2)
        _deadline = 3.0

        def flow(self) -> Any:
            return self.resolve, self.stored

        @saga_step
        def resolve(self) -> int:
            return self.steps[0]

        @saga_step
        def stored(self) -> str:
            return self.word

        def names(self) -> None: ...

        @property
        def deadline(self) -> float:
            return self._deadline

        def __init__(self, word: str) -> None:
            super().__init__()
            self.word = word
            self.database = None
            self.names_of_all = ["Ann"]
            self.tasks = ["reserve"]
            self.versions = [2]

    assert PlaceOrder("x").execute().results == {"resolve": 1, "stored": "x"}


@pytest.mark.parametrize(("name", "said"), [("time_out", "'timeout'"), ("leese", "subclass"), ("observer", "'observers'")])
def test_a_made_saga_takes_no_attribute_that_would_have_no_effect(name: str, said: str) -> None:
    with pytest.raises(SagaDefinitionError, match=rf"^saga 's': a saga has no '{name}', .*{said}"):
        setattr(Saga("s"), name, 1.0)


@pytest.mark.parametrize("name", ["time_out", "tiemout", "deadline", "versoin"])
def test_nor_does_a_made_saga_of_a_subclass_where_it_is_nearly_an_option(name: str) -> None:
    with pytest.raises(SagaDefinitionError, match=f"a saga has no '{name}', .*did you mean"):
        setattr(declaring()(), name, 1.0)


def test_a_flow_may_be_set_later_and_a_method_be_replaced() -> None:
    saga = declaring()()
    assert saga.plan.names == ("Nothing",)
    saga.flow = step(nothing)
    assert saga.plan.names == ("nothing",)
    saga.execute = lambda: 7  # type: ignore[method-assign,assignment]
    assert saga.execute() == 7  # type: ignore[comparison-overlap]


# -- a saga that is a step of another ---------------------------------------------------------------------------------

#: What holds for its steps within another saga, or is about executions of its own.
ITS_OWN: Final = {"name", "context", "timeout", *DEFAULTS, "version", "compatible_with", "lease"}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_step_of_another_saga_has_no_option_that_is_without_effect_there(option: str) -> None:
    inner = Saga(**{"name": "inner", option: OPTIONS[option][0]}).add_task(Nothing)
    if option in ITS_OWN:
        assert saga_of(inner).plan.names[-1] == f"{inner.name}/Nothing"
        return
    with pytest.raises(SagaDefinitionError, match=rf"^saga 'inner' is a step of another saga, where its {option} would"):
        saga_of(inner)


def test_a_step_of_another_saga_may_say_what_holds_anyhow() -> None:
    inner = Saga("inner", observers=(), logger=[], stop_on_compensation_failure=False).add_task(Nothing)
    assert saga_of(inner).plan.names == ("inner/Nothing",)


def test_all_options_without_effect_are_named() -> None:
    inner = Saga("inner", store=MemoryStore(), timeout=1.0, logger=watch).add_task(Nothing)
    with pytest.raises(SagaDefinitionError, match=r"its logger and store would .*; give them to the outer saga$"):
        saga_of(inner)


# -- what is no saga that is made -------------------------------------------------------------------------------------

#: How each method is called.
CALLS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add_task": lambda of, first: of.add_task(*first, Nothing),
    "execute": lambda of, first: of.execute(*first),
    "try_execute": lambda of, first: of.try_execute(*first),
    "aexecute": lambda of, first: asyncio.run(of.aexecute(*first)),
    "atry_execute": lambda of, first: asyncio.run(of.atry_execute(*first)),
    "stream": lambda of, first: list(of.stream(*first)),
    "astream": lambda of, first: asyncio.run(of.astream(*first).__anext__()),
    "load": lambda of, first: of.load(*first, "A1"),
    "aload": lambda of, first: asyncio.run(of.aload(*first, "A1")),
    "handle": lambda of, first: of.handle(*first, "A1"),
    "signal": lambda of, first: of.signal(*first, "A1", "paid"),
    "asignal": lambda of, first: asyncio.run(of.asignal(*first, "A1", "paid")),
    "signal_or_start": lambda of, first: of.signal_or_start(*first, "A1", "paid"),
    "asignal_or_start": lambda of, first: asyncio.run(of.asignal_or_start(*first, "A1", "paid")),
    "submit": lambda of, first: of.submit(*first),
    "asubmit": lambda of, first: asyncio.run(of.asubmit(*first)),
    "submit_many": lambda of, first: of.submit_many(*first, [{}]),
    "asubmit_many": lambda of, first: asyncio.run(of.asubmit_many(*first, [{}])),
    "undo": lambda of, first: of.undo(*first, "A1", "so"),
    "aundo": lambda of, first: asyncio.run(of.aundo(*first, "A1", "so")),
    "check": lambda of, first: of.check(*first),
    "diagram": lambda of, first: of.diagram(*first),
    "__saga_flow__": lambda of, first: of.__saga_flow__(*first),
}


def test_every_method_is_tried_here() -> None:
    methods = {**vars(Stored), **vars(Described), **vars(Saga)}
    public = {name for name, value in methods.items() if inspect.isfunction(value) and not name.startswith("_")}
    assert CALLS.keys() == public | {"__saga_flow__"}  # which every flow asks a saga for


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("first", [Context(), {"order": 1}, None])
def test_a_method_that_is_called_on_the_class_says_so(call: str, first: Any) -> None:
    kind = declaring()
    with pytest.raises(SagaDefinitionError, match=r"on its class, with \w+; make one first"):
        CALLS[call](kind, (first,))


@pytest.mark.parametrize("call", [*CALLS, "plan", "definition"])
def test_a_saga_whose_init_was_not_called_says_so(call: str) -> None:
    class NoInit(Saga):
        flow = Nothing

        def __init__(self) -> None:
            self.database = 1

    with pytest.raises(SagaDefinitionError, match=r"^NoInit: its __init__ does not call super\(\).__init__\(\)"):
        CALLS[call](NoInit(), ()) if call in CALLS else getattr(NoInit(), call)
    assert repr(NoInit()) == "<NoInit None>"


def test_an_attribute_error_of_the_users_is_the_users() -> None:
    class Wrong(Saga):
        def flow(self) -> Any:
            return self.missing

    with pytest.raises(AttributeError, match="missing"):
        Wrong().execute()
