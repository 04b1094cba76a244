"""What becomes of a step that has not set a key of the context that it says it provides. No call is made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saga.context import Context
from saga.flow.keys import missing_key
from saga.machine import Call
from saga.own_log import LOG

if TYPE_CHECKING:
    from saga.drivers.outcomes import Outcomes

__all__ = ["fails_to_provide"]


def fails_to_provide(outcomes: Outcomes, call: Call, view: Context, value: Any, elapsed: float, at: float) -> bool:
    """See whether an execute that returned has set what its step provides. Return whether it has failed, because it has not.

    Only a transactional one can fail so: it is rolled back. Another is done, so the saga gives up, and undoes it by its result;
    from the pivot on there is no way back, and a step that requires the key says so when its turn comes.
    """
    step, machine = call.step, outcomes.machine
    held = value if type(value) is type(view) else view
    missing = [key for key in step.provides or () if key not in held]
    if not missing:
        return False
    error = missing_key(step.name, "says that it provides", missing, held)
    if step.transactional:
        outcomes.raised(call, view, error, elapsed, at)
        return True
    if step.pivot or machine.state.past_pivot:
        LOG.warning("saga %s is past its pivot, and goes on: %s", machine.saga_id, error)
    else:
        machine.give_up(error, at, step.name)  # first: then nothing follows the call
    return False
