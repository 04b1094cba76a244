"""Which exceptions say that an answer was lost, so that nobody knows whether what was asked for was done.

Here is one table, by the names of classes, of the errors of the standard library and of well-known clients. No client is
imported, and nothing else is decided: what follows from a call whose outcome is unknown is the machine's business.

Where a client's class does not tell an answer that was lost from a connection that was never made, the traceback does: an
error that was raised within a function that only connects was raised before anything was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["LOST_ANSWERS"]

#: What a row of the table comes to: whether the answer was lost, or the errors inside, which are asked instead.
Verdict = bool | Iterable[BaseException]

#: The functions that connect and ask for nothing, by the package that they are in.
CONNECTING: Final[dict[str, set[str]]] = {
    "socket": {"create_connection", "getaddrinfo"},
    "ssl": {"do_handshake"},
    "asyncio": {"create_connection", "create_unix_connection"},
    "http": {"connect"},
    "smtplib": {"connect"},
    "psycopg": {"connect"},
    "psycopg2": {"connect"},
    "asyncpg": {"connect"},
    "sqlalchemy": {"connect"},
    "pymysql": {"connect"},
    "MySQLdb": {"__init__"},
    # Before the first attempt of a command. Its next attempts connect elsewhere: the one before may have been done.
    "redis": {"get_connection"},
}
#: A cluster's client sends a command to one node after another; what it connects to may be the second.
_SEVERAL_NODES: Final = ("redis.cluster", "redis.asyncio.cluster")


def _package(module: str) -> str:
    return module.partition(".")[0]


def _lost(error: Any) -> bool:
    """It was, unless the error was raised while its client connected."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        module = frame.f_globals.get("__name__", "")
        if module in _SEVERAL_NODES:
            return True
        if frame.f_code.co_name in CONNECTING.get(_package(module), ()):
            return False
        trace = trace.tb_next
    return True


def _inside(attribute: str, otherwise: bool) -> Callable[[Any], Verdict]:
    """As the error says that this attribute is or holds; where there is none, ``otherwise``."""

    def asked(error: Any) -> Verdict:
        found = getattr(error, attribute, None)
        if isinstance(found, dict):  # the keywords of an error of botocore
            found = found.get("error")
        elif isinstance(found, tuple):
            found = next((one for one in reversed(found) if isinstance(one, BaseException)), None)
        if isinstance(found, BaseException):
            return (found,)
        return otherwise and _lost(error)

    return asked


def _members(error: Any) -> Verdict:
    return tuple(error.exceptions)


def _cause(error: Any) -> Verdict:
    cause = error.__cause__
    return False if cause is None else (cause,)


def _wake(error: Any) -> Verdict:
    """Of a connection that is closed already, often in clearing up: as the error says in whose handling this one was raised."""
    before = error.__context__
    return False if before is None else (before,)


def _sqlstate(error: Any) -> bool:
    """PostgreSQL's word for what went wrong; an error without one was made by the client, of a connection that is gone."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    # Class 08 is the connection's; 57P01 and 57P02: the server was stopped, or crashed.
    lost = state is None or state.startswith("08") or state in ("40003", "57P01", "57P02")
    if not lost or state in ("08001", "08004"):  # these two were never made
        return False
    # psycopg gives the connection with the errors of an attempt to connect alone.
    return getattr(error, "pgconn", None) is None and _lost(error)


def _mysql(error: Any) -> bool:
    """The server has gone away, or was lost, in a query; it shuts down; the connection was killed."""
    return bool(error.args) and error.args[0] in (2006, 2013, 2055, 1053, 1927) and _lost(error)


def _sqlalchemy(error: Any) -> Verdict:
    """As the driver's own error says; where that is of a driver that is not in the table, as SQLAlchemy found."""
    driver = error.orig
    if error.connection_invalidated and _row(driver) is _cause and driver.__cause__ is None:
        return _lost(driver)
    return (driver,)


#: How the details begin where no connection was made.
_NEVER_CONNECTED: Final = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving")


