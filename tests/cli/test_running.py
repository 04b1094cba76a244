"""Executions of a file's inputs, here and now or by workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from saga.operations import Operations
from tests.kit import until

from .conftest import Cli

STORE = ["--store", "orders.db"]


def lines(*inputs: Any) -> str:
    return "".join(json.dumps(one) + "\n" for one in inputs)


ORDERS = [{"order": f"A{number}"} for number in range(20)]


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("orders.jsonl", lines(*ORDERS), 20),
        ("orders.jsonl", "\n" + lines(*ORDERS) + "\n", 20),
        ("orders.json", json.dumps(ORDERS), 20),
        ("windows.jsonl", "\ufeff" + lines(*ORDERS).replace("\n", "\r\n"), 20),
        ("orders.json", json.dumps(ORDERS[0]), 1),
        ("orders.jsonl", "", 0),
    ],
)
@pytest.mark.parametrize("saga", ["orders", "letters"])
def test_each_input_is_executed(cli: Cli, here: Path, name: str, text: str, number: int, saga: str) -> None:
    (here / name).write_text(text, encoding="utf-8")
    said = cli("run", f"shop:{saga}", "--input", name, "--concurrency", "3", "--jsonl")
    assert said.code == 0, said.err
    assert [json.loads(line)["status"] for line in said.out.splitlines()] == ["completed"] * number
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "saga run"])


@pytest.mark.parametrize("saga", ["orders", "letters"])
def test_the_same_command_executes_nothing_again_that_has_ended(cli: Cli, here: Path, saga: str) -> None:
    (here / "orders.jsonl").write_text(lines(*ORDERS), encoding="utf-8")
    command = ["run", f"shop:{saga}", "--input", "orders.jsonl", "--id", "order", *STORE]
    first, second = cli(*command), cli(*command)
    assert first.code == second.code == 0
    assert second.out.startswith("20 executions: 20 completed in ")
    assert {one.epoch for one in Operations("orders.db", "x").all()} == {1}


@pytest.mark.parametrize(
    ("inputs", "closed", "code", "says"),
    [
        (ORDERS[:2], True, 0, ["2 executions: 2 completed in "]),
        ([*ORDERS[:1], {"order": "bad1"}], False, 1, ["ValueError: no stock", "1 completed, 1 compensated in "]),
        ([{"order": "bad1"}], True, 3, ["OSError: the bank is closed"]),
    ],
)
def test_the_code_and_a_line_say_how_it_ended(
    cli: Cli, here: Path, inputs: list[Any], closed: bool, code: int, says: list[str]
) -> None:
    (here / "in.jsonl").write_text(lines(*inputs), encoding="utf-8")
    if not closed:
        (here / "closed").unlink()
    said = cli("run", "shop:orders", "--input", "in.jsonl", "--concurrency", "1")
    assert said.code == code
    for text in says:
        assert text in said.out


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("in.jsonl", '{"order": "A1"}\n[1]\n', "in.jsonl, line 2 is no JSON object"),
        ("in.jsonl", lines(*({"order": n} for n in range(1000))) + "7\n", "in.jsonl, line 1001 is no JSON object"),
        ("in.jsonl", '{"order": "A1"}\n{"order"\n', "in.jsonl, line 2 is no JSON"),
        ("in.json", '[{"order": "A1"}, 7]', "in.json, number 2 is no JSON object"),
        ("in.jsonl", '{"order": "A1"}\n{}\n', "in.jsonl, line 2 has no 'order'"),
        ("in.jsonl", '{"order": "A1"}\n{"order": " "}\n', "in.jsonl, line 2: its id is ' '"),
        ("in.jsonl", "[" * 100_000, "in.jsonl, line 1 is no JSON"),
        ("in.jsonl", b'{"order": "A1"}\n{"order": "\xff"}\n', "in.jsonl is no text in UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["run", "submit"])
def test_nothing_runs_where_an_input_is_wrong(
    cli: Cli, here: Path, command: str, name: str, text: str | bytes, says: str
) -> None:
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    said = cli(command, "shop:orders", "--input", name, "--id", "order", *STORE)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert not (here / "orders.db").exists() or not list(Operations("orders.db", "x").all())


@pytest.mark.parametrize("saga", ["orders", "letters"])
def test_an_id_that_is_taken_is_told_and_the_others_are_executed(cli: Cli, here: Path, saga: str) -> None:
    (here / "first.jsonl").write_text(lines({"order": "A", "n": 1}), encoding="utf-8")
    (here / "then.jsonl").write_text(lines({"order": "A", "n": 2}, {"order": "B", "n": 3}), encoding="utf-8")
    assert cli("run", f"shop:{saga}", "--input", "first.jsonl", "--id", "order", *STORE).code == 0
    for command in ("run", "submit"):
        said = cli(command, f"shop:{saga}", "--input", "then.jsonl", "--id", "order", *STORE)
        assert said.code == 2
        assert "'A'" in said.out + said.err
        assert Operations("orders.db", "x").get("B")


def test_what_is_submitted_is_run_by_a_worker(cli: Cli, here: Path) -> None:
    (here / "in.jsonl").write_text(lines(*ORDERS, {"order": "bad1"}), encoding="utf-8")
    command = [
        "submit",
        "shop:orders",
        "--input",
        "in.jsonl",
        "--id",
        "order",
        "--tag",
        "day=monday",
        "--priority",
        "3",
        *STORE,
    ]
    assert cli(*command).out == "21 submitted\n"
    assert cli(*command).out == "0 submitted, 21 were there already\n"
    said = cli("worker", "--once", "--import", "shop", *STORE)
    assert said.code == 3
    assert said.out.splitlines()[-1] == "21 executions"
    assert "OSError: the bank is closed" in said.out
    (row,) = Operations("orders.db", "x").list(tags={"order": "A7", "day": "monday"}).executions
    assert (row.status, row.priority) == ("completed", 3)


def test_what_is_not_to_be_begun_yet_waits(cli: Cli, here: Path) -> None:
    said = cli("submit", "shop:orders", "--prefix", "X", "--at", "2999-01-01T00:00Z", *STORE)
    assert said.out == "· X1\n1 submitted\n"
    assert cli("worker", "--once", "--import", "shop", *STORE).out == "0 executions\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_a_worker_leaves_to_a_person_is_told(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    from saga.worker import Parked, Ran, Worker

    ran = Ran()
    ran.take(Parked("x", "orders", "no definition fits"))
    monkeypatch.setattr(Worker, "run_once", lambda worker: ran)
    said = cli("worker", "--once", "--import", "shop", *STORE, *form)
    assert said.code == 3
    assert "x" in said.out
    assert "no definition fits" in said.out


def test_inputs_come_through_a_pipe(process: Callable[..., Any], here: Path) -> None:
    said = process("run", "shop:letters", "--input", "-", input=lines(*ORDERS))
    assert said.returncode == 0
    assert said.stdout.startswith("20 executions: 20 completed in ")


def test_what_came_through_a_pipe_runs_while_the_next_has_yet_to_come(here: Path) -> None:
    (here / "post.py").write_text(
        "from pathlib import Path\nfrom saga import Saga, step\n"
        "async def post(): Path('posted').touch()\nletters = Saga('letters').add_task(step(post, name='post'))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "saga", "run", "post:letters", "--input", "-"]
    with subprocess.Popen(command, cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(b"{}\n")
            child.stdin.flush()
            wait_for(here / "posted", child)
            child.send_signal(signal.SIGTERM)  # with nothing more to come, but no end either
            assert child.wait(60) == 130
            assert b"stopped after 1" in child.stdout.read()
        finally:
            child.kill()


def test_a_pipe_of_the_shell_s_is_read_once(here: Path) -> None:
    program = f"{sys.executable} -m saga"
    command = f"{program} run shop:letters --jsonl --input <(printf '{{}}\\n{{}}\\n')"
    said = subprocess.run(["bash", "-c", command], cwd=here, capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line)["status"] for line in said.stdout.splitlines()] == ["completed"] * 2


@pytest.mark.parametrize("saga", ["orders", "letters"])
def test_where_nobody_reads_what_is_in_hand_ends_and_nothing_more_begins(here: Path, saga: str) -> None:
    (here / "in.jsonl").write_text(lines(*({"order": f"A{n}"} for n in range(3000))), encoding="utf-8")
    command = [sys.executable, "-m", "saga", "run", f"shop:{saga}", "--input", "in.jsonl", "--jsonl", *STORE]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert (child.stderr.read(), child.wait(60)) == (b"", 141)
    counts = {values[0]: number for values, number in Operations(str(here / "orders.db"), "x").count(["status"])}
    assert counts.keys() == {"completed"}
    assert counts["completed"] < 3000


@pytest.mark.parametrize("kind", ["", "async "])
def test_what_one_fails_by_interrupts_none_of_the_others(here: Path, kind: str) -> None:
    (here / "broken.py").write_text(
        "import asyncio, time\nfrom saga import Saga, step\nfrom saga.errors import StorageError\n"
        "from saga.storage import SqliteStore\n"
        f"{kind}def work(): {'await asyncio' if kind else 'time'}.sleep(0.3)\n"
        "class Full(SqliteStore):\n"
        "    def create(self, new, *others):\n"
        "        if new.saga_id == 'B': raise StorageError('it is full')\n"
        "        return super().create(new, *others)\n"
        "broken = Saga('broken', store=Full('orders.db')).add_task(step(work, name='work'))\n",
        encoding="utf-8",
    )
    (here / "in.jsonl").write_text(lines({"order": "A"}, {"order": "B"}, {"order": "C"}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "saga",
        "run",
        "broken:broken",
        "--input",
        "in.jsonl",
        "--id",
        "order",
        "--concurrency",
        "2",
    ]
    said = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stderr) == (5, "saga: it is full\n")
    found = {one.saga_id: str(one.status) for one in Operations(str(here / "orders.db"), "x").all()}
    assert found["A"] == "completed"
    assert set(found.values()) == {"completed"}


def test_a_bar_is_drawn_in_a_terminal_and_cleared(terminal: Callable[..., str], here: Path) -> None:
    (here / "in.jsonl").write_text(lines(*ORDERS), encoding="utf-8")
    seen = terminal("run", "shop:orders", "--input", "in.jsonl")
    assert "/20  " in seen
    assert seen.rpartition("\x1b[K")[2].startswith("20 executions: 20 completed")


SLOW = """
import time
from pathlib import Path
from saga import Saga, step

