"""A worker as a process of its own: ``python worker.py``. SIGTERM stops it; systemd and Kubernetes are told how it is."""

from __future__ import annotations

import logging

from orders import STORE, place_order

from saga.worker import Worker

GRACE = 25.0  # seconds to finish what is in hand; whoever kills the process waits for longer

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    Worker(STORE, [place_order], grace=GRACE).run()
