"""The codec itself: what is registered, values to text, and texts to values. How each type is written is its rooms' matter."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from copy import copy
from json import JSONDecoder
from types import ModuleType
from typing import Any, NoReturn, Self, TypeVar

from saga.blobs import Blobs
from saga.context import Context
from saga.durable.codec.cipher import Cipher
from saga.durable.codec.classes import KINDS, base_of, kind_of, read_dataclass, read_enum, read_named_tuple
from saga.durable.codec.names import Names, NotNamedError
from saga.durable.codec.refusals import (
    LARGER_THAN,
    MAX_DEPTH,
    MAX_SIZE,
    MAX_SIZE_WITH_BLOBS,
    REGISTER,
    RefusedError,
    TooLargeError,
    brief,
)
from saga.durable.codec.scalars import SCALAR_READERS, Reader
from saga.durable.codec.writers import Writers
from saga.errors import EncodingError, SagaDefinitionError
from saga.plain import printed_name, text_of
from saga.recorded import stored_name

__all__ = ["Codec", "check_blobs"]

T = TypeVar("T")


class Codec:
    """Turns values into JSON text and back. Register at start-up; encoding and decoding are safe from many threads.

    Stored as they are: ``None``, bool, int, float, complex, str, bytes, bytearray, datetime, date, time, timedelta, timezone,
    ZoneInfo, UUID, Decimal, Fraction, pathlib's paths, list, tuple, set, frozenset, dict, OrderedDict, deque, and members
    of enums, dataclasses and named tuples that are defined at a module's or class's level. Others are registered: a class by
    itself (:meth:`register`), or with all that derive from it (:meth:`register_base`).

    A dataclass is rebuilt without ``__init__``: a field the text lacks takes its default, a field that only the text has is
    an error. Attributes beside the fields are kept, values of a ``cached_property`` are not.

    A part that stands in several places is written out in each, and several parts are read back: equal ones, and not the same
    one. That one value holds another at all is what is limited: to 100 levels, and to a length of the text.

    :param max_size: how many characters the text of a value may have; a larger one is refused. 10 million if not given, and 100
        million with ``blobs``. What is larger still belongs in a file or a bucket of yours, and its key in the context.
    :param modules: where classes are looked for that a stored text names, and the functions of blocks: modules, or their
        names; a package stands for all that it holds. They are imported when they are needed, and no other module is for a
        text. Where none are given, classes are found in what the program has imported, and functions nowhere.
    :param cipher: encrypts what executions store: inputs, results, values of signals, texts of errors, what blocks call. What
        was stored before is still read. :meth:`encode` returns plain text: an entry is encrypted as a whole.
    :param blobs: keep what is large, such as :class:`~saga.blobs.FolderBlobs`: keys of the input, results, what calls change in
        the context, values of signals, what a block's step is called with. The journal has a reference to each.
    :param larger_than: how many characters the text of a value has at most that stays in the journal: 100,000 if not given.
    :raises SagaDefinitionError: ``max_size`` or ``larger_than`` is no number of characters, one of ``modules`` is none, or
        ``cipher`` or ``blobs`` is none.
    :ivar names: finds what texts name.
    :ivar cipher: as given.
    :ivar blobs: so are these.
    """

    def __init__(
        self,
        *,
        max_size: int | None = None,
        modules: Iterable[str | ModuleType] | None = None,
        cipher: Cipher | None = None,
        blobs: Blobs | None = None,
        larger_than: int | None = None,
    ) -> None:
        if max_size is None:
            max_size = MAX_SIZE if blobs is None else MAX_SIZE_WITH_BLOBS
        for name, size, such in (("max_size", max_size, MAX_SIZE), ("larger_than", larger_than, LARGER_THAN)):
            if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
                raise SagaDefinitionError(f"Codec: {name} is {size!r}; give a number of characters, such as {such:_}")
        if larger_than is not None and blobs is None:
            raise SagaDefinitionError(f"Codec: larger_than is {larger_than}, and there are no blobs; give those, too")
        if cipher is not None and not (callable(getattr(cipher, "encrypt", 0)) and callable(getattr(cipher, "decrypt", 0))):
            raise SagaDefinitionError(f"Codec: cipher is {cipher!r}; give an object with encrypt and decrypt")
        check_blobs(blobs, "Codec: blobs")
        self.cipher = cipher
        self.blobs = blobs
        self._larger_than = LARGER_THAN if larger_than is None else larger_than
        self._max_size = max_size
        self.names = Names(modules)
        self._aliases: dict[str, type] = {}
        self._bases: dict[type, Callable[[Any], Any]] = {}
        self._based: dict[type, Callable[[type, Any], Any]] = {}
        self._writers = Writers(self._aliases, self._bases, self.names, max_size)
        self._readers: dict[str, Reader] = SCALAR_READERS | {
            "$tuple": tuple,
            "$set": set,
            "$frozenset": frozenset,
            "$deque": lambda found: deque(*found),
            "$dict": dict,
            "$ordereddict": OrderedDict,
            "$dataclass": lambda found: read_dataclass(self._class("$dataclass", found[0]), *found),
            "$enum": lambda found: read_enum(self._class("$enum", found[0]), *found),
            "$namedtuple": lambda found: read_named_tuple(self._class("$namedtuple", found[0]), *found),
            "$object": lambda found: self._read_registered(*found),
            "$based": lambda found: self._read_based(*found),
            "$sealed": _refuse_sealed,
            "$blob": _refuse_blob,
        }
        self._registered: dict[type, str] = {}
        self._decoders: dict[str, tuple[type, Callable[[Any], Any]]] = {}
        self._decoder = JSONDecoder(object_hook=self._read_object, parse_constant=_refuse_constant)
        self._plain_decoder = JSONDecoder(parse_constant=_refuse_constant)  # for texts without a tag: most of them

    def register(
        self, cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T], *, name: str | None = None
    ) -> Self:
        """Store values whose type is exactly ``cls`` as ``encode(value)``. Return the codec.

        :param encode: returns something this codec can encode.
        :param decode: rebuilds the value from that.
        :param name: what stands for the class in the text; "module:qualname" if not given.
        :raises SagaDefinitionError: the class is stored already, or the name is taken.
        """
        if not isinstance(cls, type) or not callable(encode) or not callable(decode):
            raise SagaDefinitionError(f"Codec.register: give a class and two functions, not {cls!r}, {encode!r}, {decode!r}")
        name = stored_name(cls) if name is None else name
        if cls in self._writers.built_in:
            raise SagaDefinitionError(f"Codec.register: {printed_name(cls)} is stored without being registered")
        if cls in self._registered:
            raise SagaDefinitionError(
                f"Codec.register: {printed_name(cls)} is registered already, as {self._registered[cls]!r}"
            )
        self._check_name("register", name)
        self._registered[cls] = name
        self._decoders[name] = (cls, decode)
        self._writers[cls] = self._writers.registered(name, encode)
        return self

    def register_base(self, base: type[T], encode: Callable[[T], Any], decode: Callable[[type[T], Any], T]) -> Self:
        """Store values of ``base`` and of all its subclasses as ``encode(value)``. Return the codec.

        They are found again by their names, as dataclasses are, and as nothing but subclasses of ``base``. A class that is
        registered itself is stored its own way, and one with several such bases that of the nearest.

        :param encode: returns something this codec can encode; values in it are stored their own way.
        :param decode: rebuilds the value, given its class and that.
        :raises SagaDefinitionError: the class is stored already, or registered so.
        """
        if not isinstance(base, type) or not callable(encode) or not callable(decode):
            raise SagaDefinitionError(
                f"Codec.register_base: give a class and two functions, not {base!r}, {encode!r}, {decode!r}"
            )
        if base in self._writers.built_in or base is object:
            raise SagaDefinitionError(f"Codec.register_base: {printed_name(base)} is stored already; give a base of your own")
        if base in self._bases:
            raise SagaDefinitionError(f"Codec.register_base: {printed_name(base)} is registered already")
        self._bases[base] = encode
        self._based[base] = decode
        for known in self._writers.keys() - self._writers.built_in - self._registered.keys():
            if base in known.__mro__:
                del self._writers[known]  # it was stored another way
        return self

    def alias(self, name: str, cls: type) -> Self:
        """Read what was stored under ``name`` ("module:qualname", or a registered name) as ``cls``. Return the codec.

        For a class that was moved or renamed. What is written bears the new name.

        :raises SagaDefinitionError: the name is taken, or ``cls`` is no dataclass, Enum or named tuple and not registered.
        """
        if not isinstance(cls, type):
            raise SagaDefinitionError(f"Codec.alias: give a class, not {cls!r}")
        kind = kind_of(cls)
        stored = cls in self._registered or kind.startswith("$") or base_of(cls, self._bases) is not None
        if not stored and not issubclass(cls, Context):
            raise SagaDefinitionError(f"Codec.alias: {printed_name(cls)} is {kind.partition('; ')[0]}; {REGISTER} first")
        self._check_name("alias", name)
        self._aliases[name] = cls
        for known in [known for known in self._writers if stored_name(known) == name and known not in self._registered]:
            del self._writers[known]  # a class that still bears the old name would come back as ``cls``
        return self

    def encode(self, value: Any, path: str = "value") -> str:
        """Return ``value`` as JSON text: ASCII, no spaces, the same for the same elements of a set in any order.

        :param path: what to call the value in an error, such as "context.order".
        :raises EncodingError: it cannot be stored; the text names the key path and type, or the limit it exceeds.
        """
        try:
            text = self._writers[type(value)](value, 1)
            if len(text) > self._max_size:
                raise TooLargeError(self._max_size)
            return text
        except RefusedError as refused:
            raise EncodingError(refused.message(path)) from refused.__cause__
        except Exception as error:  # changed by another thread meanwhile, no stack left, ...
            raise EncodingError(f"{path}: cannot be stored: {type(error).__name__}: {text_of(error)}") from error

    def decode(self, text: str) -> Any:
        """Return the value that :meth:`encode` made ``text`` of.

        :raises EncodingError: it is not such a text, or a class in it is gone; the message says which.
        """
        try:
            return (self._decoder if '"$' in text else self._plain_decoder).decode(text)
        except EncodingError:
            raise
        except RecursionError as error:
            raise EncodingError(
                f"a value that is nested too deep to be read; no more than {MAX_DEPTH} levels are written: {brief(text)}"
            ) from error
        except Exception as error:
            raise EncodingError(f"not JSON: {text_of(error)}: {brief(text)}") from error

    @property
    def grows(self) -> float:
        """How many characters of what is stored one of a text takes: as base64, where it is encrypted."""
        return 1.0 if self.cipher is None else 1.4

    def with_blobs(self, blobs: Blobs) -> Codec:
        """Return the same codec with other blobs: what is registered with one is known to both."""
        other = copy(self)
        other.blobs = blobs
        return other

    def is_large(self, text: str) -> bool:
        """Whether a value of this text, or a longer text that holds one, is to be kept elsewhere."""
        return self.blobs is not None and len(text) > self._larger_than

    def _check_name(self, what: str, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise SagaDefinitionError(f"Codec.{what}: the name is {name!r}; give some text")
        owner = self._aliases.get(name) or self._decoders.get(name, (None,))[0]
        if owner is not None:
            raise SagaDefinitionError(f"Codec.{what}: the name {name!r} is taken by {printed_name(owner)}; give another")

    # Reading goes from the inside out: the JSON parser calls for each object when all that it holds is rebuilt.

    def _read_object(self, found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        [(tag, held)] = found.items()
        if not tag.startswith("$"):
            return found
        reader = self._readers.get(tag)
        if reader is None:
            raise EncodingError(
                f"unknown tag {tag!r}: the text comes from a newer version of saga or was changed; read it with the version "
                f"that wrote it"
            )
        try:
            return reader(held)
        except EncodingError:
            raise
        except Exception as error:
            if self.cipher is not None:  # the text of this goes into logs and rows
                raise EncodingError(f"cannot rebuild {tag} from what was encrypted: {type(error).__name__}") from error
            raise EncodingError(f"cannot rebuild {tag} from {brief(held)}: {type(error).__name__}: {text_of(error)}") from error

    def context_class(self, name: str) -> type[Context]:
        """Return the class of a stored execution's context.

        :raises EncodingError: it is gone, or no :class:`~saga.context.Context`.
        """
        cls = self._named(name)
        if not issubclass(cls, Context):
            raise EncodingError(f"{name!r} was a class of contexts and is none: say which is: Codec.alias({name!r}, TheClass)")
        return cls

    def _named(self, name: str) -> type:
        try:
            return self._aliases.get(name) or self.names.class_of(name)
        except NotNamedError as error:
            raise EncodingError(f"the class {name!r} of a stored value is not looked for: {error}") from error
        except LookupError as error:
            raise EncodingError(
                f"the class {name!r} of a stored value is not found: {error}; put it back, or say where it went: "
                f"Codec.alias({name!r}, TheClass)"
            ) from error

    def _class(self, kind: str, name: Any) -> Any:
        if not isinstance(name, str):
            raise TypeError("a class is named by text")
        cls = self._named(name)
        if not isinstance(cls, type) or kind_of(cls) != kind:
            raise EncodingError(
                f"{name!r} was stored as {KINDS[kind]} and is none: nothing is built with it; make it one again, or name the "
                f"right class: Codec.alias({name!r}, TheClass)"
            )
        return cls

    def _read_based(self, name: str, held: Any) -> Any:
        cls = self._named(name)
        base = base_of(cls, self._based)
        if base is None:
            raise EncodingError(
                f"{name!r} was stored by a rule for a class that it derives from, and there is none; call "
                "Codec.register_base(TheBase, encode, decode) first"
            )
        value = self._based[base](cls, held)
        if type(value) is not cls:
            raise TypeError(
                f"the decode function registered for {printed_name(base)} returned {printed_name(type(value))}, not "
                f"{printed_name(cls)}"
            )
        return value

    def _read_registered(self, name: str, held: Any) -> Any:
        known = self._registered.get(self._aliases.get(name, type(None)), name)
        if known not in self._decoders:
            raise EncodingError(
                f"no class is registered as {name!r}; call Codec.register(TheClass, encode, decode, name={name!r}) first"
            )
        cls, decode = self._decoders[known]
        value = decode(held)
        if type(value) is not cls:
            raise TypeError(
                f"the decode function registered as {known!r} returned {printed_name(type(value))}, not {printed_name(cls)}"
            )
        return value


def check_blobs(blobs: object, what: str) -> None:
    """Refuse what is neither ``None`` nor keeps bytes.

    :raises SagaDefinitionError: the text begins with ``what``.
    """
    methods = (getattr(blobs, name, None) for name in ("put", "get", "delete", "older_than"))
    if blobs is not None and (isinstance(blobs, type) or not all(map(callable, methods))):
        raise SagaDefinitionError(f"{what} is {blobs!r}; give an object that keeps bytes, such as FolderBlobs('blobs')")


def _refuse_sealed(held: Any) -> NoReturn:
    raise EncodingError("it is encrypted, and this codec has no cipher; give the one it was stored with: Codec(cipher=...)")


def _refuse_blob(held: Any) -> NoReturn:
    raise EncodingError("it is elsewhere, and only what is stored of an execution is read from there")


def _refuse_constant(name: str) -> NoReturn:
    raise EncodingError(f'{name} is no JSON; infinities and not-a-number are stored as {{"$float": "inf"}}')
