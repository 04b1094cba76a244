"""A circuit breaker that keeps its state in Redis is open for every process, as soon as one has opened it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pybreaker
import redis

from saga import Saga, fallback, step

HERE = Path(__file__)
calls: list[str] = []


@contextmanager
def shipping(port: int) -> Iterator[Saga]:
    """Give a saga whose courier does not answer, behind a breaker that opens at the second failure."""

    def express() -> str:
        calls.append("express")
        raise ConnectionError("the courier does not answer")

    with redis.Redis(port=port) as connection:
        storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, connection, namespace="courier")
        breaker = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=60, state_storage=storage, throw_new_error_on_trip=False)
        yield Saga("ship").add_task(fallback(step(express), step(lambda: "by post", name="post"), breaker=breaker))


def test_a_circuit_that_another_process_opened_is_open_here(redis_port: int) -> None:
    other = subprocess.run([sys.executable, HERE, str(redis_port)], capture_output=True, text=True, timeout=60, check=True)
    assert other.stdout.split() == ["express", "express"]  # of three executions
    with shipping(redis_port) as saga:
        assert saga.execute().results == {"post": "by post"}
    assert calls == []


if __name__ == "__main__":
    with shipping(int(sys.argv[1])) as saga:
        for _ in range(3):
            saga.execute()
    print(*calls)
