"""The machine."""

from saga.machine.commands import Call, Command, Finish, Merge, Wait
from saga.machine.compile import OpenPlan, check_timeout, compile_flow
from saga.machine.decide import Machine
from saga.machine.operators import ACTIONS, Standing, act, check, standing_of
from saga.machine.plan import Group, Plan, PlannedStep
from saga.machine.resume import recover
from saga.machine.state import State, status_after

__all__ = [
    "ACTIONS",
    "Call",
    "Command",
    "Finish",
    "Group",
    "Machine",
    "Merge",
    "OpenPlan",
    "Plan",
    "PlannedStep",
    "Standing",
    "State",
    "Wait",
    "act",
    "check",
    "check_timeout",
    "compile_flow",
    "recover",
    "standing_of",
    "status_after",
]
