"""The page: executions, causes, one execution, health, in a browser: an ASGI application. Nothing inside imports it.

All that is shown and done goes through :class:`~saga.operations.Operations`. No store is read here, and no payload is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saga.diagram.shape import Certified
    from saga.saga import Saga
    from saga.storage import Store
    from saga.web.page import Page
    from saga.web.visitors import Authorize

__all__ = ["app", "serve"]


def app(
    store: Store | str | PathLike[str],
    *,
    sagas: Iterable[Saga[Any]] = (),
    token: str | None = None,
    authorize: Authorize | None = None,
    private: bool = False,
    certificates: Certified | None = None,
) -> Page:
    """Return the page as an ASGI application, to be served as it is or mounted under any prefix: all its links are relative.

    To make it opens the store, which may take a while: do it before the event loop runs. Whoever may look at it sees ids, tags,
    errors and reasons. Results and contexts are shown of executions whose definition is given alone, but for what that masks.

    Nobody can act without ``token`` or ``authorize``.

    :param store: a :class:`~saga.storage.Store`, a path or a database's URL.
    :param sagas: definitions; with them the page draws diagrams, shows steps not begun yet, and can undo what is completed.
    :param token: a secret of at least 16 characters; whoever gives it with a name can act under that name, for 12 hours.
    :param authorize: called, or awaited, as ``authorize(request, action)`` with a Starlette ``Request`` and the name of an
        action, such as ``"retry"``: returns who acts, or ``None`` where they may not. It must not block the event loop.
    :param private: nobody can look either, but with the token, or where ``authorize(request, "look")`` says who it is.
    :param certificates: the :class:`saga.testing.Certificates` of their tasks, as they are now, which the diagrams then mark.
    :raises SagaDefinitionError: a parameter is wrong.
    :raises StorageError: the store cannot be opened.
    :raises ModuleNotFoundError: Starlette or Jinja2 is not installed.
    """
    try:
        from saga.web.page import Page
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return Page(store, sagas, token, authorize, private, certificates)


def serve(page: Page, *, host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve the page until the process is told to stop (SIGINT, SIGTERM).

    On a loopback address, requests that ask for another host are refused: no other site reaches it by a name of its own.

    :raises ModuleNotFoundError: uvicorn is not installed.
    """
    try:
        from saga.web.serving import serve_page
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    serve_page(page, host, port)


def _missing(error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"the page needs {error.name}: pip install 'saga-tasks[web]'", name=error.name)
