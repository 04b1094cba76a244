"""Every kind of event has its place everywhere that events are told apart: what fails here names the place."""

from __future__ import annotations

import logging
import re
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

import pytest

import saga.logging
from saga import Context, ExecutionInfo, Saga, SagaResult, StepRecord, StepStatus, step
from saga import events as e
from saga.diagram import Diagram
from saga.durable.codec import Codec
from saga.durable.entries import read_entries, write_entries
from saga.logging import SagaLogger
from saga.looking.steps import _PHASES
from saga.machine.folds import FOLDS
from saga.result import fold_history

DOCS: Final = Path(__file__).parents[2] / "docs"
KINDS: Final[tuple[Any, ...]] = e.Event.__args__
ERROR: Final = ValueError("no stock")

#: One of each kind, with nothing left as it is by default; ``encoded`` has what the driver's journal puts there.
SAMPLES: Final[tuple[Any, ...]] = (
    e.SagaSubmitted("order", "o-1", 1.0),
    e.SagaStarted("order", "o-1", 1.0),
    e.StepStarted("a", 2, 1.0),
    e.StepSucceeded("a", 2, 1.0, 0.5, 7, ',"result":7'),
    e.StepFailed("a", 2, 1.0, 0.5, ERROR, in_doubt=True, executed=True),
    e.StepTimedOut("a", 2, 1.0, 0.5, ERROR, running=False),
    e.StepSkipped("a", 1.0),
    e.PersonAsked("a", 1.0),
    e.RetryScheduled("a", 3, 1.0, 0.25, phase="compensate"),
    e.GroupMerged(3, 1.0),
    e.UnitCompensating("a", "b", ERROR, ["b"], 1.0),
    e.SagaCompensating("a", ERROR, 1.0),
    e.CompensationStarted("a", 2, 1.0),
    e.CompensationSucceeded("a", 2, 1.0, 0.5),
    e.CompensationFailed("a", 2, 1.0, 0.5, ERROR),
    e.CompensationTimedOut("a", 2, 1.0, 0.5, ERROR),
    e.SagaCompleted(1.0),
    e.SagaCompensated(1.0),
    e.SagaRewound("a", ["a"], "undone back to step 'a'", 1.0),
    e.SagaStuck("compensation failed: a", 1.0),
    e.SagaHeld(1.0),
    e.SagaPaused("by ann: look", 1.0),
    e.SagaRecovered("host-2", 2, 1.0),
    e.OperatorActed("skip", "a", "ann", "done by hand", 1.0),
    e.FallbackChosen("a", 1.0),
    e.WayChosen("a", "'gold'", 1.0),
    e.SignalReceived("paid", 7, 1.0),
    e.MessageRefused('{"signal":', "it cannot be read", 1.0),
    e.VerificationStarted("a", 2, 1.0),
    e.StepVerified("a", 2, 1.0, 0.5, True, 7, ',"result":7'),
    e.VerificationFailed("a", 2, 1.0, 0.5, ERROR),
)
#: Kinds of which a sequence diagram says nothing: it begins with the first two, and shows no joins.
UNSAID: Final = {e.SagaSubmitted, e.SagaStarted, e.GroupMerged}
#: Kinds that name a step and leave its record as it is: the step's own failure, or doubt, has come before them.
NO_RECORD: Final = {e.SagaCompensating, e.SagaRewound, e.FallbackChosen, e.WayChosen, e.PersonAsked, e.VerificationFailed}


def every(*, but: Set[type] = frozenset()) -> Any:
    found = [sample for sample in SAMPLES if type(sample) not in but]
    return pytest.mark.parametrize("event", found, ids=[type(one).__name__ for one in found])


def test_there_is_one_of_each_kind_here() -> None:
    missing = {kind.__name__ for kind in KINDS} - {type(sample).__name__ for sample in SAMPLES}
    assert not missing, f"tests/unit/test_every_event.py: SAMPLES has no {missing}"


