"""What a store lends to a transactional step: an open transaction of its database. No engine lives here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from saga.storage.records import Append

__all__ = ["LentTransaction", "Standing", "causes"]

Standing = Literal["open", "failed", "ended"]


class LentTransaction(Protocol):
    """One transaction after the other, each with :meth:`begin`; one thread uses it at a time.

    :ivar connection: the driver's own, to work with: between :meth:`begin` and :meth:`end`.
    """

    connection: Any

    def begin(self) -> None:
        """Begin one.

        :raises StorageError: that cannot be done.
        """

    def standing(self) -> Standing:
        """Say whether it is still open, one of its statements failed so that nothing can be committed, or whoever had the
        connection has ended it.
        """

    def passes(self, error: BaseException | None) -> bool:
        """Whether it has failed, with this error or silently, so that the same may go well in a fresh one."""

    def append(self, one: Append) -> None:
        """Add to an execution's journal, within it: as :meth:`saga.storage.Store.append`, which says what is raised too.

        :raises Exception: also one of the database's.
        """

    def commit(self) -> None:
        """Commit it.

        :raises Exception: one of the database's; whether it was committed may not be known then.
        """

    def refusal(self, error: Exception) -> Exception:
        """Return an error of a commit that was for what the user had done, such as that of a deferred constraint.

        :raises StorageError: it was for something else.
        """

    def end(self) -> None:
        """Give the connection back; what is not committed is rolled back. It may be called again, and from other threads."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
