"""The store of a history: in memory, and it fails where a fault makes it fail."""

from __future__ import annotations

from typing import Any, Final

from saga.errors import StorageError
from saga.storage.memory import MemoryStore
from saga.testing.faults import Kind

__all__ = ["FailingStore"]

_ASKED: Final = ("append", "get", "inbox", "journal", "release")
"""What a process asks of it."""
_STORES: Final = frozenset({Kind.STORE_ANSWER_LOST, Kind.STORE_GONE_AFTER})
_GOES: Final = frozenset({Kind.STORE_GONE_BEFORE, Kind.STORE_GONE_AFTER})


class FailingStore(MemoryStore):
    """The store of one history.

    :ivar writes: how often something was appended to the journal.
    :ivar failed: whether it has failed.
    """

    transacts = transacts_async = True  # steps that do have stand-ins, which need no database
    writes = 0
    failed = False

    def append(self, *args: Any, **named: Any) -> None:
        self.writes += 1
        super().append(*args, **named)

    def fail(self, how: Kind) -> None:
        """Let the next write fail, and with it perhaps all that follows."""
        self.failed = True

        def append(*args: Any, **named: Any) -> None:
            del vars(self)["append"]
            if how in _STORES:
                self.append(*args, **named)
            if how in _GOES:
                vars(self).update(dict.fromkeys(_ASKED, _refuse))
            _refuse()

        vars(self)["append"] = append

    def mend(self) -> None:
        """Let it fail no more: the process that it has failed is over."""
        for name in _ASKED:
            vars(self).pop(name, None)


def _refuse(*args: Any, **named: Any) -> Any:
    raise StorageError("a fault that was put here")
