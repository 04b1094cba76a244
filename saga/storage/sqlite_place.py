"""Where an SQLite file is: it is made for its owner only, and known again. No database is opened here."""

from __future__ import annotations

import os
import threading
from typing import Final

from saga.clocks import clock
from saga.errors import StorageError

__all__ = ["Place"]

_BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a file as long as it is open: a part of what was committed is there only."""

LOOK_BESIDE = 0.1
"""Seconds between two looks at those: each costs as much as one at the file, which takes two microseconds."""

# Closing a file takes away the locks that another connection of this process may have on it by then.
_making = threading.Lock()


class Place:
    """The path of an SQLite file, and which file is there.

    :ivar path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._known: tuple[int, int] | None = None
        self._beside: tuple[tuple[str, tuple[int, int]], ...] = ()
        self._next_look = 0.0

    def make(self) -> None:
        """Make the file where there is none: nobody but its owner reads it. SQLite makes those beside it alike.

        :raises StorageError: it cannot be made.
        """
        with _making:
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            except FileExistsError:
                pass
            except OSError as error:
                raise StorageError(f"{self.path}: {error.strerror}") from error

    def remember(self, *, beside: bool = False) -> None:
        """Take note of which file is there now; or of those beside it, too, which are there while it is open.

        :raises StorageError: none is there.
        """
        self._known = _identity(self.path)
        if beside:
            self._beside = tuple((self.path + end, _identity(self.path + end)) for end in _BESIDE)

    def forget_beside(self) -> None:
        """Expect nothing of those beside it, as the file is closed."""
        self._beside = ()

    def check(self) -> None:
        """See that what is there is still what was opened: what is written to a file without a name is lost.

        :raises StorageError: it was deleted or replaced.
        """
        if self._known is not None and _identity(self.path) != self._known:
            raise _replaced(self.path)
        if self._beside and clock() >= self._next_look:
            for path, known in self._beside:
                if _identity(path) != known:
                    raise _replaced(path)
            self._next_look = clock() + LOOK_BESIDE


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        raise _replaced(path) from None
    return found.st_dev, found.st_ino


def _replaced(path: str) -> StorageError:
    return StorageError(
        f"{path}: the file was deleted or replaced while it was open, and what is written now would be lost; put it back, or "
        "restart this process"
    )