def _grpc(error: Any) -> bool:
    """A status that the client made itself: its deadline, its cancelling, a connection or a stream that broke."""
    code, details = error.code().name, error.details() or ""
    if code == "UNAVAILABLE":
        return not details.startswith(_NEVER_CONNECTED)
    return code in ("DEADLINE_EXCEEDED", "CANCELLED") or details.startswith(("Received RST_STREAM", "Stream removed"))


def _smtp_gone(error: Any) -> bool:
    return error.args[:1] != ("please run connect() first",) and _lost(error)


def _smtp_answer(error: Any) -> bool:
    """Half an answer has half a number."""
    return not 200 <= error.smtp_code < 600 and _lost(error)


def _saga(error: Any) -> Verdict:
    """Another saga that a task executed: whether it left nothing behind. Where a task made this itself: as its cause says."""
    result = error.result
    if result is None:
        return _cause(error)
    return not (result.status == "compensated" and not result.in_doubt)


_HTTPCORE: Final[dict[str, Any]] = {
    "ReadTimeout": _lost,
    "WriteTimeout": _lost,
    "ReadError": _lost,
    "WriteError": _lost,
    "RemoteProtocolError": _lost,
    "ConnectTimeout": False,
    "ConnectError": False,
    "PoolTimeout": False,
    "ProxyError": False,
    "UnsupportedProtocol": False,
    "LocalProtocolError": False,
}
_MYSQL: Final[dict[str, Any]] = {"OperationalError": _mysql, "InterfaceError": _wake, "InternalError": _mysql, "Error": False}

#: By package and class: True where the answer was lost, False where it was not, or a function that finds out. An exception is
#: looked up by its own class, then by those that this one derives from, nearest first; so all end at one of the builtins.
TABLE: Final[dict[str, dict[str, bool | Callable[[Any], Verdict]]]] = {
    "builtins": {
        "TimeoutError": _lost,
        "ConnectionError": _lost,
        "ConnectionRefusedError": False,
        "BaseExceptionGroup": _members,
        "Exception": _cause,
        "BaseException": True,
    },
    "saga": {
        "OutcomeUnknownError": True,
        "SagaExecutionException": _saga,
    },
    "asyncio": {"IncompleteReadError": _lost},
    "socket": {"gaierror": False, "herror": False},
    "ssl": {"SSLError": False, "SSLEOFError": _lost, "SSLZeroReturnError": _lost},
    "http": {"BadStatusLine": _lost, "IncompleteRead": _lost, "LineTooLong": _lost},
    "urllib": {
        "URLError": _inside("reason", otherwise=False),
        "HTTPError": False,  # an answer
        "ContentTooShortError": _lost,
    },
    "smtplib": {
        "SMTPException": False,
        "SMTPServerDisconnected": _smtp_gone,
        "SMTPResponseException": _lost,  # to the goodbye: all before was answered well
        "SMTPSenderRefused": _smtp_answer,
        "SMTPDataError": _smtp_answer,
        "SMTPConnectError": False,
        "SMTPHeloError": False,
        "SMTPAuthenticationError": False,
    },
    "urllib3": {
        "HTTPError": False,
        "ProtocolError": _lost,
        "ReadTimeoutError": _lost,
        "IncompleteRead": _lost,
        "InvalidChunkLength": _lost,
        "DecodeError": _lost,
        "SSLError": _inside("args", otherwise=False),
        "MaxRetryError": _inside("reason", otherwise=False),
    },
    "requests": {
        "RequestException": False,
        "ReadTimeout": _lost,
        "Timeout": _lost,
        "ChunkedEncodingError": _lost,
        "ContentDecodingError": _lost,
        "ConnectionError": _inside("args", otherwise=True),
        "SSLError": _inside("args", otherwise=False),
        "ProxyError": False,
        "ConnectTimeout": False,
    },
    "httpcore": _HTTPCORE,
    "httpx": _HTTPCORE | {"HTTPError": False, "CloseError": _lost, "DecodingError": _lost},
    "aiohttp": {
        "ClientError": False,
        "ServerDisconnectedError": _lost,
        "ServerTimeoutError": _lost,
        "ConnectionTimeoutError": False,
        "ClientConnectionResetError": _lost,
        "ClientPayloadError": _lost,
        "ClientOSError": _lost,
        "ClientConnectorError": False,
    },
    "botocore": {
        "BotoCoreError": False,
        "ClientError": False,  # an answer
        "ReadTimeoutError": _lost,
        "ConnectionClosedError": _lost,
        "ResponseStreamingError": _lost,
        "IncompleteReadError": _lost,
        "HTTPClientError": _inside("kwargs", otherwise=True),
        "SSLError": _inside("kwargs", otherwise=False),
    },
    "grpc": {"RpcError": _grpc, "FutureTimeoutError": True, "FutureCancelledError": True},
    "psycopg": {
        "Error": False,
        "OperationalError": _sqlstate,
        "ConnectionTimeout": False,
    },
    "psycopg_pool": {"PoolTimeout": False, "PoolClosed": False, "TooManyRequests": False},
    "psycopg2": {
        "Error": False,
        "InterfaceError": _wake,
        "DatabaseError": _sqlstate,
        "OperationalError": _sqlstate,
        "DataError": False,
        "IntegrityError": False,
        "InternalError": False,
        "NotSupportedError": False,
        "ProgrammingError": False,
    },
    "asyncpg": {
        "PostgresError": _sqlstate,
        "InterfaceError": _wake,
    },
    "pymysql": _MYSQL,
    "MySQLdb": _MYSQL,
    "sqlalchemy": {
        "SQLAlchemyError": False,  # its pool's TimeoutError among them
        "DBAPIError": _sqlalchemy,
    },
    "redis": {
        "RedisError": False,
        "ConnectionError": _lost,
        "TimeoutError": _lost,
        "InvalidResponse": _lost,
        "AuthenticationError": False,
        "AuthorizationError": False,
        "BusyLoadingError": False,
        "ExternalAuthProviderError": False,
        "MaxConnectionsError": False,
    },
    "celery": {"TimeoutError": True},  # of one who waits for a result; the limits of a task are billiard's
    "billiard": {
        "SoftTimeLimitExceeded": True,
        "TimeLimitExceeded": True,
        "WorkerLostError": True,
        "Terminated": True,
    },
}

