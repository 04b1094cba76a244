"""What users write broken: names, steps, and what of them is refused before anything runs."""

from __future__ import annotations

from . import DURABLE, FRONT_DOORS, START_ONCE, Mutant

__all__ = ["OF_FLOW"]

NAMES, SIGNATURES = "tests/unit/test_names", "tests/unit/flow/test_signatures"
CHOOSING, TABLE, STATE = "tests/frontdoors/test_choosing", "tests/unit/machine/test_table", "tests/unit/machine/test_state"
TASKS, MISUSE = "tests/unit/flow/test_tasks", "tests/unit/flow/test_misuse"

EACH = FRONT_DOORS + "each"
LIMITED, TABLE = FRONT_DOORS + "limited_parallel", "tests/unit/machine/test_table"
REQUIRED, KEYS, KINDS = FRONT_DOORS + "required_keys", "tests/unit/machine/test_keys", FRONT_DOORS + "context_class"

OF_FLOW = [
    # -- keys that steps require and provide --------------------------------------------------------------------------
    Mutant(
        "a step is called without the keys that it requires",
        '    if policies.get("requires"):\n',
        '    if policies.get("nothing"):\n',
        REQUIRED,
    ),
    Mutant(
        "a task that is called alone in a test is not asked for its keys",
        '    if phase == "execute":\n        made = requiring(',
        "    if not phase:\n        made = requiring(",
        REQUIRED + " -k call_alone",
    ),
    Mutant(
        "a breaker is asked though its step lacks a key",
        "    async_execute, async_compensate, async_verify = are_async(task)\n    if async",
        "    async_execute, async_compensate, async_verify = are_async(task)\n"
        "    if policies.get('requires') and breaker is not None:\n"
        "        breaker.calling()\n"
        "    if async",
        REQUIRED + " -k however",
    ),
    Mutant(
        "a step that was not called for want of a key is in doubt",
        "    if issubclass(type(error), MissingKeyError):  # it was not called, or it is rolled back\n        return False\n",
        "",
        REQUIRED + " -k lacks_a_key",
    ),
    Mutant(
        "a step that lacks a key is attempted again",
        "    if is_a(error, MissingKeyError):  # and the next would find no more\n        return False\n",
        "",
        REQUIRED + " -k lacks_a_key",
    ),
    Mutant(
        "what only the input can give is asked for when the step begins, not before",
        "        lacking = [key for key in needs if key not in context]\n",
        "        lacking = list[str]()\n",
        REQUIRED + " -k input_that_lacks",
    ),
    Mutant(
        "what is submitted is not asked for the keys that it must have",
        "as_context(submission.context, definition.name, definition.context, definition.plan.needs)",
        "as_context(submission.context, definition.name, definition.context)",
        REQUIRED + " -k input_that_lacks",
    ),
    Mutant(
        "an input must have what a step requires that the saga can do without",
        "keys, sure and not gives_way)",
        "keys, sure)",
        REQUIRED + " -k not_refused",
    ),
    Mutant(
        "an input must have what a way requires that may not be taken",
        "                self.walk(child, prefix, plan, way, False)\n",
        "                self.walk(child, prefix, plan, way, sure)\n",
        REQUIRED + " -k not_refused",
    ),
    Mutant(
        "an input must have what an item's step requires, though there may be none",
        "            self._step(template.by_name[root], branch, False)\n",
        "            self._step(template.by_name[root], branch, sure)\n",
        REQUIRED + " -k not_refused",
    ),
    Mutant(
        "exploring spoils a key without which nothing begins",
        "if key not in self.definition.plan.needs and self.at(",
        "if self.at(",
        REQUIRED + " -k exploring",
    ),
    Mutant(
        "nobody asks a step for what it says that it provides",
        "if step.provides and not given_up and fails_to_provide(",
        "if not step and fails_to_provide(",
        REQUIRED + " -k breaks_its_word",
    ),
    Mutant(
        "a series of calls passes over what a step has not provided",
        " or step.retry.retry_if is not None or step.provides:\n",
        " or step.retry.retry_if is not None:\n",
        REQUIRED + " -k breaks_its_word",
    ),
    Mutant(
        "a transactional step that has not set its key is committed",
        "    if step.transactional:\n        outcomes.raised(",
        "    if not step:\n        outcomes.raised(",
        REQUIRED + " -k rolled_back",
    ),
    Mutant(
        "what the pivot did not provide undoes what cannot be undone",
        "    if step.pivot or machine.state.past_pivot:\n",
        "    if machine.state.past_pivot:\n",
        REQUIRED + " -k past_the_pivot",
    ),
    Mutant(
        "keys of a context that a step returns are not looked for there",
        "    held = value if type(value) is type(view) else view\n",
        "    held = view\n",
        REQUIRED + " -k returns_has",
    ),
    Mutant(
        "branches see what those declared before them set",
        "            for child, branch in zip(flow.children, branches, strict=True):\n"
        "                self.walk(child, prefix, plan, branch, sure)\n",
        "            for child, branch in zip(flow.children, branches, strict=True):\n"
        "                branch.known |= branches[0].known\n"
        "                self.walk(child, prefix, plan, branch, sure)\n",
        KEYS,
    ),
    Mutant("two branches may set one key", "            self._conflicts(branches)\n", "", KEYS),
    Mutant(
        "items set the same key in no conflict",
        '            self._found(step, key, IN_CONFLICT, "it is set for each item, at the same time")\n',
        "            pass\n",
        KEYS,
    ),
    Mutant("what is skipped has set its keys", "if step.on_error is OnError.SKIP else _THERE", "if not step else _THERE", KEYS),
    Mutant(
        "a fallback sees what its step has set",
        "            instead = keys.copy()  # what",
        "            instead = keys  # what",
        KEYS,
    ),
    Mutant("a list is never empty", "keys.take([keys, branch], _one_of(", "keys.take([branch], _one_of(", KEYS),
    Mutant(
        "one way is enough to provide a key",
        "        if len({*whys}) == 1:\n",
        "        if _THERE in whys:\n            return _THERE\n        if len({*whys}) == 1:\n",
        KEYS,
    ),
    Mutant("what a step says nothing of is nothing", "keys.untold or (None if told else step.name)", "keys.untold", KEYS),
    Mutant(
        "a field that is None is there",
        "if one.default is None and self.providers.get(one.name)",
        "if one.default is None and not self",
        KEYS,
    ),
    Mutant(
        "a field that is None stays so when one branch has set it",
        "key=lambda why: (why != _THERE, why == _UNSET)",
        "key=lambda why: (why != _UNSET, why == _THERE)",
        KEYS,
    ),
    Mutant(
        "a misspelt key is no field, and nobody says so",
        "(known := [one.name for one in _fields(self.kind)]) and key not in known",
        "(known := [one.name for one in _fields(self.kind)]) and not known",
        KEYS + " -k no_field",
    ),
    # -- classes of contexts within each other ------------------------------------------------------------------------
    Mutant(
        "a saga is put within one whose contexts do not fit",
        "    if outer is not None and not issubclass(outer, kind):\n",
        "    if outer is not None and not issubclass(outer, object):\n",
        KINDS + " -k does_not_fit",
    ),
    Mutant(
        "an outer saga takes any context, whatever those within it take",
        "    plan.context = shared_by(compiler.kinds, saga)\n",
        "    plan.context = dict(compiler.kinds).get(None)\n",
        KINDS + " -k names_no_class",
    ),
    Mutant(
        "the first class of several is taken for all",
        "        if all(issubclass(kind, other) for _, other in kinds):\n",
        "        if any(issubclass(kind, other) for _, other in kinds):\n",
        KINDS + " -k outer_saga_that or no_class_is_all",
    ),
    # -- groups with a limit ------------------------------------------------------------------------------------------
    Mutant(
        "all branches begin at once, whatever the limit",
        "begun = len(parts) if flow.limit is None else flow.limit",
        "begun = len(parts)",
        LIMITED,
    ),
    Mutant(
        "what waits for room follows nothing",
        "step.fallback, step.held_up, step.content.entry",
        "step.fallback, step.content.entry",
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
        "            machine.begin_branches(plan.groups[number], at)\n",
        "            pass\n",
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
        "binding.take_result(group.each, [",
        "binding.previous = ([",
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
