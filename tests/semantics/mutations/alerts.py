"""Those who look after a store deceived: of what is stuck nobody is told, or of all of it twice; figures say what is not so."""

from __future__ import annotations

from . import CONTRACT, DURABLE, IN_MEMORY, IN_POSTGRES, IN_SQLITE, POSTGRES, Mutant

__all__ = ["OF_ALERTS"]

TOLD = CONTRACT + "_alerts"
ALERTS = DURABLE + "alerts"
CALLOUTS = "tests/unit/test_callouts"
METRICS = "tests/integrations/test_prometheus"
BY_MARIADB = " and mariadb"

OF_ALERTS = [
    Mutant(
        "each that is stuck for a cause is told of by a call of its own",
        "groups.setdefault(kind, {})[row.saga_id] = row",
        "groups[(row.saga_id, None, None)] = {row.saga_id: row}",
        ALERTS + "_grouped -k one_call_tells",
    ),
    Mutant(
        "of a group whose call failed the first alone is told of again",
        "            for one in group or (row,):\n                self._operations",
        "            for one in (row,):\n                self._operations",
        ALERTS + "_grouped -k told_of_again",
    ),
    Mutant(
        "a cause that was told a moment ago is told again",
        "            if wait > 0:\n                store.alerted",
        "            if False:\n                store.alerted",
        ALERTS + "_grouped -k later_and_together",
    ),
    Mutant(
        "what is stuck is looked through for what nobody was told of",
        'f"SELECT id FROM {saga} WHERE {rules.UNTOLD} AND due <=',
        "f\"SELECT id FROM {saga} WHERE status = 'stuck' AND due <=",
        POSTGRES + "_sql -k listed_and_counted",
    ),
    Mutant(
        "all are told again where one was not",
        "            if number not in done:",
        "            if True:",
        CALLOUTS + " -k failed_alone",
    ),
    Mutant(
        "who was told is remembered when it is stuck again",
        "        key = row.saga_id, row.epoch  #",
        "        key = row.saga_id, 0  #",
        CALLOUTS + " -k stuck_again",
    ),
    Mutant(
        "who fails keeps the others from being told",
        "                except Exception as error:\n                    failures.append(error)",
        "                except ZeroDivisionError as error:\n                    failures.append(error)",
        CALLOUTS + " -k failed_alone",
    ),
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
        "        if still_runs(event):\n            return\n        self._calls",
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
    Mutant(
        "who tells of what is stuck says so first",
        "            said: Any = self.on_stuck(row, view",
        "            self._operations.store.alerted(row.saga_id, row.epoch)\n            said: Any = self.on_stuck(row, view",
        ALERTS + " -k one_whose_teller_was_killed",
    ),
    Mutant(
        "somebody is told of what was acted on meanwhile",
        "        if not _is_still(row, view.execution):",
        "        if False:",
        ALERTS + " -k acted_on_meanwhile",
    ),
    Mutant(
        "one that fails at once keeps a look from its end",
        "                failed.add(row.saga_id)",
        "                pass",
        ALERTS + " -k keeps_no_look_from_its_end",
    ),
    Mutant(
        "what on_stuck raises ends the event loop",
        "    except BaseException as error:\n        task = asyncio.current_task()",
        "    except Exception as error:\n        task = asyncio.current_task()",
        ALERTS + " -k ends_no_event_loop",
    ),
    Mutant(
        "a worker that stops waits for a call for ever",
        "        self._thread.join(max(0.0, self._ends_at - clock()))",
        "        self._thread.join()",
        ALERTS + " -k no_longer_than_its_grace",
    ),
    Mutant(
        "a webhook's other address is asked, and nothing posted",
        "urllib.request.build_opener(Refused)",
        "urllib.request.build_opener()",
        CALLOUTS + " -k another_answer",
    ),
]
