"""What every command takes, from options, the environment or a file: the store, the definitions, the form of its output."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from saga.cli.definitions import loaded, named_sagas
from saga.cli.exits import usage
from saga.cli.known_ids import known_ids
from saga.errors import StorageError, near

if TYPE_CHECKING:
    from saga.durable.codec import Codec
    from saga.operations import Operations
    from saga.saga import Saga

__all__ = ["SECONDS", "TAG", "Settings", "acting", "common", "ids", "needs_definitions"]

F = TypeVar("F", bound=Callable[..., Any])

_KEYS: Final = ("store", "import", "who", "certificates")
"""What ``[saga]`` in a file may say."""


@dataclass
class Settings:
    """What holds for the whole command. Options fill it in; a file says the rest.

    :ivar form: ``"text"``, ``"json"`` or ``"jsonl"``.
    """

    store_given: str | None = None
    imports: tuple[str, ...] = ()
    who_given: str | None = None
    form: str = "text"
    debug: bool = False
    found: list[Saga[Any]] = field(default_factory=list)

    @cached_property
    def file(self) -> dict[str, Any]:
        """What the nearest file says that has a section ``[saga]``, and ``"from"``: the directory it is in."""
        here = Path.cwd()
        for directory in (here, *here.parents):
            said = _said_in(directory)
            if said is not None:
                for key in said:
                    if key not in _KEYS:
                        raise click.UsageError(f"[saga] has {key!r}{near(key, _KEYS)}; it takes {', '.join(_KEYS)}")
                return {**said, "from": directory}
        return {}

    @cached_property
    def sagas(self) -> list[Saga[Any]]:
        """The definitions that are imported.

        :raises click.UsageError: they cannot be.
        """
        _see_modules_in(self.file.get("from"))
        return [*self.found, *(saga for name in self.references for saga in loaded(name))]

    @property
    def references(self) -> Sequence[str]:
        """The names of the definitions that are imported, each of a module, or ``module:name``."""
        return self.imports or _several(self.file.get("import", ()))

    def codec(self, *modules: str) -> Codec | None:
        """Return what finds the functions of blocks: in some modules, and those that are imported; ``None``: no modules."""
        from saga.durable.codec import Codec

        named = [*modules, *(reference.partition(":")[0] for reference in self.references)]
        return Codec(modules=named) if named else None

    def saga(self, reference: str) -> Saga[Any]:
        """Return the definition ``module:name``, or the one that an imported module calls so.

        :raises click.UsageError: there is none, or there are several.
        """
        _see_modules_in(self.file.get("from"))
        found = loaded(reference) if ":" in reference else [one for one in self.sagas if one.name == reference]
        if not found and ":" not in reference and not self.sagas:
            found = loaded(reference)
        if len(found) == 1:
            self.found = found
            return found[0]
        if found:
            raise click.UsageError(f"{reference} has {named_sagas(found)}; give one of them: {reference}:name")
        raise click.UsageError(
            f"there is no saga {reference!r}{near(reference, [one.name for one in self.sagas])}; give it as module:name"
        )

    def store(self, *, make: bool = False, needed: bool = True) -> Any:
        """Return the path or URL of the store, or the store that the definitions have.

        :param make: whether it may be one that is not there yet.
        :param needed: ``None`` may be returned where not.
        :raises click.UsageError: none is given.
        """
        given: Any = self.store_given
        if given is None and "store" in self.file:
            given = _from(self.file["from"], str(self.file["store"]))
        if given is None:
            stores = {id(one.store): one.store for one in self.sagas if one.store is not None}
            if len(stores) > 1 and len({str(one) for one in stores.values()}) > 1:
                raise click.UsageError("the definitions have several stores; say which: --store")
            given = next(iter(stores.values()), None)
        if given is None and needed:
            raise click.UsageError(
                "no store is given; give --store orders.db, --store postgresql://..., SAGA_STORE in the environment, or "
                "store = ... under [saga] in setup.cfg"
            )
        from saga.storage.opened import check_store

        if given is not None:
            check_store(given, "--store")
        path = _path_of(given)
        if path is not None and not make and not Path(path).exists():
            raise StorageError(f"there is no file {os.fspath(path)!r}; give the path of a store that is there")
        return given

    def operations(self, *, make: bool = False) -> Operations:
        """Open the store."""
        from saga.operations import Operations

        with usage():
            return Operations(self.store(make=make), self.who, sagas=self.sagas)

    @property
    def who(self) -> str:
        """The person who acts."""
        if self.who_given is not None or "who" in self.file:
            return self.who_given if self.who_given is not None else str(self.file["who"])
        import getpass
        import socket

        try:
            return f"{getpass.getuser()}@{socket.gethostname()}"
        except (KeyError, OSError):  # a user without a name
            return f"user {os.getuid() if hasattr(os, 'getuid') else '?'}@{socket.gethostname()}"

    def certificates(self, given: Path | None) -> Path | None:
        """Return the path of the file of certificates, where one is given."""
        said = self.file.get("certificates") if given is None else None
        return given if said is None else self.file["from"] / str(said)

    def hidden(self, text: str) -> str:
        """Return a text without the password of the store's URL, and without any in a URL."""
        for secret in _secrets(self.store_given) | _secrets(os.environ.get("SAGA_STORE")) | _secrets(self._store_in_file()):
            text = text.replace(secret, "***")
        return _PASSWORD.sub(r"\1***@", text)

    def _store_in_file(self) -> str | None:
        try:
            return str(self.file.get("store", ""))
        except click.UsageError:  # which is what is being told
            return None


