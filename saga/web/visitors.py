"""Who visits the page, and what they may do. No page is made here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from saga.errors import SagaDefinitionError
from saga.names import check_said

__all__ = ["LOOK", "Authorize", "Visitors", "check_same_site", "csrf_of"]

Authorize = Callable[[Request, str], str | Awaitable[str | None] | None]

LOOK: Final = "look"
"""The action of whoever only looks."""
_SHORTEST: Final = 16
_HOURS: Final = 12
_WHO, _CSRF = "saga_who", "saga_csrf"


class Visitors:
    """
    :param token: the secret that lets a visitor act.
    :param authorize: says who may act.
    :param private: whether nobody may look without.
    """

    def __init__(self, token: str | None, authorize: Authorize | None, private: bool) -> None:
        if token is not None and (not isinstance(token, str) or len(token) < _SHORTEST):
            raise SagaDefinitionError(
                f"the page's token is no str of at least {_SHORTEST} characters; give one such as secrets.token_urlsafe()"
            )
        if authorize is not None and not callable(authorize):
            raise SagaDefinitionError(f"the page's authorize is {authorize!r}; give a function of (request, action)")
        if token is not None and authorize is not None:
            raise SagaDefinitionError("the page is given a token and authorize; give the one that says who may act")
        if private and token is None and authorize is None:
            raise SagaDefinitionError("the page is private, and nobody could look at it; give a token or authorize")
        self._token = token
        self._authorize = authorize
        self._private = private

    @property
    def sign_in(self) -> bool:
        """Whether a visitor can sign in here."""
        return self._token is not None

    async def who(self, request: Request, action: str) -> str | None:
        """Return who the visitor is, where they may do this; else ``None``.

        :raises TypeError: ``authorize`` returned something else.
        """
        if self._token is not None:
            return _signed(request.cookies.get(_WHO, ""), self._token)
        if self._authorize is None:
            return None
        said = self._authorize(request, action)
        who = await said if inspect.isawaitable(said) else said
        if who is None:
            return None
        try:
            check_said(who, "it says who acts")
        except ValueError:
            raise TypeError(f"authorize returned {who!r}; return who acts, as a str, or None") from None
        return str(who)

    async def may_look(self, request: Request) -> bool:
        """Return whether the visitor may look at the page."""
        return not self._private or await self.who(request, LOOK) is not None

    async def may(self, request: Request, actions: Iterable[str]) -> frozenset[str]:
        """Return which of the actions the visitor may do."""
        if self._token is not None:
            return frozenset(actions) if await self.who(request, LOOK) is not None else frozenset()
        return frozenset([action for action in actions if await self.who(request, action) is not None])

    def let_in(self, request: Request, response: Response, token: str, name: str) -> bool:
        """Let a visitor in who knows the token; return whether they do."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.encode()):
            return False
        check_said(name, "it says who acts")
        _set(request, response, _WHO, _sign(name.strip(), int(time.time()) + _HOURS * 3600, self._token), _HOURS * 3600)
        return True

    @staticmethod
    def let_out(request: Request, response: Response) -> None:
        """Forget who the visitor is."""
        response.delete_cookie(_WHO, path=_path(request))


def csrf_of(request: Request, response: Response | None = None) -> str:
    """Return what a visitor's forms must have: what their cookie has. They get one where they have none."""
    known = request.cookies.get(_CSRF) or getattr(request.state, "csrf", None)
    if known is None:
        known = request.state.csrf = secrets.token_urlsafe(24)
    if response is not None and _CSRF not in request.cookies:
        _set(request, response, _CSRF, known, None)
    return str(known)


def check_same_site(request: Request, form: Mapping[str, str]) -> None:
    """Refuse a form that this page has not made.

    The cookie alone does not tell: over plain HTTP, a sibling of this host can set one that browsers send here.

    :raises HTTPException: another origin's page sent it, or what sent it does not say which.
    """
    if not _is_of_this_origin(request):
        raise HTTPException(
            403,
            "This form was not sent by a page of this origin, so nothing was done. A proxy in front is to pass on the "
            "Host that browsers ask for; a program is to send it as Origin.",
        )
    cookie = request.cookies.get(_CSRF, "")
    if not cookie or not hmac.compare_digest(form.get("csrf", "").encode(), cookie.encode()):
        raise HTTPException(403, "This form is not one that this page made for you, so nothing was done. Load the page again.")


def _is_of_this_origin(request: Request) -> bool:
    """Return whether the browser says that a page of this origin sent it: over HTTPS and on loopback in one word, and else by
    that page's host, which no page can forge.
    """
    said = request.headers.get("sec-fetch-site")
    if said is not None:
        return said == "same-origin"
    scheme, _, host = request.headers.get("origin", "").partition("://")
    ours = [request.headers.get(header, "").lower() for header in ("host", "x-forwarded-host")]
    return scheme in ("http", "https") and host != "" and host.lower() in ours


def _set(request: Request, response: Response, name: str, value: str, seconds: int | None) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=seconds, path=_path(request), httponly=True, samesite="strict", secure=secure)


def _path(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/"


def _sign(name: str, until: int, token: str) -> str:
    said = f"{base64.urlsafe_b64encode(name.encode()).decode()}.{until}"
    return f"{said}.{hmac.new(token.encode(), said.encode(), hashlib.sha256).hexdigest()}"


def _signed(cookie: str, token: str) -> str | None:
    """Return the name that was signed, or ``None``."""
    try:
        name, until, _ = cookie.split(".")
        who = base64.urlsafe_b64decode(name).decode()
        genuine = hmac.compare_digest(cookie.encode(), _sign(who, int(until), token).encode())
    except ValueError:
        return None
    return who if genuine and time.time() < int(until) else None
