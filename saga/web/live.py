"""What changes while it is looked at: server-sent events. Those who look at the same share what is asked and rendered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Final
from weakref import WeakKeyDictionary

from saga.errors import StorageError, UnknownExecutionError
from saga.own_log import LOG
from saga.plain import one_line

__all__ = ["Live", "tag_of"]

EVERY: Final = 1.0
"""Seconds after which it is asked again; longer where asking takes long."""
BEAT: Final = 10.0
"""Seconds after which a line is sent to whoever hears nothing, so that no proxy takes the connection to be idle."""
LONGEST: Final = 600.0
"""Seconds that a stream lasts. Browsers come back by themselves."""

Render = Callable[[], Awaitable[str]]


class Live:
    """The streams of one page, in whichever event loops it is served.

    :ivar every: see :data:`EVERY`.
    :ivar beat: see :data:`BEAT`.
    """

    def __init__(self, every: float = EVERY, beat: float = BEAT) -> None:
        self.every, self.beat = every, beat
        self._feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Feed]] = WeakKeyDictionary()

    async def stream(self, key: Hashable, render: Render, seen: str | None) -> AsyncGenerator[str, None]:
        """Yield the events of something that is looked at: what it is now, unless that was seen, and again when it changes.

        :param key: the same for all who see the same.
        :param render: returns it as HTML.
        :param seen: the id of the last event that the browser has.
        """
        loop = asyncio.get_running_loop()
        feeds = self._feeds.setdefault(loop, {})
        feed = feeds.get(key)
        if feed is None:
            feed = feeds[key] = _Feed(render, self.every)
        feed.listeners += 1
        ends = loop.time() + LONGEST
        try:
            yield "retry: 2000\n\n"
            while loop.time() < ends:
                changed = feed.changed
                if feed.tag not in (None, seen):
                    seen = feed.tag
                    yield feed.event
                try:
                    await asyncio.wait_for(changed.wait(), self.beat)
                except TimeoutError:
                    yield ": here\n\n"
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                feed.task.cancel()
                del feeds[key]


class _Feed:
    """
    :ivar event: what is to be sent.
    :ivar tag: its id, ``None`` before there is any.
    """

    def __init__(self, render: Render, every: float) -> None:
        self.listeners = 0
        self.event = ""
        self.tag: str | None = None
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(self._watch(render, every))

    async def _watch(self, render: Render, every: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self._tell("message", await render())
            except UnknownExecutionError as error:  # it was purged
                self._tell("gone", one_line(error))
            except StorageError as error:
                self._tell("trouble", one_line(error))
            except Exception:
                LOG.exception("what a page shows could not be made; it is tried again")
                self._tell("trouble", "what is new cannot be shown here; the log says why")
            await asyncio.sleep(max(every, 10 * (loop.time() - began)))

    def _tell(self, kind: str, data: str) -> None:
        tag = tag_of(data)
        if tag == self.tag:
            return
        lines = "".join(f"data: {line}\n" for line in data.splitlines())
        self.event, self.tag = f"event: {kind}\nid: {tag}\n{lines}\n", tag
        self.changed.set()
        self.changed = asyncio.Event()


def tag_of(text: str) -> str:
    """Return what stands for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
