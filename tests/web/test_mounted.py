"""The page within other applications, under a prefix: FastAPI, Django, Flask, and whatever speaks ASGI."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from saga.operations import Operations
from saga.web import app
from tests.kit import until
from tests.web.conftest import TOKEN, Shop, csrf_in


def in_starlette(page: Any) -> Any:
    return Starlette(routes=[Mount("/ops/saga", page)])


def in_fastapi(page: Any) -> Any:
    from fastapi import FastAPI

    application = FastAPI()
    application.mount("/ops/saga", page)
    return application


def behind_a_root_path(page: Any) -> Any:
    """As a server does that is told ``--root-path /ops/saga``: the path has the prefix, or a proxy has taken it off."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await page({**scope, "root_path": "/ops/saga"}, receive, send)

    return application


MOUNTS: dict[str, Callable[[Any], Any]] = {
    "starlette": in_starlette,
    "fastapi": in_fastapi,
    "root path": behind_a_root_path,
}


@pytest.mark.parametrize("mount", MOUNTS)
def test_everything_works_under_a_prefix(shop: Shop, mount: str) -> None:
    page = app(shop.store, sagas=shop.sagas, authorize=lambda request, action: "ann")
    client = TestClient(MOUNTS[mount](page), base_url="http://shop")
    home = "/ops/saga/"
    for address in ("", "causes", "health", "execution?id=place-1", "static/page.css", "static/diagram.css", "?status=stuck"):
        assert client.get(home + address).status_code == 200, address
    answer = client.get(home + "execution?id=place-1")
    assert all(
        "Path=/ops/saga/" in cookie for cookie in TestClient(MOUNTS[mount](page)).get(home).headers.get_list("set-cookie")
    )
    form = {"csrf": csrf_in(answer.text), "do": "retry:", "id": "place-1", "why": "so"}
    done = client.post(home + "act", data=form, headers={"origin": "http://shop"}, follow_redirects=True)
    assert done.url == "http://shop/ops/saga/execution?id=place-1#decided"
    assert done.status_code == 200
    without = client.get("/ops/saga", follow_redirects=True)
    assert without.status_code == 200
    assert str(without.url) == "http://shop/ops/saga/"


EXAMPLES = Path(__file__).parents[2] / "examples" / "page"

#: Signs a member of the staff in at the Django site, and prints the cookie.
SIGN_IN = """
import django_app
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
for name, staff in (("ann", True), ("eve", False)):
    user = User.objects.create(username=name, is_staff=staff)
    session = django_app.SessionStore()
    session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session.save()
    print(session.session_key)
"""


@contextmanager
def running(folder: Path, example: str) -> Iterator[Any]:
    """Serve an example in a process of its own, and give a client for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-m uvicorn {example}:application --host 127.0.0.1 --port {port} --log-level warning --app-dir {EXAMPLES}"
    process = subprocess.Popen([sys.executable, *options.split()], cwd=folder, env=environment(folder))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

            def answers() -> bool:
                assert process.poll() is None, "the server did not start"
                with suppress(httpx.TransportError):
                    return bool(client.get("/").status_code)
                return False

            until(answers)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def environment(folder: Path) -> dict[str, str]:
    paths = [str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"SAGA_STORE": str(folder / "orders.db"), "SAGA_PAGE_TOKEN": TOKEN, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **own}


def python(folder: Path, code: str) -> list[str]:
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.split()


@pytest.mark.parametrize("example", ["fastapi_app", "django_app", "flask_app"])
def test_an_application_has_the_page_for_its_operators(tmp_path: Path, example: str) -> None:
    python(tmp_path, "import orders; orders.place_order.submit({'order': 'A1'}, saga_id='A1')")
    cookies = python(tmp_path, SIGN_IN) if example == "django_app" else []
    with running(tmp_path, example) as client:
        origin = {"origin": str(client.base_url).rstrip("/")}
        assert "placed here" in client.get("/").text
        assert client.get("/saga/static/page.css").status_code == 200
        if example != "flask_app":  # which has every address that does not begin with /saga/
            assert client.get("/saga", follow_redirects=False).headers["location"].endswith("saga/")
        for other in ({}, {"x-forwarded-user": "eve"}, {"cookie": f"sessionid={cookies[-1]}"} if cookies else {}):
            refused = client.get("/saga/", headers=other, follow_redirects=False)
            assert refused.status_code == (303 if example == "flask_app" else 403)
            assert "A1" not in refused.text
        if example == "flask_app":
            entered = {"csrf": csrf_in(client.get("/saga/enter").text), "name": "ann", "token": TOKEN}
            assert client.post("/saga/enter", data=entered, headers=origin).status_code == 303
        known = origin | ({"x-forwarded-user": "ann"} if example == "fastapi_app" else {})
        if cookies:
            client.cookies.set("sessionid", cookies[0])
        page = client.get("/saga/execution?id=A1", headers=known)
        assert 'class="saga-diagram"' in page.text
        form = {"csrf": csrf_in(page.text), "do": "cancel:", "id": "A1", "why": "too late"}
        assert client.post("/saga/act", data=form, headers=known).status_code == 303
    acted = [
        line.details for line in Operations(tmp_path / "orders.db", "x").show("A1").journal if line.kind == "OperatorActed"
    ]
    assert [(one["action"], one["who"], one["why"]) for one in acted] == [("cancel", "ann", "too late")]
