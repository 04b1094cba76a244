"""Recovers the example shop's orders until it is killed or told to stop: ``python -m crashkit.recoverer SHOP DATA LEASE``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from saga.recovery import Recovery
from saga.storage import SqliteStore


def main() -> None:
    shop, data, lease = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    sys.path.insert(0, str(shop))
    from databases import open_databases
    from tasks import place_order

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with open_databases(data) as databases, SqliteStore(data / "sagas.db") as store:
        Recovery(store, [place_order(databases, store, lease)], workers=2).run(stop, interval=0.05)


if __name__ == "__main__":
    main()
