"""A worker: ``python -m orders.worker``. Start as many as are wanted. SIGTERM lets one finish what it has."""

from __future__ import annotations

import logging

from orders.sagas import place_order
from orders.settings import DATABASE, GRACE, VERSION
from saga.worker import Worker

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Worker(DATABASE, [place_order(VERSION)], grace=GRACE).run()
