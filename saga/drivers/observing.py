"""What observers raise: logged, and nothing comes of it, ``SystemExit`` neither. What they are asked is not known here."""

from __future__ import annotations

import os
import threading

__all__ = ["is_ctrl_c", "is_not_its_own"]


def is_ctrl_c(error: BaseException) -> bool:
    """Whether it is what a person's Ctrl-C raises, and nothing that a task or an observer says of itself."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def is_not_its_own(error: BaseException, process: int) -> bool:
    """Whether what came out of an observer is to be raised: a Ctrl-C struck there, or a child that it has forked ends.

    :param process: the id of the one that has asked it.
    """
    return is_ctrl_c(error) or os.getpid() != process
