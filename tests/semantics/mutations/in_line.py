"""The line broken: who has called for an execution, who keeps his place, what is held, whose turn an undo is."""

from __future__ import annotations

from . import CONTRACT, DURABLE, IN_MEMORY, IN_POSTGRES, IN_SQLITE, Mutant

__all__ = ["OF_THE_LINE"]

TURN = DURABLE + "turns"
LINE = CONTRACT + "_in_line"
BY_MARIADB = " and mariadb"

OF_THE_LINE = [
    Mutant(
        "who dies in line is left to workers",
        "        new = new._replace(called=definition.lease)\n",
        "",
        TURN + " -k what_a_dead_process_left",
    ),
    Mutant(
        "who lives in line does not say so",
        "            store.renew_call(saga_id, definition.lease)  # else",
        "            pass  # else",
        TURN + " -k who_waits_in_line_and_lives",
    ),
    Mutant(
        "who cannot ask in an event loop any more stays in line",
        "                await in_thread(partial(call_off, mine, opened, error), struck.append)\n            if struck:",
        "                pass\n            if struck:",
        TURN + " -k who_cannot_ask",
    ),
    Mutant(
        "a step waits for its own execution",
        "    check_not_awaited(definition, saga_id, store)\n    return None",
        "    return None",
        DURABLE + "waits_for_itself -k refused_and_nothing",
    ),
    Mutant(
        "what would wait for itself is stored first",
        "                check_turn_comes(execution.definition, new.saga_id, new.exclusive, journal.store)\n",
        "",
        DURABLE + "waits_for_itself -k refused_and_nothing",
    ),
    Mutant(
        "who has ended is waited for by what it began",
        "[driver for driver in found if _goes_on(driver)]",
        "list(found)",
        DURABLE + "waits_for_itself -k when_its_execution_has_ended",
    ),
    Mutant(
        "memory: what somebody called for is anybody's",
        "row.called_until is None else row.called_until <= now",
        "row.called_until is None else True",
        LINE + " -k left_to_who_called" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: what somebody called for is anybody's",
        " AND coalesce(called_until, 0) <= ? AND",
        " AND ? > 0 AND",
        LINE + " -k left_to_who_called" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: where nothing is begun, what was submitted is",
        'there = f"saga_called WHERE {CALLED}" if called else',
        'there = f"saga_due WHERE {CLAIMABLE}" if called else',
        LINE + " -k left_to_who_called" + IN_SQLITE,
    ),
    Mutant(
        "postgres: what somebody called for is anybody's",
        "(range.stage <> 1 OR s.called_until <= {NOW})",
        "(range.stage <> 1 OR true)",
        LINE + " -k left_to_who_called" + IN_POSTGRES,
    ),
    Mutant(
        "sqlalchemy: what somebody called for is anybody's",
        "        gone = called <= self._sql.now()\n",
        "        gone = called.is_not(None)\n",
        LINE + " -k left_to_who_called" + BY_MARIADB,
    ),
    Mutant(
        "postgres: of what dead callers left a held saga's is begun",
        "SELECT * FROM asked WHERE stage = 0 OR NOT",
        "SELECT * FROM asked WHERE stage < 2 OR NOT",
        LINE + " -k what_dead_callers_left" + IN_POSTGRES,
    ),
    Mutant(
        "memory: who is given back goes to the end of the line",
        "return now + delay if delay else min(now, row.opens - WORTH * row.priority)",
        "return now + delay",
        LINE + " -k given_back_without_delay" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: who is given back goes to the end of the line",
        "THEN min(?2, opens - {WORTH} * priority)",
        "THEN ?2",
        LINE + " -k given_back_without_delay" + IN_SQLITE,
    ),
    Mutant(
        "postgres: who is given back goes to the end of the line",
        'place = f"least({NOW}, opens - {WORTH} * priority)"',
        "place = NOW",
        LINE + " -k given_back_without_delay" + IN_POSTGRES,
    ),
    Mutant(
        "sqlalchemy: who is given back goes to the end of the line",
        "sa.case((place < now, place), else_=now)",
        "now",
        LINE + " -k given_back_without_delay" + BY_MARIADB,
    ),
    Mutant(
        "memory: what is held is begun here and now",
        "            rules.check_not_held(new, self._holds.values())\n",
        "",
        LINE + " -k begun_here_and_now" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: what is held is begun here and now",
        "FROM saga_hold WHERE name = ?2 AND version IN ('', ?3))",
        "FROM saga_hold WHERE name = ?2 AND version IN (?3))",
        LINE + " -k begun_here_and_now" + IN_SQLITE,
    ),
    Mutant(
        "postgres: what is held is begun here and now",
        "h WHERE h.name = %s AND h.version IN ('', %s))\"",
        'h WHERE h.name = %s AND h.version IN (%s))"',
        LINE + " -k begun_here_and_now" + IN_POSTGRES,
    ),
    Mutant(
        "sqlalchemy: what is held is begun here and now",
        "hold.c.version.in_((ANY, new.version))",
        "hold.c.version.in_((ANY,))",
        LINE + " -k begun_here_and_now" + BY_MARIADB,
    ),
    Mutant(
        "what waits for its turn is begun here and now though it is held",
        "                check_not_held(new, journal.store.holds())\n",
        "                pass\n",
        TURN + " -k not_begun_here_and_now",
    ),
    Mutant(
        "who executes what is held is not given the outcome that there is",
        "            if journal.store.get(new.saga_id) is None:  # else",
        "            if True:  # else",
        TURN + " -k not_begun_here_and_now",
    ),
    Mutant(
        "of definitions that are alike the first one has all",
        "tuple(sorted((own | first) - {one.version}))",
        "()",
        LINE + " -k of_definitions_that_are_alike" + IN_POSTGRES,
    ),
    Mutant(
        "what two versions fit is both's",
        "if other.version == version or other in before]",
        "if other.version == version]",
        LINE + " -k of_definitions_that_are_alike and sqlalchemy-sqlite",
    ),
    Mutant(
        "memory: what is held keeps others from its key",
        'held = row.status == "submitted" and holds_back',
        "held = False and holds_back",
        LINE + " -k its_key" + IN_MEMORY,
    ),
    Mutant(
        "memory: what was held and another that is not begin together",
        "            self._had.add(row.exclusive)\n",
        "            pass\n",
        LINE + " -k version_may_begin" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: what is held keeps others from its key",
        "WHERE hold.name = other.name AND",
        "WHERE hold.name = '' AND",
        LINE + " -k its_key" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is paused or parked before it began keeps others from its key",
        "other.{CLAIMABLE} AND other.opens",
        "other.exclusive <> '' AND other.opens",
        LINE + " -k its_key" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is held with others goes before them",
        "(saga.status, saga.name, saga.version) = (other.status, other.name, other.version)",
        "saga.name = ''",
        LINE + " -k version_may_begin" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is held and another that is not begin together",
        "        if self._held:\n            found = one",
        "        if False:\n            found = one",
        LINE + " -k version_may_begin" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is for later keeps others from its key",
        "other.opens <= min(saga.opens, {{now}})",
        "other.opens <= min(saga.opens, {{now}} + 1e9)",
        LINE + " -k before_its_time" + IN_SQLITE,
    ),
    Mutant(
        "postgres: what is held keeps others from its key",
        "h WHERE h.name = o.name AND",
        "h WHERE h.name = '' AND",
        LINE + " -k its_key" + IN_POSTGRES,
    ),
    Mutant(
        "postgres: what is held and another that is not begin together",
        " AND (exclusive IS NULL OR id = ({before}))",
        "",
        LINE + " -k version_may_begin" + IN_POSTGRES,
    ),
    Mutant(
        "postgres: what is held and another that is not begin together, and count",
        "_chosen(one_of_each_key(rows_found, lambda row: row.exclusive),",
        "_chosen(one_of_each_key(rows_found, lambda row: None),",
        LINE + " -k version_may_begin" + IN_POSTGRES,
    ),
    Mutant(
        "postgres: what is for later keeps others from its key",
        "(o.opens, o.id) < (s.opens, s.id) AND o.opens <= {NOW}",
        "(o.opens, o.id) < (s.opens, s.id)",
        LINE + " -k before_its_time" + IN_POSTGRES,
    ),
    Mutant(
        "sqlalchemy: what is held keeps others from its key",
        "sa.exists().where(hold.c.name == other.c.name,",
        "sa.exists().where(hold.c.name == '',",
        LINE + " -k its_key" + BY_MARIADB,
    ),
    Mutant(
        "sqlalchemy: an undo waits for what is held",
        "*([together] if others == status else [])",
        "together",
        LINE + " -k an_undo_does" + BY_MARIADB,
    ),
    Mutant(
        "sqlalchemy: what is for later keeps others from its key",
        "            yield other.c.opens <= self._sql.now()\n            held",
        "            held",
        LINE + " -k before_its_time" + BY_MARIADB,
    ),
    Mutant(
        "memory: what was undone is kept",
        'and (row.status != "completed" or row.keep_until <= now)',
        "and row.keep_until <= now",
        CONTRACT + "_rows -k what_was_undone" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: what was undone is kept",
        "(?1 <> 'completed' OR keep_until <= ?3)",
        "keep_until <= ?3",
        CONTRACT + "_rows -k what_was_undone" + IN_SQLITE,
    ),
    Mutant(
        "postgres: what was undone is kept",
        "(status <> 'completed' OR keep_until <= {NOW})",
        "keep_until <= {NOW}",
        CONTRACT + "_rows -k what_was_undone" + IN_POSTGRES,
    ),
    Mutant(
        "sqlalchemy: what was undone is kept",
        '        if status == "completed":  # else there',
        "        if True:  # else there",
        CONTRACT + "_rows -k what_was_undone" + BY_MARIADB,
    ),
    Mutant(
        "nobody is told that one has ended that others wait for",
        "        if status.terminal and self.in_line:\n",
        "        if False:\n",
        TURN + " -k others_are_told",
    ),
    Mutant(
        "an undo here and now waits for nobody",
        "        if not definition.in_line:\n            execution = driver",
        "        if True:\n            execution = driver",
        TURN + " -k an_undo_here_and_now",
    ),
]
