"""Serving the page by itself, with uvicorn. How it is mounted in another application is told in the guide."""

from __future__ import annotations

import ipaddress
import signal
import threading

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from saga.web.page import Page

__all__ = ["serve_page"]


def serve_page(page: Page, host: str, port: int) -> None:
    """Serve the page until the process is told to stop."""
    guarded = TrustedHostMiddleware(page, ["localhost", "127.0.0.1", "[::1]", host]) if _is_loopback(host) else page
    # Streams never end by themselves; whoever looks comes back to the next process.
    config = uvicorn.Config(guarded, host=host, port=port, log_level="warning", timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    # What it was stopped by, it raises again when it has stopped, for whoever handled that before.
    in_main_thread = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
    before = {number: signal.signal(number, server.handle_exit) for number in numbers}
    try:
        server.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
