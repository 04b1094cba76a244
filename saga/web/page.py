"""The page's application: routes, who may see and do what, what every answer says to browsers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from saga.errors import ActionRefusedError, EncodingError, SagaDefinitionError, StorageError, UnknownExecutionError
from saga.names import several
from saga.operations import Operations
from saga.plain import one_line
from saga.web.acting import ACTIONS, LONGEST, Form, act, chosen, form_of
from saga.web.asked import normal
from saga.web.live import Live, tag_of
from saga.web.many import Question, act_on, asked_about, few, of_cause, of_ids, those_of
from saga.web.shown import HERE, STYLE, environment
from saga.web.views import Seen, Views
from saga.web.visitors import LOOK, Authorize, Visitors, check_same_site, csrf_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from saga.diagram.shape import Certified
    from saga.saga import Saga
    from saga.storage import Store

__all__ = ["Page"]

_HEADERS: Final = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_WRONG: Final[dict[type[Exception], int]] = {
    UnknownExecutionError: 404,
    ActionRefusedError: 409,
    StorageError: 503,
    SagaDefinitionError: 400,
    EncodingError: 400,
    ValueError: 400,
}
"""By what is raised: the status of the answer, the first that fits. Its text says what is wrong."""

_EDITION: Final = tag_of("".join((HERE / "static" / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")))
"""Stands for the files that browsers keep."""

_RETRY_AFTER: Final = "60"
"""Seconds until it is worth asking for a stream again; meanwhile browsers ask every few seconds for what is new."""

_FORM_OF_MANY: Final = 3_000_000
"""Bytes of a form that has the ids of as many executions as are acted on at once."""

View = Callable[[QueryParams], Awaitable[Seen]]


class Page:
    """The page, an ASGI application: made by :func:`saga.web.app`."""

    def __init__(
        self,
        store: Store | str | PathLike[str],
        sagas: Iterable[Saga[Any]],
        token: str | None,
        authorize: Authorize | None,
        private: bool,
        certificates: Certified | None,
    ) -> None:
        self._visitors = Visitors(token, authorize, private)
        self._sagas = several(sagas, "the page's sagas")
        self._operations = Operations(store, who="the page", sagas=self._sagas)
        self._views = Views(self._operations, self._sagas, certificates)
        self._live = Live()
        self._registry: CollectorRegistry | None = None
        self._templates: Environment = environment()
        self._app = Starlette(
            routes=[
                Route("/", self._page("executions", self._views.executions)),
                Route("/causes", self._page("causes", self._views.causes)),
                Route("/execution", self._page("execution", self._views.execution)),
                Route("/health", self._page("health", self._views.health)),
                Route("/some", self._page("some", self._views.some)),
                Route("/metrics", self._metrics),
                Route("/act", self._act, methods=["POST"]),
                Route("/ask", self._ask, methods=["POST"]),
                Route("/act-on-many", self._act_on_many, methods=["POST"]),
                Route("/enter", self._enter, methods=["GET", "POST"]),
                Route("/leave", self._leave, methods=["POST"]),
                Route("/static/diagram.css", _diagram_css),
                Mount("/static", StaticFiles(directory=HERE / "static")),
            ],
            exception_handlers={HTTPException: self._wrong, **dict.fromkeys(_WRONG, self._wrong), Exception: self._broken},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        root = scope.get("root_path", "")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                kept = message["status"] in (200, 304) and scope["path"].startswith(f"{root}/static/")
                headers.setdefault("cache-control", "max-age=3600" if kept else "no-store")
            await send(message)

        if scope["path"] == root:  # addresses within the page are relative to this with a slash
            await RedirectResponse(f"{root.rpartition('/')[2]}/")(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)

    # -- looking ------------------------------------------------------------------------------------------------------

    def _page(self, name: str, view: View) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers for a page: as a whole, as what may change of it (``?live=1``), or as a stream of that."""

        async def answer(request: Request) -> Response:
            if not await self._visitors.may_look(request):
                return self._refused(request)
            query = normal(request.query_params, name)
            if "live" not in request.query_params:
                return await self._whole(request, await view(query))
            may = await self._visitors.may(request, ACTIONS)
            key = (name, tuple(query.multi_items()), may)

            async def render() -> str:
                return self._fragment(await view(query), may)

            if "text/event-stream" in request.headers.get("accept", ""):
                if not self._live.has_room(key):
                    raise HTTPException(503, "Too many look at once.", {"retry-after": _RETRY_AFTER})
                if not self._live.has(key):
                    await view(query)  # what cannot be shown at all is no stream
                last = request.headers.get("last-event-id") or request.query_params.get("seen")
                headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
                return StreamingResponse(self._live.stream(key, render, last), media_type="text/event-stream", headers=headers)
            fragment = self._live.shown(key) or await render()
            tag = f'"{tag_of(fragment)}"'
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers={"etag": tag})
            return HTMLResponse(fragment, headers={"etag": tag, "cache-control": "no-cache"})

        return answer

    def _fragment(self, seen: Seen, may: frozenset[str], typed: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return what may change of a page.

        :param typed: what a visitor has typed there already.
        """
        return self._templates.get_template(f"live/{seen.template}").render(seen.values, may=may, typed=typed)

    async def _whole(
        self,
        request: Request,
        seen: Seen,
        code: int | None = None,
        typed: Mapping[str, str] = MappingProxyType({}),
        **more: Any,
    ) -> Response:
        may = await self._visitors.may(request, ACTIONS)
        fragment = self._fragment(seen, may, typed)
        values = {
            **seen.values,
            "fragment": fragment,
            "tag": tag_of(fragment),
            "may": may,
        }
        return await self._render(request, seen.template, code or seen.code, **{"title": seen.title, **values, **more})

    async def _render(self, request: Request, template: str, code: int, **values: Any) -> Response:
        who = await self._visitors.who(request, LOOK) if self._visitors.sign_in else None
        common = {
            "who": who,
            "sign_in": self._visitors.sign_in,
            "csrf": csrf_of(request),
            "edition": _EDITION,
            "here": request.url.path.rpartition("/")[2],
            "address": _address(request),
        }
        response = HTMLResponse(self._templates.get_template(template).render(common | values), code)
        csrf_of(request, response)
        return response

    async def _metrics(self, request: Request) -> Response:
        """Tell Prometheus what the store has, where its library is installed."""
        if not await self._visitors.may_look(request):
            return self._refused(request)
        try:
            return Response(*await asyncio.to_thread(self._gauges))
        except ModuleNotFoundError as error:
            raise HTTPException(404, one_line(error)) from error

    def _gauges(self) -> tuple[bytes, int, None, str]:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

        from saga.integrations.prometheus import StoreCollector

        if self._registry is None:
            registry = CollectorRegistry()
            StoreCollector(self._operations.store, registry)
            self._registry = registry  # whole: another thread may ask at the same time
        return generate_latest(self._registry), 200, None, CONTENT_TYPE_LATEST

    # -- acting -------------------------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        form, operations, action, of = await self._checked(request)
        saga_id = form.get("id", "")
        try:
            await act(operations, action, saga_id, of, form)
        except UnknownExecutionError:
            raise
        except (ActionRefusedError, StorageError, ValueError, SagaDefinitionError, EncodingError) as error:
            seen = await self._views.execution(normal(QueryParams(id=saga_id), "execution"))
            return await self._whole(request, seen, _code_of(error), form, wrong=f"{action}: {one_line(error)}")
        self._live.look_again()
        return _to(f"execution?{QueryParams(id=saga_id)}#decided")

    async def _ask(self, request: Request) -> Response:
        """Ask whether an action is to be done with many, and for the reason. Nothing is done yet."""
        form, operations, action, of = await self._checked(request, _FORM_OF_MANY)
        some = await (of_cause(operations, of, form.get(f"most-{of}", "")) if of else of_ids(operations, form.getlist("id")))
        return await self._asked(request, await asked_about(operations, action, some), _within(form.get("back", "")))

    async def _asked(self, request: Request, question: Question, back: str, code: int = 200, **said: str | None) -> Response:
        title = f"{question.action.capitalize()} {_these(len(question.rows))}?"
        values = {"question": question, "back": back, "wrong": None, "why": "", **said}
        return await self._render(request, "ask.html", code, title=title, **values)

    async def _act_on_many(self, request: Request) -> Response:
        form, operations, action, _ = await self._checked(request, _FORM_OF_MANY)
        why, those, back = form.get("why", ""), form.get("those", ""), _within(form.get("back", ""))
        try:
            outcome = await act_on(operations, action, why, those)
        except ValueError as error:
            some = await of_ids(operations, [saga_id for saga_id, _ in those_of(those)])
            question = (await asked_about(operations, action, some))._replace(those=those)
            return await self._asked(request, question, back, 400, wrong=one_line(error), why=why)
        self._live.look_again()
        seen = await self._views.some(QueryParams([("of", saga_id) for saga_id in few(outcome.given)]))
        return await self._whole(request, seen, title=action.capitalize(), outcome=outcome, back=back)

    async def _checked(self, request: Request, longest: int = LONGEST) -> tuple[Form, Operations, str, str]:
        """Return a form, what does what it says under the visitor's name, the action, and what that is of.

        :raises HTTPException: the form is none of this page's, or the visitor may not do it.
        """
        form = await form_of(request, longest)
        check_same_site(request, form)
        action, of = chosen(form)
        who = await self._visitors.who(request, action)
        if who is None:
            raise HTTPException(403, f"You may not {action} anything here; nothing was done.")
        return form, Operations(self._operations.store, who, sagas=self._sagas), action, of

    async def _enter(self, request: Request) -> Response:
        if not self._visitors.sign_in:
            raise HTTPException(404, "Nobody signs in here.")
        if request.method == "GET":
            back = request.query_params.get("to", "")
            return await self._render(request, "enter.html", 200, title="Sign in", wrong=None, back=back)
        form = await form_of(request)
        check_same_site(request, form)
        back = form.get("to", "")
        response = _to(_within(back))
        try:
            known = self._visitors.let_in(request, response, form.get("token", ""), form.get("name", ""))
            wrong = None if known else "This is not the token."
        except ValueError:
            wrong = "Give your name: it is in the journal of what you do."
        return (
            response
            if wrong is None
            else await self._render(request, "enter.html", 403, title="Sign in", wrong=wrong, back=back)
        )

    async def _leave(self, request: Request) -> Response:
        check_same_site(request, await form_of(request))
        response = _to("./")
        self._visitors.let_out(request, response)
        return response

    # -- what is wrong ------------------------------------------------------------------------------------------------

    def _refused(self, request: Request) -> Response:
        if self._visitors.sign_in and request.method == "GET" and "live" not in request.query_params:
            return _to(f"enter?{QueryParams(to=_address(request))}")
        raise HTTPException(403, "You may not look at this.")

    async def _wrong(self, request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else _code_of(error)
        said = error.detail if isinstance(error, HTTPException) else one_line(error)
        title = {403: "Not allowed", 404: "Not found", 503: "The store cannot be asked"}.get(code, "That did not work")
        answer = await self._render(request, "wrong.html", code, title=title, said=said)
        if isinstance(error, HTTPException):  # authorize() may ask for a password, or lead elsewhere
            answer.headers.update(error.headers or {})
        return answer

    async def _broken(self, request: Request, error: Exception) -> Response:
        return await self._render(request, "wrong.html", 500, title="That did not work", said="The log of the server says why.")


def _address(request: Request) -> str:
    """Return the address of a page, as it is relative to the others."""
    return f"{request.url.path.rpartition('/')[2] or './'}?{request.url.query}"


def _within(address: str) -> str:
    """Return an address of this page, as a form gave it; of what is none, that of the list."""
    return address if re.match(r"(execution|causes|health|\./)(\?|$)", address) else "./"


def _these(number: int) -> str:
    return "this execution" if number == 1 else f"these {number:,} executions"


def _to(where: str) -> RedirectResponse:
    return RedirectResponse(where, 303)


def _code_of(error: Exception) -> int:
    return next(code for kind, code in _WRONG.items() if isinstance(error, kind))


def _diagram_css(request: Request) -> Response:
    return Response(STYLE, media_type="text/css")
