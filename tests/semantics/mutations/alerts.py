"""Those who look after a store deceived: of what is stuck nobody is told, or of all of it twice; figures say what is not so."""

from __future__ import annotations

from . import CONTRACT, IN_MEMORY, IN_POSTGRES, IN_SQLITE, Mutant

__all__ = ["OF_ALERTS"]

TOLD = CONTRACT + "_alerts"
METRICS = "tests/integrations/test_prometheus"
BY_MARIADB = " and mariadb"

OF_ALERTS = [
    Mutant(
        "who tells of what is stuck does not keep others from it, on PostgreSQL",
        '            f"UPDATE {saga} SET due = {NOW} + %s::float8 WHERE id = ({first} FOR',
        '            f"UPDATE {saga} SET due = {NOW} + 0 * %s::float8 WHERE id = ({first} FOR',
        TOLD + " -k told_once" + IN_POSTGRES,
    ),
    Mutant(
        "what was told is of what is stuck since, in an SQLite file",
        'TELL: Final = "UPDATE saga SET due = ? WHERE id = ? AND epoch = ?',
        'TELL: Final = "UPDATE saga SET due = ? WHERE id = ? AND epoch >= ?',
        TOLD + " -k stuck_again" + IN_SQLITE,
    ),
    Mutant(
        "somebody is told of what another acts on, through SQLAlchemy",
        '        untold = (saga.c.status == "stuck", saga.c.due <= now, saga.c.lease_until <= now)',
        '        untold = (saga.c.status == "stuck", saga.c.due <= now + 100)',
        TOLD + " -k stuck_again" + BY_MARIADB,
    ),
    Mutant(
        "a message has somebody told again, in memory",
        '            if row.status != "stuck":  # which is left alone, and due for somebody to be told of it\n    ',
        "",
        TOLD + " -k a_message" + IN_MEMORY,
    ),
    Mutant(
        "what its caller waits for is free",
        '    return f"status IN {rules.CLAIMABLE!r} AND lease_until <= {now} AND NOT ({called})"',
        '    return f"status IN {rules.CLAIMABLE!r} AND lease_until <= {now} AND ({called}) IS NOT NULL"',
        TOLD + " -k figures_are" + IN_SQLITE,
    ),
    Mutant(
        "a store that cannot be asked fails the scrape",
        "        except Exception as error:\n            if not self._failing:\n",
        "        except ZeroDivisionError as error:\n            if not self._failing:\n",
        METRICS + " -k cannot_be_asked",
    ),
    Mutant(
        "a call that outlived its timeout is counted twice",
        "        if isinstance(event, e.StepTimedOut) and event.running:\n            return\n        self._calls",
        "        self._calls",
        METRICS + " -k outlives_its_timeout",
    ),
    Mutant(
        "what people undo took as long as it was completed",
        '(isinstance(event, e.OperatorActed) and event.action == "undo")',
        "False",
        METRICS + " -k as_long_as_it_did",
    ),
    Mutant(
        "every name is a label",
        "            if len(self._known) >= self._most:",
        "            if len(self._known) >= 10 * self._most:",
        METRICS + " -k labels_have_a_most",
    ),
]
