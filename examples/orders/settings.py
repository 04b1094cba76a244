"""Where everything is: the environment says it."""

from __future__ import annotations

import os

DATABASE = os.environ.get("ORDERS_DATABASE", "postgresql://localhost/orders")
"""The application's tables are there, and the sagas."""

BANK = os.environ.get("ORDERS_BANK", "http://127.0.0.1:8101")
BANK_TIMEOUT = float(os.environ.get("ORDERS_BANK_TIMEOUT", "5"))
"""Seconds for which an answer of the bank is waited for."""

MAIL = os.environ.get("ORDERS_MAIL", "127.0.0.1:8102")
VERSION = os.environ.get("ORDERS_VERSION", "2")
"""The release: the second one gives points. It stands for two states of this code, one after the other."""

LEASE = float(os.environ.get("ORDERS_LEASE", "30"))
"""Seconds for which a process that died is taken for alive."""

GRACE = 25.0
"""Seconds in which a worker that is stopped finishes what it has in hand; whoever kills it waits for longer."""
