"""Idempotency keys: whatever sagas, executions and steps are called, no two calls that differ have the same."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import example, given
from hypothesis import strategies as st

from saga.task import StepInfo

# What the keys are put together with, what encodes it, and what has no encoding of its own.
texts = st.text("a/%#2F3:\u00e9\ud83d\ude00\U0001f600", max_size=6) | st.text(st.characters(exclude_categories=()), max_size=3)
calls = st.tuples(texts, texts, texts)


def keys_of(call: tuple[str, str, str]) -> tuple[str, str]:
    first, second = StepInfo(*call, 1), StepInfo(*call, 2, 9.0)
    assert (first.idempotency_key, first.compensation_key) == (second.idempotency_key, second.compensation_key)
    return first.idempotency_key, first.compensation_key


@given(calls, calls)
@example(("order", "order-1", "payment/Charge"), ("pay", "order-1/payment", "Charge"))
@example(("order/1", "x", "a"), ("order", "1/x", "a"))
@example(("order", "a%2Fb", "c"), ("order", "a/b", "c"))
@example(("order", "x", "a"), ("order", "x", "a#compensate"))
@example(("s", "\ud83d\ude00", "a"), ("s", "\U0001f600", "a"))
def test_calls_that_differ_have_different_keys(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert len({*keys_of(one), *keys_of(other)}) == (2 if one == other else 4)


@given(calls)
def test_a_key_says_what_it_is_of_in_plain_ascii(call: tuple[str, str, str]) -> None:
    key, compensation_key = keys_of(call)
    assert (key + compensation_key).isascii()
    assert tuple(unquote(part, errors="surrogatepass") for part in key.split("/", 2)) == call
