"""Signatures: which arguments of a function come from the flow, worked out once, when its step is made. Nothing is called here.

The order is Python's own. ``args`` fill an action's parameters from the left, and the first that they leave open gets the
previous step's result. In a compensation the step's own result comes first, and ``compensate_args`` follow.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import CodeType, FunctionType, MethodType, NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, TypeVar, Union, get_args, get_origin

from saga.awaitables import is_coroutine_function, is_generator_function
from saga.context import Context

__all__ = ["CONTEXT", "NOTHING", "RESULT", "Facts", "facts_of"]

CONTEXT: Final = "context"
RESULT: Final = "result"
NOTHING: Final = "nothing"


class Facts(NamedTuple):
    """What is to be known of a function that is called with so many arguments.

    ``result``: the parameter that gets the previous step's result, or in a compensation the step's own. ``result_at``: how many
    of the arguments stand before it; ``None``: it is given by name. ``context``: the parameter that gets the context.
    ``context_at``: where that stands among the arguments and the result; ``None``: it is given by name.
    ``asynchronous``: it is a coroutine function. ``yields``: it is a generator's. ``by_name``: what the flow gives it by name.
    ``alone``: where it gets the context or the result by place, or nothing, and no more: ``CONTEXT``, ``RESULT``, ``NOTHING``.
    """

    result: str | None
    result_at: int | None
    context: str | None
    context_at: int | None
    asynchronous: bool
    yields: bool
    by_name: tuple[str, ...]
    alone: str | None


_Parameter = inspect.Parameter | None


# In a block the same functions are made steps of again and again, and signatures take long to look at: what is known is kept by
# the code, and with it, so that the id of a code is not another's meanwhile.
_known: dict[tuple[Any, ...], tuple[CodeType, Facts]] = {}
_MOST_KNOWN: Final = 512


def facts_of(function: Any, args: int, kwargs: tuple[str, ...], undoes: bool) -> Facts:
    """Work out what a callable gets, besides ``args`` positional arguments and ``kwargs``.

    :param undoes: whether it is a compensation, whose first parameter is its step's own result.
    :raises TypeError: it cannot be called this way; the text goes on after its name.
    """
    if type(function) is not FunctionType or function.__dict__ or function.__kwdefaults__:
        return _worked_out(function, args, kwargs, undoes)
    code, defaults = function.__code__, function.__defaults__
    own = ()
    try:
        if "<locals>" in code.co_qualname:  # within another, it may have other annotations each time, with the same code
            own = tuple(function.__annotations__.values())
        nones = tuple([default is None for default in defaults]) if defaults else ()
        key = (id(code), nones, own, args, kwargs, undoes)
        found = _known.get(key)
    except (NameError, TypeError):  # annotations that are not known yet, or cannot be hashed
        return _worked_out(function, args, kwargs, undoes)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = (code, _worked_out(function, args, kwargs, undoes))
    return found[1]


def _worked_out(function: Any, args: int, kwargs: tuple[str, ...], undoes: bool) -> Facts:
    asynchronous = is_coroutine_function(function)
    yields = is_generator_function(function)
    try:
        signature = _signature(function)
    except (TypeError, ValueError):  # some built-ins tell no signature: they get the given arguments alone
        if isinstance(function, MethodType):
            raise TypeError("is a method, and takes no self") from None
        return Facts(None, None, None, None, asynchronous, yields, (), None if args or kwargs else NOTHING)
    parameters = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    context = _gets_context([p for p in parameters if p.name not in kwargs], function)
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY and p is not context]
    open_ones = [p for p in positional if p.name not in kwargs]
    stars = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    fixed = isinstance(function, partial) and function.args  # the first parameter has a value
    first = undoes and not fixed and open_ones[:1] == positional[:1]
    result = _gets_result(open_ones, args, stars, undoes, first)
    if result is not None and _says_context(result, function) is None:
        raise TypeError(
            f"has a parameter {result.name!r} annotated as {result.annotation}, which is not known there when it runs: call it "
            "context where it is the context, or import its class where it is not"
        )
    places = _places(parameters, args, kwargs, context, result)
    by_name = [p.name for p in (context, result) if p is not None and p not in places]
    try:
        signature.bind(*places, **dict.fromkeys((*kwargs, *by_name)))
    except TypeError as error:
        which = "compensate_" if undoes else ""
        given = f" with these {which}args and {which}kwargs" if args or kwargs else ""
        raise TypeError(f"cannot be called{given}: {error}") from None
    without_context = [one for one in places if one is not context]
    alone = None
    if not (args or kwargs or by_name) and len(places) < 2:
        alone = NOTHING if not places else CONTEXT if places[0] is context else RESULT
    return Facts(
        result.name if result is not None else None,
        without_context.index(result) if result in places else None,
        context.name if context is not None else None,
        places.index(context) if context in places else None,
        asynchronous,
        yields,
        tuple(by_name),
        alone,
    )


def _gets_result(open_ones: list[inspect.Parameter], args: int, stars: bool, undoes: bool, first: bool) -> _Parameter:
    """Return the parameter that gets a result: the step's own, or the previous step's.

    :param open_ones: the positional parameters but the context's, for which no keyword is given.
    :param first: whether it is a compensation whose first parameter is one of them, and may have a default.
    """
    required = [p for p in open_ones if p.default is p.empty]
    if len(required) - args > 1:
        raise TypeError(
            f"needs {', '.join(repr(p.name) for p in required)}, but only one comes from the flow (the previous step's result, "
            "or the step's own in a compensation); give the others with args= or kwargs="
        )
    if len(required) > args:
        return required[0] if undoes else required[args]
    if not first or not open_ones:
        return None
    if args and (len(open_ones) > args or stars):
        raise TypeError(
            "can be called with compensate_args alone, or with its step's own result before them: give them by name, with "
            "compensate_kwargs="
        )
    own = open_ones[0]
    if not args and own.default is not None:
        raise TypeError(
            f"has a default of {own.default!r} for {own.name!r}, which gets its step's own result: leave the default out, or "
            f"give {own.name!r} a value with compensate_kwargs= or compensate_args="
        )
    return None if args else own


def _places(
    parameters: list[inspect.Parameter], args: int, kwargs: tuple[str, ...], context: _Parameter, result: _Parameter
) -> list[_Parameter | str]:
    """Return what is given by place, in order: up to where a parameter is given by name, or not at all."""
    places: list[_Parameter | str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            break
        if parameter is context or parameter is result:
            places.append(parameter)
        elif parameter.name not in kwargs and args:
            places.append("one of args")
            args -= 1
        else:
            break
    return places + ["one of args"] * args


# -- annotations ------------------------------------------------------------------------------------------------------


def _gets_context(parameters: list[inspect.Parameter], function: Any) -> _Parameter:
    """Return the parameter named or annotated as the context."""
    found = [p for p in parameters if p.name == "context" or _says_context(p, function)]
    if len(found) > 1:
        raise TypeError(f"has more than one parameter for the context, {', '.join(repr(p.name) for p in found)}; leave one")
    return found[0] if found else None


def _says_context(parameter: inspect.Parameter, function: Any) -> bool | None:
    """Whether a parameter is annotated as a context; ``None`` where it looks so, and the class is not known where it stands."""
    annotation = parameter.annotation
    return annotation is not parameter.empty and _is_context(annotation, function)


def _is_context(annotation: Any, function: Any) -> bool | None:
    """Whether an annotation is :class:`~saga.Context`, a subclass of it, or either of these in another form."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    if isinstance(text, str):
        try:
            annotation = eval(text, _scope_of(function))
        except Exception:  # imported for type checkers alone, or defined further down
            return None if text.rpartition(".")[2].strip().endswith("Context") else False
    if isinstance(annotation, TypeVar):
        annotation = annotation.__bound__
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_context(get_args(annotation)[0], function)
    if origin is Union or origin is UnionType:
        kinds = [_is_context(one, function) for one in get_args(annotation) if one is not NoneType]
        return all(kinds) if None not in kinds else None
    alias = getattr(annotation, "__value__", None) or getattr(annotation, "__supertype__", None)  # type X = Order, or NewType
    if alias is not None:
        return _is_context(alias, function)
    return Context in getattr(origin or annotation, "__mro__", ())


def _scope_of(function: Any) -> dict[str, Any]:
    """Return the names that annotations of the function are written in."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType):
        kind, method = (function, "__init__") if isinstance(function, type) else (type(function), "__call__")
        function = getattr(kind, method, None)
    if not isinstance(function, FunctionType):
        return {}
    inside = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    parameters = {one.__name__: one for one in getattr(function, "__type_params__", ())}
    return {**function.__globals__, **parameters, **{name: cell.cell_contents for name, cell in inside}}


if sys.version_info >= (3, 14):
    from annotationlib import Format

    def _signature(function: Any) -> inspect.Signature:
        # Annotations are worked out when they are asked for: what is imported for type checkers alone is not there.
        return inspect.signature(function, annotation_format=Format.FORWARDREF)

else:
    _signature = inspect.signature
