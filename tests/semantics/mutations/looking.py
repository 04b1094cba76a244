"""Looking broken: what is shown of an execution, what an action is said to do, why nothing happens, what is found."""

from __future__ import annotations

from . import CONTRACT, DURABLE, PROPERTIES, Mutant

__all__ = ["OF_LOOKING"]

SHOWN, WAITS, MANY, OFFERS = DURABLE + "shown", DURABLE + "waits", DURABLE + "operations_many", DURABLE + "offers"

OF_LOOKING = [
    # -- what became of steps -----------------------------------------------------------------------------------------
    Mutant(
        "what completed is looked through for a step",
        "            status = _NOT_DONE\n",
        "            pass\n",
        DURABLE + "operations_looking -k not_looked_through",
    ),
    Mutant(
        "one damaged entry hides all of a journal",
        "        except Exception:  # whatever is wrong with it\n            continue\n",
        "        except ImportError:  # whatever is wrong with it\n            continue\n",
        SHOWN + " -k of_a_damaged_journal",
    ),
    Mutant(
        "an error is shown wherever it matters",
        'and "error_at" not in json.loads(entry.payload)',
        "and True",
        PROPERTIES + "shown -k steps_are_shown",
    ),
    Mutant(
        "a step has ended as long as it runs",
        "ended=None if record.status in (StepStatus.RUNNING, StepStatus.WAITING) else times.ended",
        "ended=times.ended",
        SHOWN + " -k a_step_that_waits",
    ),
    Mutant(
        "what a mask names is shown",
        "HIDDEN if key in names else _hidden(one, names)",
        "_hidden(one, names)",
        SHOWN + " -k what_a_definition_masks",
    ),
    Mutant(
        "the result of a step that a mask names is shown",
        "hidden = step in self._names or RESULT",
        "hidden = RESULT",
        SHOWN + " -k what_a_definition_masks",
    ),
    # -- what actions would do ----------------------------------------------------------------------------------------
    Mutant(
        "what runs is taken to be dead",
        "    if live and machine.status in (RUNNING, COMPENSATING):",
        "    if machine.status is None:",
        SHOWN + " -k an_action_on_what_runs",
    ),
    Mutant(
        "an undo that has passed over a step does not tell that it has no compensation",
        "if undone is not None and name not in undone | doubtful:",
        "if undone is None and False:",
        SHOWN + " -k a_stuck_execution_is_understood",
    ),
    Mutant(
        "an execution that is begun anew is recovered with nothing decided",
        "        if not machine.ended and not machine.state.unbegun:\n            recover(",
        "        if False:\n            recover(",
        OFFERS + " -k an_action_does_what",
    ),
    Mutant(
        "a damaged journal costs an execution its being shown",
        "    except Exception:  # as above: with the definition no action would fit",
        "    except ImportError:  # as above: with the definition no action would fit",
        SHOWN + " -k an_execution_whose_journal_is_gone",
    ),
    # -- why nothing happens ------------------------------------------------------------------------------------------
    Mutant(
        "who is held keeps back others of the same key",
        "elif other.opens <= now and not holds_back(held, other.name, other.version):",
        "elif other.opens <= now:",
        WAITS + " -k what_is_held_keeps_nobody_back",
    ),
    Mutant(
        "an execution whose owner is dead counts among those that run",
        "running += row.owner is not None and row.lease_until > now",
        "running += row.owner is not None",
        WAITS + " -k why_nothing",
    ),
    # -- many ---------------------------------------------------------------------------------------------------------
    Mutant(
        "one that somebody else acts on stops the others",
        "            getattr(self, action)(saga_id, **said)\n        except (ActionRefusedError, StorageError) as error:",
        "            getattr(self, action)(saga_id, **said)\n        except ActionRefusedError as error:",
        MANY + " -k who_refuses_stops_nobody",
    ),
    Mutant(
        "what is found by its id and its tag is found twice",
        "if row.saga_id not in known]",
        "if row is not known]",
        MANY + " -k an_execution_is_found",
    ),
    Mutant(
        "characters that there are not come after a text",
        "chr(0xE000 if last == 0xD800 else last)",
        "chr(last)",
        CONTRACT + "_found -k beginnings",
    ),
    Mutant(
        "who has a key stands in the line for it",
        "(row.saga_id not in having, row.opens, row.saga_id)",
        "(row.opens, row.saga_id)",
        CONTRACT + "_found -k who_has_a_key",
    ),
    # -- signals ------------------------------------------------------------------------------------------------------
    Mutant(
        "a signal is offered where the undo has begun",
        "    if standing.gave_up or standing.status not in (",
        "    if standing.status not in (",
        OFFERS + " -k a_signal_that_is_offered",
    ),
    Mutant(
        "a signal that came is offered again",
        "for signal in () if step.pause is None or ended else step.pause.signals:",
        "for signal in () if step.pause is None else step.pause.signals:",
        OFFERS + " -k each_signal_is_offered",
    ),
    Mutant(
        "nobody knows who sent a signal",
        "    if who is not None:\n        fields |=",
        "    if False:\n        fields |=",
        OFFERS + " -k a_signal_that_is_offered",
    ),
    Mutant(
        "who sent a signal is not in the journal",
        '    said = "" if event.who is None else',
        '    said = "" if True else',
        OFFERS + " -k a_signal_that_is_offered",
    ),
    Mutant(
        "it is offered to undo back to where it cannot be",
        "            check_undo_to(machine, name)\n            yield name\n",
        "            yield name\n",
        OFFERS + " -k back_to_which_step",
    ),
]
