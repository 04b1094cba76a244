"""What a step has received that waited for the first of several signals. Journals name this class: it stays where it is."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Received"]


class Received(NamedTuple):
    """A signal that came: the result of :func:`~saga.receive_first`.

    :ivar name: the signal's name.
    :ivar value: what was sent with it.
    """

    name: str
    value: Any
