"""A PostgreSQL server that says nothing any more, though the connection stands: it is not waited for without end.

No statement lives here, and no pool.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final, Self

import psycopg

from saga.clocks import clock

__all__ = ["WatchedConnection"]

SILENCE: Final = 10.0
"""Seconds without an answer, after which a server is asked whether it is there at all; and those that this may take."""


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose statements end when their server is gone.

    One that takes long may wait for a row that somebody has locked, or for a server that is gone, or stopped, and acknowledges
    whatever it is sent: which of both is asked with another connection.
    """

    _parameters: Mapping[str, Any]

    @classmethod
    def watched(cls, parameters: Mapping[str, Any], **more: Any) -> Self:
        """Open one.

        :param parameters: those that it is asked with, too.
        :raises psycopg.Error: it could not be opened.
        """
        connection = cls.connect(**parameters, **more)
        connection._parameters = parameters
        return connection

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **more: Any) -> Any:
        return super().wait(self._watched(gen), *args, **more)

    def _watched(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Yield what ``gen`` does; where nothing comes, see from time to time that the server is there.

        :raises psycopg.OperationalError: it is not.
        """
        patient_until = 0.0
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready:
                    now = clock()
                    if not patient_until:
                        patient_until = now + SILENCE
                    elif now >= patient_until:
                        self._see_that_it_answers()
                        patient_until = 0.0
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _see_that_it_answers(self) -> None:
        gone = self.silence()
        if gone is not None:
            self.close()
            raise psycopg.OperationalError(gone)

    def silence(self) -> str | None:
        """Return what is wrong with a server that nobody answers for, or ``None``. Ask with another connection."""
        asked: dict[str, Any] = {"connect_timeout": max(2, int(SILENCE)), "target_session_attrs": "any"}
        try:
            # This one, where the parameters name several: another may have taken its place.
            asked |= {"host": self.info.host, "hostaddr": self.info.hostaddr or None, "port": self.info.port}
            psycopg.connect(**{**self._parameters, **asked}).close()
        except psycopg.OperationalError as error:
            if "FATAL" not in str(error):  # else it answers, though it takes no more connections
                return f"no answer for {SILENCE:g} seconds, and nobody is there: {error}"
        return None
