"""Recovery broken: whether it goes on, what it makes of a store that fails, and of journals that somebody damaged."""

from __future__ import annotations

from . import CONTRACT, DURABLE, IN_MEMORY, IN_POSTGRES, IN_SQLITE, LEASES, RECOVERY, UNDO, Mutant

__all__ = ["OF_RECOVERY"]

GOES_ON, DAMAGED = DURABLE + "recovery_goes_on", DURABLE + "damaged_journals"
LEASED = CONTRACT + "_leases -k says_that_it_runs"
MESSAGES, LOOP = DURABLE + "messages", DURABLE + "worker_loop"
IN_TURNS = DURABLE + "undone_in_turns"

OF_RECOVERY = [
    # -- for as long as it is wanted ----------------------------------------------------------------------------------
    Mutant(
        "a worker that finishes what is in hand says no more that it lives",
        "            if not self._once and clock() >= self._beat_at:\n                self._announce(stopping=True)\n",
        "",
        DURABLE + "worker -k it_lives_while_it_finishes",
    ),
    Mutant(
        "what a task raises ends a recovery",
        "        if raised is not None and has_struck(raised):\n",
        "        if raised is not None:\n",
        UNDO + " -k exits_in_a_recovery",
    ),
    Mutant(
        "a program that is told to end goes on, where that strikes a task",
        "        if raised is not None and has_struck(raised):\n",
        "        if isinstance(raised, KeyboardInterrupt):\n",
        DURABLE + "told_to_end -k ends_a_worker",
    ),
    Mutant(
        "... where it strikes who calls out",
        "            stops = has_struck(error)\n",
        "            stops = isinstance(error, KeyboardInterrupt)\n",
        DURABLE + "told_to_end -k calls_out",
    ),
    Mutant(
        "whatever a store raises ends a recovery",
        "            except BaseException as error:\n                if self._once or has_struck(error):\n",
        "            except StorageError as error:\n                if self._once or has_struck(error):\n",
        GOES_ON + " -k what_a_store_raises",
    ),
    Mutant(
        "a Ctrl-C leaves what runs in the event loop",
        "                crew.cancel()\n",
        "",
        GOES_ON + " -k a_ctrl_c",
    ),
    Mutant(
        "a worker that stops waits without end for a call that outlived its timeout",
        "            await asyncio.wait([execution.background])\n",
        "            pass\n",
        DURABLE + "worker -k outlived_its_timeout",
    ),
    Mutant(
        "a worker waits for what was cancelled before it began",
        "        self._aio.discard(task)\n        self._end(job)\n",
        "        self._aio.discard(task)\n        if not task.cancelled():\n            self._end(job)\n",
        DURABLE + "worker -k cancelled_before_it_begins",
    ),
    Mutant(
        "a process takes what it runs from itself",
        "but=keeper_of(store).late, **options",
        "**options",
        LEASES + " -k not_taken_from_it and memory",
    ),
    Mutant(
        "what was renewed in time is late",
        "                one.renewed = now\n",
        "",
        LEASES + " -k is_not_late",
    ),
    Mutant(
        "what nobody runs any more is left out as if it were run",
        "for one in late if one.to_be_renewed(now)}",
        "for one in late}",
        LEASES + " -k is_not_late",
    ),
    Mutant(
        "what its owner runs is claimed in memory",
        "if row.saga_id not in left_out and turn",
        "if turn",
        LEASED + IN_MEMORY,
    ),
    Mutant(
        "what its owner runs is claimed in a file",
        "if one.row.saga_id not in self._but] if",
        "] if",
        LEASED + IN_SQLITE,
    ),
    Mutant(
        "what its owner runs is claimed through SQLAlchemy",
        "if row.id not in but and room",
        "if room",
        LEASED + " and sqlalchemy and sqlite",
    ),
    Mutant(
        "what its owner runs is claimed in PostgreSQL",
        "WHERE id <> ALL(%s::text[])",
        "WHERE %s::text[] IS NOT NULL",
        LEASED + IN_POSTGRES,
    ),
    Mutant(
        "what its owner runs is claimed in its turn in PostgreSQL",
        "for row in found if row[0] not in but}",
        "for row in found}",
        LEASED + IN_POSTGRES,
    ),
    Mutant(
        "who misspells what is to be held is not told",
        "        return self._is_known(name, version)\n",
        "        return True\n",
        DURABLE + "worker -k nobody_knows and memory",
    ),
    Mutant(
        "a worker of another store than its sagas' says nothing",
        "        warn_of_another_store(self.store, sagas, kind)\n",
        "",
        DURABLE + "worker -k another_store",
    ),
    Mutant(
        "what was to begin long ago has waited since then",
        'max(row.opens if row.status == "submitted" else row.due, row.updated)',
        'row.opens if row.status == "submitted" else max(row.due, row.updated)',
        DURABLE + "worker -k begun_long_ago and memory",
    ),
    Mutant(
        "who stops a worker that runs nothing stops what is run once later",
        "        if self._watch is None:\n            self._stopping.clear()",
        "        if False:\n            self._stopping.clear()",
        DURABLE + "worker -k stops_it_twice and memory",
    ),
    Mutant(
        "what a task does to a worker's event loop ends it",
        "            while not (self._ends or self.loop.is_closed()):\n",
        "            if not self._ends:\n",
        LOOP + " -k ends_it and memory",
    ),
    Mutant(
        "a worker goes on without the event loop that it was given",
        "(self.stopping() or self._crew.lost)",
        "self.stopping()",
        LOOP + " -k is_closed and memory",
    ),
    Mutant(
        "a worker waits for what a closed event loop keeps",
        "not (job.asynchronous and self.lost)",
        "True",
        LOOP + " -k is_closed and memory",
    ),
    Mutant(
        "what fills the threads of an event loop keeps back who takes up there",
        "await in_store_thread(contextvars",
        "await asyncio.get_running_loop().run_in_executor(None, contextvars",
        LOOP + " -k fills and memory",
    ),
    Mutant(
        "what fills the threads of an event loop keeps its commits back",
        "group.job = in_store_thread(",
        "group.job = loop.run_in_executor(None, ",
        LOOP + " -k fills and memory",
    ),
    Mutant(
        "what exits in a recovered undo is tried for ever",
        "return not driver.recovers or has_struck(error)",
        "return True",
        UNDO + " -k exits_in_a_recovery",
    ),
    Mutant(
        "a store's faults count as an execution's",
        "delay=self.backoff, untried=True)",
        "delay=self.backoff)",
        GOES_ON + " -k stores_faults",
    ),
    Mutant(
        "a store that fails is asked again at once",
        "self.store.release(self.lease, delay=self.backoff, untried=True)",
        "self.store.release(self.lease, untried=True)",
        RECOVERY + " -k a_failing_store",
    ),
    Mutant(
        "a store that cannot be read counts as an execution's fault",
        "give_back(lease, delay=delay, untried=True)\n        except BaseException",
        "give_back(lease, delay=delay)\n        except BaseException",
        GOES_ON + " -k cannot_be_read",
    ),
    Mutant(
        "a recovery keeps what has ended",
        "        self.live.discard(job)\n        job.execution = None\n        return False\n\n    async def",
        "        return False\n\n    async def",
        GOES_ON + " -k keeps_nothing",
    ),
    # -- in turns -----------------------------------------------------------------------------------------------------
    Mutant(
        "executions that take turns keep each other back behind a call that takes long",
        "        self._jobs.let_wait(job)\n",
        "",
        IN_TURNS + " -k takes_long",
    ),
    Mutant(
        "a call is made in the turn of an execution that others have",
        "        if execution.machine.ended or self._keeper.take(job.lease):\n",
        "        if True:\n",
        IN_TURNS + " -k takes_long",
    ),
    Mutant(
        "executions that take turns see what the others have set",
        "job.context.run(self._go_as_far, job)",
        "self._go_as_far(job)",
        IN_TURNS + " -k do_not_see",
    ),
    Mutant(
        "a worker that stops makes a call more of each execution whose turn comes",
        "            if self.handing_back and not self.machine.ended:  #",
        "            if False:  #",
        IN_TURNS + " -k whose_turn_it_is_not",
    ),
    Mutant(
        "a worker that stops leaves those whose turn comes",
        "        while self._crew.work():\n            pass\n        deadline",
        "        deadline",
        IN_TURNS + " -k a_worker_that_stops",
    ),
    Mutant(
        "executions that take turns store what they bring one by one",
        "                self._line.add(execution, partial(self._give_turn, job))\n",
        "                self._give_turn(job)\n",
        IN_TURNS + " -k stored_together",
    ),
    Mutant(
        "a store's fault ends the thread that stores for several",
        "        except BaseException:  # of a store with a fault\n            LOG",
        "        except StorageError:\n            LOG",
        IN_TURNS + " -k stored_alone",
    ),
    Mutant(
        "what stores for several keeps them when they are stored",
        "        for place in places:\n            place.turn()\n",
        "        for place in places:\n            place.turn()\n        self._kept = places\n",
        IN_TURNS + " -k keeps_nothing",
    ),
    # -- journals that somebody damaged -------------------------------------------------------------------------------
    Mutant(
        "what a journal contradicts is believed",
        "contradiction(machine.state, begun, one.event) if looked_at else None",
        "None",
        DAMAGED + " -k what_happened_once",
    ),
    Mutant(
        "what a payload says is believed",
        "if may_be is not None and not may_be(value)",
        "if False and not may_be(value)",
        DAMAGED + " -k each_is_read_right",
    ),
    Mutant(
        "a journal that begins in its middle is read",
        "    if not isinstance(event, _FIRST):\n        raise",
        "    if False:\n        raise",
        DAMAGED + " -k each_is_read_right",
    ),
    Mutant(
        "an execution that is said to have ended is believed",
        "if row.status in (e.Status.COMPLETED, e.Status.COMPENSATED) and row.status != machine.status:",
        "if False:",
        DAMAGED + " -k said_to_have_ended",
    ),
    Mutant(
        "what is damaged is tried again",
        "            if error.may_pass:\n",
        "            if True:\n",
        DAMAGED + " -k damaged_in_a_file",
    ),
    Mutant(
        "that an execution is stuck is numbered as if no entry were missing",
        "written = max((entry.seq for entry in journal), default=0)  # some",
        "written = len(journal)  # some",
        DAMAGED + " -k damaged_in_a_file",
    ),
    Mutant(
        "a file's text that is none cannot be read",
        "                self._reader.text_factory = _DAMAGED_TOO\n",
        "",
        DAMAGED + " -k damaged_in_a_file",
    ),
    Mutant(
        "a flow that cannot go on runs a step twice",
        "        check_order(machine.plan, machine.events)\n",
        "        pass\n",
        DAMAGED + " -k a_flow_that_cannot_go_on",
    ),
    Mutant(
        "one that has nothing left to do is put off for ever",
        "machine.ended or driver.mail or machine.stranded:",
        "machine.ended or driver.mail:",
        DAMAGED + " -k nothing_left_to_do",
    ),
    Mutant(
        "one that has nothing left to do waits for ever",
        "        elif self.machine.stranded:\n",
        "        elif False:\n",
        DAMAGED + " -k nothing_left_to_do",
        file="saga/drivers/threads.py",
    ),
    Mutant(
        "one that has nothing left to do waits for ever in an event loop",
        "        elif self.machine.stranded:\n",
        "        elif False:\n",
        DAMAGED + " -k nothing_left_to_do",
        file="saga/drivers/aio.py",
    ),
    # -- messages -----------------------------------------------------------------------------------------------------
    Mutant(
        "an end forestalls what came before it",
        "            except UnreadMessagesError:\n                self.machine.reopen()\n",
        "            except UnreadMessagesError:\n",
        MESSAGES + " -k what_comes_before_the_end_is_read and cancels and not async",
    ),
    Mutant(
        "an end in an event loop forestalls what came before it",
        "                machine.reopen()\n",
        "",
        MESSAGES + " -k what_comes_before_the_end_is_read and cancels and async",
        file="saga/drivers/aio.py",
    ),
    Mutant(
        "what was read before an end is no reason to end",
        "        if not self.commands:\n            self.progress(at)\n\n    @property\n    def halted",
        "        pass\n\n    @property\n    def halted",
        MESSAGES + " -k what_comes_before_the_end_is_read and signals and not async",
    ),
    Mutant(
        "an action that is refused leaves nothing in the journal",
        "            self.machine.record(event)\n\n    def _changes",
        "\n    def _changes",
        MESSAGES + " -k end_of_an_undo",
    ),
    Mutant(
        "what cannot be read stops the execution",
        "    except BaseException as error:  # a user's decode function may raise anything\n",
        "    except ZeroDivisionError as error:\n",
        MESSAGES + " -k what_cannot_be_read_is_shown",
    ),
    Mutant(
        "memory: what has ended gets messages",
        "            if row.status not in takes:\n",
        "            if row.status == status:\n",
        CONTRACT + "_inbox -k to_what_has_ended" + IN_MEMORY,
    ),
    Mutant(
        "memory: what has unread messages ends",
        "if status in rules.RESTING and not inbox.keys() <= set(taken):",
        "if False:",
        CONTRACT + "_inbox -k unread_messages" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: what has unread messages ends",
        "if status in rules.RESTING and {row[0] for row in connection.execute(sql.INBOX, (saga_id,))} - set(taken):",
        "if False:",
        CONTRACT + "_inbox -k unread_messages" + IN_SQLITE,
    ),
    Mutant(
        "memory: who waits is put off though a message has come",
        "                if got_on and self._inboxes[row.saga_id]:\n                    delay = 0.0\n",
        "",
        CONTRACT + "_inbox -k due_now_where_a_message" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: who waits is put off though a message has come",
        "WHEN ?1 = 0 OR ?3 AND EXISTS (SELECT 1 FROM saga_inbox WHERE saga_id = saga.id)",
        "WHEN ?1 = 0",
        CONTRACT + "_inbox -k due_now_where_a_message" + IN_SQLITE,
    ),
]
