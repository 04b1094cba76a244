"""Which exceptions say that an answer was lost: by class, by what is inside, and whatever an exception does."""

from __future__ import annotations

import pickle
import smtplib
import urllib.error
from http.client import BadStatusLine, IncompleteRead, RemoteDisconnected
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from saga import LOST_ANSWERS, Context, OutcomeUnknownError, Saga, Task, step
from saga.errors import SagaExecutionException, StepTimeoutError


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def stand_in(package: str, name: str, base: type[Exception] = Exception) -> type[Exception]:
    """A class that is called as one of a client that is not installed."""
    return type(name, (base,), {"__module__": f"{package}.errors"})


LOST = [
    TimeoutError(),
    ConnectionError(),
    ConnectionResetError(104, "reset"),
    BrokenPipeError(),
    StepTimeoutError("of a saga in a task"),
    OutcomeUnknownError("who knows"),
    KeyboardInterrupt(),
    RemoteDisconnected(),
    IncompleteRead(b"a", 4),
    BadStatusLine("?"),
    urllib.error.URLError(ConnectionResetError()),
    urllib.error.ContentTooShortError("half of it", b""),
    smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
    smtplib.SMTPDataError(25, b""),
    smtplib.SMTPDataError(-1, b"?"),
    ExceptionGroup("two", [ValueError(), ExceptionGroup("more", [KeyError(), TimeoutError()])]),
    caused(ValueError("the gateway"), ConnectionResetError()),
    caused(ValueError("the gateway"), caused(LookupError(), ExceptionGroup("one", [TimeoutError()]))),
    caused(RuntimeError(), OutcomeUnknownError()),
    stand_in("MySQLdb", "OperationalError")(2013, "Lost connection to server during query"),
    stand_in("MySQLdb", "OperationalError")(2006, "Server has gone away"),
]
NOT_DONE = [
    ValueError("no stock"),
    OSError(28, "no space left"),
    ConnectionRefusedError(),
    urllib.error.URLError(ConnectionRefusedError()),
    urllib.error.URLError("unknown url type: ftps"),
    smtplib.SMTPServerDisconnected("please run connect() first"),
    smtplib.SMTPRecipientsRefused({}),
    smtplib.SMTPConnectError(421, "too busy"),
    ExceptionGroup("two", [ValueError(), ConnectionRefusedError()]),
    caused(ValueError(), KeyError()),
    # What a client says itself is not overruled by what it comes of.
    caused(ConnectionRefusedError(), TimeoutError()),
    stand_in("MySQLdb", "OperationalError")(2002, "Can't connect to local server"),
    stand_in("MySQLdb", "OperationalError")(1205, "Lock wait timeout exceeded"),
    stand_in("MySQLdb", "OperationalError")(),
    stand_in("psycopg_pool", "PoolTimeout", stand_in("psycopg", "OperationalError"))("couldn't get a connection"),
    SagaExecutionException("a task's own"),
]


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_an_answer_was_lost(error: BaseException) -> None:
    assert LOST_ANSWERS(error) is True


@pytest.mark.parametrize("error", NOT_DONE, ids=repr)
def test_it_was_not_done(error: BaseException) -> None:
    assert LOST_ANSWERS(error) is False


def test_an_error_that_was_handled_is_no_cause() -> None:
    def fail() -> None:
        try:
            raise TimeoutError
        except TimeoutError:
            raise ValueError("another matter") from None

    with pytest.raises(ValueError, match="matter") as caught:
        fail()
    assert not LOST_ANSWERS(caught.value)


class Connection:
    """As of a driver of a database: clearing up fails once the connection is lost."""

    gone: ClassVar = stand_in("asyncpg", "InterfaceError")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        raise self.gone("the connection is closed")


@pytest.mark.parametrize(("error", "lost"), [(ConnectionResetError(), True), (ValueError(), False)])
def test_of_a_connection_that_is_closed_already_counts_what_closed_it(error: Exception, lost: bool) -> None:
    def fail() -> None:
        with Connection():
            raise error

    with pytest.raises(Connection.gone) as caught:
        fail()
    assert LOST_ANSWERS(caught.value) is lost
    assert LOST_ANSWERS(Connection.gone("the connection is closed")) is False


