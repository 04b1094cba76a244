"""Waiting broken: how long a timer waits, which signal a step receives, who is refused, what a signal starts."""

from __future__ import annotations

from . import CONTRACT, DURABLE, FRONT_DOORS, IN_MEMORY, IN_SQLITE, Mutant

__all__ = ["OF_WAITING"]

SIGNALS, TIMERS, EXPLORE = FRONT_DOORS + "signals", FRONT_DOORS + "timers", "tests/testing/test_explore"

OF_WAITING = [
    # -- timers -------------------------------------------------------------------------------------------------------
    Mutant(
        "a function is not asked again by whoever takes up what died in it",
        '{"in_doubt": InDoubt.RERUN})\n    return Sequence',
        "{})\n    return Sequence",
        TIMERS + " -k who_dies_while_asked",
    ),
    Mutant(
        "a recovery waits for all of what a function said",
        "left_of(seconds, since, now)))\n",
        "seconds))\n",
        TIMERS + " -k what_is_left",
    ),
    Mutant(
        "a moment is told without its time zone",
        "moment.astimezone(UTC).isoformat()",
        "moment.replace(tzinfo=UTC).isoformat()",
        TIMERS + " -k function_of_the_context",
    ),
    Mutant(
        "a moment that is past is waited for",
        "max(0.0, moment - now)",
        "abs(moment - now)",
        TIMERS + " -k time_passes",
    ),
    Mutant(
        "when a told timer ends is not shown",
        "results.get(step.told_by.name))\n",
        "None)\n",
        TIMERS + " -k what_is_left",
    ),
    # -- which signal -------------------------------------------------------------------------------------------------
    Mutant(
        "the last signal that came is received first",
        "    state.signals.append((event.name, event.value))\n",
        "    state.signals.insert(0, (event.name, event.value))\n",
        "tests/unit/machine/test_state",
    ),
    Mutant(
        "a signal that a step was given is given to another",
        "            del left[first_of(left, command.step.pause.signals)]\n",
        "            pass\n",
        "tests/unit/machine/test_table",
    ),
    Mutant(
        "the first of several is received without its name",
        "return value if len(self.signals) == 1 else Received(signal, value)",
        "return value",
        SIGNALS + " -k the_first_of_several",
    ),
    Mutant(
        "a signal is taken that the step does not receive",
        "        if name in names:\n            return place\n",
        "        return place\n",
        "tests/unit/machine/test_state",
    ),
    Mutant(
        "the first of several signals alone is tried",
        "self._history.at(step.name, WHICH, kinds) is not None:",
        "False:",
        EXPLORE + " -k each_is_tried",
    ),
    # -- who is refused -----------------------------------------------------------------------------------------------
    Mutant(
        "what does not fit is taken from its sender",
        "        if refused is not None:\n            raise ActionRefusedError(f",
        "        if False:\n            raise ActionRefusedError(f",
        SIGNALS + " -k refused_to_its_sender",
    ),
    Mutant(
        "what does not fit, and was sent all the same, is received",
        "                if refused is None:\n                    waits.receive",
        "                if True:\n                    waits.receive",
        SIGNALS + " -k set_aside_with_a_warning",
    ),
    Mutant(
        "what accept raises ends whoever receives the signal",
        "    except BaseException as error:\n        why = str(error) if is_exception",
        "    except Exception as error:\n        why = str(error) if is_exception",
        SIGNALS + " -k interrupts_in_accept",
    ),
    Mutant(
        "two steps say otherwise what a signal's value is",
        "accepts.setdefault(signal, accept) != accept",
        "accepts.setdefault(signal, accept) is None",
        SIGNALS + " -k wherever_it_is_received",
    ),
    Mutant(
        "accept sees what was given, and not what is read",
        "        value = codec.decode(codec.encode(value, ",
        "        (codec.encode(value, ",
        SIGNALS + " -k as_it_is_read",
    ),
    Mutant(
        "what is stuck in its undo takes signals",
        "gave_up=status is e.Status.STUCK and _gave_up(",
        "gave_up=status is e.Status.PAUSED and _gave_up(",
        DURABLE + "messages -k stuck_in_its_undo",
    ),
    Mutant(
        "a signal reaches what began to be undone just now",
        "            store.post(saga_id, body, status=[*_FORWARD, status])\n",
        "            store.post(saga_id, body)\n",
        SIGNALS + " -k just_when_it_was_sent",
    ),
    Mutant(
        "memory: a message reaches an execution of another status",
        "            if row.status not in takes:\n",
        "            if row.status in rules.ENDED:\n",
        CONTRACT + "_inbox -k has_a_status_that" + IN_MEMORY,
    ),
    Mutant(
        "sqlite: a message reaches an execution of another status",
        "id = ? AND status IN ({', '.join('?' * statuses)})",
        "id = ? OR status IN ({', '.join('?' * statuses)})",
        CONTRACT + "_inbox -k has_a_status_that" + IN_SQLITE,
    ),
    # -- what a signal starts -----------------------------------------------------------------------------------------
    Mutant(
        "what a signal has started has to wait for it",
        "    (existing,) = store.submit([(new, both)])\n    if existing is not None:\n        if existing.name",
        "    (existing,) = store.submit([(new, entries)])\n    if existing is not None:\n        if existing.name",
        SIGNALS + " -k what_a_signal_has_started",
    ),
    Mutant(
        "a signal is lost where another has started it",
        "            send_signal(definition, store, new.saga_id, name, value)\n        except",
        "            pass\n        except",
        SIGNALS + " -k of_many_at_once",
    ),
    Mutant(
        "what was purged in between is not started",
        "            (existing,) = store.submit([(new, both)])\n            if existing is not None:\n                raise\n",
        "            raise\n",
        SIGNALS + " -k purged_in_between",
    ),
]
