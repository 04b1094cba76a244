"""Texts that would forge lines, or do worse in a terminal: none gets out, wherever it comes from and wherever it goes."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from saga import Context, Retry, Saga, SagaResult, Skip, Task, parallel, step, transaction
from saga.errors import SagaExecutionException
from saga.logging import SagaLogger
from saga.operations import Operations
from saga.recovery import Recovery
from saga.storage import MemoryStore

FORGED = "CRITICAL all is lost"
HOSTILE = f"no stock\n{FORGED}\r{FORGED}\x85{FORGED}\u2028{FORGED}\x1b[8m\x1b]0;title\x07\u202eDEL\x7f direction LR end"


class Hostile(Exception):
    """Says it in its text, its repr and its notes."""

    def __repr__(self) -> str:
        return f"Hostile({self})"


class Odd:
    """Says it as a value."""

    def __str__(self) -> str:
        return HOSTILE

    __repr__ = __str__


def fail() -> None:
    error = Hostile(HOSTILE)
    error.add_note(HOSTILE)
    raise error


def flows() -> list[Any]:
    return [
        step(lambda: HOSTILE, fail, name="undo"),
        step(fail, name="skipped", on_error=Skip),
        parallel(step(fail, name="a", retry=Retry(2)), step(lambda: None, name="b")),
    ]


def saga(**options: Any) -> Saga:
    made = Saga("s", **options)
    for flow in flows():
        made.add_task(flow)
    return made


def stored() -> MemoryStore:
    store = MemoryStore()
    saga(store=store).try_execute({"key": HOSTILE}, saga_id="x")
    Operations(store, HOSTILE).skip("x", "undo", HOSTILE)
    return store


def nested() -> SagaResult:
    return Saga("outer").add_task(step(lambda: saga().execute(), name="call")).try_execute()


def block_note() -> str:
    try:
        with transaction("block") as tx:
            tx.step(lambda: None, fail, name="a")
            fail()
    except SagaExecutionException as error:
        return str(error)
    return ""


def interrupt_note() -> str:
    def interrupt() -> None:
        raise KeyboardInterrupt(HOSTILE)

    with pytest.raises(KeyboardInterrupt) as caught:
        Saga("s").add_task(step(lambda: None, fail, name="a")).add_task(step(interrupt)).execute()
    return "\n".join(caught.value.__notes__)


#: Every text that this package makes of what users say.
TEXTS: dict[str, Callable[[], str]] = {
    "str of a failure": lambda: str(SagaExecutionException("", result=saga().try_execute())),
    "report": lambda: saga().try_execute().report(),
    "summary of what a store has": lambda: saga(store=(store := stored())).load("x", store=store).summary(),
    "report of what a store has": lambda: saga(store=(store := stored())).load("x", store=store).report(),
    "summary of a saga in a saga": lambda: nested().summary(),
    "report of a saga in a saga": lambda: nested().report(),
    "repr of a result": lambda: repr(saga().try_execute()),
    "a block": block_note,
    "a note on an interrupt": interrupt_note,
    "timeline": lambda: Operations(stored(), "ann").show("x").timeline(),
    "an execution as it is shown": lambda: str(Operations(stored(), "ann").show("x")),
    "flowchart": lambda: saga().diagram(saga().try_execute()).mermaid(),
    "sequence diagram": lambda: saga().diagram(saga().try_execute()).sequence(),
    "picture": lambda: saga().diagram(saga().try_execute()).svg(),
}


def unseen(text: str) -> set[str]:
    return {one for one in text if one != "\n" and not one.isprintable() and unicodedata.category(one) != "Zs"}


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_lets_it_out(name: str) -> None:
    text = TEXTS[name]()
    assert text
    assert not unseen(text)
    for line in text.split("\n"):
        assert not line.startswith(FORGED), text
        assert not line.strip().startswith(FORGED) or line.startswith("  "), "a traceback's own lines are set apart"


@pytest.mark.parametrize("name", [name for name in TEXTS if "report" not in name])
def test_what_is_one_thing_is_one_line(name: str) -> None:
    assert not any(line.strip().startswith(FORGED) for line in TEXTS[name]().split("\n"))


def test_a_timeline_has_a_line_for_each_entry() -> None:
    view = Operations(stored(), "ann").show("x")
    assert len(view.timeline().splitlines()) == len(view.journal)


def told(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    for record in caplog.records:
        yield record.getMessage()


def test_log_lines_do_not_let_it_out_and_their_fields_have_it_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "saga")
    logger = SagaLogger(show=["key", "value"])
    saga(logger=logger).try_execute(Context(key=HOSTILE, value=Odd()))
    lines = list(told(caplog))
    assert len(lines) > 10
    assert not any(unseen(line) or "\n" in line for line in lines)
    assert {getattr(record, "saga_context.key", HOSTILE) for record in caplog.records} == {HOSTILE}


def test_the_lines_of_a_recovery_do_not_let_it_out(caplog: pytest.LogCaptureFixture) -> None:
    store = stored()
    row = store.get("x")
    assert row is not None
    store._executions["x"] = row._replace(name="s", fingerprint=HOSTILE, version=HOSTILE)

    class Other(Task[None]):
        def execute(self, context: Context) -> None:
            """Never called."""

    with caplog.at_level(logging.INFO, "saga"):
        Recovery(store, [Saga("s").add_task(Other)], unfit_after=0).run_once()
    lines = list(told(caplog))
    assert lines
    assert not any(unseen(line) or "\n" in line for line in lines)
