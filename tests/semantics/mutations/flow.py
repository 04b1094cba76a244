"""What users write broken: names, steps, and what of them is refused before anything runs."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_FLOW"]

NAMES = "tests/unit/test_names"

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
]
