"""Classes are found again by name: a warning of those that another program would not find. What finds them is the codec's."""

from __future__ import annotations

from typing import Final

from saga.own_log import LOG

__all__ = ["warn_of_main"]

_told: Final[set[str]] = set()


def warn_of_main(cls: type) -> None:
    """Say once of a class of the script that was started that only that script finds it again."""
    name = cls.__qualname__
    if cls.__module__ == "__main__" and name not in _told:
        _told.add(name)
        LOG.warning(
            "%s is stored by name, and is defined in the script that was started: a recovery in another program does not find "
            "'__main__:%s'; define it in a module that both import",
            name,
            name,
        )
