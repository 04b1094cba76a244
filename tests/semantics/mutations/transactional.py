"""Transactional steps broken: what is one commit, what is taken back, and who finds out."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_TRANSACTIONS"]

HERE = "tests/durable/test_transactional -k "
COROUTINES = "tests/durable/test_transactional_coroutines -k "

OF_TRANSACTIONS = [
    Mutant(
        "a transactional step that a crash cut off is in doubt",
        "_decide_doubt(machine, [step for step in lost if not step.transactional], at)",
        "_decide_doubt(machine, lost, at)",
        HERE + "a_crash_leaves_it",
    ),
    Mutant(
        "the undo of a transactional step uses an attempt when its process dies",
        "if steps[index].transactional:  # it was rolled back",
        "if False:  # it was rolled back",
        HERE + "crash_in_its_undo",
    ),
    Mutant(
        "a transactional step that raises what may be a lost answer is in doubt",
        "isinstance(error, OutcomeUnknownError) if step.transactional else lost",
        "lost",
        HERE + "rolled_back_and_never",
    ),
    Mutant(
        "a result that cannot be stored leaves a transactional step done",
        "executed = not step.transactional",
        "executed = True",
        HERE + "cannot_be_stored",
    ),
    Mutant(
        "nobody finds out whether a commit was made whose answer is lost",
        "unknown = entries is not None and journal.written < len(machine.events)",
        "unknown = False",
        HERE + "answer_is_lost",
    ),
    Mutant(
        "what was rolled back stays in the context",
        "        driver.journal.revert(driver.context)\n",
        "",
        HERE + "answer_is_lost",
    ),
    Mutant(
        "what was rolled back stays in the machine",
        "        driver.machine.take_back(self._kept)\n",
        "",
        HERE + "answer_is_lost",
    ),
    Mutant(
        "sqlite: a transactional step commits by itself",
        '        self._refuse("commit()")\n',
        "        super().commit()\n",
        HERE + "cannot_end_its_transaction",
    ),
    Mutant(
        "sqlite: who has kept a transactional step's connection goes on with it",
        "                if kept:\n                    self.disconnect()\n",
        "",
        HERE + "keeps_its_connection",
    ),
    Mutant(
        "sqlite: the connection is closed after each transactional step",
        "        self.connection = None  # first: who still has it then has kept it\n        await self.do(self.plain.end)\n",
        "        await self.do(self.plain.end)\n        self.connection = None\n",
        HERE + "nobody_keeps",
    ),
    Mutant(
        "sqlite: a transactional step commits by a setting",
        'if name == "autocommit" or (name == "isolation_level" and value is None):',
        "if False:",
        HERE + "setting_that_commits",
    ),
    Mutant(
        "sqlite: another thread writes in a transactional step",
        "        if threading.get_ident() != self.thread:",
        "        if False:",
        HERE + "another_thread",
    ),
    Mutant(
        "postgres: another thread writes in a transactional step, or whoever has kept its connection",
        "        if self.thread not in (None, threading.get_ident()):",
        "        if False:",
        HERE + "another_thread",
    ),
    Mutant(
        "postgres: who has kept a transactional step's connection goes on with it",
        "            connection.thread = 0  # nobody's\n",
        "",
        HERE + "keeps_its_connection",
    ),
    Mutant(
        "postgres: rows are left as a transactional step had them made",
        "self.thread, self.row_factory = threading.get_ident(), tuple_row",
        "self.thread = threading.get_ident()",
        HERE + "makes_its_rows",
    ),
    Mutant(
        "a saga with transactional steps is submitted to a store without a database",
        "    check_transacts(definition, store)\n    given",
        "    given",
        HERE + "what_cannot_be_is_refused",
    ),
    # -- of coroutine functions ---------------------------------------------------------------------------------------
    Mutant(
        "a store without asynchronous connections is taken for coroutine functions",
        "    elif definition.plan.transacts_async is not None and",
        "    elif False and",
        HERE + "what_cannot_be_is_refused",
    ),
    Mutant(
        "what is committed of a coroutine function is cut off by a cancellation",
        "            return await to_the_end(work, strike, again=False)",
        "            return await work()",
        "tests/durable/test_transactional_coroutines -k commit_that_has_begun",
    ),
    Mutant(
        "a coroutine function that swallows a cancellation is committed",
        "        return made if cancellation is None else (call, False, cancellation, made[3])",
        "        return made",
        COROUTINES + "a_cancellation_rolls_it_back",
    ),
    Mutant(
        "what struck a coroutine function's transaction is not settled",
        "                        if self.transacted is not None:\n                            await settle_in_loop(self)\n",
        "",
        "tests/crash/test_transactional -k a_cancellation_strikes",
    ),
    Mutant(
        "a coroutine function commits by itself",
        '        raise psycopg.ProgrammingError(_REFUSED.format("commit()"))',
        "        return await super().commit()",
        COROUTINES + "what_would_end_it",
    ),
    Mutant(
        "a task that a coroutine function has left behind goes on with its connection",
        "            self.over = True\n",
        "",
        COROUTINES + "left_behind",
    ),
    Mutant(
        "what an interrupt has torn off goes on with a transaction that somebody ends meanwhile",
        "            await asyncio.wait((self._under_way,))\n",
        "            break\n",
        COROUTINES + "one_after_the_other",
    ),
    Mutant(
        "there are as many connections as coroutine functions",
        "            await place.acquire()\n",
        "",
        COROUTINES + "a_connection_each",
    ),
    Mutant(
        "threads that wait for a connection keep coroutine functions from committing",
        "PostgresInLoop(self._transaction(1)",
        "PostgresInLoop(self._transaction(0)",
        COROUTINES + "a_connection_each",
    ),
    Mutant(
        "a plain function that meets another at the same rows is not called again",
        "        if not self._lent.plain.passes(error) or self._trying.ends():",
        "        if True:",
        "tests/crash/test_transactional_servers -k wait_for_each_other",
    ),
]
