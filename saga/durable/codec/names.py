"""Names that a stored text has: what they are found as, and in which modules they are looked for. Nothing is built here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from saga.errors import SagaDefinitionError
from saga.names import several
from saga.plain import text_of

__all__ = ["Names", "NotNamedError"]

_OURS: Final = __name__.partition(".")[0]


class NotNamedError(LookupError):
    """A name is not looked for: nobody has said that its module may be."""


class Names:
    """Finds what a text names. A module that nobody has named is never imported for a text, nor is a function of it found.

    :ivar modules: where classes and functions are looked for, with what those that are packages hold; ``None``: classes in
        what the program has imported, and functions nowhere.
    """

    def __init__(self, modules: Iterable[str | ModuleType] | None) -> None:
        self.modules = None if modules is None else tuple(_checked(one) for one in several(modules, "Codec: modules"))

    def class_of(self, name: str) -> type:
        """Return the class called "module:qualname".

        :raises LookupError: there is none, or its module is not to be looked at; nothing but an import of one that is has run.
        """
        module, path = self._parts(name)
        if self.modules is not None and not self._is_named(module) and module.partition(".")[0] != _OURS:
            raise NotNamedError(f"{module!r} is none of the codec's modules; name it, too: {self._with(module)}")
        found = self._module(module)
        for part in path:
            # Through __dict__, not getattr: neither a module's __getattr__ nor a descriptor is called for a text.
            found = getattr(found, "__dict__", {}).get(part)
            if not isinstance(found, type):
                raise LookupError(f"{module!r} has no class {'.'.join(path)!r}")
        return found  # type: ignore[no-any-return]

    def callable_of(self, name: str) -> Any:
        """Return the function or task class "module:name", which is to be called.

        :raises LookupError: there is none, nobody has named its module, or what bears the name there comes from elsewhere.
        """
        module, path = self._parts(name)
        self.check_called(module)
        found = getattr(self._module(module), "__dict__", {}).get(".".join(path))
        if not callable(found):
            raise LookupError(f"{name!r} is not found: {module!r} has no function and no class of that name")
        self.check_called(str(getattr(found, "__module__", None)))  # which may be another's, imported there
        return found

    def check_called(self, module: str) -> None:
        """See that functions of a module may be called since a text names them.

        :raises NotNamedError: nobody has said so.
        """
        if not self._is_named(module):
            raise NotNamedError(f"{module!r} is none of the codec's modules; name it: {self._with(module)}")

    def _parts(self, name: str) -> tuple[str, list[str]]:
        module, _, qualname = name.partition(":")
        path = qualname.split(".")
        if not all(part.isidentifier() for part in path):  # before an import, which runs the module
            raise LookupError('it is not of the form "module:qualname"')
        return module, path

    def _is_named(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{one}.") for one in self.modules or ())

    def _with(self, module: str) -> str:
        return f"Codec(modules={[*(self.modules or ()), module]})"

    def _module(self, module: str) -> Any:
        found = sys.modules.get(module)
        if found is not None:
            return found
        if not self._is_named(module):
            raise NotNamedError(
                f"{module!r} is not imported, and is not for a stored text; import it, or name it: {self._with(module)}"
            )
        try:
            return import_module(module)
        except (Exception, SystemExit) as error:  # a script that was not meant to be imported may well exit
            raise LookupError(f"importing {module!r} raised {type(error).__name__}: {text_of(error)}") from error


def _checked(module: object) -> str:
    name = module.__name__ if isinstance(module, ModuleType) else module
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise SagaDefinitionError(f"Codec: one of modules is {module!r}; give modules or their names, such as 'shop.orders'")
    return name
