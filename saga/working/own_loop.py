"""An event loop in a thread of its own, which nothing that runs there ends. What runs there is not known here."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from saga.own_log import LOG

__all__ = ["OwnLoop"]


class OwnLoop:
    """Runs until :meth:`end`. The thread is a daemon.

    A ``SystemExit`` or ``KeyboardInterrupt`` of any task in it is raised out of the loop, too; and any task may stop the loop.
    It goes on where it was: nothing that waits there is lost.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="saga worker loop", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it end, with what tasks have left there. It may be told again."""
        self._ends = True
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:  # which ends what tasks have left there
            runner.get_loop()
            while not (self._ends or self.loop.is_closed()):
                try:
                    self.loop.run_forever()
                except BaseException as error:
                    LOG.error("%r was raised in a worker's event loop, which goes on", error)
