"""What a store has begun in an event loop, and who began it waits for. Nothing is begun here."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Begun"]


class Begun(Protocol):
    """Something that a store does in an event loop."""

    @property
    def cut_off(self) -> bool:
        """Whether an interrupt cut it off in the event loop's thread, which asks: then nothing more is heard of it."""

    def end(self) -> None:
        """Wait for it no longer. It may be called again, and when it has ended."""