def raised_in(module: str, *functions: str) -> BaseException:
    """An error that was raised in the last of these functions, which call one another."""
    names: dict[str, Any] = {"__name__": module}
    body = "raise TimeoutError"
    for function in reversed(functions):
        exec(f"def {function}():\n    {body}", names)
        body = f"{function}()"
    with pytest.raises(TimeoutError) as caught:
        names[functions[0]]()
    return caught.value


def test_a_connection_that_was_never_made_lost_no_answer() -> None:
    assert not LOST_ANSWERS(raised_in("socket", "create_connection", "connect"))
    assert not LOST_ANSWERS(raised_in("redis.connection", "execute_command", "get_connection"))
    # A function of the same name elsewhere is no client's.
    assert LOST_ANSWERS(raised_in("mine", "create_connection"))
    # The command was sent to another node before.
    assert LOST_ANSWERS(raised_in("redis.cluster", "execute_command", "get_connection"))


class Inner(Task[None]):
    """Executes a saga whose second step fails."""

    def __init__(self, undo: Any) -> None:
        self.undo = undo

    def execute(self, context: Context) -> None:
        Saga("inner").add_task(step(str, self.undo, name="a")).add_task(
            step(int, name="b", compensate_on_failure=True)
        ).add_task(step(lambda: int("no"), name="c")).execute()


def test_a_saga_in_a_task_is_told_by_what_it_left() -> None:
    def broken() -> None:
        raise OSError("gone")

    with pytest.raises(SagaExecutionException) as caught:
        Inner(lambda: None).execute(Context())
    assert not LOST_ANSWERS(caught.value)
    with pytest.raises(SagaExecutionException) as caught:
        Inner(broken).execute(Context())
    assert LOST_ANSWERS(caught.value)


def test_a_saga_in_a_task_that_is_undone_with_a_step_in_doubt_is_unknown() -> None:
    class Result:
        status, in_doubt = "compensated", ("charge",)

    assert LOST_ANSWERS(SagaExecutionException(result=Result()))  # type: ignore[arg-type]


def test_it_tells_its_name_and_is_itself_in_another_process() -> None:
    assert repr(LOST_ANSWERS) == "LOST_ANSWERS"
    assert pickle.loads(pickle.dumps(LOST_ANSWERS)) is LOST_ANSWERS


def test_a_circle_of_causes_ends() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert not LOST_ANSWERS(one)


class Refusing(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class Without(Exception):
    @property
    def __cause__(self) -> Any:
        raise ValueError

    @__cause__.setter
    def __cause__(self, cause: object) -> None:
        raise ValueError


class Endless(Exception):
    @property
    def __cause__(self) -> Any:
        return Endless()


class Odd(Exception):
    __cause__ = "nothing"  # type: ignore[assignment]


class Nameless(Exception):
    __module__ = 3  # type: ignore[assignment]


class Kind(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise ValueError


class Unnamed(Exception, metaclass=Kind):
    pass


@pytest.mark.parametrize("kind", [Refusing, Without, Endless, Odd, Nameless, Unnamed])
def test_an_exception_that_tells_nothing_of_itself_is_not_lost(kind: type[Exception]) -> None:
    assert LOST_ANSWERS(kind()) is False


def test_a_class_of_the_table_that_does_not_give_what_its_kind_has_is_lost() -> None:
    class NoCode(stand_in("grpc", "RpcError")):  # type: ignore[misc]
        pass

    class Failing(NoCode):
        def code(self) -> Any:
            raise ValueError

    class Mocked(NoCode):
        code, details = Mock(), Mock()

    for error in (NoCode(), Failing(), Mocked(), stand_in("sqlalchemy", "DBAPIError")()):
        assert LOST_ANSWERS(error) is True
