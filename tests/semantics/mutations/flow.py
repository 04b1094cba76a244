"""What users write broken: names, steps, and what of them is refused before anything runs."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_FLOW"]

NAMES, SIGNATURES = "tests/unit/test_names", "tests/unit/flow/test_signatures"

OF_FLOW = [
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
        "if saga_id is None else checked_name(saga_id, named)",
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
]
