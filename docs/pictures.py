"""The pictures that are drawn from code: ``python docs/pictures.py`` draws them again. A test says whether they are up to date.

Those of the diagrams page are a saga's own; the machine's statuses are drawn from its table of transitions.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Final

from saga import Retry, Saga, SagaResult, Skip, fallback, parallel, sequence, step
from saga.events import COMPENSATED, COMPENSATING, COMPLETED, PAUSED, RUNNING, STUCK, SUBMITTED, Status
from saga.machine.state import TRANSITIONS


def place_order(error: Exception | None = None) -> Saga:
    """Return the saga on the pictures. ``error``: what charging the card raises."""

    def nothing() -> None:
        pass

    def charge() -> None:
        if error is not None:
            raise error

    printed = threading.Event()  # the courier comes after it, so that the order of the undo is always the same

    def print_label() -> None:
        printed.set()
        raise OSError("out of paper")

    def book() -> None:
        printed.wait()
        raise TimeoutError("the courier does not answer")

    parcel = sequence(step(nothing, nothing, name="PackParcel"), step(print_label, name="PrintLabel", on_error=Skip))
    courier = fallback(step(book, nothing, name="BookCourier", timeout=5), step(nothing, nothing, name="BookPost"))
    return (
        Saga("place-order", timeout=60)
        .add_task(step(nothing, nothing, name="ReserveStock"))
        .add_task(parallel(parcel, courier))
        .add_task(Saga("payment").add_task(step(charge, name="ChargeCard", retry=Retry(3))))
        .add_task(step(nothing, name="ConfirmOrder"))
    )


def with_steady_times(result: SagaResult) -> SagaResult:
    """Make a result's times the same whenever this runs."""
    for number, record in enumerate(result.history):
        record.elapsed = 0.012 * (number + 1) if record.attempts else 0.0
    result.events[-1].at = result.events[0].at + 0.25  # type: ignore[misc]
    return result


# -- the statuses of an execution -------------------------------------------------------------------------------------

_STYLE: Final = """\
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-size:12px;fill:#1f2328}
.b{font-weight:600;font-size:14px}.m{fill:#57606a}.c{text-anchor:middle}.e{text-anchor:end}
.panel{fill:#fff;stroke:#d1d9e0}.submitted,.paused{fill:#f6f8fa;stroke:#59636e}
.running{fill:#ddf4ff;stroke:#0969da}.compensating{fill:#eaeeff;stroke:#3b5bdb}
.completed{fill:#e3f5ec;stroke:#1a7f5a}.compensated{fill:#eaeeff;stroke:#3b5bdb}.stuck{fill:#ffe4eb;stroke:#a3123a}
.l{fill:none;stroke:#59636e;stroke-width:1.5}.t{fill:#59636e}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.m{fill:#a3adb8}.panel{fill:#0d1117;stroke:#3d444d}
.submitted,.paused{fill:#151b23;stroke:#9198a1}
.running{fill:#0c2440;stroke:#58a6ff}.compensating,.compensated{fill:#1b2144;stroke:#91a7ff}
.completed{fill:#12291f;stroke:#3fb68b}.stuck{fill:#3a1420;stroke:#ff7b9c}.l{stroke:#9198a1}.t{fill:#9198a1}}
"""
#: Where each status stands (its middle), and what is said of it.
_PLACES: Final = {
    SUBMITTED: (230, 40, "nobody runs it yet"),
    RUNNING: (530, 196, "goes forward"),
    PAUSED: (700, 40, "a person stopped it"),
    COMPENSATING: (530, 404, "gave up, is undone"),
    COMPLETED: (870, 196, "every step ended well"),
    COMPENSATED: (870, 404, "wholly undone"),
    STUCK: (230, 300, "a person must act"),
}
_WIDTH, _HEIGHT = 168, 52
#: For each change of status: its line, the tip of its arrow and which way that points, where its text stands and how.
_LINES: Final = {
    (RUNNING, SUBMITTED): ("M334 110H238Q230 110 230 102V71", (230, 66, "up"), (240, 125, "")),
    (SUBMITTED, RUNNING): ("M250 66V78Q250 86 258 86H502Q510 86 510 94V165", (510, 170, "down"), (350, 82, "c")),
    (SUBMITTED, COMPENSATING): (
        "M146 40H22Q14 40 14 48V456Q14 464 22 464H522Q530 464 530 456V435",
        (530, 430, "up"),
        (328, 457, "c"),
    ),
    (SUBMITTED, STUCK): ("M190 66V269", (190, 274, "down"), (198, 146, "")),
    (STUCK, SUBMITTED): ("M165 274V71", (165, 66, "up"), (157, 146, "e")),
    (SUBMITTED, PAUSED): ("M314 24H611", (616, 24, "right"), (470, 18, "c")),
    (PAUSED, SUBMITTED): ("M616 40H319", (314, 40, "left"), (500, 54, "c")),
    (RUNNING, PAUSED): ("M590 170V118Q590 110 598 110H632Q640 110 640 102V71", (640, 66, "up"), (586, 132, "e")),
    (RUNNING, COMPLETED): ("M614 196H781", (786, 196, "right"), (728, 214, "c")),
    (COMPENSATING, COMPENSATED): ("M614 404H781", (786, 404, "right"), (700, 422, "c")),
    (RUNNING, COMPENSATING): ("M530 222V373", (530, 378, "down"), (540, 304, "")),
    (COMPLETED, COMPENSATING): ("M850 222V352Q850 360 842 360H598Q590 360 590 368V373", (590, 378, "down"), (770, 350, "c")),
    (COMPENSATING, PAUSED): ("M614 392H660Q668 392 668 384V71", (668, 66, "up"), (676, 290, "")),
    (PAUSED, RUNNING): ("M700 66V174Q700 182 692 182H619", (614, 182, "left"), (708, 112, "")),
    (RUNNING, STUCK): ("M446 184H218Q210 184 210 192V269", (210, 274, "down"), (328, 174, "c")),
    (COMPENSATING, STUCK): ("M446 416H218Q210 416 210 408V331", (210, 326, "up"), (328, 434, "c")),
    (STUCK, RUNNING): ("M250 274V216Q250 208 258 208H441", (446, 208, "right"), (348, 226, "c")),
    (STUCK, COMPENSATING): ("M250 326V384Q250 392 258 392H441", (446, 392, "right"), (348, 368, "c")),
}
_TIPS: Final = {"right": "l-8-4.5v9Z", "left": "l8-4.5v9Z", "down": "l-4.5-8h9Z", "up": "l-4.5 8h9Z"}