def test_every_class_of_events_is_a_kind() -> None:
    classes = {
        name
        for name, value in vars(e).items()
        if isinstance(value, type) and value.__module__ in (e.__name__, "saga.flow_events")
    }
    forgotten = classes - {"Effect", "Status", "StepStatus"} - {kind.__name__ for kind in KINDS}
    assert not forgotten, f"saga/events.py: the union Event lacks {forgotten}"
    unlisted = {kind.__name__ for kind in KINDS} - set(e.__all__)
    assert not unlisted, f"saga/events.py: __all__ lacks {unlisted}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_machine_folds_it(kind: type) -> None:
    assert kind in FOLDS, f"saga/machine/folds.py: FOLDS has no {kind.__name__}"


def told(event: Any) -> dict[str, Any]:
    """Return what an event says, errors by their class and arguments."""
    fields = {name: getattr(event, name) for name in event.__match_args__}
    if "error" in fields:
        error = fields["error"]
        fields["error"] = type(error), error.args
    return fields


@every()
def test_the_journal_gives_it_back(event: Any) -> None:
    place = f"saga/durable/entries.py: a {type(event).__name__}"
    entries = write_entries([event], 0, {}, Codec())
    assert [entry.step for entry in entries] == [getattr(event, "step", None)], f"{place} is not stored with its step"
    try:
        ((recorded,), _) = read_entries(entries, Codec())
    except Exception as error:
        pytest.fail(f"{place} cannot be read back: {error}")
    assert type(recorded.event) is type(event), f"{place} comes back as a {type(recorded.event).__name__}"
    assert told(recorded.event) == told(event), f"{place} does not come back as it was written"
    assert recorded.more == {}, f"{place} is written with {recorded.more}, which nobody reads"


@every()
def test_the_logger_has_a_line_for_it(event: Any, caplog: pytest.LogCaptureFixture) -> None:
    kind = type(event)
    method = saga.logging._METHODS.get(kind)
    assert method is not None, f"saga/logging.py: _METHODS has no {kind.__name__}"
    assert method == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(), f"saga/logging.py: {method} is another's name"
    assert f"``{method}``" in (SagaLogger.__doc__ or ""), f"saga/logging.py: the table of SagaLogger lacks {method}"
    assert getattr(SagaLogger, method).__doc__, f"saga/logging.py: {method} has no docstring, so the reference leaves it out"
    with caplog.at_level(logging.DEBUG, logger="saga"):
        SagaLogger()(event, ExecutionInfo("order", "o-1", Context()))
    assert len(caplog.records) == 1, f"saga/logging.py: {method} writes {len(caplog.records)} lines"


@every(but=UNSAID)
def test_the_sequence_diagram_has_a_line_for_it(event: Any) -> None:
    saga = Saga("order").add_task(step(lambda: 1, lambda: None, name="a"))
    drawn = len(lines(saga, event))
    assert drawn > len(lines(saga)), f"saga/diagram/mermaid.py: a sequence diagram says nothing of a {type(event).__name__}"


def lines(saga: Saga, *events: Any) -> list[str]:
    """Return the lines of the sequence diagram of an execution in which nothing else happened."""
    result = SagaResult(saga.plan, [e.SagaStarted("order", "o-1", 0.0), *events], Context())
    return Diagram(saga.definition, result).sequence().splitlines()


@every(but=NO_RECORD | {kind for kind in KINDS if "step" not in kind.__match_args__})
def test_what_it_says_of_a_step_is_in_the_steps_record(event: Any) -> None:
    plan = Saga("order").add_task(step(lambda: 1, lambda: None, name="a")).plan
    record = fold_history(plan, [event])["a"]
    assert record != StepRecord("a", StepStatus.PENDING), f"saga/result.py: fold_history leaves out {type(event).__name__}"


@every(but={kind for kind in KINDS if "error" not in kind.__match_args__} | {e.SagaCompensating})
def test_the_call_that_raised_its_error_is_shown(event: Any) -> None:
    name = type(event).__name__
    assert name in _PHASES, f"saga/looking/steps.py: _PHASES does not say which call raised the error of a {name}"


def test_the_reference_lists_it() -> None:
    page = (DOCS / "api" / "events.rst").read_text(encoding="utf-8")
    assert "automodule:: saga.events" in page, "docs/api/events.rst lists events no more"
    for kind in KINDS:
        assert (kind.__doc__ or "").strip(), f"saga/events.py: {kind.__name__} has no docstring, so the reference leaves it out"
