"""What an execution's observers hear of it, and have made for it. Whatever they do, the execution goes on."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from saga.awaitables import answer
from saga.definition import ExecutionInfo, Observer
from saga.drivers import forks
from saga.drivers.calls import Surroundings, arounds_of, listens
from saga.drivers.journal import Journal
from saga.drivers.observing import events_of, has_struck
from saga.drivers.stints import carried_from, stints_of
from saga.drivers.timers import Timers
from saga.own_log import LOG
from saga.plain import repr_of

if TYPE_CHECKING:
    pass

__all__ = ["Observed"]


class Observed(Timers):
    """What a driver is built on. Parameters as :class:`~saga.drivers.timers.Timers`'s.

    :ivar surroundings: what observers have made for its calls to be made in.
    """

    journal: Journal | None
    process: object
    surroundings: Surroundings | None = None
    _observers: Sequence[Observer] = ()
    _shown = 0

    def _observe(self, observers: Sequence[Observer]) -> None:
        listening = [observer for observer in observers if listens(observer)]
        if not listening:
            return
        machine = self.machine
        so_far = partial(events_of, weakref.ref(self))
        self._info = info = ExecutionInfo(self.definition.name, machine.saga_id, self.context, machine.plan, so_far)
        self._observers = stints_of(listening, info)
        # What another process stored before it died is no news.
        self._shown = self.journal.written if self.journal is not None and self._views is not None else 0
        self._reported: set[int] = set()
        arounds = [partial(around, info) for around in arounds_of(self._observers)]
        if arounds:
            self.surroundings = Surroundings(arounds)

    def carried(self) -> Mapping[str, str] | None:
        """Return what observers have carried along from where the execution begins or is taken up; ``None``: nothing."""
        return carried_from(self._observers) if self._observers else None

    def _show(self) -> None:
        """Show the new events to the observers.

        :raises KeyboardInterrupt: a Ctrl-C has struck one of them; the others have heard of the event.
        """
        events, info, observers = self.machine.log.entries, self._info, self._observers  # nobody notes where somebody listens
        struck: BaseException | None = None
        while self._shown < len(events):
            event: Any = events[self._shown]
            self._shown += 1
            for observer in observers:
                try:
                    left = observer(event, info)
                    if left is not None:
                        answer(left, "it", "give a plain function")
                except BaseException as error:
                    if forks.is_of_parent(self):
                        raise
                    if has_struck(error):
                        struck = error
                    elif id(observer) not in self._reported:
                        self._reported.add(id(observer))
                        LOG.exception(
                            "observer %s raised on %s of saga %s; the saga goes on, and this is reported once",
                            repr_of(observer),
                            type(event).__name__,
                            self.machine.saga_id,
                        )
            if struck is not None:
                raise struck
