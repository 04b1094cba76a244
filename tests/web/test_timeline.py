"""When calls ran, as it is drawn: in which order, how wide, and what is cut out."""

from __future__ import annotations

import re

import pytest

from saga.operations import JournalLine
from saga.web.timeline import timeline


def journal(*calls: tuple[str, float, float]) -> list[JournalLine]:
    """Return the entries of calls that end well: of which step, from when, for how long."""
    lines = []
    for step, at, length in calls:
        lines.append(JournalLine(0, at, "StepStarted", step, {"attempt": 1}))
        lines.append(JournalLine(0, at + length, "StepSucceeded", step, {}))
    return lines


def bars(drawn: str) -> list[tuple[float, float]]:
    found = re.findall(r'<rect class="succeeded execute" x="([\d.]+)%" y="2" width="([\d.]+)%"', drawn)
    return [(float(x), float(width)) for x, width in found]


def cuts(drawn: str) -> list[str]:
    return re.findall(r'class="cut"[^>]*><title>nothing ran for ([^<]+)<', drawn)


def times(drawn: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", drawn)


@pytest.mark.parametrize(
    ("calls", "gone", "shown"),
    [
        ([("a", 0, 1), ("b", 1, 3)], [], ["0 ms", "1 s", "2 s", "3 s", "4 s"]),
        ([("a", 0, 1), ("b", 2, 3)], [], ["0 ms", "1.25 s", "2.5 s", "3.75 s", "5 s"]),
        ([("a", 0, 1), ("b", 10_801, 1)], ["3 h"], ["0 ms", "3 h 1 s"]),
        ([("a", 0, 1), ("b", 10_801, 1), ("c", 18_002, 2)], ["3 h", "2 h"], ["0 ms", "3 h 1 s", "5 h 2 s"]),
        ([("a", 0, 30), ("b", 40, 1), ("c", 10_841, 1)], ["3 h"], ["0 ms", "3 h 41 s"]),
        ([("a", float(4**number), 0.1) for number in range(8)], ["3 h 24 min", "51 min 12 s", "12 min 48 s"], None),
        ([("a", 5.0, 0.0)], [], None),
        ([("a", 0, 20_000), ("b", 10, 1)], [], None),
    ],
)
def test_where_nothing_ran_for_longer_than_the_rest_took_is_cut_out(
    calls: list[tuple[str, float, float]], gone: list[str], shown: list[str] | None
) -> None:
    drawn = str(timeline(journal(*calls)))
    assert sorted(cuts(drawn)) == sorted(gone)
    assert shown is None or times(drawn) == shown
    found = bars(drawn)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert all(0 <= x <= 100 and width > 0 and x + width <= 100.1 for x, width in found)


def test_calls_stay_apart_that_were_hours_apart() -> None:
    (first, _), (second, width), (third, _) = bars(str(timeline(journal(("a", 0, 1), ("b", 1, 1), ("c", 10_802, 1)))))
    assert second - first > 5
    assert width > 5
    assert third - second > 10


def test_what_is_no_call_is_not_drawn() -> None:
    assert timeline([]) == ""
    assert timeline([JournalLine(1, 0.0, "SagaStarted", None, {})]) == ""
