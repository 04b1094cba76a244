"""What observers are told of broken: their stints, what is carried along, and what stands on these."""

from __future__ import annotations

from . import DRIVERS, Mutant

__all__ = ["OF_OBSERVING"]

STINTS, FAILING = DRIVERS + "stints", DRIVERS + "observers_that_fail"
SPANS, FAILURES = "tests/integrations/test_opentelemetry", "tests/integrations/test_sentry"

OF_OBSERVING = [
    Mutant(
        "a stint has no observer of its own",
        '[(one, _asked(one, "stint", _observer, info)) for one in observers]',
        "[(one, None) for one in observers]",
        STINTS + " -k all_that_happens",
    ),
    Mutant(
        "a stint ends with each record of a stream",
        "        if self.parked or self.abandoned or self.machine.ended:\n            self.stint_over = True\n",
        "        if True:\n            self.stint_over = True\n",
        STINTS + " -k each_front_door",
    ),
    Mutant(
        "a stint ends as often as it is looked at",
        "            self.stint_over = True\n",
        "",
        STINTS + " -k each_front_door",
    ),
    Mutant(
        "a stint whose straggler is undone later never ends",
        "        assert self.ended is not None\n        self.end_stint()\n",
        "        assert self.ended is not None\n",
        STINTS + " -k straggler",
    ),
    Mutant(
        "nobody is told what broke a stint off",
        "(sys.exception() or self.unstored or self.interrupt) if self.abandoned else None",
        "None",
        STINTS + " -k loses_the_lease",
    ),
    Mutant(
        "a recovery carries nothing along",
        "recover(machine, owner(), row.epoch, host_time(), execution.carried())",
        "recover(machine, owner(), row.epoch, host_time())",
        STINTS + " -k waits_in_its_store",
    ),
    Mutant(
        "what is carried along may be taken for a value",
        "_to_json(list(carried.items()))",
        "_to_json(dict(carried))",
        STINTS + " -k is_any_text",
    ),
    Mutant(
        "what an observer has carried along need be no texts",
        "    if not all(type(text) is str for pair in found.items() for text in pair):\n",
        "    if False:\n",
        STINTS + " -k does_wrong",
    ),
    # -- observers that fail ------------------------------------------------------------------------------------------
    Mutant(
        "an observer's exit is the saga's",
        "                    if has_struck(error):\n                        struck = error\n",
        "                    if not isinstance(error, Exception):\n                        struck = error\n",
        FAILING + " -k logged_once",
    ),
    Mutant(
        "an exit in a method of a stint is the saga's",
        "    except BaseException as error:\n        if is_not_its_own(error, process or os.getpid()):\n",
        "    except BaseException as error:\n        if not isinstance(error, Exception):\n",
        FAILING + " -k logged_once",
    ),
    Mutant(
        "an exit around a call is its outcome",
        "                if is_not_its_own(other, self._process):\n",
        "                if not isinstance(other, Exception):\n",
        FAILING + " -k logged_once",
    ),
    Mutant(
        "a Ctrl-C in an observer is taken for its failure",
        "isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()",
        "False",
        FAILING + " -k ctrl_c",
    ),
    Mutant(
        "what a signal's handler raises in an observer is taken for its failure",
        "_is_ctrl_c(error) or (not is_exception(error) and _is_of_a_handler(error))",
        "_is_ctrl_c(error)",
        FAILING + " -k handler",
    ),
    Mutant(
        "a Ctrl-C in one observer keeps an event from the others",
        "                    if has_struck(error):\n                        struck = error\n",
        "                    if has_struck(error):\n                        raise\n",
        FAILING + " -k ctrl_c",
    ),
    Mutant(
        "a Ctrl-C at the end of a stint that was broken off is lost",
        "                self.interrupted(error)\n                if self.abandoned:\n                    raise\n",
        "                self.interrupted(error)\n",
        FAILING + " -k broken_off",
    ),
    Mutant(
        "a child that an observer has forked is the parent's failing observer",
        "has_struck(error) or os.getpid() != process",
        "has_struck(error)",
        DRIVERS + "forks -k goes_on_with_nothing",
    ),
    # -- spans --------------------------------------------------------------------------------------------------------
    Mutant(
        "a call's span is a child of whatever is current",
        "            within = trace.set_span_in_context(self._span)\n",
        "            within = surroundings.get_current()\n",
        SPANS + " -k child_of_its_stint",
    ),
    Mutant(
        "a call's span is not current in it",
        "surroundings.attach(trace.set_span_in_context(self.span))",
        "surroundings.attach(surroundings.get_current())",
        SPANS + " -k child_of_its_stint",
    ),
    Mutant(
        "a call's span stays current after it",
        "        surroundings.detach(self._token)\n",
        "",
        SPANS + " -k nothing_is_current",
    ),
    Mutant(
        "a span ends with its call, whatever comes of that",
        "        if call.until is not None and call.known and self._calls",
        "        if call.until is not None and self._calls",
        SPANS + " -k what_came_of_its_call",
    ),
    Mutant(
        "a span ends while its call runs",
        "        if call.until is not None and call.known and self._calls.pop(call.key, None) is not None:\n"
        "            call.span.end(call.until)\n",
        "        if call.known and self._calls.pop(call.key, None) is not None:\n            call.span.end(call.until)\n",
        SPANS + " -k broken_off",
    ),
    Mutant(
        "a step in doubt was not done",
        '"unknown" if event.in_doubt else "done" if event.executed else "not_done"',
        '"done" if event.executed else "not_done"',
        SPANS + " -k what_came_of_its_call",
    ),
    Mutant(
        "the span of a call whose end nobody stored never ends",
        "        for call in list(self._calls.values()):\n",
        "        for call in ():\n",
        SPANS + " -k nobody_has_stored",
    ),
    Mutant(
        "what is awaited later has another span",
        "        if call is None:  # else what it has returned",
        "        if True:  # else what it has returned",
        SPANS + " -k returns_to_be_awaited",
    ),
    Mutant(
        "what a person had undone has failed",
        "    return None if isinstance(last, SagaCancelledError) else last\n",
        "    return last\n",
        SPANS + " -k person_had_undone",
    ),
    Mutant(
        "a stint is linked to the first one",
        "_span_contexts(stints[-1] if stints else None, _STINT)",
        "_span_contexts(stints[0] if stints else None, _STINT)",
        SPANS + " -k workers_stints",
    ),
    Mutant(
        "a signal's sender is not known",
        "            for context in _span_contexts(event.carried, _PARENT):\n",
        "            for context in ():\n",
        SPANS + " -k workers_stints",
    ),
    Mutant(
        "texts of errors are always told",
        "        if self._errors:\n",
        "        if True:\n",
        SPANS + " -k no_value_is_told",
    ),
    Mutant(
        "what is stuck for an unknown error is no error",
        "            if status is e.Status.STUCK:  # for what another process did, perhaps\n",
        "            if False:\n",
        SPANS + " -k leaves_to_a_person",
    ),
    Mutant(
        "a text that is no unicode costs what is sent with it",
        '    return text.encode(errors="backslashreplace").decode()\n',
        "    return text\n",
        SPANS + " -k no_unicode",
    ),
    # -- failures reported --------------------------------------------------------------------------------------------
    Mutant(
        "what is logged is reported again",
        '    return None if "logger" in event and',
        "    return None if False and",
        FAILURES + " -k each_failure",
    ),
    Mutant(
        "the exception that execute raises is reported again",
        "error.result is not None and error.result.saga in _REPORTED:\n        return None\n",
        "error.result is not None and error.result.saga in _REPORTED:\n        return event\n",
        FAILURES + " -k each_failure",
    ),
    Mutant(
        "the names of all sagas that ever were are kept",
        "        if len(_REPORTED) > _MOST_NAMES:\n",
        "        if False:\n",
        FAILURES + " -k many_names",
    ),
    Mutant(
        "what runs while many others begin is reported twice",
        "        _remember(info.saga)  # many others may have begun meanwhile\n",
        "",
        FAILURES + " -k many_names",
    ),
    Mutant(
        "the logger's line is taken for the first of two events",
        "        sentry_sdk.get_global_scope().add_error_processor(_unless_raised_again)\n",
        "        add_global_event_processor(lambda event, hint: "
        'event if not hint.get("exc_info") else _unless_raised_again(event, hint["exc_info"]))\n',
        FAILURES + " -k each_failure",
    ),
    Mutant(
        "all failures of a saga are one group",
        '["saga", info.saga, step or "", kind]',
        '["saga", info.saga]',
        FAILURES + " -k each_failure",
    ),
    Mutant(
        "what a worker says of what it gives up is reported again",
        "    if record is not None and record.msg == _LEFT_TO_A_PERSON:\n",
        "    if False:\n",
        FAILURES + " -k leaves_to_a_person",
    ),
    Mutant(
        "a compensation that was mended is reported",
        "            undone.pop(event.step, None)\n",
        "            pass\n",
        FAILURES + " -k each_failure",
        "saga/integrations/sentry.py",
    ),
    Mutant(
        "what an earlier process reported is reported again",
        "_stuck_for(info.events[self._before :])",
        "_stuck_for(info.events)",
        FAILURES + " -k asked_about_again",
    ),
]
