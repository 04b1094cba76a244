"""Calling out by a command and by a webhook: what they are told, and what tells that they failed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from saga import Context, Saga, step
from saga.alerts import Alerts
from saga.callouts import command, several, told, webhook
from saga.errors import SagaDefinitionError
from saga.operations import ExecutionView, Operations
from saga.plain import one_line
from saga.storage import MemoryStore, StoredExecution

EVIL = "$(touch evil) `touch evil`; touch evil\n\x1b[31m'\""


def fails(context: Context) -> None:
    raise ValueError(EVIL)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    saga = Saga("place-order", store=store, tags=["order"]).add_task(step(lambda: "r-1", fails, name="pay"))
    saga.add_task(step(fails, name="pack")).try_execute(Context(order="A1", card="4242"), saga_id="x")
    return store


@pytest.fixture
def stuck(store: MemoryStore) -> tuple[StoredExecution, ExecutionView]:
    row = store.get("x")
    assert row is not None
    return row, Operations(store, "ann").show("x")


def test_what_is_told_says_which_why_since_when_and_what_can_be_done(stuck):
    said = told(*stuck)
    shown = one_line(EVIL)
    assert said["text"] == (
        f"saga place-order (x) is stuck: compensation failed: pay (ValueError: {shown}); saga show x says what can be done"
    )
    assert (said["saga_id"], said["name"], said["version"], said["status"]) == ("x", "place-order", "1", "stuck")
    assert (said["step"], said["cause"]) == (stuck[0].step, "ValueError")
    assert said["tags"] == {"order": "A1"}
    assert said["since"].endswith("Z")
    assert said["offers"][0]["action"] == "retry"
    assert said["offers"][0]["command"] == "saga retry x --why ..."
    assert "4242" not in json.dumps(said)


def test_a_command_is_told_by_its_input_and_its_environment(stuck, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command('cat > told; printf \'%s|\' "$SAGA_ID" "$SAGA_NAME" "$SAGA_CAUSE" "$SAGA_TEXT" > named')(*stuck)
    assert json.loads(Path("told").read_text()) == json.loads(json.dumps(told(*stuck)))
    assert Path("named").read_text() == f"x|place-order|ValueError|{told(*stuck)['text']}|"
    assert not Path("evil").exists()


def test_a_program_has_its_arguments_as_they_are_given(stuck, tmp_path):
    script = "import sys, json; open(sys.argv[1], 'w').write(json.load(sys.stdin)['saga_id'] + sys.argv[2])"
    command([sys.executable, "-c", script, str(tmp_path / "told"), "$HOME"])(*stuck)
    assert (tmp_path / "told").read_text() == "x$HOME"


def test_nothing_of_an_execution_is_run(stuck, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("echo $SAGA_TEXT $SAGA_NAME $SAGA_CAUSE; cat")(stuck[0]._replace(reason=EVIL, cause=EVIL, name=EVIL), stuck[1])
    assert not Path("evil").exists()


@pytest.mark.parametrize("text", ["\U000e0001" * 20_000, "\ud800\0", ""], ids=["long", "odd", "empty"])
def test_whatever_is_told_the_command_is_run(stuck, text):
    row, view = stuck
    command('test "$(cat | wc -c)" -gt "${#SAGA_TEXT}"')(row._replace(name=text, step=text, cause=text), view)


@pytest.mark.parametrize(
    ("line", "says"),
    [("echo no such channel >&2; exit 3", "ended with 3: no such channel"), ("kill -9 $$", "ended with -9")],
)
def test_a_command_that_fails_says_why(stuck, line, says):
    with pytest.raises(RuntimeError, match=says):
        command(line)(*stuck)


@pytest.mark.parametrize("line", [[sys.executable, "-c", "import time; time.sleep(600)"], "sleep 600; true"])
def test_a_command_that_takes_too_long_has_failed_and_is_killed_with_its_children(stuck, line):
    with pytest.raises(TimeoutError, match=r"the command took longer than 0\.01 s"):
        command(line, timeout=0.01)(*stuck)


def test_a_command_that_leaves_a_child_in_the_background_was_told_when_it_ended(stuck, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("(sleep 600 & echo $! > child); exit 0")(*stuck)
    os.kill(int(Path("child").read_text()), signal.SIGKILL)  # which raises where it does not run any more


class Failing:
    """Somebody who is told, but for the first so many times."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.times, self.error = times, error or ConnectionError("away")
        self.asked = 0

    def __call__(self, row: StoredExecution, view: ExecutionView) -> None:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error


