"""The operators that compose: ``a & b``, ``a | Retry(3)``, ``action >> compensation``. Nothing is imported or built here.

Tasks have these operators and stand in flows, and flows have them and are built of tasks: so what the operators do, which
:mod:`saga.flow.build` knows, cannot be imported where they are defined. That room hands its functions in when it is
imported, and ``import saga`` always imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["Composing", "Flow", "Operators", "operators"]


class Operators:
    """The functions behind the operators: each takes what stands to the left and to the right."""

    __slots__ = ("both", "with_compensation", "with_policy")

    both: Callable[[Any, Any], Flow]
    with_policy: Callable[[Any, Any], Flow]
    with_compensation: Callable[[Any, Any], Flow]


operators: Final = Operators()


class Composing:
    """Operators that compose: ``a & b`` runs both at the same time, ``a | Retry(3)`` gives a step a policy,
    ``action >> compensation`` gives a function step the function that undoes it."""

    __slots__ = ()

    def __and__(self, other: Any) -> Flow:
        return operators.both(self, other)

    def __rand__(self, other: Any) -> Flow:
        return operators.both(other, self)

    def __or__(self, policy: Any) -> Flow:
        return operators.with_policy(self, policy)

    def __rshift__(self, compensation: Any) -> Flow:
        return operators.with_compensation(self, compensation)


class Flow(Composing):
    """Anything that can stand in a saga: a :class:`~saga.flow.Step`, a :class:`~saga.flow.Sequence`,
    a :class:`~saga.flow.Parallel`, ..."""

    __slots__ = ()
