"""Plain text: one line that shows all there is, whatever a user's object says."""

from __future__ import annotations

import logging
import sys
import unicodedata
from typing import Any

import pytest

from saga.own_log import LOG
from saga.plain import TEXT_CHARACTERS, names_of, one_line, printed_name, repr_of, text_of

HIDING = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"
]


def test_no_character_breaks_hides_or_reorders_a_line() -> None:
    assert {"\n", "\r", "\x1b", "\x85", "\u2028", "\u202e", "\ud800", "\ufeff"} <= set(HIDING)
    shown = one_line("".join(f"a{character}b" for character in HIDING[:5000]))
    assert shown.isprintable()
    assert shown.isascii()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u2028b\x85c\u202e", "a\\u2028b\\x85c\\u202e"),
        ("Grüße 漢字　かな", "Grüße 漢字　かな"),
        ("👩\u200d👧", "👩\u200d👧"),
        (ValueError("a\nb"), "a\\nb"),
        (5, "5"),
    ],
)
def test_what_can_be_read_stays_as_it_is(text: Any, shown: str) -> None:
    assert one_line(text) == shown


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("not bound to a session")

    __repr__ = __str__


class Lying(str):
    def __str__(self) -> str:
        return self

    def isprintable(self) -> bool:
        return True


def test_whatever_an_object_does_there_is_a_text() -> None:
    assert text_of(Odd()) == f"<{__name__}.Odd whose str() raised RuntimeError>"
    assert repr_of(Odd()) == f"<{__name__}.Odd whose repr() raised RuntimeError>"
    assert one_line(Lying("a\nb")) == "a\\nb"
    assert len(text_of("x" * 100_000)) == TEXT_CHARACTERS


class Named(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError

    __module__ = __name__  # type: ignore[assignment]


def test_a_class_has_the_name_it_was_made_with() -> None:
    cls = Named("Shop", (), {})
    assert names_of(cls) == (__name__, "Shop")
    assert printed_name(cls) == f"{__name__}.Shop"


def test_the_packages_own_lines_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "saga"):
        LOG.info("saga %s: %s, %r in %g s", "A1\nCRITICAL all is lost", ValueError("a\x1b[8m\nb"), Odd(), 0.5)
    (record,) = caplog.records
    assert record.getMessage() == (
        "saga A1\\nCRITICAL all is lost: a\\x1b[8m\\nb, <" + __name__ + ".Odd whose repr() raised RuntimeError> in 0.5 s"
    )
    assert (record.name, record.funcName) == ("saga", "test_the_packages_own_lines_are_one_line_each")