def wait():
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.005)

slow = Saga("slow").add_task(step(wait, name="wait"))
"""


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert child.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["worker", "run"])
def test_a_signal_lets_what_is_in_hand_end_and_begins_nothing_more(here: Path, kind: str, number: int) -> None:
    (here / "slow.py").write_text(SLOW, encoding="utf-8")
    (here / "in.jsonl").write_text(lines({}, {}, {}), encoding="utf-8")
    saga = [sys.executable, "-m", "saga"]
    given = ["--input", "in.jsonl", "--prefix", "S", *STORE]
    if kind == "worker":
        subprocess.run([*saga, "submit", "slow:slow", *given], cwd=here, check=True, stdout=subprocess.DEVNULL)
        command = [*saga, "worker", "--import", "slow", "--workers", "1", *STORE]
    else:
        command = [*saga, "run", "slow:slow", "--concurrency", "1", *given]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (here / "said").open("wb") as out:
        child = subprocess.Popen(
            command,
            cwd=here,
            env=environment,
            stdout=out,
            stderr=out,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_for(here / "begun", child)
            child.send_signal(number)
            time.sleep(0.1)
            (here / "go").touch()
            assert child.wait(60) == (0 if kind == "worker" else 130), (here / "said").read_text()
        finally:
            child.kill()
            child.wait()
    statuses = sorted(one.status for one in Operations(str(here / "orders.db"), "x").all())
    assert statuses == (["completed", "submitted", "submitted"] if kind == "worker" else ["completed"])
    assert "Traceback" not in (here / "said").read_text()


WAITS = """
from pathlib import Path
from saga import Saga, receive, step, timer