def states() -> str:
    """Return the picture of an execution's statuses and of what changes them."""
    parts = [f"<style>\n{_STYLE}</style>", '<rect class="panel" x="0.5" y="0.5" width="999" height="499" rx="10"/>']
    parts += ['<circle class="t" cx="340" cy="110" r="6"/>', '<path class="l" d="M346 110H482Q490 110 490 118V165"/>']
    parts += [f'<path class="t" d="M490 170{_TIPS["down"]}"/>', '<text class="c" x="410" y="126">SagaStarted</text>']
    for status, (x, y, words) in _PLACES.items():
        left, top = x - _WIDTH // 2, y - _HEIGHT // 2
        thick = 3 if status.terminal else 1.2
        box = f'x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" stroke-width="{thick}"'
        parts.append(f'<rect class="{status}" {box}/>')
        parts.append(
            f'<text class="b c" x="{x}" y="{y - 3}">{status}</text><text class="m c" x="{x}" y="{y + 15}">{words}</text>'
        )
    for one in TRANSITIONS:
        line, (x, y, way), (text_x, text_y, anchor) = _LINES[one.before, one.after]
        parts.append(f'<path class="l" d="{line}"/><path class="t" d="M{x} {y}{_TIPS[way]}"/>')
        parts.append(f'<text class="{anchor}" x="{text_x}" y="{text_y}">{one.event.__name__}</text>')
        if one.only:
            parts.append(f'<text class="m {anchor}" x="{text_x}" y="{text_y + 15}">{one.only}</text>')
    parts.append('<text class="m" x="30" y="486">A thick frame: nothing more happens by itself.</text>')
    known = ", ".join(Status)
    label = f"The statuses of an execution ({known}), and the events that change them"
    size = 'width="1000" height="500" viewBox="0 0 1000 500"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">{"".join(parts)}</svg>'


def draw(folder: Path) -> None:
    """Draw all pictures into a folder."""
    saga = place_order(ConnectionRefusedError("the bank cannot be reached"))
    result = with_steady_times(saga.try_execute(saga_id="A1"))
    (folder / "place-order.svg").write_text(saga.diagram().svg() + "\n", encoding="utf-8")
    (folder / "place-order-failed.svg").write_text(saga.diagram(result).svg() + "\n", encoding="utf-8")
    (folder / "states.svg").write_text(states() + "\n", encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "_static")
