"""The SQLite store broken: whose turn it is, what is counted, what is noticed."""

from __future__ import annotations

from . import CONTRACT, IN_SQLITE, Mutant

__all__ = ["OF_SQLITE"]

OF_SQLITE = [
    Mutant(
        "sqlite: the key is nobody's before it is his turn",
        " OR NOT EXISTS (SELECT 1 FROM saga AS other WHERE other.holds = saga.exclusive)",
        " OR exclusive <> ''",
        "tests/storage/test_sqlite -k who_has_a_key_has_it",
    ),
    Mutant(
        "sqlite: who comes last of those with a key goes first",
        "other.opens < saga.opens OR other.id < saga.id",
        "other.opens > saga.opens OR other.id > saga.id",
        CONTRACT + "_submit -k one_goes_on_at_a_time" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: the key is kept when it is over",
        '        sets.append("holds = NULL")\n',
        "        pass\n",
        CONTRACT + "_submit -k one_goes_on_at_a_time" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is taken in a claim does not count in it",
        "            self._in_hand[name, limit] += name == taken.name\n",
        "            pass\n",
        CONTRACT + "_submit -k no_more_are_in_hand" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is begun in a claim does not count in it",
        "                self._begun[name, rate] += name == taken.name\n",
        "                pass\n",
        CONTRACT + "_submit -k no_more_are_begun" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is for later is begun for its priority",
        "AND due <= ? AND lease_until <= ? AND opens <= ?",
        "AND due <= ? AND lease_until <= ? AND ? > 0",
        CONTRACT + "_submit -k what_is_for_later" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: what is given up before its time waits for it",
        'return (self._now, self._now) if kind.status == "submitted" else (math.inf, math.inf)',
        "return self._now, self._now",
        CONTRACT + "_submit -k what_is_given_up_before" + IN_SQLITE,
    ),
    Mutant(
        "sqlite: counts keep what has changed",
        "UPDATE saga_count SET executions = executions - 1 WHERE {_COUNTED};",
        "UPDATE saga_count SET executions = executions WHERE {_COUNTED};",
        "tests/storage/test_sqlite_sql -k counts_go_with",
    ),
    Mutant(
        "sqlite: who only waits is not told of a second commit of one tick",
        "            self._again = now + TICK\n",
        "            self._again = 0.0\n",
        "tests/storage/test_sqlite_watch -k begun_again",
    ),
]
