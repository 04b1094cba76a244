"""Where values are kept that are too large for a journal: what can keep them, and a folder that does. Which values these are,
and what stands for them, is :mod:`saga.durable.elsewhere`'s.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, unquote

from saga.clocks import clock
from saga.errors import SagaDefinitionError

__all__ = ["Blobs", "FolderBlobs", "MemoryBlobs"]


class Blobs(Protocol):
    """Keeps bytes under keys. All is called from many threads, never in an event loop's.

    A key is the execution's id, a ``/`` and 32 hexadecimal digits. The id is percent-encoded where it would be taken for a
    path, has up to 200 characters of any language, and up to 800 bytes as UTF-8. Nothing is ever put under a key twice, by
    whomever: what is there does not change. What any method raises, besides what is said here, is taken as a store that fails.
    """

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes. They are durable when this returns."""

    def get(self, key: str) -> bytes:
        """Return the bytes that were put.

        :raises KeyError: there are none.
        """

    def delete(self, keys: Collection[str]) -> None:
        """Delete what is kept under some keys. Where nothing is, nothing is done."""

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the keys of what was put that long ago or longer, in any order."""


class MemoryBlobs:
    """Keeps values in this process, for tests: what :class:`~saga.storage.MemoryStore` is for a store."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes, float]] = {}

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes: see :meth:`Blobs.put`."""
        self._kept[key] = data, clock()

    def get(self, key: str) -> bytes:
        """Return the bytes that were put: see :meth:`Blobs.get`."""
        return self._kept[key][0]

    def delete(self, keys: Collection[str]) -> None:
        """Delete what is kept under some keys: see :meth:`Blobs.delete`."""
        for key in keys:
            self._kept.pop(key, None)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the keys of what was put that long ago: see :meth:`Blobs.older_than`."""
        before = clock() - seconds
        yield from [key for key, (_, put) in list(self._kept.items()) if put <= before]


_LONGEST: Final = 200
"""Characters of a folder's name at most, all of them ASCII."""
_KEPT: Final = ".blob"
_UNFINISHED: Final = ".part"


class FolderBlobs:
    """Keeps values in files of a folder: each execution has a folder of its own in it, named by its id, percent-encoded.

    A file is there wholly or not at all, and outlives a crash of the machine when :meth:`put` returns. Whoever runs or reads an
    execution needs the same folder: on several hosts, one that they share.

    :param folder: made where it is not there, when something is put.
    :raises SagaDefinitionError: ``folder`` is no path, or a file is there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, str | os.PathLike) or not _is_path(os.fspath(folder)):
            raise SagaDefinitionError(f"FolderBlobs: folder is {folder!r}; give the path of a folder, such as '/var/lib/saga'")
        self._folder = Path(folder).absolute()  # wherever the program goes later
        if self._folder.exists() and not self._folder.is_dir():
            raise SagaDefinitionError(f"FolderBlobs: {str(self._folder)!r} is a file; give the path of a folder")

    def __repr__(self) -> str:
        return f"FolderBlobs({str(self._folder)!r})"

    def put(self, key: str, data: bytes) -> None:
        """Keep bytes: see :meth:`Blobs.put`."""
        path = self._path(key)
        unfinished = path.with_suffix(_UNFINISHED)
        while True:
            try:
                _make(path.parent)
                _write(unfinished, data)
                break
            except FileNotFoundError:  # delete() has found the folder empty, just now
                continue
        os.replace(unfinished, path)
        for folder in self._folders_of(path):  # another process may have made them, and not have come to this
            _flush(folder)
        _flush(self._folder)

    def get(self, key: str) -> bytes:
        """Return the bytes that were put: see :meth:`Blobs.get`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def delete(self, keys: Collection[str]) -> None:
        """Delete files, and folders that are empty then: see :meth:`Blobs.delete`."""
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            path.with_suffix(_UNFINISHED).unlink(missing_ok=True)
            with suppress(OSError):  # it is not empty, or gone already
                for folder in self._folders_of(path):
                    folder.rmdir()

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the keys of old files, and of those that a process began and did not end: see :meth:`Blobs.older_than`."""
        before = time.time() - seconds
        for folder, _, names in os.walk(self._folder):
            parts = Path(folder).relative_to(self._folder).parts
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix not in (_KEPT, _UNFINISHED):
                    continue
                with suppress(FileNotFoundError):  # it was deleted, or finished, just now
                    if os.path.getmtime(os.path.join(folder, name)) <= before:
                        yield f"{unquote(''.join(parts))}/{stem}"

    def _path(self, key: str) -> Path:
        of, _, name = key.rpartition("/")
        safe = quote(of, safe="")
        parts = [safe[at : at + _LONGEST] for at in range(0, len(safe), _LONGEST)]
        if not parts or not re.fullmatch("[0-9a-f]{32}", name) or "." in safe:
            raise ValueError(f"{key!r} is no key of an execution's value")
        return self._folder.joinpath(*parts, name + _KEPT)

    def _folders_of(self, path: Path) -> list[Path]:
        """Return the folders within this one that a file is in, the innermost first."""
        return [one for one in path.parents if one != self._folder and one.is_relative_to(self._folder)]


def _is_path(text: str) -> bool:
    try:
        return bool(os.fsencode(text)) and "\0" not in text
    except UnicodeEncodeError:
        return False


def _make(folder: Path) -> None:
    """Make a folder, and those that it is in, durably."""
    if not folder.is_dir():
        _make(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            if folder.is_file():  # else another has made it, and may have deleted it again
                raise
        _flush(folder.parent)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Make durable which files a folder has."""
    if sys.platform == "win32":
        return  # which keeps what a folder holds by itself, and cannot open one
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
