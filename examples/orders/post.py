"""Mail to customers. Its Message-ID is the call's key, so that mail programs tell a repeat from another mail."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage


class Post:
    """A mail server, by its host and port."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    def send(self, key: str, to: str, subject: str) -> None:
        """Send a mail.

        :raises smtplib.SMTPException, OSError: it was not sent, or nobody knows.
        """
        message = EmailMessage()
        message["Message-ID"] = f"<{key}@orders.example>"
        message["From"], message["To"], message["Subject"] = "shop@orders.example", to, subject
        message.set_content(f"{subject}.")
        with smtplib.SMTP(self._host, self._port, timeout=5) as server:
            server.send_message(message)
