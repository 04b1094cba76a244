"""What a saga tells of itself: a picture, and what its steps would lack. Nothing is executed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Generic

from saga.context import Ctx
from saga.declared import refuse_unmade
from saga.errors import SagaDefinitionError
from saga.flow.keys import keys_of
from saga.machine import Finding, findings_of
from saga.stored import Stored

if TYPE_CHECKING:
    from saga.diagram import Diagram
    from saga.diagram.shape import Certified
    from saga.result import SagaResult

__all__ = ["Described"]


class Described(Stored[Ctx], Generic[Ctx]):
    """The part of a saga that tells what it is."""

    def check(self, given: Iterable[str] | None = None) -> list[Finding]:
        """Return where a step may lack a key of the context that it requires, in the order of the flow.

        It goes by what steps say of themselves, with ``requires`` and ``provides``, and calls none. Where none says anything,
        nothing is found. A key is there where the input has it, or a step has set it that surely came before.

        :param given: the keys that the input has, or such an input. The fields of the saga's class of contexts are there
            besides; one whose default is ``None`` is so when a step that provides it has come. Where there is neither,
            nobody knows what the input has.
        :raises SagaDefinitionError: the saga is wrong, or ``given`` is.
        """
        refuse_unmade(self)
        keys = None if given is None else keys_of(tuple(given) if isinstance(given, Mapping) else given, "check(): given")
        return findings_of(self.definition.plan, self.name, keys)

    def diagram(self, result: SagaResult | None = None, *, certificates: Certified | None = None) -> Diagram:
        """Return a picture of the saga, or of how an execution of it went: as SVG, and as text for Mermaid.

        :param result: of an execution of this saga.
        :param certificates: the :class:`~saga.testing.Certificates` of its tasks, for it to say which are certified.
        :raises SagaDefinitionError: the saga is wrong, or the result is not one of this saga as it is now.
        """
        refuse_unmade(self)
        from saga.diagram import Diagram

        return Diagram(self.definition, result, certificates=certificates)

    def _repr_svg_(self) -> str | None:
        # What Jupyter shows. A saga that is wrong, or not finished yet, is shown as text.
        try:
            return self.diagram().svg()
        except SagaDefinitionError:
            return None
