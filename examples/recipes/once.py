"""Runs what is there to be run, and ends: for cron. Two of them at once do no harm. It exits with 1 where a person must act."""

from __future__ import annotations

import sys

from orders import STORE, place_order

from saga import Status
from saga.worker import Worker

ran = Worker(STORE, [place_order]).run_once()
for result in ran:
    print(result.saga_id, result.status)
stuck = [(result.saga_id, result.reason) for result in ran if result.status is Status.STUCK]
stuck += [(parked.saga_id, parked.reason) for parked in ran.parked]
for saga_id, reason in stuck:
    print(f"{saga_id} is stuck: {reason}", file=sys.stderr)
sys.exit(1 if stuck else 0)
