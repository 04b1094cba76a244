"""The example shop and two recoverers beside it, killed at random moments, hundreds of times; in the end the books balance.

``SAGA_CRASH=full`` kills 400 times, and otherwise 60.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from crashkit.pool import environment

from saga.storage import SqliteStore

SHOP = Path(__file__).parents[2] / "examples" / "shop"
LEASE = "0.4"
ORDERS = 150


class Killed:
    """A process that is started again each time it was killed."""

    def __init__(self, command, output):
        self.command = command
        self.output = output
        self.kills = 0
        self.start()

    def start(self):
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                self.command, env=environment(), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )

    def kill(self):
        self.process.kill()
        code = self.process.wait(30)
        self.process.stdin.close()
        if code == -signal.SIGKILL:
            self.kills += 1
        else:
            assert code == 0, self.output.read_text()[-3000:]
        return code

    def end(self):
        """Let it come to its end."""
        self.process.stdin.close()
        assert self.process.wait(120) == 0, self.output.read_text()[-3000:]


def day(tmp_path, number, chance, kills, deadline):
    """Place a day's orders while everybody is killed again and again. Return how often that was."""
    data = tmp_path / f"day-{number}"
    data.mkdir()
    orders = tmp_path / f"orders-{number}.jsonl"
    everything = (SHOP / "orders.jsonl").read_text().splitlines()
    orders.write_text("\n".join(chance.sample(everything, ORDERS)) + "\n")
    place = [sys.executable, str(SHOP / "shop.py"), "--orders", str(orders), "--data", str(data), "--lease", LEASE]
    # The first shop makes the databases; the recoverers need them.
    shop = Killed(place, tmp_path / "shop.txt")
    while not (data / "shipping.db").exists() or not (data / "sagas.db").exists():
        time.sleep(0.01)
        assert shop.process.poll() in (None, 0), shop.output.read_text()[-3000:]
    recover = [sys.executable, "-m", "crashkit.recoverer", str(SHOP), str(data), LEASE]
    recoverers = [Killed(recover, tmp_path / f"recoverer-{n}.txt") for n in range(2)]
    everybody = [shop, shop, *recoverers]
    while sum(one.kills for one in {shop, *recoverers}) < kills and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.05, 0.4))
        one = chance.choice(everybody)
        if one.kill() == 0:  # all orders are placed
            break
        one.start()
    if shop.process.returncode != 0:
        shop.end()
    final = subprocess.run(place, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    for one in recoverers:
        one.end()
    assert final.returncode == 0, final.stdout + final.stderr
    assert "audit    passed" in final.stdout
    recoveries = check_journals(data / "sagas.db", orders)
    return sum(one.kills for one in {shop, *recoverers}), recoveries


def check_journals(path, orders):
    """Each order has ended, and its journal tells one story. Return how often one was recovered."""
    recoveries = 0
    with SqliteStore(path) as store:
        for line in orders.read_text().splitlines():
            order_id = json.loads(line)["order_id"]
            row, journal = store.get(order_id), store.journal(order_id)
            assert row.status in ("completed", "compensated"), order_id
            assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
            kinds = [entry.kind for entry in journal]
            assert kinds[-1] == f"Saga{row.status.capitalize()}"
            if "SagaCompensating" in kinds:
                assert "StepStarted" not in kinds[kinds.index("SagaCompensating") :], order_id
            counted = ("SagaStarted", "StepStarted", "CompensationStarted")  # a verification counts from 1 after each execute
            attempts = Counter((entry.kind, entry.step, entry.payload) for entry in journal if entry.kind in counted)
            assert set(attempts.values()) == {1}, (order_id, attempts)
            recoveries += kinds.count("SagaRecovered")
    return recoveries


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whoever_is_killed_whenever_all_orders_end_and_the_books_balance(tmp_path, chance, full):
    wanted = 400 if full else 60
    deadline = time.monotonic() + (900 if full else 90)
    kills = recoveries = days = 0
    while kills < wanted and time.monotonic() < deadline:
        days += 1
        more, recovered = day(tmp_path, days, chance, wanted - kills, deadline)
        kills, recoveries = kills + more, recoveries + recovered
    assert kills >= wanted * 2 // 3, f"only {kills} kills in the time there was"
    assert recoveries >= kills // 6, f"{kills} kills made only {recoveries} recoveries"
    print(f"{kills} kills, {recoveries} recoveries, {days} days")
