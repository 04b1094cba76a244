"""Diagrams of a saga, and of what became of an execution: SVG, and text for Mermaid. Nothing but the standard library.

:meth:`saga.Saga.diagram` makes them. Nothing inside imports this; it is loaded when the first diagram is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saga.diagram.mermaid import flowchart, sequence_diagram
from saga.diagram.shape import Certified, Picture, picture_of
from saga.diagram.svg import draw
from saga.errors import SagaDefinitionError
from saga.names import several

if TYPE_CHECKING:
    from saga.definition import Definition
    from saga.result import SagaResult

__all__ = ["Diagram"]


class Diagram:
    """A picture of a saga, or of an execution of it: made by :meth:`saga.Saga.diagram`. Jupyter shows it as it is.

    Colours never stand alone: what they say is there in words and marks too.

    :param definition: what to draw.
    :param result: how an execution of it went, where that is to be drawn.
    :param caption: lines that are said besides of the whole.
    :param certificates: the :class:`~saga.testing.Certificates` of its tasks, where it is to say which are certified.
    :raises SagaDefinitionError: the saga or a parameter is wrong, or the result is not one of this saga as it is now.
    """

    def __init__(
        self,
        definition: Definition,
        result: SagaResult | None = None,
        caption: Iterable[str] = (),
        certificates: Certified | None = None,
    ) -> None:
        lines = several(caption, "Diagram: caption")
        for line in lines:
            if not isinstance(line, str):
                raise SagaDefinitionError(f"Diagram: caption has {line!r}, which is no text; give lines")
        if certificates is not None and not callable(getattr(certificates, "standing", None)):
            raise SagaDefinitionError(f"Diagram: certificates is {certificates!r}; give saga.testing.Certificates")
        self._picture: Picture = picture_of(definition, result, lines, certificates)

    def svg(self) -> str:
        """Return an SVG document as text. It follows the reader's light or dark mode and needs no fonts, ids or scripts."""
        return draw(self._picture)

    def mermaid(self) -> str:
        """Return a flowchart as Mermaid text."""
        return flowchart(self._picture)

    def sequence(self) -> str:
        """Return a Mermaid sequence diagram: who calls whom, or, of an execution, who called whom."""
        return sequence_diagram(self._picture)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        of = f" as {self._picture.result.saga_id} went" if self._picture.result is not None else ""
        return f"<Diagram of saga {self._picture.definition.name!r}{of}>"
