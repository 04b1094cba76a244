"""When the calls of an execution ran: a drawing. What is in it stands in the table of steps and in the journal, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
}
_WIDTH, _LEFT, _ROW, _HEAD, _LEAST = 720.0, 190.0, 24.0, 22.0, 3.0
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


def timeline(journal: Sequence[JournalLine]) -> Markup:
    """Return the drawing as SVG, with a row for each step; nothing where no call was made."""
    every = _calls(journal)
    calls = every[-_CALLS:]
    if not calls:
        return Markup("")
    which = f"the last {len(calls)} of {len(every):,}" if len(calls) < len(every) else f"{len(calls)}"
    first = min(call.begins for call in calls)
    whole = max(max(call.ends for call in calls) - first, 1e-6)
    steps = list(dict.fromkeys(call.step for call in calls))
    rows = {step: _HEAD + number * _ROW for number, step in enumerate(steps)}
    height = _HEAD + len(steps) * _ROW + 4
    drawn = [
        Markup('<svg class="timeline" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">').format(
            _WIDTH, height, _WIDTH, height, f"When {which} calls ran, within {_length(whole)}"
        )
    ]
    room = _WIDTH - _LEFT - 10
    for part in range(5):
        x = _LEFT + room * part / 4
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        drawn.append(Markup('<path class="grid" d="M{:.1f} 16V{}"/>').format(x, height))
        drawn.append(
            Markup('<text class="muted" x="{:.1f}" y="11" text-anchor="{}">{}</text>').format(
                x, anchor, _length(whole * part / 4)
            )
        )
    for step, y in rows.items():
        drawn.append(Markup('<text x="0" y="{}">{}</text>').format(y + 15, shortened(one_line(step), 28)))
    for call in calls:
        width = max(room * (call.ends - call.begins) / whole, _LEAST)
        x = min(_LEFT + room * (call.begins - first) / whole, _WIDTH - 10 - width)
        title = f"{call.phase} {one_line(call.step)}, attempt {call.attempt}, {_length(call.ends - call.begins)}"
        drawn.append(
            Markup('<rect class="{} {}" x="{:.1f}" y="{}" width="{:.1f}" height="14" rx="2"><title>{}</title></rect>').format(
                call.kind, call.phase, x, rows[call.step] + 4, width, title
            )
        )
    told = Markup('<p class="muted small">{} calls.</p>').format(which.capitalize()) if len(calls) < len(every) else ""
    return Markup("").join([told, *drawn, Markup("</svg>")])


def _length(seconds: float) -> str:
    return span(max(seconds, 0.0))
