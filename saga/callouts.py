"""Ways to call out: a command that is run, an address that is sent to, several of them. When that is done is not known here."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from saga.awaitables import answer, check_callable, refuse_unrun
from saga.errors import SagaDefinitionError
from saga.own_log import LOG
from saga.plain import one_line, printed_name, shortened
from saga.policy import Seconds, needed_seconds

if TYPE_CHECKING:
    import subprocess

    from saga.looking import ExecutionView
    from saga.storage.records import StoredExecution

__all__ = ["CallOut", "command", "several", "told", "webhook"]


class CallOut(Protocol):
    """What is called with a stuck execution's row and view, and raises where nobody was told: an ``on_stuck``.

    It takes the rows of a group, too: see :class:`saga.alerts.Alerts`.
    """

    def __call__(self, row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = (), /) -> None:
        """Tell somebody."""


_MOST_IDS: Final = 1000
"""Of a group, so many ids are told."""
_MOST_SAID: Final = 500
"""Characters of what a command said that are told when it failed."""
_MOST_NAMED: Final = 2000
"""Characters of a variable in a command's environment: a program is not begun where one is longer than the system takes."""
_MOST_REMEMBERED: Final = 10_000
"""Executions of which some were told and others are yet to be, at most."""


def told(row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = ()) -> dict[str, Any]:
    """Return what is told of a stuck execution, for JSON. ``text`` says it in a sentence. No result and no context is in it,
    but the text of an error is.

    :param group: the rows of all that are stuck for the same cause, where there may be several.
    """
    since = datetime.fromtimestamp(row.progressed, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    why = row.reason or view.reason or ""
    ids = [one.saga_id for one in group or (row,)]
    text = f"saga {row.name} ({row.saga_id}) is stuck: {why}; {view.command} says what can be done"
    if len(ids) > 1:
        at = "" if row.step is None else f" at {row.step}"
        text = f"{len(ids)} of saga {row.name} are stuck{at}, such as {row.saga_id}: {why}; saga causes, {view.command}"
        text += " say what can be done"
    return {
        "text": one_line(text),
        "executions": len(ids),
        "saga_ids": ids[:_MOST_IDS],
        "saga_id": row.saga_id,
        "name": row.name,
        "version": row.version,
        "status": str(row.status),
        "step": row.step,
        "cause": row.cause,
        "reason": why,
        "since": since,
        "tags": dict(row.tags),
        "offers": [
            {"action": one.action, "step": one.step, "does": one.does, "command": one.command(row.saga_id)}
            for one in view.offers
        ],
    }


_NAMED: Final = {
    "ID": "saga_id",
    "NAME": "name",
    "STEP": "step",
    "CAUSE": "cause",
    "TEXT": "text",
    "EXECUTIONS": "executions",
}
"""Of what is told, what is in a command's environment, too."""


def command(line: str | Sequence[str], *, timeout: Seconds = 30.0) -> CallOut:
    """Return what runs a command for each execution, and raises where that fails.

    :func:`told` is its standard input, as JSON; ``SAGA_ID``, ``SAGA_NAME``, ``SAGA_STEP``, ``SAGA_CAUSE``, ``SAGA_TEXT`` and
    ``SAGA_EXECUTIONS`` (how many) are in its environment, shortened where they are long. Nothing of an execution is put into
    the command itself. What it says is logged.

    It was told when the program itself has ended with 0: what that leaves running in the background goes on.

    :param line: a line for the shell, or a program with its arguments.
    :param timeout: seconds, or a ``timedelta``, after which the program is killed, and what it has begun.
    :raises SagaDefinitionError: there is no command.
    """
    limit = needed_seconds(timeout, "command(): timeout")
    if not line or not isinstance(line, str | Sequence) or not all(isinstance(one, str) for one in line):
        raise SagaDefinitionError(f"command(): line is {line!r}; give a line for the shell, or a program and its arguments")

    def run(row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = ()) -> None:
        import subprocess

        said = told(row, view, group)
        environment = os.environ | {
            f"SAGA_{name}": shortened(one_line(said[key] or ""), _MOST_NAMED) for name, key in _NAMED.items()
        }
        in_shell, out = isinstance(line, str), subprocess.STDOUT
        # Files rather than pipes: of a pipe there is no end for as long as a child in the background has it.
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
            given.write(json.dumps(said).encode())
            given.seek(0)
            # In a session of its own, so that all of a shell's children can be killed.
            with subprocess.Popen(
                line, shell=in_shell, stdin=given, stdout=output, stderr=out, env=environment, start_new_session=True
            ) as process:
                try:
                    process.wait(limit)
                except BaseException as error:
                    _kill(process)
                    if isinstance(error, subprocess.TimeoutExpired):
                        raise TimeoutError(f"the command took longer than {limit:g} s, and was killed") from None
                    raise
            output.seek(max(0, output.seek(0, os.SEEK_END) - 4 * _MOST_SAID))  # bytes of a character, at most
            text = one_line(output.read().decode(errors="replace").strip()[-_MOST_SAID:])
            if process.returncode != 0:
                raise RuntimeError(f"the command ended with {process.returncode}: {text}")
            if text:
                LOG.info("alerts: the command for saga %s (%s) says: %s", row.name, row.saga_id, text)

    return run


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def several(*calls: Callable[..., object]) -> CallOut:
    """Return what calls out in several ways for each execution, one after the other, and raises where one of them fails.

    Where it is called again for that, those that went well are not: this process remembers them, of the last 10,000 executions
    of which not all went well.

    :param calls: plain functions, such as :func:`command` and :func:`webhook` return: of ``(execution, view)``. Those that
        take a group, too, are given it where there is one; the others are told of its first.
    :raises SagaDefinitionError: there is none, or one is no such function.
    """
    if not calls:
        raise SagaDefinitionError("several() has nothing to call; give it what calls out: several(command(...), webhook(...))")
    for call in calls:
        check_callable(call, "several(): one of calls", "(execution, view)", 2)
        refuse_unrun(call, "several(): one of calls", "make it a plain function")
    takes_group = [_takes_group(call) for call in calls]
    went_well: dict[tuple[str, int], set[int]] = {}

    def tell(row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = ()) -> None:
        key = row.saga_id, row.epoch  # which is another when it becomes stuck again
        done = went_well[key] = went_well.pop(key, set())
        if len(went_well) > _MOST_REMEMBERED:
            went_well.pop(next(iter(went_well)), None)
        failures: list[Exception] = []
        for number, call in enumerate(calls):
            if number not in done:
                try:
                    given = (row, view, group) if group and takes_group[number] else (row, view)
                    answer(call(*given), "what several() calls", "make it a plain function")
                    done.add(number)
                except Exception as error:
                    failures.append(error)
        if len(failures) > 1:
            raise ExceptionGroup("several of those who are to be told were not", failures)
        if failures:
            raise failures[0]
        went_well.pop(key, None)

    return tell


def _takes_group(call: Callable[..., object]) -> bool:
    with suppress(SagaDefinitionError):
        check_callable(call, "", "", 3)
        return True
    return False


def webhook(url: str, *, timeout: Seconds = 10.0) -> CallOut:
    """Return what posts :func:`told`, as JSON, to an address for each execution, and raises where the answer is no 2xx.

    Chats take it as it is, which show its ``text``. No error has the address in it, which may be a secret.

    :param timeout: seconds, or a ``timedelta``.
    :raises SagaDefinitionError: the address is none of http or https, or cannot be sent to as it is.
    """
    limit = needed_seconds(timeout, "webhook(): timeout")
    _check_address(url)

    def post(row: StoredExecution, view: ExecutionView, group: Sequence[StoredExecution] = ()) -> None:
        import urllib.error
        import urllib.request
        from http.client import HTTPException

        class Refused(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *args: Any) -> None:  # it would ask there, and post nothing
                return None

        asked = urllib.request.Request(url, json.dumps(told(row, view, group)).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(Refused).open(asked, timeout=limit):
                return
        except urllib.error.HTTPError as error:
            with error:
                fault = f"the webhook answered {error.code} {one_line(error.reason)}"
        except OSError as error:
            fault = f"the webhook was not reached: {one_line(getattr(error, 'reason', error))}"
        except (HTTPException, ValueError) as error:  # whose text may be a part of the address, or of an answer
            fault = f"the webhook was not reached: {printed_name(type(error))}"
        raise ConnectionError(fault)

    return post


def _check_address(url: object) -> None:
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        raise SagaDefinitionError("webhook(): url is no address; give one that begins with https:// or http://")
    from urllib.parse import urlsplit

    whole = False
    with suppress(ValueError):  # which would be the context of what is raised within an except
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    if not whole:
        raise SagaDefinitionError("webhook(): url has no host, or a port that is none")
    # The name of a host may have other letters, and is sent in its own way.
    if not url.isprintable() or " " in url or not (parts.path + parts.query).isascii():
        raise SagaDefinitionError("webhook(): url has a character in it that no address has; percent-encode it")
    if parts.username is not None:
        raise SagaDefinitionError("webhook(): url has a user in it, who would not be sent; give an address without")
