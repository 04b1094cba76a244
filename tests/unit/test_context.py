"""The context: a mapping whose keys are attributes, and the results of the steps."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping, MutableMapping
from dataclasses import FrozenInstanceError, InitVar, dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from saga import ClosedContext, Context, Saga, SagaResult, Task, step
from saga.context import _RESERVED
from saga.errors import ContextKeyError, SagaDefinitionError, SagaError
from saga.storage import MemoryStore

Line = TypeVar("Line")

# -- the mapping --------------------------------------------------------------------------------------------------------


def test_it_is_a_mutable_mapping() -> None:
    context = Context({"a": 1}, b=2)
    assert isinstance(context, MutableMapping)
    assert dict(context) == {"a": 1, "b": 2}
    assert (len(context), list(context), "a" in context, "c" in context, 3 in context) == (2, ["a", "b"], True, False, False)
    assert (list(context.keys()), list(context.values()), list(context.items())) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
    assert (context.get("c"), context.get("c", 3), context.setdefault("a", 9)) == (None, 3, 1)
    context.update({"a": 5}, c=6)
    assert (context.pop("c"), context.pop("c", None), context["a"]) == (6, None, 5)
    assert context.popitem() == ("a", 5)
    context.clear()
    assert not context
    assert dict(context) == {}


def test_a_key_is_an_attribute_and_an_attribute_is_a_key() -> None:
    context = Context()
    context.total = 1
    assert context["total"] == 1
    context["total"] += 1
    assert context.total == 2
    del context.total
    assert "total" not in context
    context["total"] = 3
    del context["total"]
    assert not hasattr(context, "total")


def test_a_key_that_is_no_identifier_is_a_key_all_the_same() -> None:
    context = Context({"order id": 1})
    assert context["order id"] == getattr(context, "order id") == 1


@pytest.mark.parametrize(
    "name",
    [
        "self",
        "values_",
        "context",
        "cls",
    ],
)
def test_ordinary_words_are_keys(name: str) -> None:
    assert Context(**{name: 1})[name] == 1


def test_it_shows_its_keys() -> None:
    assert repr(Context(a=1, b="x")) == "Context(a=1, b='x')"
    assert repr(Context()) == "Context()"


def test_equal_contexts_have_equal_keys_and_values() -> None:
    assert Context(a=1) == Context(a=1)
    assert Context(a=1) != Context(a=2)
    assert Context(a=1) == {"a": 1}
    assert Context(a=1) != [("a", 1)]
    assert Context(a=1) != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(Context())


def get(context: Context) -> Any:
    return context.toal


def get_item(context: Context) -> Any:
    return context["toal"]


def delete(context: Context) -> Any:
    del context.toal


def delete_item(context: Context) -> Any:
    del context["toal"]


@pytest.mark.parametrize("look", [get, get_item, delete, delete_item])
def test_an_unknown_key_is_told_with_near_misses(look: Any) -> None:
    with pytest.raises(ContextKeyError) as caught:
        look(Context(total=1, other=2))
    assert str(caught.value) == "the context has no key 'toal'; did you mean 'total'?; keys: total, other"
    assert isinstance(caught.value, (KeyError, AttributeError, SagaError))


def test_an_unknown_key_of_an_empty_context() -> None:
    with pytest.raises(ContextKeyError) as caught:
        Context().a  # noqa: B018
    assert str(caught.value) == "the context has no key 'a'; keys: none"
    assert not hasattr(Context(), "a")
    assert getattr(Context(), "a", 1) == 1


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(ContextKeyError, match=r"^a context key is a string, not 3 \(int\)$"):
        Context({3: 1})  # type: ignore[dict-item]
    with pytest.raises(ContextKeyError, match=r"^the context has no key 3; keys: a$"):
        Context(a=1)[3]  # type: ignore[index]


@pytest.mark.parametrize("name", sorted(_RESERVED))
def test_a_name_of_its_own_cannot_be_a_key(name: str) -> None:
    text = f"^{name!r} is an attribute of Context itself, so it cannot be a key; use '{name}_'$"
    context = Context()
    with pytest.raises(ContextKeyError, match=text):
        setattr(context, name, 1)
    with pytest.raises(ContextKeyError, match=text):
        context[name] = 1
    with pytest.raises(ContextKeyError, match=text):
        Context({name: 1})
    assert not context


def test_the_reserved_names_are_the_mappings_own() -> None:
    public = {name for name in _RESERVED if not name.startswith("_")}
    own = {"clear", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}
    assert public == own | {"result_of", "step"}


# -- subclasses ---------------------------------------------------------------------------------------------------------


@dataclass
class Order(Context):
    order_id: str
    total: int = 0
    items_: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen(Context):
    order_id: str


@dataclass(kw_only=True)
class Child(Order):
    country: str = "DE"

    def __post_init__(self) -> None:
        self.derived = len(self.order_id)


def test_a_dataclass_gives_the_keys_types_and_defaults() -> None:
    context = Order("A1")
    assert dict(context) == {"order_id": "A1", "total": 0, "items_": []}
    assert Order("A1").items_ is not Order("A1").items_
    context.new = 1
    assert context["new"] == 1
    with pytest.raises(TypeError, match="order_id"):
        Order()  # type: ignore[call-arg]


def test_a_dataclass_of_a_dataclass() -> None:
    assert dict(Child(order_id="A1")) == {"order_id": "A1", "total": 0, "items_": [], "country": "DE", "derived": 2}


def test_a_frozen_dataclass_stays_frozen_as_attributes() -> None:
    context = Frozen("A1")
    assert context["order_id"] == "A1"
    with pytest.raises(FrozenInstanceError):
        context.order_id = "A2"  # type: ignore[misc]
    assert Saga("s").add_task(step(lambda context: context.order_id, name="a")).execute(context).results == {"a": "A1"}


def test_a_dataclass_with_slots_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="Slotted: a context keeps its keys in __dict__; leave out slots"):

        @dataclass(slots=True)
        class Slotted(Context):
            order_id: str


@dataclass
class Closed(ClosedContext):
    limit: ClassVar[int] = 3
    total: int
    given: InitVar[int] = 0
    rows: list[int] = field(default_factory=list)

    def __post_init__(self, given: int) -> None:
        self.total += given

    @cached_property
    def count(self) -> int:
        return len(self.rows)


@dataclass
class ClosedMore(Closed):
    more: int = 0


def set_item(context: Context, key: str) -> None:
    context[key] = 1


WRITES = [lambda context, key: setattr(context, key, 1), set_item, lambda context, key: context.update({key: 1})]


@pytest.mark.parametrize("write", WRITES)
def test_a_closed_context_takes_its_fields_and_nothing_else(write: Any) -> None:
    context = ClosedMore(1, 2)
    for key in ("total", "rows", "more"):
        write(context, key)
    with pytest.raises(ContextKeyError) as caught:
        write(context, "totl")
    assert str(caught.value) == "ClosedMore has no field 'totl'; did you mean 'total'?; fields: total, rows, more"
    for key in ("limit", "given", "other"):
        with pytest.raises(ContextKeyError, match=f"^ClosedMore has no field '{key}'"):
            write(context, key)
    assert dict(context) == {"total": 1, "rows": 1, "more": 1}


def test_a_closed_context_is_read_copied_and_run_as_any_other() -> None:
    context = Closed(1, 2)
    assert (context.total, context["total"], context.count) == (3, 3, 0)
    with pytest.raises(ContextKeyError, match="did you mean 'total'"):
        context.totl  # noqa: B018
    again = pickle.loads(pickle.dumps(context))
    assert again == copy.deepcopy(context) == context
    saga = Saga("s", store=MemoryStore()).add_task(step(lambda context: setattr(context, "total", 5), timeout=60.0, name="a"))
    result = saga.add_task(step(lambda context: context.update(totl=1), name="b")).try_execute(Closed(1), saga_id="1")
    assert isinstance(result.error, ContextKeyError)
    assert type(saga.load("1").context) is Closed
    assert saga.load("1").context.total == 5


@pytest.mark.parametrize("kind", [ClosedContext, type("Bare", (ClosedContext,), {})])
def test_a_closed_context_without_fields_says_what_it_lacks(kind: Any) -> None:
    with pytest.raises(SagaDefinitionError, match="is a ClosedContext, whose keys are its fields; decorate it with @dataclass"):
        kind(a=1)


def test_methods_and_class_attributes_of_a_subclass_are_no_keys() -> None:
    class Own(Context):
        LIMIT = 3

        def double(self) -> int:
            return 2 * int(self.n)

    own = Own(n=2)
    assert (own.double(), own.LIMIT, dict(own)) == (4, 3, {"n": 2})


@pytest.mark.parametrize("context", [Context(a=[1], b="x"), Order("A1", 3, ["x"]), Frozen("A1"), Child(order_id="A1")])
class TestCopies:
    def test_a_copy_is_equal_and_apart(self, context: Context) -> None:
        twin = copy.copy(context)
        assert twin == context
        assert type(twin) is type(context)
        twin["new"] = 1
        assert "new" not in context

    def test_it_survives_pickle(self, context: Context) -> None:
        twin = pickle.loads(pickle.dumps(context))
        assert twin == context
        assert type(twin) is type(context)

    def test_a_copy_belongs_to_no_execution(self, context: Context) -> None:
        Saga("s").add_task(step(lambda: 1, name="a")).execute(context)
        assert context.result_of("a") == 1
        for twin in (copy.copy(context), copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
            with pytest.raises(ContextKeyError, match="no result"):
                twin.result_of("a")


def test_a_copy_shares_its_values_and_a_deep_one_does_not() -> None:
    context = Context(a=[1])
    context["itself"] = context
    assert copy.copy(context).a is context.a
    deep = copy.deepcopy(context)
    assert deep.a == [1]
    assert deep.a is not context.a
    assert deep.itself is deep


# -- results and the running step ---------------------------------------------------------------------------------------


class Charge(Task[str]):
    def __init__(self, name: str = "Charge") -> None:
        self.name = name

    def execute(self, context: Context) -> str:
        return f"receipt of {self.name}"


class ChargeTwice(Charge):
    pass


def test_a_result_is_found_by_class_task_or_name() -> None:
    task = Charge("first")
    context = Context()
    Saga("s").add_task(task).execute(context)
    assert context.result_of(Charge) == context.result_of(task) == context.result_of("first") == "receipt of first"


def test_a_subclass_answers_for_its_base_unless_the_base_is_there_too() -> None:
    context = Context()
    Saga("s").add_task(ChargeTwice("sub")).execute(context)
    assert context.result_of(Charge) == "receipt of sub"
    Saga("s").add_task(ChargeTwice("sub")).add_task(Charge("base")).execute(context)
    assert context.result_of(Charge) == "receipt of base"


def test_the_last_part_of_a_nested_name_is_enough() -> None:
    context = Context()
    inner = Saga("inner").add_task(Charge("pay"))
    Saga("s").add_task(inner).execute(context)
    assert context.result_of("pay") == context.result_of("inner/pay") == "receipt of pay"


def ask(flow: Any, wanted: Any) -> str:
    context = Context()
    Saga("s").add_task(flow).execute(context)
    with pytest.raises(ContextKeyError) as caught:
        context.result_of(wanted)
    return str(caught.value)


def test_an_ambiguous_question_is_refused() -> None:
    saga = Saga("inner").add_task(Charge("a")).add_task(Charge("b"))
    assert ask(saga, Charge) == "2 steps match Charge: inner/a, inner/b; ask by name"
    both = Saga("outer").add_task(Saga("x").add_task(Charge("a"))).add_task(Saga("y").add_task(Charge("a")))
    assert ask(both, "a") == "2 steps match a: outer/x/a, outer/y/a; ask by name"


def test_a_question_for_no_step_is_told_with_near_misses() -> None:
    assert ask(Charge("charge"), "chrage") == "no step matches chrage; did you mean 'charge'?; steps: charge"
    assert ask(Charge("charge"), ChargeTwice) == "no step matches ChargeTwice; steps: charge"
    assert ask(Charge("charge"), Charge("charge")) == "no step matches <Charge task>; steps: charge"


def test_a_step_that_has_not_succeeded_has_no_result() -> None:
    def early(context: Context) -> None:
        context.result_of(Charge)

    result = Saga("s").add_task(step(early)).add_task(Charge).try_execute()
    assert str(result.error) == "step 'Charge' has no result: it has not succeeded (yet)"


def test_a_context_of_no_execution_has_no_results_and_no_step() -> None:
    with pytest.raises(ContextKeyError, match=r"^no step matches Charge; steps: none$"):
        Context().result_of(Charge)
    with pytest.raises(ContextKeyError, match=r"^step 'a' has no result: it has not succeeded"):
        Context().result_of("a")
    with pytest.raises(RuntimeError, match="only while a task runs"):
        Context().step  # noqa: B018


def test_a_step_knows_its_own_call() -> None:
    told: list[Any] = []

    def act(context: Context) -> None:
        told.append(context.step)

    Saga("s").add_task(step(act)).execute(saga_id="x1")
    (info,) = told
    assert (info.saga, info.saga_id, info.name, info.attempt) == ("s", "x1", "act", 1)
    assert (info.idempotency_key, info.compensation_key) == ("s/x1/act", "s/x1/act#compensate")
    assert (info.deadline, info.cancelled) == (None, False)
    assert repr(info) == "<step 'act' attempt 1 of x1>"


def test_a_context_used_again_forgets_the_results_and_keeps_the_keys() -> None:
    context = Context(a=1)
    Saga("s").add_task(step(lambda: 1, name="one")).execute(context)
    result: SagaResult = Saga("s").add_task(step(lambda: 2, name="two")).execute(context)
    assert result.context is context
    assert context.a == 1
    with pytest.raises(ContextKeyError, match="no step matches one"):
        context.result_of("one")


def test_a_plain_mapping_becomes_a_context() -> None:
    given: Mapping[str, int] = {"a": 1}
    result = Saga("s").add_task(step(lambda context: context.a, name="a")).execute(given)
    assert isinstance(result.context, Context)
    assert result.results == {"a": 1}


def test_a_closed_context_may_have_properties_that_are_set() -> None:
    @dataclass
    class Price(ClosedContext):
        cents: int = 0

        @property
        def euros(self) -> float:
            return self.cents / 100

        @euros.setter
        def euros(self, euros: float) -> None:
            self.cents = round(euros * 100)

    price = Price()
    price.euros = 2.5
    assert dict(price) == {"cents": 250}


def test_what_typing_leaves_on_an_object_of_a_generic_class_is_no_key() -> None:
    @dataclass
    class Order(Context, Generic[Line]):
        lines: list[Line]

    assert dict(Order[int]([1])) == {"lines": [1]}