#: More errors inside one another than this are nobody's doing but a loop's.
_MOST: Final = 10_000


# Looking up a class takes longer than all else that follows a step's failure, and the same ones come again and again. A class
# that a program makes anew for each error must not fill the memory.
_MOST_KNOWN: Final = 1000
_known: dict[type, bool | Callable[[Any], Verdict]] = {}


def _row(error: BaseException) -> bool | Callable[[Any], Verdict]:
    for kind in type(error).__mro__:
        found = TABLE.get(_package(kind.__module__), {}).get(kind.__qualname__)
        if found is not None:
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[type(error)] = found
            return found
    return False


def _verdict(error: BaseException) -> Verdict:
    try:
        row = _row(error)
    except Exception:  # a class that does not tell its name
        row = _cause
    try:
        found = row if isinstance(row, bool) else row(error)
        return found if isinstance(found, bool) else tuple(found)
    except Exception:  # what its kind has, it has not or does not give: of an error in the table, the worse is taken
        return row is not _cause


class _LostAnswers:
    """The one value of this class is a policy, so it tells its name, and is the same one in another process."""

    __slots__ = ()

    def __call__(self, error: BaseException) -> bool:
        try:
            if _known.get(type(error)) is _cause and error.__cause__ is None:
                return False  # as nearly every error of a task is
        except Exception:
            pass  # it is asked with more care
        asked: list[BaseException] = [error]
        seen = {id(error)}
        for one in asked:  # grows meanwhile
            verdict = _verdict(one)
            if verdict is True:
                return True
            if verdict is not False:
                new = [inner for inner in verdict if id(inner) not in seen]
                seen.update(map(id, new))
                asked += new[: _MOST - len(asked)]
        return False

    def __repr__(self) -> str:
        return "LOST_ANSWERS"

    def __reduce__(self) -> str:
        return "LOST_ANSWERS"


#: ``LOST_ANSWERS(error)``: whether it says that an answer was lost. It raises nothing, whatever ``error`` is or does.
LOST_ANSWERS: Final = _LostAnswers()
