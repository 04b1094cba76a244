"""Policies: what they accept, what they say to what they refuse, and the waits they compute."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import Backoff, Compensate, Context, ExponentialBackoff, InDoubt, OnError, Retry, Saga, Skip, Task, step
from saga.errors import SagaDefinitionError

SECONDS = "give seconds as a finite number of 0 or more"
ATTEMPTS = "give a whole number of 1 or more"
KINDS = "give Exception classes or plain functions of the error (an interrupt such as KeyboardInterrupt is never retried)"
BACKOFFS = "give seconds, ExponentialBackoff or an object with delay(attempt, fraction, error)"


def refused(build: Any) -> str:
    with pytest.raises(SagaDefinitionError) as caught:
        build()
    return str(caught.value)


HUGE = pytest.param(10**400, id="huge")


@pytest.mark.parametrize("seconds", [-1, -0.1, math.inf, -math.inf, math.nan, "1", None, True, 1j, HUGE])
def test_seconds_are_finite_and_not_negative(seconds: Any) -> None:
    for name in ("initial", "factor", "cap"):
        right = SECONDS if name != "factor" else "give a finite number of 1 or more"
        text = f"ExponentialBackoff: {name} is {seconds!r}; {right}"
        assert refused(lambda name=name: ExponentialBackoff(**{name: seconds})) == text
    if isinstance(seconds, (int, float)):
        assert refused(lambda: Retry(backoff=seconds)) == f"Retry: backoff is {seconds!r}; {SECONDS}"
    else:
        assert refused(lambda: Retry(backoff=seconds)) == f"Retry: backoff is {seconds!r}; {BACKOFFS}"


def test_a_wait_never_shrinks_from_one_attempt_to_the_next() -> None:
    assert refused(lambda: ExponentialBackoff(factor=0.5)) == "ExponentialBackoff: factor is 0.5; give 1 or more"


@pytest.mark.parametrize("attempts", [0, -1, 1.0, "3", True, math.inf])
def test_attempts_are_a_whole_number_of_1_or_more(attempts: Any) -> None:
    assert refused(lambda: Retry(attempts)) == f"Retry: max_attempts is {attempts!r}; {ATTEMPTS}"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException, int, "OSError", None, OSError()])
def test_only_exceptions_are_retried(kind: Any) -> None:
    assert refused(lambda: Retry(retry_on=kind)) == f"Retry: retry_on has {kind!r}; {KINDS}"
    assert refused(lambda: Retry(retry_on=(OSError, kind))) == f"Retry: retry_on has {kind!r}; {KINDS}"


@pytest.mark.parametrize("then", [Retry(), "skip", InDoubt.COMPENSATE])
def test_what_follows_is_compensate_skip_or_ask(then: Any) -> None:
    assert refused(lambda: Retry(then=then)) == f"Retry: then is {then!r}; give Compensate, Skip or Ask"


def test_one_kind_of_exception_needs_no_tuple() -> None:
    assert Retry(retry_on=OSError).retry_on == (OSError,)
    assert Retry(retry_on=OSError) == Retry(retry_on=(OSError,))
    assert hash(Retry(retry_on=OSError)) == hash(Retry(retry_on=(OSError,)))


def test_nothing_is_retried_on_an_empty_tuple() -> None:
    assert not Retry(3, retry_on=()).allows(1, OSError())


def test_a_retry_allows_what_its_numbers_and_kinds_allow() -> None:
    retry = Retry(3, retry_on=(ConnectionError, TimeoutError))
    assert [retry.allows(attempt, ConnectionResetError()) for attempt in (1, 2, 3, 4)] == [True, True, False, False]
    assert retry.allows(1, TimeoutError())
    assert not retry.allows(1, ValueError())
    assert not Retry(3).allows(1, KeyboardInterrupt())
    assert not Retry(1).allows(1, ValueError())


def test_fixed_waits() -> None:
    assert [Retry(backoff=2).delay(attempt, 0.9, OSError()) for attempt in (1, 2, 50)] == [2.0, 2.0, 2.0]
    assert Retry().delay(1, 0.5, OSError()) == 0.0


def test_exponential_waits_grow_up_to_the_cap() -> None:
    backoff = ExponentialBackoff(0.5, factor=3, cap=10)
    assert [backoff.delay(attempt, 0.9, OSError()) for attempt in range(1, 6)] == [0.5, 1.5, 4.5, 10, 10]
    assert Retry(backoff=backoff).delay(2, 0.9, OSError()) == 1.5


def test_a_wait_too_large_for_a_number_is_the_cap() -> None:
    assert ExponentialBackoff(1.0).delay(5000, 0.0, OSError()) == 60.0
    assert ExponentialBackoff(1, factor=2).delay(5000, 0.0, OSError()) == 60.0
    assert ExponentialBackoff(1, factor=10, cap=1e308).delay(400, 0.0, OSError()) == 1e308


def test_jitter_takes_a_fraction_of_the_wait() -> None:
    backoff = ExponentialBackoff(4.0, jitter=True)
    assert [backoff.delay(1, fraction, OSError()) for fraction in (0.0, 0.25, 0.5)] == [0.0, 1.0, 2.0]


@given(
    st.builds(
        ExponentialBackoff,
        initial=st.floats(0, 1e9),
        factor=st.floats(1, 1e9),
        cap=st.floats(0, 1e9),
        jitter=st.booleans(),
    ),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_between_nothing_and_the_cap(backoff: ExponentialBackoff, attempt: int, fraction: float) -> None:
    wait = backoff.delay(attempt, fraction, OSError())
    assert 0 <= wait <= backoff.cap
    assert backoff.delay(attempt, fraction, OSError()) == wait
    assert wait <= backoff.delay(attempt + 1, fraction, OSError())


def test_policies_are_immutable_values() -> None:
    assert Retry(3, ExponentialBackoff(0.2)) == Retry(3, ExponentialBackoff(0.2))
    for policy, name in ((Retry(), "then"), (ExponentialBackoff(), "cap")):
        with pytest.raises(FrozenInstanceError):
            setattr(policy, name, 3)


def test_anything_with_a_delay_is_a_backoff() -> None:
    class Own:
        def delay(self, attempt: int, fraction: float, error: BaseException) -> float:
            return attempt + fraction

    assert isinstance(Own(), Backoff)
    assert Retry(backoff=Own()).delay(2, 0.5, OSError()) == 2.5


def test_the_short_names() -> None:
    assert (Compensate, Skip) == (OnError.COMPENSATE, OnError.SKIP)
    assert (InDoubt.COMPENSATE, InDoubt.RERUN, InDoubt.ASK) == (InDoubt.COMPENSATE, InDoubt.RERUN, InDoubt.ASK)


# -- policies of a step -------------------------------------------------------------------------------------------------


def noop() -> None:
    """Stands for any work."""


@pytest.mark.parametrize(
    ("policies", "text"),
    [
        ({"retry": 3}, "retry is 3; give Retry(max_attempts, ...)"),
        ({"compensation_retry": "3"}, "compensation_retry is '3'; give Retry(max_attempts, ...)"),
        ({"retry": Retry(), "on_error": Retry()}, "give retry= or on_error=Retry(...), not both"),
        ({"on_error": "skip"}, "on_error is 'skip'; give Compensate, Skip, Ask or Retry(..., then=...)"),
        ({"in_doubt": "ask"}, "in_doubt is 'ask'; give InDoubt.RERUN, COMPENSATE or ASK"),
        ({"in_doubt": Compensate}, f"in_doubt is {Compensate!r}; give InDoubt.RERUN, COMPENSATE or ASK"),
        ({"compensate_on_failure": None}, "compensate_on_failure is None; give a bool"),
        *(
            ({"timeout": seconds}, f"timeout is {seconds!r}; give seconds as a number above 0, or None for no limit")
            for seconds in (0, -1, math.inf, math.nan, "10", True)
        ),
    ],
)
def test_a_wrong_policy_is_refused_with_its_step(policies: dict[str, Any], text: str) -> None:
    assert refused(lambda: step(noop, **policies)) == f"step 'noop': {text}"
    task = type("noop", (Task,), {"execute": lambda self, context: None, **policies})
    assert refused(lambda: Saga("s").add_task(task)) == refused(lambda: Saga("s").add_task(task())) == f"noop: {text}"
    task = type("noop", (Task,), {"execute": lambda self, context: None, "__init__": lambda self: vars(self).update(policies)})
    assert refused(lambda: Saga("s").add_task(task()).plan) == f"saga 's': step 'noop': {text}"


def test_a_steps_policies_win_over_its_tasks() -> None:
    class Flaky(Task[int]):
        retry = Retry(5)
        on_error = Skip

        def execute(self, context: Context) -> int:
            raise OSError

    assert Saga("s").add_task(Flaky).execute().history[0].attempts == 5
    result = Saga("s").add_task(step(Flaky, retry=None, on_error=Compensate)).try_execute()
    assert (result.ok, result.history[0].attempts) == (False, 1)
