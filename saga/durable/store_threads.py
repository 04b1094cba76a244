"""Threads in which stores are asked for event loops: not the loops' own, which a program may fill."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

__all__ = ["in_store_thread"]

T = TypeVar("T")


def in_store_thread(call: Callable[..., T], *args: object) -> asyncio.Future[T]:
    """Return what comes of a call that asks a store, and of nothing else, in the running event loop."""
    return asyncio.get_running_loop().run_in_executor(_threads(), call, *args)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(32, thread_name_prefix="saga store")  # who waits for a store does not compute


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_threads.cache_clear)  # the parent's threads do not live here
