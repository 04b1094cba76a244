"""What is told broken: texts that leave, errors that are made again, results that are pickled, reports, log records."""

from __future__ import annotations

from . import DURABLE, START_ONCE, Mutant

__all__ = ["OF_WHAT_IS_TOLD"]

UNIT = "tests/unit/test_"
LOGGED = "tests/frontdoors/test_what_is_logged"
CODEC_ERRORS = "tests/unit/codec/test_errors"

OF_WHAT_IS_TOLD = [
    # -- one line -----------------------------------------------------------------------------------------------------
    Mutant(
        "a text leaves as it is",
        'return text if text.isprintable() else "".join(map(_shown, text))',
        "return text",
        UNIT + "hostile_texts",
    ),
    Mutant(
        "only line breaks are escaped",
        'return text if text.isprintable() else "".join(map(_shown, text))',
        'return text.replace("\\n", "\\\\n")',
        UNIT + "plain -k no_character",
    ),
    Mutant(
        "whatever raises in a text costs what it is in",
        "    try:\n        return str.__str__(str(value))[:TEXT_CHARACTERS]\n    except Exception as error:\n",
        "    try:\n        return str.__str__(str(value))[:TEXT_CHARACTERS]\n    except ImportError as error:\n",
        UNIT + "plain -k whatever_an_object",
    ),
    Mutant(
        "the package's own lines have texts as they are",
        "        return one_line(self._value)\n",
        "        return str(self._value)\n",
        UNIT + "plain -k own_lines",
    ),
    Mutant(
        "a timeline has values as they are",
        "    text = one_line(value if isinstance(value, str) else json.dumps(value, default=repr))\n",
        "    text = value if isinstance(value, str) else json.dumps(value, default=repr)\n",
        UNIT + "hostile_texts -k timeline",
    ),
    Mutant(
        "a timeline cuts the reason",
        ' or key in ("reason", "why")',
        "",
        UNIT + "report -k recovery_gave_up",
    ),
    Mutant(
        "a word of a label turns the picture",
        r"|direction(?=\s)",
        "",
        UNIT + "diagram -k mermaid_would",
    ),
    # -- logs ---------------------------------------------------------------------------------------------------------
    Mutant(
        "a compensation's attempt is an error though another follows",
        "        if is_tried_again(event, info.events):\n",
        "        if False:\n",
        LOGGED + " -k failed_and_was_undone",
    ),
    Mutant(
        "a compensation's last attempt is as quiet as the others",
        'if isinstance(one, RetryScheduled) and (one.step, one.phase) == (event.step, "compensate"):',
        "if True:",
        LOGGED + " -k no_attempt_follows",
    ),
    Mutant(
        "the time of an execution is that of its last step",
        "next((one.at for one in events if isinstance(one, SagaStarted)), None)",
        "next((one.at for one in reversed(events) if hasattr(one, 'attempt')), None)",
        LOGGED + " -k whole_time",
    ),
    Mutant(
        "a stuck execution's results are logged though nobody said so",
        "            yield whole, HIDDEN, None\n        for key in keys:\n",
        "            yield whole, result, None\n        for key in keys:\n",
        LOGGED + " -k shown_and_hidden",
    ),
    Mutant(
        "a mask that is found in no result hides none",
        "            if missed:\n                yield whole, HIDDEN, min(missed)\n",
        "            if False:\n                yield whole, HIDDEN, min(missed)\n",
        LOGGED + " -k shown_and_hidden",
    ),
    Mutant(
        "what stands is to be undone by hand though the saga has not given up",
        "    return bool(standing.gave_up) and stands\n",
        "    return stands\n",
        LOGGED + " -k what_can_be_done",
    ),
    Mutant(
        "an adapter's fields are all there are",
        'extra = {**extra, **(processed.get("extra") or {}), **line.fields}',
        'extra = processed.get("extra") or {}',
        UNIT + "loggers",
    ),
    Mutant(
        "other libraries get texts as they are",
        "{name: one_line(value) if isinstance(value, str) else value for name, value in fields.items()}",
        "dict(fields)",
        UNIT + "loggers -k printed_as_they_are",
    ),
    Mutant(
        "a store tells its password",
        "        url = sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database)\n",
        "",
        "tests/storage/test_opened -k no_password",
    ),
    Mutant(
        "a worker that runs once tells that it begins",
        "        elif not self._once:\n            say_begins(",
        "        else:\n            say_begins(",
        "tests/durable/test_worker -k says_nothing",
    ),
    Mutant(
        "observers do not hear of what a worker leaves to a person",
        "            tell_of_stuck(definition, row, journal, stuck)\n",
        "",
        LOGGED + " -k leaves_to_a_person",
    ),
    Mutant(
        "what a worker leaves to a person is critical twice",
        "level = logging.ERROR if _is_logged(definition) else logging.CRITICAL",
        "level = logging.CRITICAL",
        LOGGED + " -k leaves_to_a_person",
    ),
    Mutant(
        "a decision of long ago is told of each recovery",
        "        if not isinstance(one, SagaCompensating | SagaPaused):",
        "        if False:",
        LOGGED + " -k decided_meanwhile",
    ),
    Mutant(
        "a value in which a mask cannot look costs the line",
        "            except Exception:  # a user's object\n                return HIDDEN, None\n",
        "",
        LOGGED + " -k no_value_costs",
    ),
    # -- rows ---------------------------------------------------------------------------------------------------------
    Mutant(
        "of what asks a person the step is told that was begun last",
        "            return event.step, _name(event.error),",
        "            return step, cause,",
        DURABLE + "told -k what_asks_a_person",
    ),
    Mutant(
        "a row does not tell with what error an undo failed",
        'f"{reason} ({said})"',
        "reason",
        DURABLE + "told -k could_not_be_undone",
    ),
    Mutant(
        "a worker says nothing of what is stuck where no logger does",
        "    if not _is_logged(definition):\n        LOG.info",
        "    if False:\n        LOG.info",
        DURABLE + "recovery_goes_on -k stuck_is_said_once",
    ),
    # -- reports ------------------------------------------------------------------------------------------------------
    Mutant(
        "a cause is told again",
        "        if id(following) in told:\n",
        "        if False:\n",
        UNIT + "report -k circle",
    ),
    Mutant(
        "an error is told again where another step had it",
        "        if id(error) not in told:\n            titles",
        "        if True:\n            titles",
        UNIT + "report -k every_traceback",
    ),
    Mutant(
        "only the first failure has its traceback",
        "    for event in result.events:\n        if isinstance(event, StepFailed | StepTimedOut):\n            title",
        "    for event in ():\n        if isinstance(event, StepFailed | StepTimedOut):\n            title",
        UNIT + "report -k every_traceback",
    ),
    Mutant(
        "what failed in a saga within is told by its cause alone",
        "        if inner is not None:\n            for title, failure",
        "        if False:\n            for title, failure",
        UNIT + "report -k every_traceback",
    ),
    Mutant(
        "each saga around a saga says all that the inner one says",
        "_headline(inner, _first_error(inner)) if inner is not None",
        "headline(inner) if inner is not None",
        UNIT + "report -k add_as_much",
    ),
    Mutant(
        "a stuck saga counts the attempts of execute",
        "{_tried(record.compensation_attempts)}",
        "{_tried(record.attempts)}",
        UNIT + "report -k stuck_saga",
    ),
    Mutant(
        "a person is offered what does not fit",
        "            check(action, None, standing)\n            fitting",
        "            fitting",
        UNIT + "report -k what_fits",
    ),
    # -- in another process -------------------------------------------------------------------------------------------
    Mutant(
        "a value that cannot be pickled costs the result",
        "    except Exception:  # a user's __reduce__ may raise anything\n        return None\n",
        "    except ImportError:  # a user's __reduce__ may raise anything\n        return None\n",
        UNIT + "carried -k failure_is",
    ),
    Mutant(
        "a value that cannot be read again costs the result",
        "    except Exception:  # its class is not here, or its __setstate__ raised\n",
        "    except ImportError:  # its class is not here, or its __setstate__ raised\n",
        UNIT + "carried -k result_says",
    ),
    Mutant(
        "what was one error is several afterwards",
        "        if id(value) not in self._known:\n",
        "        if True:\n",
        UNIT + "carried -k keeps_its_class",
    ),
    Mutant(
        "a failure's arguments are empty",
        "        return given if self.result is None else (self.message, *given[1:])\n",
        "        return given\n",
        UNIT + "errors -k failed_raises_its_result",
    ),
    Mutant(
        "an error of another text counts as made again",
        "    if error is None or text_of(error) != text:\n",
        "    if error is None:\n",
        CODEC_ERRORS + " -k cannot_be_made",
    ),
    Mutant(
        "an error is made again by its class's own __init__",
        "    if makes_itself(cls):\n        error: Any",
        "    if True:\n        error: Any",
        CODEC_ERRORS + " -k plain_values",
    ),
    Mutant(
        "an error is made again without its attributes",
        "    attributes_of(error).update(attributes)\n",
        "",
        CODEC_ERRORS + " -k plain_values",
    ),
    Mutant(
        "no error is made again",
        "        parts = parts_of(recorded)\n",
        "        parts = None\n",
        START_ONCE + " -k fails_again",
    ),
    # -- records and tasks --------------------------------------------------------------------------------------------
    Mutant(
        "a mask that hides nothing is taken",
        "            if not any(path == key or _is_within(path, key) or _is_within(key, path) for key in self.show):\n",
        "            if False:\n",
        UNIT + "logging -k hides_nothing",
    ),
    Mutant(
        "what a line says is looked for though it is not written",
        'self._writer.listens(level) or self._overridden or "write" in vars(self)',
        "True",
        "tests/unit/test_logging -k looked_for_only",
    ),
    Mutant(
        "a logger's own write hears of loud lines alone",
        'self._writer.listens(level) or self._overridden or "write" in vars(self)',
        "self._writer.listens(level) or self._overridden",
        "tests/unit/test_logging -k looked_for_only",
    ),
    Mutant(
        "a mask that is not found lets the value through",
        "                return HIDDEN, path\n",
        "                return value, path\n",
        UNIT + "logging -k does_not_find",
    ),
    Mutant(
        "a saga's name is no part of its records' template",
        'return _literal(f"{message} saga={_quoted(saga)}")',
        "return _literal(message)",
        UNIT + "logging -k fields_and_a_template",
    ),
    Mutant(
        "a method replaced on a logger is not called",
        "        getattr(self, _METHODS[type(event)])(event, info)\n",
        "        getattr(type(self), _METHODS[type(event)])(self, event, info)\n",
        UNIT + "logging -k replaced_on_the_object",
    ),
    Mutant(
        "the failed task is what calls the user's",
        "self._plan.by_name[name].inner_task\n",
        "self._plan.by_name[name].task\n",
        "tests/frontdoors/test_failed_task -k that_was_added",
    ),
    Mutant(
        "what a resolver makes in a branch is not known outside",
        "        twin.made = self.made = {} if self.made is None else self.made\n",
        "",
        "tests/frontdoors/test_failed_task -k made_of_it",
    ),
]
