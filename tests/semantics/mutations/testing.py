"""What users' tests are written with, broken: one call alone."""

from __future__ import annotations

from . import Mutant

__all__ = ["OF_TESTING"]

TESTING = "tests/testing/test_"
CALLING = TESTING + "calling"

OF_TESTING = [
    Mutant(
        "the result of a call's own step is taken for that of the step before",
        "        if name != self.info.name:\n            self.previous",
        "        if True:\n            self.previous",
        CALLING + " -k cannot_be_called",
    ),
    Mutant(
        "a context stays bound to the call that a test made with it",
        "        binding.user = None\n        set_binding(context, before)",
        "        binding.user = None",
        CALLING + " -k is_seen",
    ),
    Mutant(
        "a compensation that is not there is called, and a test of it cannot fail",
        'phase != "execute" and not (compensates',
        "False and not (compensates",
        CALLING + " -k cannot_be_called",
    ),
]
