"""What ``tests/semantics/mutants.py`` breaks, room by room of the package. No test lives here."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ACROSS",
    "CLOCKS",
    "CONTRACT",
    "CROWD",
    "DOUBT",
    "DRIVERS",
    "DURABLE",
    "FAULTS",
    "FRONT_DOORS",
    "GROUP_COMMIT",
    "IN_MEMORY",
    "IN_POSTGRES",
    "IN_SQLITE",
    "JOURNAL",
    "LEASES",
    "LOCKED_ROWS",
    "PLACE",
    "POOLER",
    "POSTGRES",
    "PROPERTIES",
    "RECOVERY",
    "SCHEMA",
    "SEMANTICS",
    "SEVERAL",
    "SILENT_SERVER",
    "SQLALCHEMY",
    "START_ONCE",
    "TURNS",
    "UNDO",
    "VALUES",
    "Mutant",
]

SEMANTICS, PROPERTIES = "tests/semantics/test_", "tests/properties/test_"
DRIVERS, FRONT_DOORS = "tests/drivers/test_", "tests/frontdoors/test_"
DURABLE = "tests/durable/test_"
CLOCKS = DURABLE + "clocks"
JOURNAL, VALUES, LEASES = DURABLE + "journal", DURABLE + "values", DURABLE + "leases"
RECOVERY, SEVERAL, START_ONCE = DURABLE + "recovery", DURABLE + "recovery_of_several", DURABLE + "start_once"
DOUBT, ACROSS, UNDO = DURABLE + "doubt", DURABLE + "died_anywhere", DURABLE + "interrupted_undo"
CONTRACT, GROUP_COMMIT = "tests/storage/test_contract", "tests/storage/test_group_commit"
LOCKED_ROWS, SILENT_SERVER = "tests/storage/test_locked_rows", "tests/storage/test_silent_server"
SQLALCHEMY = "tests/storage/test_sqlalchemy"
PLACE = "tests/storage/test_sqlite_place"
POOLER, FAULTS = "tests/storage/test_pooler", "tests/storage/test_faults_tell_no_values"
SCHEMA = "tests/storage/test_schema"
CROWD, TURNS = "tests/storage/test_postgres_crowd", "tests/storage/test_turns"
POSTGRES = "tests/storage/test_postgres"
IN_MEMORY, IN_SQLITE = " and memory", " and sqlite and not sqlalchemy"
IN_POSTGRES = " and postgres and not sqlalchemy"


class Mutant(NamedTuple):
    """What is broken, the text that does it, what takes its place, and the tests that must notice.

    The text occurs once in the package, or once in ``file`` where that is given: the two drivers say some things alike. The
    tests are a file without its ending, or ``file -k expression``, which begins with a part of a test's name.
    """

    name: str
    old: str
    new: str
    tests: str
    file: str = ""
