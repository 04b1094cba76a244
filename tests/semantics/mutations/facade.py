"""The facade broken: what a class declares, what is refused when a saga is made, what is taken for a store, async twins."""

from __future__ import annotations

from . import FRONT_DOORS, Mutant

__all__ = ["OF_FACADE"]

OPTIONS = FRONT_DOORS + "declared_options"
MISTAKES = FRONT_DOORS + "mistakes"
NO_STORE = "tests/storage/test_what_is_no_store"
TWINS = FRONT_DOORS + "awaited"
CONTEXTS = FRONT_DOORS + "context_class"

OF_FACADE = [
    Mutant(
        "a saga's limit of its steps stays a timedelta",
        "found[DEFAULTS[option]] = seconds_of(found[DEFAULTS[option]], ",
        "seconds_of(found[DEFAULTS[option]], ",
        "tests/frontdoors/test_seconds_and_ids -k seconds_may_be_a_timedelta",
    ),
    Mutant(
        "an id that is a UUID is none",
        "        if isinstance(given, UUID):\n            return str(given)\n",
        "        if isinstance(given, UUID):\n            pass\n",
        "tests/frontdoors/test_seconds_and_ids -k an_id_may_be_a_uuid",
    ),
    # -- what a class declares ----------------------------------------------------------------------------------------
    Mutant(
        "what a class declares comes before what is given",
        "_declared(self, option) if value is None else value for option",
        "_declared(self, option) or value for option",
        OPTIONS + " -k an_option_is",
    ),
    Mutant(
        "a function that a class declares is called with the saga",
        "        return found.__func__\n    return found\n\n\ndef _takes",
        "        return found\n    return found\n\n\ndef _takes",
        OPTIONS + " -k an_option_is",
    ),
    Mutant(
        "an option of a made saga is set, and has no effect",
        '        if "_draft" in self.__dict__ and not',
        "        if False and not",
        OPTIONS + " -k made_saga",
    ),
    Mutant(
        "a store, a logger and a codec of a step of another saga are ignored",
        "_OUTERMOST: Final = sorted(OPTIONS - {",
        '_OUTERMOST: Final = sorted({"timeout"} - {',
        OPTIONS + " -k a_step_of_another",
    ),
    Mutant(
        "a misspelt attribute of a class is ignored",
        "        if self._misspelt is not None:",
        "        if False:",
        OPTIONS + " -k nearly_an_option",
    ),
    Mutant(
        "a step of a saga may not be called nearly as an option is",
        '    of_its_own = isinstance(value, FunctionType | Composing | type) or hasattr(value, "__get__")',
        "    of_its_own = False",
        OPTIONS + " -k what_a_class_has_of_its_own",
    ),
    # -- what is no observer ------------------------------------------------------------------------------------------
    Mutant(
        "a logger of one parameter is taken, and logs nothing",
        "inspect.signature(function).bind(*[None] * count)\n    except TypeError as",
        "inspect.signature(function)\n    except TypeError as",
        "tests/unit/test_definition -k what_cannot_be_called_with",
    ),
    Mutant(
        "a logger's class is taken for a logger",
        "    if isinstance(observer, type):",
        "    if False:",
        "tests/unit/test_definition -k a_class_is_no_observer",
    ),
    # -- what is none of what it is given as --------------------------------------------------------------------------
    Mutant(
        "the letters of a name are taken for names",
        "if isinstance(given, str | bytes) or not isinstance(given, Iterable):",
        "if not isinstance(given, Iterable):",
        MISTAKES + " -k a_mistake_is_told",
    ),
    Mutant(
        "a class of contexts names keys that no context has",
        '            if keys:\n                raise SagaDefinitionError(f"{kind.__name__} names',
        '            if False:\n                raise SagaDefinitionError(f"{kind.__name__} names',
        MISTAKES + " -k a_mistake_is_told",
    ),
    Mutant(
        "a lease of no length is taken",
        '"lease", needed_seconds(self.lease, f"saga {name!r}: lease")',
        '"lease", self.lease',
        MISTAKES + " -k a_mistake_is_told",
    ),
    Mutant(
        "an action on a step that cannot be is taken",
        'checked_name(step, "step"), why)',
        "step, why)",
        FRONT_DOORS + "misuse -k before_anything_runs and skip",
    ),
    Mutant(
        "what is no store begins in an event loop",
        "    check_store(store)\n    # What is open",
        "    # What is open",
        FRONT_DOORS + "misuse -k before_anything_runs and aexecute",
    ),
    # -- what is no store ---------------------------------------------------------------------------------------------
    Mutant(
        "a connection string of libpq's becomes a file with the password in its name",
        r'if re.match(r"\s*\w+\s*=", text):',
        "if False:",
        NO_STORE + " -k what_is_no_store",
    ),
    Mutant(
        "what libpq says of a password is in the error",
        "    return CONNECTION_DEFAULTS | conninfo_to_dict(conninfo)\n    raise StorageError(",
        "    return CONNECTION_DEFAULTS | conninfo_to_dict(conninfo)\n    raise StorageError(conninfo +",
        NO_STORE + " -k that_cannot_be_reached",
    ),
    Mutant(
        "a URL for asyncio is taken",
        "    if asynchronous:\n        name = parsed",
        "    if False:\n        name = parsed",
        NO_STORE + " -k that_cannot_be_reached",
    ),
    # -- async twins ----------------------------------------------------------------------------------------------------
    Mutant(
        "a twin keeps the event loop waiting",
        "result = await in_thread(partial(method, door, *args, **named), struck.append)",
        "result = method(door, *args, **named)",
        TWINS + " -k in_a_thread",
    ),
    Mutant(
        "a twin that is cancelled returns as if it had not been",
        "        if struck:\n            raise _first(",
        "        if False:\n            raise _first(",
        TWINS + " -k is_carried_out",
    ),
    Mutant(
        "a twin that is cancelled does not say what came of it",
        "    add_note(first, note)\n",
        "",
        TWINS + " -k is_carried_out",
    ),
    Mutant(
        "a twin that is cancelled and fails is not cancelled",
        "            if not struck:\n                raise\n            raise _first",
        "            if True:\n                raise\n            raise _first",
        TWINS + " -k is_carried_out",
    ),
    Mutant(
        "what struck a twin is kept by the frame that it is raised from",
        "    first = struck[0]\n    struck.clear()\n",
        "    first = struck[0]\n",
        TWINS + " -k circle",
    ),
    # -- the class of its contexts ------------------------------------------------------------------------------------
    Mutant("a context of another class is taken", "if isinstance(given, kind):", "if isinstance(given, Context):", CONTEXTS),
    Mutant("what stands in brackets is for type checkers alone", 'kind_in(vars(self).get("__orig_class__")) or ', "", CONTEXTS),
    Mutant("what a saga's class stands on is for type checkers alone", " or kind_of(type(self))", "", CONTEXTS),
    Mutant(
        "what is submitted is looked at when it runs",
        "as_context(submission.context, definition.name, definition.context, definition.plan.needs)",
        "as_context(submission.context, definition.name, None, definition.plan.needs)",
        CONTEXTS,
    ),
    Mutant(
        "a value of another type is taken", "if value is not field.default and not _fits(", "if False and not _fits(", CONTEXTS
    ),
    Mutant("a default of another type is refused", "if value is not field.default and not", "if not", CONTEXTS),
    Mutant("a whole number is no number", "_WIDER.get(kind, kind)", "kind", CONTEXTS),
    Mutant(
        "an input that would be refused is spoilt",
        "not in self.setting.kinds or self.definition.context is not None:",
        "not in self.setting.kinds:",
        CONTEXTS,
    ),
]
