"""An execution as it was before a call went wrong, and that call made again: at a terminal, in a script, by an editor."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli
from .test_records import has_its_fields

STORE = ["--store", "orders.db"]
SHOP = [*STORE, "--import", "shop"]


def dump() -> list[str]:
    with closing(sqlite3.connect("orders.db")) as connection:
        return list(connection.iterdump())


def test_a_call_that_fails_still_is_told_with_what_it_leads_to(cli: Cli, orders: Any, here: Path) -> None:
    (here / "closed").touch()
    before = dump()
    said = cli("debug", "bad1", *SHOP)
    assert (said.code, said.err) == (1, "")
    for text in (
        "orders bad1, which is stuck\n",
        "right before compensate of charge, attempt 1\n",
        '  order  "bad1"\n',
        "it raised OSError: the bank is closed\n",
        "the call is made again, without effects\n",
        "in refund\n",
        "what would have followed then: then it is stuck: compensation failed: charge\n",
        "to have it done: saga retry bad1 --why ...\n",
    ):
        assert text in said.out, said.out
    assert dump() == before


def test_a_call_that_is_mended_is_made_for_real_with_the_command_that_is_told(cli: Cli, orders: Any) -> None:
    said = cli("debug", "order=bad1", *SHOP)
    assert said.code == 0
    command = next(line for line in said.out.splitlines() if line.startswith("to have it done: "))
    words = command.removeprefix("to have it done: saga ").replace("...", "mended").split()
    assert cli(*words, *SHOP).code == 0
    assert cli("worker", "--once", *SHOP).code == 1
    assert cli("show", "bad1", *STORE).out.startswith("↩ compensated")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing"], 4, "saga: there is no execution 'nothing' here; of what was purged, nothing is left\n"),
        (["bad1", "--at", "99"], 2, "saga: execution 'bad1' has no entry 99; its journal has 1 to 9\n"),
    ],
)
def test_what_cannot_be_debugged_is_said(cli: Cli, orders: Any, arguments: list[str], code: int, says: str) -> None:
    said = cli("debug", *arguments, *SHOP)
    assert said.code == code
    assert says in said.err


def test_a_definition_is_asked_for(cli: Cli, orders: Any) -> None:
    said = cli("debug", "bad1", *STORE)
    assert said.code == 2
    assert "the definition of saga 'orders' is not known here" in said.err
    assert "`saga debug --import` the module that has it" in said.err


@pytest.mark.parametrize("arguments", [["bad1", "--look"], ["bad1", "--at", "1"], ["later"]])
def test_it_is_looked_at_alone(cli: Cli, orders: Any, arguments: list[str]) -> None:
    said = cli("debug", *arguments, *SHOP)
    assert said.code == 0
    assert "made again" not in said.out


@pytest.mark.parametrize("form", ["--json", "--jsonl"])
@pytest.mark.parametrize("saga_id", ["A1", "bad1", "undone", "later"])
def test_it_is_told_as_json(cli: Cli, orders: Any, saga_id: str, form: str) -> None:
    said = cli("debug", saga_id, form, *SHOP)
    told = json.loads(said.out)
    has_its_fields("moment", told)
    assert (told["saga_id"], told["saga"]) == (saga_id, "orders")
    assert (told["again"] is None) == (saga_id == "later")
    if saga_id == "bad1":
        assert (told["step"], told["phase"], told["error"]) == ("charge", "compensate", "OSError: the bank is closed")
        assert (told["again"]["returned"], told["again"]["command"]) == (True, "saga retry bad1 --why ...")


def test_at_a_terminal_it_is_stepped_through(terminal: Callable[..., str], orders: Any, here: Path) -> None:
    (here / "closed").touch()
    seen = terminal("debug", "bad1", *SHOP, answer="n\np HERE.name\nc\n", columns=300)
    assert "pdb stops at its first line, q leaves it" in seen
    assert '-> if (HERE / "closed").exists():' in seen
    assert f"'{here.name}'" in seen
    assert "it raised OSError: the bank is closed" in seen
    assert "(Pdb)" not in terminal("debug", "bad1", *SHOP, "--no-pdb")


def test_an_editor_stops_it_at_a_breakpoint(orders: Any, here: Path) -> None:
    pytest.importorskip("debugpy")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "saga", "debug", "bad1", *SHOP, "--debugpy", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert any("waits for a debugger" in line for line in iter(child.stderr.readline, ""))
        with Editor(port) as editor:
            line = (here / "shop.py").read_text().splitlines().index('    if (HERE / "closed").exists():') + 1
            editor.ask("setBreakpoints", source={"path": str(here / "shop.py")}, breakpoints=[{"line": line}])
            editor.ask("configurationDone", wait=False)
            thread = editor.until("stopped")["threadId"]
            frame = editor.ask("stackTrace", threadId=thread, levels=1)["stackFrames"][0]
            assert (frame["name"], frame["line"]) == ("refund", line)
            editor.ask("continue", threadId=thread)
        out, _ = child.communicate(timeout=60)
    assert "it returned\n" in out


def test_a_port_that_is_taken_is_said(process: Callable[..., Any], orders: Any) -> None:
    pytest.importorskip("debugpy")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = process("debug", "bad1", *SHOP, "--debugpy", port)
    assert said.returncode == 2
    assert f"saga: --debugpy {port}: " in said.stderr


class Editor:
    """Speaks the protocol of debuggers, as editors do."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._seq = 0

    def __enter__(self) -> Editor:
        self.ask("initialize", clientID="test", adapterID="debugpy", pathFormat="path")
        self.ask("attach", wait=False, justMyCode=False)
        self.until("initialized")
        return self

    def __exit__(self, *raised: object) -> None:
        self.ask("disconnect", terminateDebuggee=False)
        self._file.close()
        self._socket.close()

    def ask(self, command: str, wait: bool = True, **arguments: Any) -> Any:
        self._seq += 1
        request = {"seq": self._seq, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return self.until(command) if wait else None

    def until(self, what: str) -> Any:
        """Return the body of an event, or of a command's response, once it has come."""
        while True:
            length = 0
            while header := self._file.readline().strip():
                length = int(header.rpartition(b":")[2])
            said = json.loads(self._file.read(length))
            if what in (said.get("event"), said.get("command")):
                return said.get("body")
