"""The page beside a Django site, for those of its users who are staff: ``uvicorn django_app:application``."""

from __future__ import annotations

import os
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from orders import STORE, place_order
from starlette.requests import Request

from saga.web import app

settings.configure(  # a site of your own has a module for this
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.db"}},
)
site = get_asgi_application()
urlpatterns = [path("", lambda request: HttpResponse("Orders are placed here."))]


def staff(key: str | None) -> str | None:
    known = HttpRequest()
    known.session = SessionStore(key)
    user = get_user(known)
    return user.get_username() if user.is_active and user.is_staff else None


async def authorize(request: Request, action: str) -> str | None:
    return await sync_to_async(staff)(request.cookies.get(settings.SESSION_COOKIE_NAME))


page = app(STORE, sagas=[place_order], authorize=authorize, private=True)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and f"{scope['path']}/".startswith("/saga/"):
        await page({**scope, "root_path": "/saga"}, receive, send)
    else:
        await site(scope, receive, send)
