"""How long a text may be for its store: what is longer is refused before anybody believes that it is stored."""

from __future__ import annotations

import sys
from typing import Final

from saga.errors import EncodingError
from saga.storage.protocol import Store
from saga.storage.rules import fits

__all__ = ["SURELY_FITS", "check_length"]

SURELY_FITS: Final = 100_000
"""Characters that a store takes, whichever it is: what is no longer than this need not be looked at."""

_AROUND: Final = 4096
"""Characters that an entry has besides what a user gave, and more."""


def check_length(text: str, store: Store, what: str, grows: float = 1.0) -> None:
    """See that a text fits into an entry, or a message, of the store.

    :param what: what it holds, for the error.
    :param grows: how many characters of an entry one of the text takes.
    :raises EncodingError: it does not.
    """
    if len(text) <= SURELY_FITS:
        return
    longest: int = getattr(store, "longest_text", sys.maxsize)  # another's store may not say
    if not fits(text, int((longest - _AROUND) / grows)):
        raise EncodingError(
            f"cannot store {what}: {len(text):,} characters are more than this store takes ({longest:,} bytes); keep it "
            "elsewhere, and store where it is"
        )
