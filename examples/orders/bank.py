"""The bank's client. Every call has an idempotency key, under which the bank does it once, however often it is asked."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx


class CardDeclined(Exception):
    """The bank has answered, and it will not: another attempt would not help."""


class BankFault(Exception):
    """The bank answered with a 5xx: whether it did what it was asked, it does not say."""


class Bank:
    """One client for all threads."""

    def __init__(self, url: str, timeout: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout)

    def charge(self, key: str, order: str, card: str, cents: int) -> str:
        """Charge a card, and return the receipt.

        :raises CardDeclined: nothing was charged.
        :raises BankFault, httpx.TransportError: nobody knows.
        """
        answer = self._ask("POST", "/charges", key, {"order": order, "card": card, "cents": cents})
        if answer.status_code == 402:
            raise CardDeclined(answer.json()["detail"])
        return self._receipt(answer)

    def find(self, key: str) -> str | None:
        """Return the receipt of what was charged under a key."""
        answer = self._ask("GET", f"/charges/{quote(key, safe='')}")
        return None if answer.status_code == 404 else self._receipt(answer)

    def take_back(self, charge_key: str, key: str) -> None:
        """Refund what was charged under a key. A charge that is still on its way there is refused from now on."""
        self._receipt(self._ask("POST", "/refunds", key, {"charge": charge_key}))

    def _ask(self, method: str, path: str, key: str | None = None, body: dict[str, Any] | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self._client.request(method, path, headers=headers, json=body)
        if answer.status_code >= 500:
            raise BankFault(f"the bank answered {answer.status_code}")
        return answer

    @staticmethod
    def _receipt(answer: httpx.Response) -> str:
        return str(answer.raise_for_status().json()["receipt"])
