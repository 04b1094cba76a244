"""What encrypts stored values: a protocol alone. What is encrypted, and where that stands, is :mod:`saga.durable.sealed`'s."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Cipher"]


class Cipher(Protocol):
    """Encrypts what a codec's executions store. Both are called from many threads, and in the event loop of ``aexecute``."""

    def encrypt(self, data: bytes, context: bytes) -> bytes:
        """Return ``data`` encrypted, for :meth:`decrypt` to return it.

        :param context: what it belongs to. It is not stored with it: authenticate it as associated data, so that nobody can
            put what belongs to one execution, or to one entry of it, in the place of another.
        """

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        """Return what :meth:`encrypt` was given.

        :raises Exception: it was changed, belongs to another context, or is of a key that is not known.
        """
