"""What is shown of executions: steps, errors, what a person can do and what that does, why nothing happens. Nothing acts here.

Theory
------
One fold tells what became of each step, for results (:class:`saga.result.History`) and for what is shown. It needs a plan.
Where the definition is known and fits, that is its plan; where it is not, one is made of the steps that the journal names
(``reading``), and what it cannot tell is left open. Values stay as they are stored: no class of a user's is needed, and none of
their code runs.

What an action would do is not written down a second time (``offers``): a machine that has read the journal is given the action,
and what it commands is told.
"""

from saga.looking.looks import Looks
from saga.looking.shown import Acted, Decision, ErrorView, ExecutionView, JournalLine, Offer, StepView
from saga.storage.records import Cause

__all__ = ["Acted", "Cause", "Decision", "ErrorView", "ExecutionView", "JournalLine", "Looks", "Offer", "StepView"]