@pytest.mark.parametrize("times", [(0, 0, 0), (0, 1, 0), (2, 0, 1), (2, 2, 0), (1, 0, 0)])
def test_of_several_those_that_failed_alone_are_called_again(stuck, times):
    calls = [Failing(one) for one in times]
    tell = several(*calls)
    for look in range(max(times)):
        with pytest.raises((ConnectionError, ExceptionGroup)) as failed:
            tell(*stuck)
        assert isinstance(failed.value, ExceptionGroup) is (sum(one > look for one in times) > 1)
    tell(*stuck)
    assert [one.asked for one in calls] == [one + 1 for one in times]
    tell(*stuck)  # nothing is remembered of what all were told of
    assert [one.asked for one in calls] == [one + 2 for one in times]


def test_several_are_told_again_of_what_is_stuck_again(stuck):
    well, fails = Failing(0), Failing(1)
    tell = several(well, fails)
    with pytest.raises(ConnectionError):
        tell(*stuck)
    tell(stuck[0]._replace(epoch=stuck[0].epoch + 1), stuck[1])
    assert (well.asked, fails.asked) == (2, 2)


def test_a_ctrl_c_keeps_the_others_for_the_next_time(stuck):
    first, second, last = Failing(0), Failing(1, KeyboardInterrupt()), Failing(0)
    tell = several(first, second, last)
    with pytest.raises(KeyboardInterrupt):
        tell(*stuck)
    assert last.asked == 0
    tell(*stuck)
    assert (first.asked, second.asked, last.asked) == (1, 2, 1)


async def acall(row, view):
    pass


class Hook:
    """A server that notes what is posted to it, and answers as it is told to."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.status = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posted.append((self.headers["Content-Type"], json.loads(body)))
                self.send_response(hook.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                hook.posted.append(("GET", None))

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret"


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join(60)
    hook.server.server_close()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_webhook_is_posted_what_is_told(stuck, hook, status):
    hook.status = status
    webhook(hook.url)(*stuck)
    assert hook.posted == [("application/json", json.loads(json.dumps(told(*stuck))))]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 404, 429, 500])
def test_another_answer_is_a_failure(stuck, hook, status):
    hook.status = status
    with pytest.raises(ConnectionError, match=f"the webhook answered {status}") as failed:
        webhook(hook.url)(*stuck)
    assert len(hook.posted) == 1
    assert "secret" not in repr(failed.value)


def test_an_answer_that_is_none_is_a_failure(stuck):
    """The server says something that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def say() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"secret\r\n\r\n")

        thread = threading.Thread(target=say)
        thread.start()
        with pytest.raises(ConnectionError, match=r"not reached: http\.client\.BadStatusLine") as failed:
            webhook(f"http://127.0.0.1:{server.getsockname()[1]}/")(*stuck)
        thread.join(60)
    assert "secret" not in repr(failed.value)


def test_one_that_is_not_reached_has_failed_and_its_address_is_not_told(stuck, hook):
    url = hook.url
    hook.server.server_close()
    with pytest.raises(ConnectionError, match="the webhook was not reached") as failed:
        webhook(url)(*stuck)
    assert "secret" not in repr(failed.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: command(""), "line is ''; give a line"),
        (lambda: command([]), r"line is \[\]"),
        (lambda: command([1]), r"line is \[1\]"),
        (lambda: command(1), "line is 1"),
        (lambda: command("x", timeout=0), "timeout is 0"),
        (lambda: several(), "nothing to call"),
        (lambda: several(acall), "one of calls"),
        (lambda: several(command("x"), 7), "one of calls is 7"),
        (lambda: several(lambda row: None), "one of calls"),
        (lambda: webhook("file:///etc/passwd"), "url is no address"),
        (lambda: webhook(1), "url is no address"),
        (lambda: webhook("https://x/secret y"), "a character in it that no address has"),
        (lambda: webhook("https://x/secret\n"), "a character in it that no address has"),
        (lambda: webhook("https://x/secret\u00e9"), "a character in it that no address has"),
        (lambda: webhook("https://x:port/secret"), "no host, or a port that is none"),
        (lambda: webhook("https://[x/secret"), "no host, or a port that is none"),
        (lambda: webhook("https:///secret"), "no host, or a port that is none"),
        (lambda: webhook("https://ann:secret@x/"), "has a user in it"),
        (lambda: webhook("https://x/secret", timeout=-1), "timeout is -1"),
    ],
)
def test_what_is_wrong_is_refused(make, says):
    with pytest.raises(SagaDefinitionError, match=says) as refused:
        make()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://x", "HTTPS://x:8443/a%20b?c=d", "http://[::1]:8080/", "https://b\u00fccher.example/hook", "http://x:/"]
)
def test_any_address_will_do(url):
    assert callable(webhook(url))


def test_they_call_out_for_what_is_stuck(store, hook, caplog):
    hook.status = 500
    alerts = Alerts(store, webhook(hook.url), backoff=0.001)
    assert alerts.look() == 0
    assert "the webhook answered 500" in caplog.text
    hook.status = 200
    while not alerts.look():
        pass
    assert [body["saga_id"] for _, body in hook.posted] == ["x"] * len(hook.posted)
