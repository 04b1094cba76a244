"""What cannot be stored, and how that is said: the value's path and type, the reason and the remedy."""

from __future__ import annotations

import reprlib
from typing import NoReturn, Self

from saga.plain import printed_name

__all__ = [
    "LARGER_THAN",
    "MAX_DEPTH",
    "MAX_SIZE",
    "MAX_SIZE_WITH_BLOBS",
    "REGISTER",
    "RefusedError",
    "TooLargeError",
    "brief",
    "refusal",
    "refuse",
    "refuse_depth",
]

MAX_DEPTH = 100
"""How many containers may stand inside each other. One level is up to four of JSON, and a reader recurses for each."""
MAX_SIZE = 10_000_000
"""How many characters a value's text may have, unless its codec says otherwise: less than databases take as they are set up."""
MAX_SIZE_WITH_BLOBS = 100_000_000
"""... and where what is large is kept elsewhere: one process has all of it in its memory, several times over."""
LARGER_THAN = 100_000
"""Where there are blobs: how many characters a value's text has at most that stays in the journal, unless the codec says so."""
REGISTER = "register it with Codec.register(...)"


class RefusedError(Exception):
    """Why a value cannot be stored; each container on the way out adds itself and where in it that was."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.trail: list[tuple[object, str]] = []

    def inside(self, container: object, place: str) -> Self:
        self.trail.append((container, place))
        return self

    def message(self, path: str) -> str:
        # Cycles are not looked for while writing, which would cost every container: they end as "too deep", and all the
        # containers on the way there are still alive, so that one met twice is the same one.
        seen: dict[int, str] = {}
        for container, place in reversed(self.trail):
            if id(container) in seen:
                return f"{_short(path)}: cannot store a value that holds itself: this is {_short(seen[id(container)])} again"
            seen[id(container)] = path
            path += place
        return f"{_short(path)}: {self}"


class TooLargeError(RefusedError):
    """Why a value cannot be stored: its text would be too long. Where in it the last character was is of no interest."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"cannot store a value whose text has more than {limit:,} characters, with each part written out as often as it "
            "stands there; store a key of it instead, or give a codec with more room: Codec(blobs=...), Codec(max_size=...)"
        )

    def message(self, path: str) -> str:
        return f"{_short(path)}: {self}"


def refusal(cls: type, problem: str, remedy: str) -> RefusedError:
    return RefusedError(f"cannot store a value of type {printed_name(cls)} ({problem}); {remedy}")


def refuse(cls: type, problem: str, remedy: str) -> NoReturn:
    raise refusal(cls, problem, remedy)


def refuse_depth() -> NoReturn:
    raise RefusedError(f"cannot store values nested more than {MAX_DEPTH} deep; flatten them, or store a key instead")


def _short(path: str) -> str:
    return path if len(path) <= 300 else f"{path[:150]} ... {path[-150:]}"


def brief(value: object) -> str:
    try:
        return reprlib.repr(value)
    except Exception:  # an int of more digits than may be printed
        return f"<{printed_name(type(value))}>"
