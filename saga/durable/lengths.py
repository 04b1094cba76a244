"""How long a text may be for its store: what is longer is refused before anybody believes that it is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from saga.durable.codec import Codec
from saga.errors import EncodingError
from saga.storage.protocol import Store
from saga.storage.rules import fits

__all__ = ["SURELY_FITS", "check_length"]

SURELY_FITS: Final = 100_000
"""Characters that a store takes, whichever it is: what is no longer than this need not be looked at."""

_AROUND: Final = 4096
"""Characters that an entry has besides what a user gave, and more."""

_STANDS_IN: Final = " " * 6000
"""As long as what stands for a value that is kept elsewhere, and longer, whatever the execution's id."""


def check_length(text: str, store: Store, what: str, codec: Codec | None = None, values: Iterable[str] = ()) -> None:
    """See that a text fits into an entry, or a message, of the store.

    :param what: what it holds, for the error.
    :param codec: what encrypts the text, or has values of it kept elsewhere.
    :param values: those, as they stand in the text.
    :raises EncodingError: it does not.
    """
    if len(text) <= SURELY_FITS:
        return
    longest: int = getattr(store, "longest_text", sys.maxsize)  # another's store may not say
    if codec is not None and codec.blobs is not None:
        for value in values:
            if codec.is_large(value):
                text = text.replace(value, _STANDS_IN, 1)
    if not fits(text, int((longest - _AROUND) / (1.0 if codec is None else codec.grows))):
        raise EncodingError(
            f"cannot store {what}: {len(text):,} characters are more than this store takes ({longest:,} bytes); have what is "
            "large kept elsewhere: Codec(blobs=...)"
        )