_PASSWORD: Final = re.compile(r"(\w+://[^\s:/@]*:)[^\s/]+@")


def _secrets(url: str | None) -> set[str]:
    """Return the passwords in a URL, as they are written there and as they are meant."""
    from urllib.parse import unquote

    found = re.match(r"[\w+.-]+://[^\s:/@]*:([^@]+)@", url or "")
    given = ([found[1]] if found else []) + re.findall(r"[?&]\w*password=([^&]+)", url or "")
    return {one for secret in given for one in (secret, unquote(secret)) if one}


def _said_in(directory: Path) -> dict[str, Any] | None:
    """Return what the section of a directory's files says, or ``None`` where none has one."""
    project, setup = directory / "pyproject.toml", directory / "setup.cfg"
    if project.is_file():
        import tomllib

        try:
            tools = tomllib.loads(project.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{project} cannot be read: {error}") from error
        said = tools.get("tool", {}).get("saga", tools.get("saga"))
        if isinstance(said, dict):
            return said
    if setup.is_file():
        import configparser

        parser = configparser.ConfigParser(interpolation=None)  # a password may have a % in it
        try:
            parser.read(setup, encoding="utf-8")
        except (OSError, ValueError, configparser.Error) as error:
            raise click.UsageError(f"{setup} cannot be read: {error}") from error
        if parser.has_section("saga"):
            return dict(parser["saga"])
    return None


def _several(given: Any) -> tuple[str, ...]:
    return tuple(given.replace(",", " ").split() if isinstance(given, str) else map(str, given))


def _see_modules_in(directory: Path | None) -> None:
    """Let modules be imported from the working directory, and from where the file is that names them."""
    for path in (str(directory) if directory is not None else None, str(Path.cwd())):
        if path is not None and path not in sys.path:
            sys.path.insert(0, path)


def _from(directory: Path, store: str) -> str:
    """Return a file's store as it is from anywhere: a path is one from where the file is."""
    if "://" not in store:
        return str(directory / store)
    found = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!/)(.+)", store)
    return store if found is None else f"{found[1]}{directory / found[2]}"


def _path_of(store: Any) -> str | os.PathLike[str] | None:
    """Return the file that a store is in, where it is an SQLite file."""
    if isinstance(store, os.PathLike):
        return store
    if not isinstance(store, str):
        return None
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]*)(?:\?.*)?", store)
    if found is not None:
        return found[1] or None
    return None if "://" in store else store


# -- options ----------------------------------------------------------------------------------------------------------


def _fill(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Callable[[click.Context, Any, Any], None]:
    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        source = context.get_parameter_source(parameter.name or "")
        # What stands before the command's name goes before what the environment says once more after it.
        said = source is ParameterSource.ENVIRONMENT and getattr(context.obj, name) != getattr(Settings(), name)
        if value not in (None, (), False) and not said:
            setattr(context.obj, name, convert(value))

    return callback


def common(command: F) -> F:
    """Give a command the options of all."""
    for option in reversed(
        [
            click.option(
                "--store",
                envvar="SAGA_STORE",
                expose_value=False,
                callback=_fill("store_given"),
                metavar="PATH|URL",
                help="The path of an SQLite file, or a database's URL.",
            ),
            click.option(
                "--import",
                "imported",
                envvar="SAGA_IMPORT",
                multiple=True,
                expose_value=False,
                callback=_fill("imports"),
                metavar="MODULE[:NAME]",
                help="Where definitions are. May be given again.",
            ),
            click.option(
                "--json",
                is_flag=True,
                expose_value=False,
                callback=_fill("form", lambda _: "json"),
                help="Print one JSON document.",
            ),
            click.option(
                "--jsonl",
                is_flag=True,
                expose_value=False,
                callback=_fill("form", lambda _: "jsonl"),
                help="Print JSON, one record a line.",
            ),
            click.option(
                "--debug",
                is_flag=True,
                envvar="SAGA_DEBUG",
                is_eager=True,
                expose_value=False,
                callback=_fill("debug"),
                help="Show the traceback of what goes wrong.",
            ),
        ]
    ):
        command = option(command)
    if isinstance(command, click.Command):  # which has them in the order in which they came
        command.params.reverse()
    return command


def acting(command: F) -> F:
    """Give a command the option that says who acts."""
    return click.option(
        "--who",
        envvar="SAGA_WHO",
        expose_value=False,
        callback=_fill("who_given"),
        metavar="NAME",
        help="Who acts, for those who read the journal; the user and the host where not given.",
    )(command)


def needs_definitions(settings: Settings, what: str) -> Sequence[Saga[Any]]:
    """Return the definitions.

    :raises click.UsageError: there are none.
    """
    if not settings.sagas:
        raise click.UsageError(f"{what} needs definitions; give --import module, or import = module under [saga] in setup.cfg")
    return settings.sagas


ids = click.argument("saga_ids", metavar="[ID]...", nargs=-1, shell_complete=known_ids)


if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:  # which is no generic one everywhere
    _Type = click.ParamType


class Seconds(_Type):
    """A length of time: ``90``, ``90s``, ``5m``, ``2h``, ``3d``, ``1w``."""

    name = "time"
    _UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", str(value).strip())
        if found is None:
            raise click.BadParameter(f"{value!r} is no length of time; write 90s, 5m, 2h, 3d or 1w", ctx, param)
        return float(found[1]) * self._UNITS[found[2]]


class Tag(_Type):
    """A tag: ``key=value``."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is no tag; write key=value", param, ctx)
        return key, text


SECONDS, TAG = Seconds(), Tag()
