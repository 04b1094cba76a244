"""A worker's process: ``python -m hostkit.process '{"url": ..., "bank": ..., "versions": [...]}'``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def set_clock(seconds: float) -> None:
    """Let the time of day be another in this process."""
    true = time.time
    time.time = lambda: true() + seconds


def main(url: str, bank: str, versions: list[str], clock: float = 0.0, silence: float | None = None, **options: Any) -> None:
    """:param clock: seconds that its host's clock is ahead; :param silence: after which it asks whether its server is there."""
    set_clock(clock)
    # Not before: what is imported may look at the clock.
    from hostkit.stores import open_store
    from hostkit.transfers import transfer
    from saga.storage import postgres_silence
    from saga.worker import Worker

    if silence is not None:
        postgres_silence.SILENCE = silence  # type: ignore[misc]
    with open_store(url) as store:
        worker = Worker(store, [transfer(version, bank) for version in versions], **options)
        worker.run(interval=0.2)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
