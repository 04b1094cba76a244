"""Ways to call out: a command that is run, or an address that is sent to. When that is done, and again, is not known here."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from saga.errors import SagaDefinitionError
from saga.plain import one_line, printed_name, shortened
from saga.policy import check_timeout

if TYPE_CHECKING:
    import subprocess

    from saga.looking import ExecutionView
    from saga.storage.records import StoredExecution

__all__ = ["CallOut", "command", "told", "webhook"]

CallOut = Callable[["StoredExecution", "ExecutionView"], None]
"""What is called with a stuck execution's row and view, and raises where nobody was told: an ``on_stuck``."""

_MOST_SAID: Final = 500
"""Characters of what a command said that are told when it failed."""
_MOST_NAMED: Final = 2000
"""Characters of a variable in a command's environment: a program is not begun where one is longer than the system takes."""


def told(row: StoredExecution, view: ExecutionView) -> dict[str, Any]:
    """Return what is told of a stuck execution, for JSON. ``text`` says it in a sentence. No result and no context is in it."""
    since = datetime.fromtimestamp(row.progressed, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    why = view.reason or row.reason or ""
    return {
        "text": one_line(f"saga {row.name} ({row.saga_id}) is stuck: {why}"),
        "saga_id": row.saga_id,
        "name": row.name,
        "version": row.version,
        "status": str(row.status),
        "step": row.step,
        "cause": row.cause,
        "reason": why,
        "since": since,
        "tags": dict(row.tags),
        "offers": [{"action": one.action, "step": one.step, "does": one.does} for one in view.offers],
    }


def command(line: str | Sequence[str], *, timeout: float = 30.0) -> CallOut:
    """Return what runs a command for each execution, and raises where that fails.

    :func:`told` is its standard input, as JSON; ``SAGA_ID``, ``SAGA_NAME``, ``SAGA_STEP``, ``SAGA_CAUSE`` and ``SAGA_TEXT`` are
    in its environment, shortened where they are long. Nothing of an execution is put into the command itself.

    :param line: a line for the shell, or a program with its arguments.
    :param timeout: seconds after which the program is killed.
    :raises SagaDefinitionError: there is no command.
    """
    check_timeout(timeout, "command(): timeout", needed=True)
    if not line or not isinstance(line, str | Sequence) or not all(isinstance(one, str) for one in line):
        raise SagaDefinitionError(f"command(): line is {line!r}; give a line for the shell, or a program and its arguments")

    def run(row: StoredExecution, view: ExecutionView) -> None:
        import subprocess

        said = told(row, view)
        named = {"ID": "saga_id", "NAME": "name", "STEP": "step", "CAUSE": "cause", "TEXT": "text"}
        environment = os.environ | {
            f"SAGA_{name}": shortened(one_line(said[key] or ""), _MOST_NAMED) for name, key in named.items()
        }
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        in_shell = isinstance(line, str)
        # In a session of its own, so that all of a shell's children can be killed.
        with subprocess.Popen(
            line, shell=in_shell, stdin=pipe, stdout=pipe, stderr=out, env=environment, start_new_session=True
        ) as process:
            try:
                output, _ = process.communicate(json.dumps(said).encode(), timeout)
            except BaseException as error:
                _kill(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TimeoutError(f"the command took longer than {timeout:g} s, and was killed") from None
                raise
        if process.returncode != 0:
            text = one_line(output.decode(errors="replace").strip()[-_MOST_SAID:])
            raise RuntimeError(f"the command ended with {process.returncode}: {text}")

    return run


def _kill(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def webhook(url: str, *, timeout: float = 10.0) -> CallOut:
    """Return what posts :func:`told`, as JSON, to an address for each execution, and raises where the answer is no 2xx.

    Chats take it as it is, which show its ``text``. No error has the address in it, which may be a secret.

    :param timeout: seconds.
    :raises SagaDefinitionError: the address is none of http or https, or cannot be sent to as it is.
    """
    check_timeout(timeout, "webhook(): timeout", needed=True)
    _check_address(url)

    def post(row: StoredExecution, view: ExecutionView) -> None:
        import urllib.error
        import urllib.request
        from http.client import HTTPException

        class Refused(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *args: Any) -> None:  # it would ask there, and post nothing
                return None

        asked = urllib.request.Request(url, json.dumps(told(row, view)).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(Refused).open(asked, timeout=timeout):
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
