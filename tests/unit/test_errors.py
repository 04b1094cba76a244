"""The errors: their family, and what an execution's exception carries."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import saga.errors
from saga import Context, Saga, Status, Task, step
from saga.errors import (
    ContextKeyError,
    DefinitionChangedError,
    EncodingError,
    LeaseLostError,
    MergeConflictError,
    OutcomeUnknownError,
    SagaCompensationError,
    SagaDefinitionError,
    SagaError,
    SagaExecutionException,
    SagaTimeoutError,
    StepTimeoutError,
    StorageError,
    UnknownExecutionError,
)


class Broken(Task[None]):
    def execute(self, context: Context) -> None:
        raise ValueError("no stock")


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (SagaDefinitionError, (SagaError,)),
        (ContextKeyError, (SagaError, KeyError, AttributeError)),
        (StepTimeoutError, (SagaError, TimeoutError)),
        (SagaTimeoutError, (SagaError, TimeoutError)),
        (MergeConflictError, (SagaError,)),
        (OutcomeUnknownError, (SagaError,)),
        (EncodingError, (SagaError,)),
        (StorageError, (SagaError,)),
        (LeaseLostError, (StorageError,)),
        (UnknownExecutionError, (StorageError,)),
        (DefinitionChangedError, (StorageError,)),
        (SagaExecutionException, (SagaError,)),
        (SagaCompensationError, (SagaExecutionException,)),
    ],
)
def test_every_error_is_of_one_family(kind: type[Exception], bases: tuple[type, ...]) -> None:
    assert issubclass(kind, bases[0])
    assert all(issubclass(kind, base) for base in bases)
    assert kind.__name__ in saga.errors.__all__
    assert str(kind("what happened")) == "what happened"
    assert str(kind()) == ""
    assert str(pickle.loads(pickle.dumps(kind("what happened")))) == "what happened"


def test_that_is_all_of_them() -> None:
    public = {name for name, value in vars(saga.errors).items() if isinstance(value, type) and issubclass(value, SagaError)}
    assert public == set(saga.errors.__all__)


def test_a_missing_key_is_told_without_quotes() -> None:
    assert str(ContextKeyError("the context has no key 'a'")) == "the context has no key 'a'"


def test_an_exception_a_task_raises_itself_carries_a_message_alone() -> None:
    error = SagaExecutionException("by hand")
    error.__cause__ = ValueError("no stock")
    assert (str(error), error.message, error.result) == ("by hand", "by hand", None)
    assert (error.failed_task, error.compensation_errors, error.in_doubt) == (None, (), ())
    assert error.cause is error.__cause__


def test_an_execution_that_failed_raises_its_result() -> None:
    task = Broken()
    with pytest.raises(SagaExecutionException) as caught:
        Saga("s").add_task(task).execute(saga_id="x1")
    error = caught.value
    assert type(error) is SagaExecutionException
    assert error.result is not None
    assert error.result.status is Status.COMPENSATED
    assert error.failed_task is task
    assert error.cause is error.__cause__ is error.result.error
    assert (error.compensation_errors, error.in_doubt) == ((), ())
    assert str(error) == error.result.summary()
    assert error.args == (str(error).partition("\n")[0],)
    assert str(error).startswith("saga 's' (x1) failed and was undone at step 'Broken': ValueError: no stock\n")


def test_an_execution_that_could_not_be_undone_raises_the_narrower_class() -> None:
    def unmendable() -> None:
        raise OSError("gone")

    with pytest.raises(SagaCompensationError) as caught:
        Saga("s").add_task(step(str, unmendable, name="a")).add_task(Broken).execute()
    (failure,) = caught.value.compensation_errors
    assert (failure.step, str(failure.error)) == ("a", "gone")
    assert failure.task.name == "str"


def test_a_saga_in_a_task_reports_both() -> None:
    class Outer(Task[Any]):
        def execute(self, context: Context) -> Any:
            return Saga("inner").add_task(Broken).execute(saga_id="in")

    with pytest.raises(SagaExecutionException) as caught:
        Saga("outer").add_task(Outer).execute(saga_id="out")
    assert isinstance(caught.value.cause, SagaExecutionException)
    text = str(caught.value)
    assert text.startswith("saga 'outer' (out) failed and was undone at step 'Outer': ")
    assert "saga 'inner' (in) failed and was undone at step 'Broken': ValueError: no stock" in text
