"""When the calls of an execution ran: a drawing. What is in it stands in the table of steps and in the journal, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from saga.operations import JournalLine
from saga.plain import one_line, shortened
from saga.web.shown import span

__all__ = ["timeline"]

_BEGIN: Final = {"StepStarted": "execute", "VerificationStarted": "verify", "CompensationStarted": "compensate"}
_END: Final = {
    "StepSucceeded": ("execute", "succeeded"),
    "StepFailed": ("execute", "failed"),
    "StepTimedOut": ("execute", "doubtful"),
    "StepVerified": ("verify", "succeeded"),
    "VerificationFailed": ("verify", "doubtful"),
    "CompensationSucceeded": ("compensate", "compensated"),
    "CompensationFailed": ("compensate", "stuck"),
    "CompensationTimedOut": ("compensate", "doubtful"),
}
_CUTS: Final = 3
"""Times at which nothing ran that are cut out, at most: the longest ones."""
_CUT, _SHORTEST = 0.04, 0.17
"""How wide what is cut out is, and what is between: at least."""
_BEHIND: Final = Markup('<use href="#behind"/>')
_CALLS: Final = 150
"""Calls that are drawn, at most: the last ones."""


@dataclass
class _Call:
    step: str
    phase: str
    begins: float
    ends: float
    kind: str = "running"
    attempt: int = 1


def _calls(journal: Sequence[JournalLine]) -> list[_Call]:
    calls: list[_Call] = []
    under_way: dict[tuple[str, str], _Call] = {}
    for line in journal:
        step = line.step or ""
        if line.kind in _BEGIN:
            attempt = line.details.get("attempt")
            call = _Call(step, _BEGIN[line.kind], line.at, journal[-1].at, attempt=attempt if isinstance(attempt, int) else 1)
            under_way[step, call.phase] = call
            calls.append(call)
        elif line.kind in _END:
            phase, kind = _END[line.kind]
            ended = under_way.pop((step, phase), None)
            if ended is not None:
                ended.ends = line.at
                ended.kind = "doubtful" if kind == "failed" and line.details.get("in_doubt") else kind
    return calls


class _Scale:
    """Where times are, in parts of the width. Where nothing ran for longer than all the rest took, that is cut out.

    :ivar first: when the first call began.
    :ivar parts: what is shown: from when, until when, and where that begins and ends.
    """

    def __init__(self, calls: Sequence[_Call]) -> None:
        runs: list[list[float]] = []
        for call in sorted(calls, key=lambda one: one.begins):
            if runs and call.begins <= runs[-1][1]:
                runs[-1][1] = max(runs[-1][1], call.ends)
            else:
                runs.append([call.begins, max(call.ends, call.begins)])
        self.first, left = runs[0][0], runs[-1][1] - runs[0][0]
        cut = set()
        for after in sorted(range(1, len(runs)), key=lambda number: runs[number - 1][1] - runs[number][0])[:_CUTS]:
            gap = runs[after][0] - runs[after - 1][1]
            if gap <= left - gap:
                break
            cut.add(after)
            left -= gap
        begins = [0, *sorted(cut)]
        spans = [(runs[one][0], runs[end - 1][1]) for one, end in zip(begins, [*begins[1:], len(runs)], strict=True)]
        room = 1.0 - len(cut) * _CUT - len(spans) * _SHORTEST
        self.parts: list[tuple[float, float, float, float]] = []
        x = 0.0
        for begin, end in spans:
            width = _SHORTEST + room * ((end - begin) / left if left > 0 else 1 / len(spans))
            self.parts.append((begin, end, x, x + width))
            x += width + _CUT

    def at(self, time: float) -> float:
        """Return where a time is, in percent."""
        begin, end, left, right = next(part for part in reversed(self.parts) if part[0] <= time or part is self.parts[0])
        return 100 * (left + (right - left) * (time - begin) / max(end - begin, 1e-6))


def timeline(journal: Sequence[JournalLine]) -> Markup:
    """Return the drawing, as wide as there is room, with a row for each step; nothing where no call was made."""
    every = _calls(journal)
    calls = every[-_CALLS:]
    if not calls:
        return Markup("")
    which = f"the last {len(calls)} of {len(every):,}" if len(calls) < len(every) else f"{len(calls)}"
    scale = _Scale(calls)
    whole = _length(scale.parts[-1][1] - scale.first)
    rows: dict[str, list[Markup]] = {}
    for call in calls:
        x, ends = scale.at(call.begins), scale.at(call.ends)
        title = f"{call.phase} {one_line(call.step)}, attempt {call.attempt}, {_length(call.ends - call.begins)}"
        bar = Markup('<rect class="{} {}" x="{:.2f}%" y="2" width="{:.2f}%" height="14"><title>{}</title></rect>')
        rows.setdefault(call.step, []).append(bar.format(call.kind, call.phase, x, max(ends - x, 0.05), title))
    label = f"When {which} calls ran, within {whole}"
    drawn = [
        Markup('<div class="timeline" id="timeline" role="img" aria-label="{}">').format(label),
        _row("", _axis(scale), 14),
    ]
    drawn += [_row(shortened(one_line(step), 60), _BEHIND + Markup("").join(bars), 18) for step, bars in rows.items()]
    told = Markup('<p class="muted small">{} calls.</p>').format(which.capitalize()) if len(calls) < len(every) else ""
    return Markup("").join([told, *drawn, Markup("</div>")])


def _row(name: str, drawn: Markup, height: int) -> Markup:
    row = Markup('<div><bdi>{}</bdi><svg width="100%" height="{}" aria-hidden="true">{}</svg></div>')
    return row.format(name, height, drawn)


def _axis(scale: _Scale) -> Markup:
    """Return the times, and the lines that are drawn behind each row, too."""
    if len(scale.parts) == 1:
        begin, end, *_ = scale.parts[0]
        ticks = [(25.0 * part, _length((end - begin) * part / 4)) for part in range(5)]
    else:
        ticks = [(100 * left, _length(begin - scale.first)) for begin, _, left, _ in scale.parts]
    line = Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="100%"/>')
    text = Markup('<text class="muted" x="{:.2f}%" y="11" text-anchor="{}">{}</text>')
    behind = [line.format(x) for x, _ in ticks]
    for before, after in pairwise(scale.parts):
        behind.append(
            Markup('<rect class="cut" x="{:.2f}%" y="0" width="{:.2f}%" height="100%"><title>{}</title></rect>').format(
                100 * before[3], 100 * _CUT, f"nothing ran for {_length(after[0] - before[1])}"
            )
        )
    anchors = ["start", "middle", "middle", "middle", "end"] if len(scale.parts) == 1 else ["start"] * len(ticks)
    times = [text.format(x, anchor, told) for (x, told), anchor in zip(ticks, anchors, strict=True)]
    return Markup('<g id="behind">{}</g>{}').format(Markup("").join(behind), Markup("").join(times))


def _length(seconds: float) -> str:
    return span(max(seconds, 0.0))
