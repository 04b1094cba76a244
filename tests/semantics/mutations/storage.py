"""Stores broken: who may append and claim, and how writers share a commit."""

from __future__ import annotations

from . import (
    CONTRACT,
    CROWD,
    FAULTS,
    GROUP_COMMIT,
    IN_MEMORY,
    IN_SQLITE,
    JOURNAL,
    LOCKED_ROWS,
    PLACE,
    POOLER,
    SCHEMA,
    SILENT_SERVER,
    TURNS,
    Mutant,
)

__all__ = ["OF_STORAGE"]

OF_STORAGE = [
    Mutant(
        "a transaction is open while user code runs",
        '                connection.execute("BEGIN IMMEDIATE")\n                result = write.apply(connection)\n'
        '                connection.execute("COMMIT")\n',
        '                if not connection.in_transaction:\n                    connection.execute("BEGIN IMMEDIATE")\n'
        '                result = write.apply(connection)\n                connection.execute("COMMIT")\n'
        '                connection.execute("BEGIN IMMEDIATE")\n',
        JOURNAL + " -k no_transaction_is_open",
    ),
    Mutant(
        "memory: an earlier epoch appends",
        "row.owner == lease.owner and row.epoch == lease.epoch else None",
        "row.owner == lease.owner else None",
        CONTRACT + "_append -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "memory: another owner appends",
        "row.owner == lease.owner and row.epoch == lease.epoch else None",
        "row.epoch == lease.epoch else None",
        CONTRACT + "_append -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "memory: a live lease is claimed",
        "if row.lease_until <= now\n                and (names",
        "if (names",
        CONTRACT + "_leases -k a_live_lease_is_respected" + IN_MEMORY,
    ),
    Mutant(
        "memory: a claim keeps the epoch",
        "row = row._replace(owner=owner, epoch=row.epoch + 1,",
        "row = row._replace(owner=owner, epoch=row.epoch,",
        CONTRACT + "_append -k who_lost_the_lease_stores_nothing" + IN_MEMORY,
    ),
    Mutant(
        "a message to nobody is any error of a store",
        'return UnknownExecutionError(f"there is no execution',
        'return StorageError(f"there is no execution',
        CONTRACT + "_inbox -k a_message_to_nobody" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: an earlier epoch appends",
        'HOLDS = "id = ? AND epoch = ? AND owner = ?"',
        'HOLDS = "id = ? AND ? IS NOT NULL AND owner = ?"',
        CONTRACT + "_append -k who_lost_the_lease_stores_nothing" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: the insert has no fence",
        "saga.id = entry.column1 AND saga.epoch = entry.column7 AND saga.owner = entry.column8",
        "saga.id = entry.column1",
        CONTRACT + "_append -k who_lost_the_lease_stores_nothing" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: the lease is checked before the insert",
        "if sql.insert_entries(connection, values) != rows:",
        "if connection.execute(sql.CHECK_LEASE, holds).fetchone() is None or sql.insert_entries(connection, values) != rows:",
        GROUP_COMMIT + " -k alone_each_append_is_one_statement",
    ),
    Mutant(
        "sqlite: who lost the lease stores with others",
        "if self._insert(connection, values) != sum([write.rows for write in group]):",
        "if self._insert(connection, values) < 0:",
        GROUP_COMMIT + " -k who_lost_the_lease_stores_nothing_with_others",
    ),
    Mutant(
        "postgres: in a crowd an earlier epoch appends",
        's.owner = lease.owner AND s.epoch = lease.epoch"\n            " WHERE coalesce',
        's.owner = lease.owner"\n            " WHERE coalesce',
        CROWD + " -k in_a_crowd_each_finds_out_by_itself",
    ),
    Mutant(
        "postgres: a crowd waits for a locked row",
        "WHERE i.saga_id = s.id) FOR NO KEY UPDATE OF s SKIP LOCKED),",
        "WHERE i.saga_id = s.id) FOR NO KEY UPDATE OF s),",
        CROWD + " -k a_locked_row_holds_up_its_own_writer_only",
    ),
    Mutant(
        "postgres: what a crowd may have stored is stored again",
        "write.result = done, None if done else sent and perhaps",
        "write.result = done, None if done else False",
        CROWD + " -k a_crowd_whose_answer_was_lost",
    ),
    Mutant(
        "a leader that is interrupted before it begins gives its place away",
        "        if not group:",
        "        if False:",
        TURNS + " -k interrupted_before_it_begins",
    ),
    Mutant(
        "an interrupt as a turn ends leaves others waiting",
        "            except BaseException:\n                self._end(leader, group)\n",
        "            except BaseException:\n",
        TURNS + " -k an_interrupt_anywhere",
    ),
    Mutant(
        "sqlite: a live lease is claimed",
        'FREE = "SELECT id, due, name FROM saga WHERE id = ? AND lease_until <= ?"',
        'FREE = "SELECT id, due, name FROM saga WHERE id = ? AND ? IS NOT NULL"',
        CONTRACT + "_leases -k a_live_lease_is_respected" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: a stale heartbeat renews the lease",
        'updated = ? WHERE id = ? AND epoch = ? AND owner = ?"\n    " RETURNING EXISTS',
        "updated = ? WHERE id = ? AND epoch >= ? AND ? <> ''\"\n    \" RETURNING EXISTS",
        CONTRACT + "_leases -k renewing_returns_those_leases" + IN_SQLITE,
    ),
    Mutant(
        "a taken id is begun anew",
        "if existing := self.get(new.saga_id):",
        "if False:",
        CONTRACT + " -k a_taken_id_returns" + IN_MEMORY,
    ),
    Mutant(
        "to PostgreSQL, everything is older than NaN",
        "not -END_OF_TIME <= value <= END_OF_TIME:",
        "abs(value) > END_OF_TIME:",
        CONTRACT + "_numbers -k what_is_no_finite_number" + IN_MEMORY,
    ),
    Mutant(
        "postgres: one locked row holds up all leases",
        "FOR NO KEY UPDATE OF s SKIP LOCKED), renewed AS",
        "FOR NO KEY UPDATE OF s), renewed AS",
        LOCKED_ROWS + " -k the_leases_of_others_are_renewed and postgres and not sqlalchemy",
    ),
    Mutant(
        "sqlalchemy: one locked row holds up all leases",
        "self._holding(connection, some, skip_locked=True)",
        "self._holding(connection, some)",
        LOCKED_ROWS + " -k the_leases_of_others_are_renewed and mariadb",
    ),
    Mutant(
        "a lease that could not be renewed is lost",
        "beats |= {saga_id: Beat(saga_id, mail) for saga_id, mail, _ in rows}",
        "beats |= {saga_id: Beat(saga_id, mail) for saga_id, mail, done in rows if done}",
        LOCKED_ROWS + " -k the_leases_of_others_are_renewed and postgres and not sqlalchemy",
    ),
    Mutant(
        "postgres: a silent server is waited for",
        "        return super().wait(self._watched(gen), *args, **more)",
        "        return super().wait(gen, *args, **more)",
        SILENT_SERVER + " -k a_server_that_falls_silent",
    ),
    Mutant(
        "postgres: what waits for a lock is cut off",
        'if "FATAL" not in str(error):',
        "if True:",
        SILENT_SERVER + " -k a_server_that_refuses_a_connection",
    ),
    Mutant(
        "postgres: a pooler's connections are prepared for",
        "connection.prepare_threshold = None\n        except",
        "pass\n        except",
        POOLER + " -k only_through_a_pooler",
    ),
    Mutant(
        "postgres: details of the server quote what was sent",
        "return type(error)(error.diag.message_primary or str(error))",
        "return type(error)(str(error))",
        FAULTS + " -k no_fault_tells_the_values and postgres and not sqlalchemy",
    ),
    Mutant(
        "sqlalchemy: a driver quotes what was sent",
        "fault, conflict = without_values(error), isinstance(error, exc.IntegrityError)",
        "fault, conflict = error, isinstance(error, exc.IntegrityError)",
        FAULTS + " -k no_fault_tells_the_values and sqlalchemy",
    ),
    Mutant(
        "a saga looks for its file anew at each execution",
        "            self.store = pinned(self.store)\n",
        "",
        PLACE + " -k a_path_means_the_same_file",
    ),
    Mutant(
        "a block looks for its file when it is entered",
        "        store = pinned(store)\n",
        "",
        PLACE + " -k a_path_means_the_same_file",
    ),
    Mutant(
        "sqlite: what is written to a deleted file is taken for stored",
        "            self._place.check()\n            return result",
        "            return result",
        PLACE + " -k every_use_of_a_file_that_is_gone",
    ),
    Mutant(
        "sqlite: what many write to a deleted file is taken for stored",
        "            self._place.check()\n            for write in group:",
        "            for write in group:",
        PLACE + " -k those_who_share_a_commit",
    ),
    Mutant(
        "sqlite: a file is made anew where it was deleted",
        "        self._place.check()  # else SQLite would make another\n        return sqlite3.connect(",
        "        return sqlite3.connect(",
        PLACE + " -k a_file_that_is_gone_when_its_connections",
    ),
    Mutant(
        "sqlite: everybody reads the file",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644",
        PLACE + " -k a_file_that_is_made_is_its_owners",
    ),
    Mutant(
        "a result that is too long is believed",
        '        check_length(text, store, "what the call returned and changed")\n',
        "        pass\n",
        CONTRACT + "_lengths -k a_result_that_is_too_long",
    ),
    Mutant(
        "what is too long is sent to the server again and again",
        "        if not fits(text, longest):\n            raise StorageError(",
        "        if False:\n            raise StorageError(",
        CONTRACT + "_lengths -k a_text_that_is_too_long and mariadb",
    ),
    Mutant(
        "sqlite: one text that is too long fails a whole commit",
        "            with suppress(StorageError):  # it is refused for good\n                writes[number]",
        "            if True:\n                writes[number]",
        CONTRACT + "_lengths -k its_neighbours_are_stored" + IN_SQLITE,
    ),
    # -- what a database administrator is told ----------------------------------------------------------------------------
    Mutant(
        "a role is not granted the numbers of its messages",
        'column is not None and dialect.name == "postgresql"',
        "False",
        SCHEMA + " -k no_right and sqlalchemy",
    ),
    Mutant(
        "a role may not purge",
        '_CHANGED: Final = "SELECT, INSERT, UPDATE, DELETE"',
        '_CHANGED: Final = "SELECT, INSERT, UPDATE"',
        SCHEMA + " -k no_right",
    ),
    Mutant(
        "tables that somebody else makes lack an index",
        "            yield sql(sa.schema.CreateIndex(index))",
        "            sql(sa.schema.CreateIndex(index))",
        SCHEMA + " -k those_that_a_store_makes",
    ),
    Mutant(
        "tables that somebody else makes have the version of none",
        "    yield sql(tables.schema.insert().values(version=latest()))\n",
        "",
        SCHEMA + " -k no_right",
    ),
    Mutant(
        "a role's name ends its statement",
        """'"' + name.replace('"', '""') + '"'""",
        """'"' + name + '"'""",
        SCHEMA + " -k names_are_quoted",
    ),
]
