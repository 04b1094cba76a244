"""A context's keys: every ordinary word is one, and a miss that nobody reads of costs nothing."""

from __future__ import annotations

import copy
import difflib
import pickle
from typing import Any

import pytest

from saga import Context, Saga, parallel, step
from saga.errors import ContextKeyError

KEYS = [
    *("self", "values_", "context", "cls", "call", "results", "previous", "plan", "saga_id", "recorded", "deadline"),
    *(
        "_run",
        "_fork",
        "_merge",
        "_share",
        "_bind",
        "_keys",
        "_binding",
        "_results",
        "_plan",
        "_call",
        "_recorded",
        "_abc_impl",
    ),
    *("__private", "_", "_MISSING", "known", "missing", "key", "idempotency_key", "fork", "merge", "binding"),
]


@pytest.mark.parametrize("name", KEYS)
def test_ordinary_words_are_keys(name: str) -> None:
    assert Context(**{name: 1})[name] == 1
    context = Context()
    setattr(context, name, 1)
    assert getattr(context, name) == 1
    assert dict(context) == {name: 1}


def test_every_ordinary_word_is_a_key_in_an_execution_too() -> None:
    seen: list[Any] = []

    def act(context: Context) -> None:
        seen.append(dict(context))
        context.update({name: context[name] + 1 for name in KEYS})

    def group(name: str) -> Any:
        return step(lambda context: seen.append(dict(context)), name=name)

    given = dict.fromkeys(KEYS, 1)
    result = Saga("s").add_task(step(act)).add_task(parallel(group("a"), group("b"))).execute(Context(given))
    assert seen == [given, dict.fromkeys(KEYS, 2), dict.fromkeys(KEYS, 2)]
    assert dict(result.context) == dict.fromkeys(KEYS, 2)


ABSENT = [
    lambda context: context.get("toal"),
    lambda context: context.get("toal", 1),
    lambda context: context.pop("toal", None),
    lambda context: context.setdefault("toal", 1),
    lambda context: hasattr(context, "toal"),
    lambda context: getattr(context, "toal", None),
    lambda context: "toal" in context,
]


@pytest.mark.parametrize("ask", ABSENT)
def test_a_miss_that_nobody_reads_of_builds_no_text(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[Any] = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda *given, **more: looked_for.append(given) or [])
    monkeypatch.setattr(ContextKeyError, "__str__", lambda error: pytest.fail("the text is built"))
    ask(Context(total=1))
    assert looked_for == []


def test_a_miss_tells_of_the_keys_as_they_were() -> None:
    context = Context(total=1)
    with pytest.raises(ContextKeyError) as caught:
        context["toal"]
    context["toal"] = 2
    assert str(caught.value).endswith("; keys: total")


MISSES = [
    lambda context: context.toal,
    lambda context: context["toal"],
    lambda context: delattr(context, "toal"),
    lambda context: context.pop("toal"),
    lambda context: context.result_of("a"),
    lambda context: setattr(context, "step", 1),
]


def test_a_miss_survives_pickle_with_its_text() -> None:
    errors: list[ContextKeyError] = []
    for look in MISSES:
        with pytest.raises(ContextKeyError) as caught:
            look(Context(total=1))
        errors.append(caught.value)
    for error in errors:
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is ContextKeyError
            assert str(twin) == str(error) != ""


def test_a_missing_key_is_named_in_what_is_printed_of_its_error_too() -> None:
    with pytest.raises(ContextKeyError) as caught:
        Context(total=1)["totl"]
    assert repr(caught.value) == f"ContextKeyError({str(caught.value)!r})"
    assert "'totl'; did you mean 'total'?" in repr(caught.value)
    assert caught.value.args == ("totl",)
