"""What users write broken: names, steps, and what of them is refused before anything runs."""

from __future__ import annotations

from . import DURABLE, FRONT_DOORS, START_ONCE, Mutant

__all__ = ["OF_FLOW"]

NAMES, SIGNATURES = "tests/unit/test_names", "tests/unit/flow/test_signatures"
CHOOSING, TABLE, STATE = "tests/frontdoors/test_choosing", "tests/unit/machine/test_table", "tests/unit/machine/test_state"
TASKS, MISUSE = "tests/unit/flow/test_tasks", "tests/unit/flow/test_misuse"

EACH = FRONT_DOORS + "each"
LIMITED, TABLE = FRONT_DOORS + "limited_parallel", "tests/unit/machine/test_table"

OF_FLOW = [
    # -- groups with a limit ------------------------------------------------------------------------------------------
    Mutant(
        "all branches begin at once, whatever the limit",
        "begun = len(parts) if flow.limit is None else flow.limit",
        "begun = len(parts)",
        LIMITED,
    ),
    Mutant(
        "what waits for room follows nothing",
        "left += (*step.onward, step.fallback, step.held_up)",
        "left += (*step.onward, step.fallback)",
        "tests/unit/machine/test_plan -k begin_later",
    ),
    Mutant(
        "only one branch begins, however much room there is",
        "for entry in group.entries[begun:most]:",
        "for entry in group.entries[begun:most][:1]:",
        TABLE,
    ),
    Mutant(
        "who takes an execution up begins none of the branches for which there is room",
        "    for number in sorted(state.branches_begun.keys() - state.merged):\n"
        "        machine.begin_branches(plan.groups[number], at)\n",
        "",
        TABLE,
    ),
    Mutant(
        "branches that are undone on request have begun when they are executed again",
        "            state.branches_begun.pop(group.index, None)\n",
        "",
        "tests/unit/machine/test_state",
    ),
    Mutant(
        "a block's branches begin at once, whatever the limit",
        "self._run(parallel(*flows, limit=limit))",
        "self._run(parallel(*flows))",
        LIMITED + " -k block",
    ),
    Mutant(
        "... those of an asynchronous one",
        "self._to_await(parallel(*flows, limit=limit))",
        "self._to_await(parallel(*flows))",
        LIMITED + " -k block",
    ),
    # -- what is done for each item -----------------------------------------------------------------------------------
    Mutant(
        "an empty list is never merged",
        "        state.branches_begun[group.index] = state.branches_ended[group.index] = 0\n",
        "        state.branches_begun[group.index] = 0\n",
        EACH + " -k empty",
    ),
    Mutant(
        "the item of a branch that was skipped is its result",
        "[result if own else None for own, result in zip(have, results, strict=True)]",
        "list(results)",
        EACH + " -k skipped",
    ),
    Mutant(
        "a saga that cannot list its items, and skips that, stops there",
        "            _pass(state, then.then)\n            return\n",
        "            return\n",
        EACH + " -k skipped",
    ),
    Mutant(
        "the list is not what a branch begins with",
        "view.__binding__.previous = self.plan.items[scope]",
        "pass",
        EACH,
    ),
    Mutant(
        "the result of each() stays the list of items",
        "            binding.take_result(group.each, list(results))\n",
        "            binding.previous = list(results)\n",
        EACH,
    ),
    Mutant(
        "steps of all branches are looked for, not those of the own",
        "names = _in_its_branch(names, self.call.step.within)",
        "names = list(names)",
        EACH + " -k know_their_item",
    ),
    Mutant(
        "all executions have one plan, which grows and grows",
        "self.plan.for_execution() if self.plan.grows else self.plan",
        "self.plan.for_execution() if self.plan.open else self.plan",
        EACH,
    ),
    Mutant(
        "two items may have one key",
        "            if key in keyed:\n",
        "            if False:\n",
        EACH + " -k no_keys",
    ),
    Mutant(
        "a list can be undone to before it was made, and is not made anew",
        "if isinstance(one.then, Each)), None)) is not None:",
        "if False), None)) is not None:",
        EACH + " -k refused",
    ),
    Mutant(
        "links of a template lead into it, not into the branch",
        "        new.then = self._after(old.then)\n",
        "",
        EACH,
    ),
    Mutant(
        "a looker knows no branches of a list",
        "                grow(plan, step.then, one.event.result)\n",
        "                pass\n",
        EACH + " -k shown_with",
    ),
    Mutant("a thread that has ended its call is not used again", "            free()\n", "", LIMITED),
    # -- names --------------------------------------------------------------------------------------------------------
    Mutant(
        "a name holds what cannot be stored or written on one line",
        "if unfit := _UNFIT.search(plain):",
        "if unfit := None:",
        NAMES,
    ),
    Mutant("a name is longer than a column", "if len(plain) > LONGEST:", "if len(plain) > 2 * LONGEST:", NAMES),
    Mutant("a name keeps a hash of its own", "    return plain\n", "    return text\n", NAMES, "saga/names.py"),
    Mutant(
        "an id is looked at by the store alone",
        'if saga_id is None else checked_id(saga_id, f"saga {definition.name!r}: saga_id")',
        "if saga_id is None else saga_id",
        NAMES,
    ),
    # -- functions as steps -------------------------------------------------------------------------------------------
    Mutant(
        "the result before pushes args aside",
        "return required[0] if undoes else required[args]",
        "return required[0]",
        SIGNATURES,
    ),
    Mutant(
        "a compensation with a default gets no result",
        "    return None if args else own\n",
        "    return None\n",
        SIGNATURES,
    ),
    Mutant(
        "a default of its own is taken for a result to come",
        "if not args and own.default is not None:",
        "if False:",
        SIGNATURES,
    ),
    Mutant("what partial has given is given again", "first = undoes and not fixed and", "first = undoes and", SIGNATURES),
    Mutant(
        "an annotation says nothing",
        'if p.name == "context" or _says_context(p, function)]',
        'if p.name == "context"]',
        SIGNATURES,
    ),
    Mutant(
        "a first step asks for the result before",
        "if not self.follows and isinstance",
        "if False and isinstance",
        SIGNATURES,
    ),
    Mutant(
        "a branch has the result of its sibling before it",
        "            self.follows = follows\n            scopes",
        "            scopes",
        SIGNATURES,
    ),
    # -- choices ------------------------------------------------------------------------------------------------------
    Mutant(
        "what was decided passes over its way", "not in state.skipped and step.ways is None:", "not in state.skipped:", STATE
    ),
    Mutant(
        "a way with nothing on it leads nowhere",
        "    if step.ways is not None and not step.ways.entries[event.way]:\n        _pass(state, step.then)",
        "    pass",
        STATE,
    ),
    Mutant("a way is taken still when what led to it is undone", "        state.ways.pop(step.index, None)\n", "", STATE),
    Mutant(
        "back to a choice goes forward by no way",
        "(step.ways and step.ways.entries.get(state.ways.get(index, ''))) or step.then".replace("''", '""'),
        "step.then",
        TABLE,
    ),
    Mutant(
        "what may follow a choice is what comes after it alone",
        "(*self.ways.entries.values(), self.then)",
        "(self.then,)",
        TABLE,
    ),
    Mutant(
        "the way that nobody began past the pivot is forgotten",
        "then = (step.ways and step.ways.entries[event.way]) or step.then",
        "then = step.then",
        TABLE,
    ),
    Mutant("what no way is for goes on", "if way not in ways.entries:", "if False:", TABLE),
    Mutant("other ways are the same flow", 'shapes.append(f"{way}:{part.shape}")', "shapes.append(part.shape)", CHOOSING),
    Mutant(
        "a process that died in a decision gives the saga up",
        "    in_doubt = InDoubt.RERUN\n",
        "",
        CHOOSING + " -k dies",
        file="saga/flow/choosing.py",
    ),
    Mutant(
        "a decision may be in doubt",
        "    unknown_on = ()\n",
        "",
        CHOOSING + " -k doubt",
        file="saga/flow/choosing.py",
    ),
    Mutant(
        "a process that died as it made a list gives the saga up",
        "    in_doubt = InDoubt.RERUN\n",
        "",
        EACH + " -k made_again",
        file="saga/flow/each.py",
    ),
    Mutant("what was decided is told as it was returned", "return self._keys[value]", "return str(value)", CHOOSING),
    Mutant(
        "a stand-in decides for no way at all",
        "task = real.task.asking(task.execute)",
        "pass",
        CHOOSING + " -k stand_in",
    ),
    Mutant(
        "a completed saga leaves the same by whichever way",
        "StepSkipped | FallbackChosen | WayChosen",
        "StepSkipped | FallbackChosen",
        "tests/testing/test_explore -k keeps_the_laws",
    ),
    # -- tasks --------------------------------------------------------------------------------------------------------
    Mutant("a task is first looked at when it is called", "            check_task(self.task)\n", "            pass\n", TASKS),
    Mutant("an undo that is no method is none", "if call is None and name", "if not call and name", TASKS),
    Mutant(
        "a user's own method is taken for a misspelt one",
        "    missing = [name for name in CALLS if inspect",
        "    missing = [name for name in CALLS if True or inspect",
        TASKS,
    ),
    Mutant("a field is taken for a misspelt policy", "and name not in own:", ":", TASKS),
    Mutant("None undoes something", "    return found is not None and getattr", "    return getattr", TASKS),
    # -- what builders are given --------------------------------------------------------------------------------------
    Mutant("equal inputs in another order are others", "for tag in _UNORDERED & found.keys():", "for tag in ():", START_ONCE),
    Mutant(
        "what another program does not find is stored in silence",
        'if cls.__module__ == "__main__" and',
        "if False and",
        DURABLE + "found_again -k classes",
    ),
    Mutant("a text is taken for arguments", 'args = several(args, f"{which}args")', "args = tuple(args)", MISUSE),
    Mutant("a wrong policy waits for the saga", "        checked(policies)\n", "        pass\n", MISUSE),
    Mutant("a class is taken for a backoff", "isinstance(backoff, type | Retry) or", "", MISUSE),
    Mutant("a task class undoes", "callable(given) and not makes_a_flow", "callable(given)", MISUSE),
]
