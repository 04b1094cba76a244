"""Scripts of steps one after the other: what each will do, as hypothesis picks it, and sagas whose tasks do that."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st

from saga import Retry, Saga, Skip, step

# FAIL is worth a retry, FATAL is not, LOST is, and nobody knows then whether the work was done; STOP is an interrupt.
OK, FAIL, FATAL, LOST, STOP = "ok", "fail", "fatal", "lost", "stop"
ERRORS: dict[str, type[BaseException]] = {
    FAIL: LookupError,
    FATAL: ValueError,
    LOST: ConnectionResetError,
    STOP: KeyboardInterrupt,
}
WORTH_IT = (LookupError, ConnectionResetError)


class Script(NamedTuple):
    """What a step will do: the outcome of each attempt, and its policies."""

    executes: list[str]
    compensates: list[str]
    attempts: int
    undo_attempts: int
    skip: bool
    undo_own: bool
    undoable: bool


outcomes = st.lists(st.sampled_from([OK, OK, FAIL, FAIL, FATAL, LOST, STOP]), min_size=4, max_size=4)
scripts = st.builds(
    Script,
    outcomes,
    outcomes,
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def plan_of(flow: list[Script]) -> Any:
    saga = Saga("s")
    for i, script in enumerate(flow):
        saga.add_task(
            step(
                lambda: None,
                (lambda: None) if script.undoable else None,
                name=f"s{i}",
                retry=Retry(script.attempts, retry_on=WORTH_IT),
                compensation_retry=Retry(script.undo_attempts, retry_on=WORTH_IT),
                compensate_on_failure=script.undo_own,
                **({"on_error": Skip} if script.skip else {}),
            )
        )
    return saga.plan


def saga_of(flow: list[Script], stop: bool, logger: Any, calls: list[tuple[str, int]]) -> Saga:
    """A saga whose tasks do as the scripts say, and log their calls."""

    def act(name: str, outcomes: list[str]) -> None:
        attempt = sum(called == name for called, _ in calls) + 1
        calls.append((name, attempt))
        if outcomes[attempt - 1] is not OK:
            raise ERRORS[outcomes[attempt - 1]](name)

    saga = Saga("s", logger=logger, stop_on_compensation_failure=stop)
    for planned, script in zip(plan_of(flow).steps, flow, strict=True):
        undo = partial(act, f"-{planned.name}", script.compensates) if script.undoable else None
        policies = {"retry": planned.retry, "compensation_retry": planned.compensation_retry, "on_error": planned.on_error}
        policies["compensate_on_failure"] = script.undo_own
        saga.add_task(step(partial(act, planned.name, script.executes), undo, name=planned.name, **policies))
    return saga
