"""Broken retries: what they look at, and what a saga says for all its steps."""

from __future__ import annotations

from . import FRONT_DOORS, Mutant

RETRIED = "tests/unit/machine/test_table -k what_follows"
LOGGED = "tests/unit/machine/test_log -k first_attempt"
RETRIES = FRONT_DOORS + "retries"

OF_RETRIES = [
    Mutant("a function is not asked about an error", "            if said:\n", "            if False:\n", RETRIED),
    Mutant("a function is asked about an interrupt", "elif is_exception(error):  # an", "elif True:  # an", RETRIED),
    Mutant(
        "what a function of the error raises ends the saga's machine",
        "    except Exception as wrong:  # the user's own function\n        add_note(error, f\"retry_on",
        "    except LookupError as wrong:  # the user's own function\n        add_note(error, f\"retry_on",
        RETRIED,
    ),
    Mutant("nobody hears what a function of the error raised", 'add_note(error, f"retry_on', 'str(f"retry_on', RETRIES),
    Mutant("there is always time for another attempt", "limit is None or elapsed <= limit", "True", RETRIED),
    Mutant("an attempt may begin late", "policy, attempt, at + delay, phase", "policy, attempt, at, phase", RETRIED),
    Mutant(
        "the time begins with the last attempt",
        "                if event.attempt == 1:\n                    break",
        "                break",
        LOGGED,
    ),
    Mutant(
        "the time begins before what was undone on request",
        "(isinstance(event, SagaRewound) or (around and _begins(event, around)))",
        "(around and _begins(event, around))",
        LOGGED,
    ),
    Mutant(
        "past the pivot the time ends the way forward",
        "elif phase == EXECUTE and _must_go_on(machine, step):",
        "elif False:",
        RETRIED,
    ),
    Mutant("what is not ready is a result", "step.retry.retry_if is not None and not given_up", "False", RETRIES),
    Mutant(
        "what returned and was not ready is left as it is",
        "(step.compensate_on_failure or step.index in state.unready) and",
        "step.compensate_on_failure and",
        RETRIED,
    ),
    Mutant("what is not ready is not asked for again", "wanted = _is_unready(failure) or _allows", "wanted = _allows", RETRIED),
    Mutant(
        "a recovery has the changes of what was not ready",
        "if event.executed and not is_a(event.error, NotReadyError):",
        "if event.executed:",
        RETRIES,
    ),
    Mutant(
        "an attempt that is not ready is one of a series",
        " or step.retry.retry_if is not None or step.provides:",
        " or step.provides:",
        RETRIES,
    ),
    Mutant(
        "one function is asked about the results of all steps",
        'if "retry" in found and found["retry"].retry_if is not None:',
        "if False:",
        RETRIES,
    ),
    Mutant("a saga's word comes before that of a task", "or policy not in said}", "or True}", RETRIES),
    Mutant(
        "a dead block's word is lost with it",
        "text_of_step(self._plan.spelt_out(found),",
        "text_of_step(found,",
        FRONT_DOORS + "transaction_stored -k retried",
    ),
    Mutant("a transaction has the saga's timeout", '{"timeout": cut_off,', '{"timeout": True,', RETRIES),
]
