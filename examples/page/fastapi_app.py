"""The page in a FastAPI application, behind a proxy that says who its users are: ``uvicorn fastapi_app:application``."""

from __future__ import annotations

from fastapi import FastAPI
from orders import STORE, place_order
from starlette.requests import Request

from saga.web import app

OPERATORS = {"ann", "bob"}


def authorize(request: Request, action: str) -> str | None:
    # The proxy sets this header itself, whatever a browser sends; nobody reaches the application but through it.
    user = request.headers.get("x-forwarded-user")
    return user if user in OPERATORS else None


application = FastAPI()
application.mount("/saga", app(STORE, sagas=[place_order], authorize=authorize, private=True))


@application.get("/")
def home() -> dict[str, str]:
    return {"orders": "are placed here"}
