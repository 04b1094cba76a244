"""Exceptions as plain values."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from saga.durable.codec import Codec, decode_error, encode_error
from saga.errors import ContextKeyError, EncodingError, RecordedError, SagaExecutionException, StepTimeoutError
from tests.unit.codec.conftest import HERE, MyStr, Silent, raising


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_is_recorded_with_its_text_traceback_and_notes() -> None:
    error = raised(KeyError("sku"))
    error.add_note("in warehouse 3")
    recorded = encode_error(error)
    assert recorded["type"] == "builtins:KeyError"
    assert (recorded["text"], recorded["notes"]) == ("'sku'", ["in warehouse 3"])
    assert "raise error" in recorded["traceback"]
    assert Codec().decode(Codec().encode(recorded)) == recorded
    read = decode_error({**recorded, "type": "shop:NoSuchSku"})
    assert isinstance(read, RecordedError)
    assert (read.type_name, read.text, read.traceback_text) == ("shop:NoSuchSku", "'sku'", recorded["traceback"])
    assert (str(read), read.__notes__) == ("NoSuchSku: 'sku'", ["in warehouse 3"])
    assert str(RecordedError("builtins:ValueError", "")) == "ValueError"


@pytest.mark.parametrize("found", [True, False])
def test_an_error_recorded_twice_is_still_the_first_one(found: bool) -> None:
    recorded = encode_error(raised(ValueError("x")))
    if not found:
        recorded = {"type": "shop:Gone", "text": "x", "traceback": "Traceback ...", "notes": []}
    assert encode_error(raised(decode_error(recorded))) == recorded


class Declined(Exception):
    """Has an attribute, a text that is not its arguments, and an ``__init__`` that nobody else is to call."""

    made = 0

    def __init__(self, code: str) -> None:
        type(self).made += 1
        super().__init__(f"declined: {code}")
        self.code = code


class Coded(Exception):
    """Says itself how it is made again."""

    def __init__(self, code: int, *, at: str) -> None:
        super().__init__(f"code {code} at {at}")
        self.parts = (code, at)

    def __reduce__(self) -> tuple[Any, ...]:
        return _coded_again, self.parts


def _coded_again(code: int, at: str) -> Coded:
    return Coded(code, at=at)


class Whole(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return Whole, (self.code,)


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("frozen")


class Slotted(Exception):
    """Says what is in no ``__dict__``."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Own(Exception):
    def __new__(cls, *args: Any) -> Own:
        return super().__new__(cls, *args)


def _unicode() -> Exception:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no stock"),
        ValueError(),
        ValueError("a", 1, None, 2.5, True),
        KeyError("sku"),
        OSError(2, "No such file"),
        OSError(2, "No such file", "a.txt"),
        ConnectionRefusedError("busy"),
        Declined("X1"),
        Whole(7),
        Frozen("no"),
        StepTimeoutError("step 'a' took longer"),
        SagaExecutionException("by hand"),
        ContextKeyError(missing="totl", known=("total",)),
    ],
    ids=repr,
)
def test_an_error_of_plain_values_is_made_again(error: Exception) -> None:
    Declined.made = 0
    recorded = json.loads(json.dumps(encode_error(error)))
    read = decode_error(recorded)
    assert type(read) is type(error)
    assert (str(read), read.args) == (str(error), error.args if not isinstance(error, ContextKeyError) else (str(error),))
    assert getattr(read, "code", None) == getattr(error, "code", None)
    assert Declined.made == 0
    assert encode_error(read) == recorded


@pytest.mark.parametrize(
    "error",
    [
        ValueError(["a", "list"]),
        ValueError(float("nan")),
        ValueError(10**30),
        Coded(7, at="here"),
        Own("no"),
        Slotted(7),
        _unicode(),
        ExceptionGroup("two", [ValueError(), KeyError()]),
        KeyboardInterrupt(),
        SystemExit(3),
        type("Nowhere", (Exception,), {})("gone"),
        type("Slow", (Exception,), {"__module__": HERE})("made in a function"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_cannot_be_made_again_is_told_by_its_class_and_text(error: BaseException) -> None:
    recorded = json.loads(json.dumps(encode_error(error)))
    read = decode_error(recorded)
    assert isinstance(read, RecordedError)
    assert (read.type_name, read.text) == (recorded["type"], recorded["text"])
    assert type(error).__name__ in str(read)


def test_a_text_is_recorded_once() -> None:
    text = "a text that is long enough to be found again"
    for error in (ValueError(text), SagaExecutionException(text)):
        assert json.dumps({**encode_error(error), "traceback": ""}).count(text) == 1
        assert decode_error(encode_error(error)).args == (text,)


def test_a_class_that_nobody_has_imported_is_not_imported() -> None:
    recorded = encode_error(ValueError("x"))
    assert isinstance(decode_error({**recorded, "type": "this:Error"}), RecordedError)
    assert "this" not in sys.modules
    assert isinstance(decode_error({**recorded, "type": "builtins:print"}), RecordedError)
    assert isinstance(decode_error({**recorded, "type": "builtins:int"}), RecordedError)
    assert isinstance(decode_error({**recorded, "args": 5}), RecordedError)
    assert isinstance(decode_error({**recorded, "attributes": [1]}), RecordedError)


def test_recording_an_error_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encode_error(Silent())["text"] == f"<{HERE}.Silent whose str() raised ValueError>"
    assert encode_error(ValueError(MyStr("a")))["text"] == "a"
    assert type(encode_error(ValueError(MyStr("a")))["text"]) is str
    odd = ValueError()
    odd.__notes__ = 5  # type: ignore[assignment]
    assert encode_error(odd)["notes"] == []
    odd.__notes__ = [Silent()]  # type: ignore[list-item]
    assert encode_error(odd)["notes"] == [f"<{HERE}.Silent whose str() raised ValueError>"]
    monkeypatch.setattr("traceback.format_exception", lambda *given, **more: raising(given))
    assert encode_error(odd)["traceback"] == "<no traceback: formatting it raised ValueError>\n"


def test_a_long_error_is_cut_to_what_is_worth_keeping() -> None:
    recorded = encode_error(raised(ValueError("x" * 100_000)))
    assert len(recorded["text"]) == 20_000
    assert recorded["traceback"].startswith("[...]\n")
    assert len(recorded["traceback"]) < 20_010


@pytest.mark.parametrize(
    "recorded",
    [
        None,
        {},
        [],
        {"type": "a", "text": 1, "traceback": "", "notes": []},
        {"type": "a", "text": "", "traceback": "", "notes": [1]},
        {"type": "a", "text": "", "traceback": "", "notes": None},
    ],
)
def test_what_is_no_recorded_error_is_refused(recorded: Any) -> None:
    with pytest.raises(EncodingError, match="not a recorded error"):
        decode_error(recorded)


def test_a_recorded_error_can_be_copied_between_processes() -> None:
    import copy

    twin = copy.copy(RecordedError("a:B", "text", "trace"))
    assert (twin.type_name, twin.text, twin.traceback_text) == ("a:B", "text", "trace")
