"""What changes while it is looked at: server-sent events. Those who look at the same share what is asked and rendered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from saga.errors import StorageError, UnknownExecutionError
from saga.own_log import LOG
from saga.plain import one_line

__all__ = ["Live", "tag_of"]

EVERY: Final = 1.0
"""Seconds after which it is asked again; longer where asking takes long."""
SHARE: Final = 50
"""One part in so many of the time is spent on what is looked at, at most: what takes long is asked for rarely."""
BEAT: Final = 10.0
"""Seconds after which a line is sent to whoever hears nothing, so that no proxy takes the connection to be idle."""
LONGEST: Final = 600.0
"""Seconds that a stream lasts. Browsers come back by themselves."""
FEEDS: Final = 100
"""Different things that are looked at by streams at once, and asked for again and again."""
STREAMS: Final = 1000
"""Streams at once."""

Render = Callable[[], Awaitable[str]]


class Live:
    """The streams of one page, in whichever event loops it is served.

    :ivar every: see :data:`EVERY`.
    :ivar beat: see :data:`BEAT`.
    :ivar feeds: see :data:`FEEDS`.
    :ivar streams: see :data:`STREAMS`.
    """

    def __init__(self, every: float = EVERY, beat: float = BEAT, feeds: int = FEEDS, streams: int = STREAMS) -> None:
        self.every, self.beat = every, beat
        self.feeds, self.streams = feeds, streams
        self._feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Feed]] = WeakKeyDictionary()

    def has(self, key: Hashable) -> bool:
        """Return whether somebody looks at it already."""
        return key in self._feeds_here()

    def has_room(self, key: Hashable) -> bool:
        """Return whether somebody more may look at it."""
        feeds = self._feeds_here()
        return (key in feeds or len(feeds) < self.feeds) and sum(feed.listeners for feed in feeds.values()) < self.streams

    def shown(self, key: Hashable) -> str | None:
        """Return what those see who look at it; ``None`` where nobody does, or nothing can be shown."""
        feed = self._feeds_here().get(key)
        return feed.shown if feed is not None else None

    def look_again(self) -> None:
        """Have all that is looked at asked for again, now: somebody has changed something."""
        for feed in self._feeds_here().values():
            feed.look_again()

    def _feeds_here(self) -> dict[Hashable, _Feed]:
        return self._feeds.setdefault(asyncio.get_running_loop(), {})

    async def stream(self, key: Hashable, render: Render, seen: str | None) -> AsyncGenerator[str, None]:
        """Yield the events of something that is looked at: what it is now, unless that was seen, and again when it changes.

        It ends at once where there is no room.

        :param key: the same for all who see the same.
        :param render: returns it as HTML.
        :param seen: the id of the last event that the browser has.
        """
        if not self.has_room(key):  # any more
            return
        loop = asyncio.get_running_loop()
        feeds = self._feeds_here()
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
    :ivar shown: what it was made of, ``None`` where nothing can be shown.
    """

    def __init__(self, render: Render, every: float) -> None:
        self.listeners = 0
        self.event = ""
        self.tag: str | None = None
        self.shown: str | None = None
        self.changed = asyncio.Event()
        self.again = asyncio.Event()
        self.task = asyncio.create_task(self._watch(render, every))

    async def _watch(self, render: Render, every: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.again.clear()
            told = await _made(render)
            if not self.again.is_set():  # else it is old
                self._tell(*told)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.again.wait(), max(every, SHARE * (loop.time() - began)))

    def look_again(self) -> None:
        self.tag = self.shown = None  # nobody who comes now is told of what was before
        self.again.set()

    def _tell(self, kind: str, data: str) -> None:
        tag = tag_of(data)
        if tag == self.tag:
            return
        lines = "".join(f"data: {line}\n" for line in data.splitlines())
        self.event, self.tag = f"event: {kind}\nid: {tag}\n{lines}\n", tag
        self.shown = data if kind == "message" else None
        self.changed.set()
        self.changed = asyncio.Event()


async def _made(render: Render) -> tuple[str, str]:
    """Return the kind of an event, and what it says."""
    try:
        return "message", await render()
    except UnknownExecutionError as error:  # it was purged
        return "gone", one_line(error)
    except StorageError as error:
        return "trouble", one_line(error)
    except Exception:
        LOG.exception("what a page shows could not be made; it is tried again")
        return "trouble", "what is new cannot be shown here; the log says why"


def tag_of(text: str) -> str:
    """Return what stands for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
