"""A mail server that keeps what it gets: ``python -m orders.fakes.mailbox --port 8102 --mails mails.db``.

Some mails it does not take at first, and of some it takes nobody hears that it did.
"""

from __future__ import annotations

import argparse
import asyncio
import email
import random
import sqlite3
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """What aiosmtpd hands mails to."""

    def __init__(self, path: str, faults: float) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("CREATE TABLE IF NOT EXISTS mails (message_id TEXT, recipient TEXT, subject TEXT)")
        self._faults = faults

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        fault = random.choice(["not taken", "lost"]) if random.random() < self._faults else None
        if fault == "not taken":
            return "451 come back later"
        mail: Any = email.message_from_bytes(envelope.original_content or b"")
        values = (mail["Message-ID"], mail["To"], mail["Subject"])
        self._connection.execute("INSERT INTO mails VALUES (?, ?, ?)", values)
        if fault == "lost":
            assert server.transport is not None
            server.transport.close()
        return "250 taken"


async def serve(port: int, mailbox: Mailbox) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox, hostname="localhost"), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A mail server that keeps what it gets.")
    parser.add_argument("--port", type=int, default=8102)
    parser.add_argument("--mails", default="mails.db", metavar="FILE")
    parser.add_argument("--faults", type=float, default=0.1, help="how many mails it does not say that it took (default: 0.1)")
    options = parser.parse_args()
    asyncio.run(serve(options.port, Mailbox(options.mails, options.faults)))


if __name__ == "__main__":
    main()