def begin():
    Path("begun").touch()

async def abegin():
    begin()

def undo():
    Path("undone").touch()

asked = Saga("asked").add_task(step(begin, undo, name="begin")).add_task(receive("approval"))
aasked = Saga("aasked").add_task(step(abegin, undo, name="begin")).add_task(receive("approval"))
later = Saga("later").add_task(step(begin, undo, name="begin")).add_task(timer(3600))
alater = Saga("alater").add_task(step(abegin, undo, name="begin")).add_task(timer(3600))
"""


def stopped(here: Path, number: int, *arguments: str) -> tuple[str, str]:
    """Run a saga in a process of its own that is told to stop when it has begun, and return what that says."""
    (here / "waits.py").write_text(WAITS, encoding="utf-8")
    command = [sys.executable, "-m", "saga", "run", *arguments]
    with subprocess.Popen(
        command,
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as child:
        try:
            wait_for(here / "begun", child)
            child.send_signal(number)
            said = child.communicate(timeout=60)
            assert child.returncode == 130, said
            return said
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("saga", ["asked", "aasked", "later", "alater"])
def test_a_signal_leaves_what_waits_in_the_store(cli: Cli, here: Path, saga: str, number: int) -> None:
    arguments = [f"waits:{saga}", "--prefix", "W", *STORE]
    out, err = stopped(here, number, *arguments)
    waits = "step approval waits for signal 'approval'" if "asked" in saga else "step timer 3600 s waits for its time: "
    assert out.startswith(f"▸ saga '{saga}' (W1) is left: {waits}")
    assert err == (
        "saga: stopped after 0 of 1; the same command goes on where ids are given\n"
        f"saga: 1 waits in the store, and goes on by: saga worker --import waits:{saga} --store orders.db\n"
    )
    assert cli("worker", "--once", "--import", "waits", *STORE).out == "0 executions\n"
    if "asked" in saga:
        assert cli("signal", "W1", "approval", "--why", "x", "--import", "waits", *STORE).code == 0
        assert cli("run", *arguments).out == f"✓ saga '{saga}' (W1) completed\n"
    assert not (here / "undone").exists()


@pytest.mark.parametrize("saga", ["later", "alater"])
def test_without_a_store_what_waits_is_undone(here: Path, saga: str) -> None:
    out, err = stopped(here, signal.SIGTERM, f"waits:{saga}", "--jsonl")
    assert json.loads(out)["status"] == "compensated"
    assert err == "saga: stopped after 1 of 1; the same command goes on where ids are given\n"
    assert (here / "undone").exists()


BLOCKS: Final = """
from pathlib import Path
from saga import transaction
def book(): pass
def unbook(): Path("undone").touch()
def work():
    with transaction("trip", saga_id="t-1", store="orders.db", lease=0.05) as trip:
        trip.step(book, unbook)
        __import__("os")._exit(7)
"""


def test_a_block_is_undone_with_functions_of_modules_that_are_named(cli: Cli, here: Path) -> None:
    (here / "blocks.py").write_text(BLOCKS, encoding="utf-8")
    work = f"import sys; sys.path.insert(0, {str(here)!r}); import blocks; blocks.work()"
    assert subprocess.run([sys.executable, "-c", work]).returncode == 7
    said = cli("worker", "--once", "--transaction", "trip", *STORE)
    assert said.code == 2
    assert "--transaction needs --module MODULE" in said.out + said.err
    until(lambda: "1 execution\n" in cli("worker", "--once", "--transaction", "trip", "--module", "blocks", *STORE).out)
    assert (here / "undone").exists()
