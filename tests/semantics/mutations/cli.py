"""The command line, broken."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_THE_COMMAND_LINE"]

LOOKING, EXITS, ACTING = "tests/cli/test_looking", "tests/cli/test_exits", "tests/cli/test_acting"
RUNNING, SHOWING = "tests/cli/test_running", "tests/cli/test_showing"

OF_THE_COMMAND_LINE = [
    Mutant(
        "a table shows what does more in a terminal than stand",
        'texts = [[one_line("" if value is None else value) for value in row] for row in rows]',
        'texts = [[str("" if value is None else value) for value in row] for row in rows]',
        LOOKING + " -k no_text_reaches",
    ),
    Mutant(
        "an error shows what does more in a terminal than stand",
        "click.echo(prefix + one_line(settings.hidden(text)), err=True)",
        "click.echo(prefix + settings.hidden(text), err=True)",
        LOOKING + " -k no_text_reaches",
    ),
    Mutant(
        "a password is shown",
        'text = text.replace(secret, "***")\n        return _PASSWORD.sub(r"\\1***@", text)',
        "pass\n        return text",
        "tests/cli/test_options -k password",
    ),
    Mutant(
        "looking makes a file",
        "if path is not None and not make and not Path(path).exists():",
        "if False:",
        EXITS + " -k what_is_wrong",
    ),
    Mutant(
        "who must act is told that all is undone",
        '"stuck": PERSON, "paused": PERSON}',
        '"stuck": UNDONE, "paused": PERSON}',
        EXITS + " -k the_worst",
    ),
    Mutant(
        "an id that looks like an option is offered as one",
        'if saga_id.startswith("-"):  # else',
        "if False:  # else",
        "tests/durable/test_offers -k line_of_a_terminal",
    ),
    Mutant(
        "many are acted on though nobody was asked",
        "    if yes:\n        return rows\n",
        "    if True:\n        return rows\n",
        EXITS + " -k what_is_wrong",
    ),
    Mutant(
        "an action on many is tried on those that it cannot fit",
        'filters.setdefault("status", statuses)',
        "pass",
        ACTING + " -k all_that_filters_find",
    ),
    Mutant(
        "one that is refused is no matter",
        "    return PERSON if refused else DONE",
        "    return DONE",
        ACTING + " -k one_that_is_refused",
    ),
    Mutant(
        "what is in hand is broken off where nobody reads",
        "                self._unread = error\n                self._here.stop()",
        "                raise",
        RUNNING + " -k nobody_reads",
    ),
    Mutant(
        "a pipe is read before anything runs, and nothing is left of it",
        'self.source == "-" or Path(self.source).is_fifo()',
        'self.source == "-"',
        RUNNING + " -k read_once",
    ),
    Mutant(
        "a shell runs what an id has in it",
        "for row in rows if shlex.quote(row.saga_id) == row.saga_id]",
        "for row in rows]",
        "tests/cli/test_planned -k a_shell_completes",
    ),
    Mutant(
        "who is told to stop begins another",
        "            if here.stopping.is_set() or failed:\n                break\n            if threads == in_hand:",
        "            if failed:\n                break\n            if threads == in_hand:",
        RUNNING + " -k a_signal_lets",
    ),
    Mutant(
        "what one input fails by interrupts the others",
        "            failed.append(found)",
        "            raise found",
        RUNNING + " -k interrupts_none",
    ),
    Mutant(
        "inputs are looked at as they are submitted",
        "    given.check()\n    opens = _moment(at)",
        "    opens = _moment(at)",
        RUNNING + " -k nothing_runs",
    ),
    Mutant(
        "what is followed always ends well",
        "return ended(view.execution.status)",
        "return DONE",
        SHOWING + " -k the_code_of_what_is_followed",
    ),
    Mutant(
        "a table is as wide as it is, whatever the terminal",
        "        below = _below(columns, widths, room)\n        _narrow(columns, widths, below, room)\n",
        "        pass\n",
        LOOKING + " -k every_column",
    ),
    Mutant(
        "a Ctrl-C strikes a task while sagas are explored",
        "with stopped_by_signals(stop.set):\n            found = explore(",
        "if True:\n            found = explore(",
        "tests/cli/test_exploring -k interrupt",
    ),
    Mutant(
        "a test to paste calls a saga by no name",
        'yield f"{module}:{known}", _named(saga, known)',
        'yield f"{module}:{known}", saga',
        "tests/cli/test_exploring -k with_a_test",
    ),
    Mutant(
        "what explores never fails",
        "return UNDONE if any(one.found.broken is not None for one in done) else DONE",
        "return DONE",
        "tests/cli/test_exploring -k with_a_test",
    ),
    Mutant(
        "a strict check lets through what is not certified",
        'unsound = any(set(steps.values()) - {"certified"}',
        'unsound = any(set(steps.values()) - {"certified", "not certified", "certificate stale", "certificate failed"}',
        "tests/cli/test_certifying -k not_certified_is_told",
    ),
    Mutant(
        "certifying one saga forgets the others",
        "known.merge(found).save(path)",
        "found.save(path)",
        "tests/cli/test_certifying -k tasks_are_certified",
    ),
    Mutant(
        "a file does not say where certificates are",
        'said = self.file.get("certificates") if given is None else None',
        "said = None",
        "tests/cli/test_certifying -k not_certified_is_told",
    ),
    Mutant(
        "a saga that lacks a key is well",
        "UNDONE if lacking or (strict and unsound) else DONE",
        "UNDONE if strict and unsound else DONE",
        "tests/cli/test_planned -k lacks_a_key",
    ),
    Mutant(
        "what says nothing of keys is called well",
        "if saga.plan.declares else None  #",
        "if saga.plan else None  #",
        "tests/cli/test_planned -k says_nothing",
    ),
]
