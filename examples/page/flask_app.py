"""The page beside a Flask application, which WSGI cannot hold its streams for: ``uvicorn flask_app:application``."""

from __future__ import annotations

import os

from a2wsgi import WSGIMiddleware
from flask import Flask
from orders import STORE, place_order
from starlette.applications import Starlette
from starlette.routing import Mount

from saga.web import app

flask = Flask(__name__)


@flask.get("/")
def home() -> str:
    return "Orders are placed here."


page = app(STORE, sagas=[place_order], token=os.environ["SAGA_PAGE_TOKEN"], private=True)
application = Starlette(routes=[Mount("/saga", page), Mount("/", WSGIMiddleware(flask))])
