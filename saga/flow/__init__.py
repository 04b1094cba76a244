"""Flows: steps composed in sequence, in parallel, with fallbacks, choices and waits. No driver, journal or clock is known here.

Compiling a flow is :mod:`saga.machine.compile`'s work.
"""

from saga.flow.accepting import Accept, refusal
from saga.flow.build import FlowLike, as_flow, fallback, parallel, sequence, step, unit
from saga.flow.choosing import ChoiceTask, choose
from saga.flow.each import ListingTask, each
from saga.flow.functions import FunctionTask
from saga.flow.methods import MethodStep, bind, saga_step
from saga.flow.nodes import Choice, Fallback, Flow, ForEach, Parallel, Pause, PauseTask, Sequence, Step, Unit, UnitTask
from saga.flow.policies import POLICIES, Policies
from saga.flow.waiting import receive, receive_first, timer
from saga.flow.wrapped import Breaker

__all__ = [
    "POLICIES",
    "Accept",
    "Breaker",
    "Choice",
    "ChoiceTask",
    "Fallback",
    "Flow",
    "FlowLike",
    "ForEach",
    "FunctionTask",
    "ListingTask",
    "MethodStep",
    "Parallel",
    "Pause",
    "PauseTask",
    "Policies",
    "Sequence",
    "Step",
    "Unit",
    "UnitTask",
    "as_flow",
    "bind",
    "choose",
    "each",
    "fallback",
    "parallel",
    "receive",
    "receive_first",
    "refusal",
    "saga_step",
    "sequence",
    "step",
    "timer",
    "unit",
]
