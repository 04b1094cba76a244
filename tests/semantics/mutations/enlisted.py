"""Submitting in somebody else's transaction broken: what is taken for one, and what is done there."""

from __future__ import annotations

from . import DURABLE, Mutant

__all__ = ["OF_ENLISTED"]

ENLISTED, REFUSED = "tests/storage/test_enlisted", "tests/storage/test_enlisted_refused -k it_is_told_why"
ON_POSTGRES, ON_FILES = " and postgres and not sqlalchemy", " and sqlite and not sqlalchemy"

OF_ENLISTED = [
    Mutant(
        "SQLite: each statement is committed by itself",
        "    if not connection.in_transaction:\n        raise refused(",
        "    if False:\n        raise refused(",
        REFUSED + ON_FILES,
    ),
    Mutant(
        "SQLite: a file that is attached to another is taken for it",
        'fetchall() if row[1] == "main")',
        "fetchall()[::-1])",
        REFUSED + ON_FILES,
    ),
    Mutant(
        "SQLite: texts are what the connection makes of them",
        "    connection.text_factory = str\n",
        "",
        ENLISTED + " -k an_id_that_is_taken_is_told" + ON_FILES,
    ),
    Mutant(
        "SQLite: what a connection makes of texts is changed for good",
        "        connection.text_factory = texts\n",
        "        pass\n",
        ENLISTED + " -k connection_is_left_as_it_was",
    ),
    Mutant(
        "SQLite: a store cannot be opened while somebody writes",
        "Write(lambda connection: None, single=True)",
        "Write(lambda connection: None)",
        DURABLE + "submit_in_a_transaction -k a_store_is_opened_before",
    ),
    Mutant(
        "psycopg: each statement is committed by itself",
        "    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:\n"
        '        raise _commits_at_once("submit within',
        '    if False:\n        raise _commits_at_once("submit within',
        REFUSED + ON_POSTGRES,
    ),
    Mutant(
        "PostgreSQL: another server's database is taken for the store's",
        "    if theirs[:2] != ours[:2]:\n",
        "    if theirs[1] != ours[1]:\n",
        REFUSED + ON_POSTGRES,
    ),
    Mutant(
        "PostgreSQL: whatever table the search path finds is taken for the store's",
        "    if theirs.table != ours.table:\n",
        "    if False:\n",
        REFUSED + ON_POSTGRES,
    ),
    Mutant(
        "PostgreSQL: a commit of theirs wakes nobody",
        "        if None in found:\n            # Unlike",
        "        if False:\n            # Unlike",
        ENLISTED + " -k who_waits_is_woken" + ON_POSTGRES,
    ),
    Mutant(
        "SQLAlchemy: a connection that commits each statement is taken",
        "        elif commits_at_once(connection):\n            raise",
        "        elif False:\n            raise",
        REFUSED + " and mariadb",
    ),
    Mutant(
        "SQLAlchemy: an id that was committed since the transaction began is not found",
        "self._known(connection, list(first), latest=True)",
        "self._known(connection, list(first))",
        ENLISTED + " -k after_the_transaction_began and mariadb",
    ),
    Mutant(
        "SQLAlchemy: an id that is taken ends the transaction",
        "                    with connection.begin_nested():  # what fails within it does not end the transaction\n",
        "                    if True:\n",
        ENLISTED + " -k not_committed_yet and sqlalchemy",
    ),
]
