"""Exceptions as plain values."""

from __future__ import annotations

from typing import Any

import pytest

from saga.durable.codec import Codec, decode_error, encode_error
from saga.errors import EncodingError, RecordedError, SagaError
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
    read = decode_error(recorded)
    assert isinstance(read, SagaError)
    assert (read.type_name, read.text, read.traceback_text) == ("builtins:KeyError", "'sku'", recorded["traceback"])
    assert (str(read), read.__notes__) == ("KeyError: 'sku'", ["in warehouse 3"])
    assert str(decode_error(encode_error(ValueError()))) == "ValueError"


def test_an_error_recorded_twice_is_still_the_first_one() -> None:
    recorded = encode_error(raised(ValueError("x")))
    assert encode_error(raised(decode_error(recorded))) == {**recorded, "notes": []}


def test_recording_an_error_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encode_error(Silent())["text"] == f"<{HERE}.Silent whose str() raised ValueError>"
    assert encode_error(ValueError(MyStr("a")))["text"] == "a"
    assert type(encode_error(ValueError(MyStr("a")))["text"]) is str
    odd = ValueError()
    odd.__notes__ = 5  # type: ignore[assignment]
    assert encode_error(odd)["notes"] == []
    odd.__notes__ = [Silent()]  # type: ignore[list-item]
    assert encode_error(odd)["notes"] == [f"<{HERE}.Silent whose str() raised ValueError>"]
    monkeypatch.setattr("traceback.format_exception", raising)
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
