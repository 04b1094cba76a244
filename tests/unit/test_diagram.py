"""Diagrams: every step is there once, nothing overlaps, colours are never alone, names say nothing but themselves."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from saga import (
    Context,
    Flow,
    InDoubt,
    Retry,
    Saga,
    SagaResult,
    Skip,
    StepStatus,
    Task,
    choose,
    each,
    fallback,
    parallel,
    receive,
    receive_first,
    sequence,
    step,
    timer,
    transaction,
)
from saga.definition import Definition
from saga.diagram import Diagram
from saga.diagram.mermaid import escaped
from saga.diagram.sheet import text_width
from saga.diagram.words import duration
from saga.errors import SagaDefinitionError
from saga.operations import Operations
from saga.plain import one_line
from saga.recovery import Recovery
from saga.storage import MemoryStore

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    '"><script>alert(1)</script>',
    "end",
    "%%{init: {}}%%",
    'x"]; click s0 "javascript:alert(1)"',
    "\u202egnp.exe",
    "日本語のステップ名前がとても長い場合のテスト",
    "😀 party 👨‍👩‍👧",
    "&amp; #35; <b>",
    "VeryLongCamelCaseTaskNameThatNeverEndsAndGoesOnAndOnForAVeryLongTimeIndeedYesItDoes",
    "x" * 200,
    "﷽",
    "subgraph end\\",
    "`code` **b** __c__",
    "a--x",
    "wrap: hi; there",
    "---",
    "1. first",
    "- item",
    "]]>",
    "'",
]


def works(name: str, undone: bool = True, **policies: Any) -> Flow:
    return step(lambda: None, (lambda: None) if undone else None, name=name, **policies)


def fails(name: str, error: BaseException | None = None, **policies: Any) -> Flow:
    def fail() -> None:
        raise error or ValueError("the bank refuses the card")

    return step(fail, name=name, **policies)


def everything() -> Saga:
    payment = Saga("payment").add_task(works("authorise", retry=Retry(3), timeout=10.0)).add_task(works("capture", pivot=True))
    saga = Saga("place-order", timeout=90)
    saga.add_task(works("ReserveStock", in_doubt=InDoubt.ASK, compensation_retry=Retry(2), compensate_on_failure=True))
    lane = sequence(works("PrintInvoice", False), works("MailInvoice", False, on_error=Skip))
    saga.add_task(parallel(works("PackParcel"), lane, receive("approved", timeout=3600), compensate_together=True))
    instead = sequence(works("BookStandard"), works("TellCustomer", False))
    saga.add_task(fallback(works("BookExpress", timeout=2), instead, on=(TimeoutError, ConnectionError)))
    ways = {"gold": sequence(works("EngraveIt"), works("WrapGold")), None: sequence()}
    saga.add_task(choose("wrapping", ways, works("WrapPlain", False)))
    return saga.add_task(timer(5, name="breathe")).add_task(payment).add_task(works("ConfirmOrder"))


def failing() -> Saga:
    packed = threading.Event()  # so that it is known which ends first
    pack = step(packed.set, lambda: None, name="PackParcel")
    mail = step(lambda: packed.wait(30), lambda: None, name="MailInvoice")
    saga = Saga("place-order").add_task(works("ReserveStock"))
    saga.add_task(parallel(pack, sequence(works("PrintInvoice", False), mail)))
    saga.add_task(fallback(fails("BookExpress"), works("BookStandard"))).add_task(fails("GiftCard", on_error=Skip))
    return saga.add_task(fails("ChargeCard", retry=Retry(2))).add_task(works("ConfirmOrder"))


def hostile() -> Saga:
    saga = Saga('bad "name" </svg> end').add_task(Saga('nested "x" end').add_task(works("in ] end")))
    for name in HOSTILE:
        saga.add_task(works(name))
    return saga.add_task(parallel(*(receive(name, name=f"receive {name}") for name in ('"quote', "]end"))))


def elements(svg: str, tag: str, **attributes: str) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter(SVG + tag)
    return [one for one in found if all(one.get(key) == value for key, value in attributes.items())]


def names(svg: str) -> list[str]:
    return [one.attrib["data-step"] for one in elements(svg, "g", **{"class": "step"})]


def text_boxes(svg: str) -> list[tuple[float, float, float, float, str]]:
    boxes = []
    for one in elements(svg, "text"):
        name = "name" in one.get("class", "")
        size, text = (14.0 if name else 11.5), one.text or ""
        x, y = float(one.attrib["x"]), float(one.attrib["y"])
        boxes.append((x, y - size * 0.8, x + text_width(text, size, name), y + size * 0.22, text))
    return boxes


# -- the SVG ----------------------------------------------------------------------------------------------------------

SAGAS: list[Callable[[], Saga]] = [everything, failing, hostile]


@pytest.mark.parametrize("make", SAGAS)
def test_every_step_is_drawn_once_in_the_order_declared(make: Callable[[], Saga]) -> None:
    saga = make()
    assert names(saga.diagram().svg()) == [one_line(name) for name in saga.plan.names]


@pytest.mark.parametrize(
    "svg", [lambda: everything().diagram().svg(), lambda: hostile().diagram().svg(), lambda: drawn(failing())]
)
def test_no_text_overlaps_another_or_leaves_the_picture(svg: Callable[[], str]) -> None:
    made = svg()
    root = ElementTree.fromstring(made)
    boxes = text_boxes(made)
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    for left, top, right, bottom, text in boxes:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= float(root.attrib["width"]), text
        assert bottom <= float(root.attrib["height"]), text


@pytest.mark.parametrize("make", SAGAS)
def test_every_text_of_a_step_is_within_its_card_and_cards_do_not_overlap(make: Callable[[], Saga]) -> None:
    cards = []
    for group in elements(make().diagram().svg(), "g", **{"class": "step"}):
        card = group.find(SVG + "rect")
        assert card is not None
        x, y, width, height = (float(card.attrib[key]) for key in ("x", "y", "width", "height"))
        cards.append((x, y, x + width, y + height))
        inside = ElementTree.tostring(group, encoding="unicode")
        for left, top, right, bottom, text in text_boxes(f"<svg>{inside}</svg>"):
            assert x < left, text
            assert right < x + width, text
            assert y < top, text
            assert bottom < y + height, text
    for one, other in itertools.combinations(cards, 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


class Standing:
    """Stands for certificates."""

    def standing(self, definition: Definition) -> dict[str, str]:
        return {"ReserveStock": "certified", "PackParcel": "not certified", "payment/capture": "certificate stale"}


@pytest.mark.parametrize("result", [False, True], ids=["the saga", "an execution"])
def test_how_certificates_stand_is_told_with_a_sign(result: bool) -> None:
    saga = everything() if not result else failing()
    diagram = saga.diagram(saga.try_execute() if result else None, certificates=Standing())
    for group in elements(diagram.svg(), "g", **{"class": "step"}):
        texts = [one.text or "" for one in group.iter(SVG + "text")]
        told = [text for text in texts if "certif" in text]
        expected = {"ReserveStock": ["✓ certified"], "PackParcel": ["✗ not certified"], "capture": ["✗ certificate stale"]}
        assert told == expected.get(group.attrib["data-step"].rpartition("/")[2], [])
    assert '"ReserveStock<br/>' in diagram.mermaid()
    assert '<br/>✓ certified"]' in diagram.mermaid()
    assert "<br/>✗ not certified" in diagram.mermaid()
    assert "certif" not in saga.diagram().svg()


@pytest.mark.parametrize("result", [False, True], ids=["the saga", "an execution"])
def test_what_is_done_for_each_item_is_marked_in_all_its_branches(result: bool) -> None:
    class InBranches:
        def standing(self, definition: Definition) -> dict[str, str]:
            return {"all[]/one[]": "certified", "all[]/other": "certificate stale"}

    pair = sequence(each(lambda context: [1, 2], step(lambda item: item), name="one"), step(lambda: 1, name="other"))
    saga = Saga("s").add_task(each(lambda context: ["x", "y"], pair, name="all"))
    drawn = saga.diagram(saga.execute() if result else None, certificates=InBranches()).mermaid()
    assert (drawn.count("✓ certified"), drawn.count("✗ certificate stale")) == ((4, 2) if result else (1, 1))


def test_policies_are_told_in_words() -> None:
    text = " ".join(one.text or "" for one in elements(everything().diagram().svg(), "text"))
    for words in (
        "16 steps",
        "timeout 1 min 30 s",
        "up to 3 attempts",
        "timeout 10 s",
        "skipped if it fails",
        "pivot: nothing is undone after it",
        "waits 5 s",
        "waits for signal 'approved', at most 1 h",
        "on TimeoutError or ConnectionError",
        "in parallel, undone together",
        "in doubt: ask a person",
        "undo: up to 2 attempts",
        "undone if it fails itself, too",
        "has a compensation",
        "decides how to go on",
        "'gold'",
        "otherwise",
    ):
        assert words in text


@pytest.mark.parametrize("drawn", ["mermaid", "svg"])
def test_how_many_branches_are_under_way_at_a_time_is_told(drawn: str) -> None:
    diagram = Saga("s").add_task(parallel(works("A"), works("B"), limit=8, compensate_together=True)).diagram()
    text = diagram.mermaid() if drawn == "mermaid" else diagram.svg()
    assert "in parallel, at most 8 at a time, undone together" in text


LISTED: Any = each("parcels", sequence(step(str, lambda own: None, name="pack"), step(str, name="send")), name="all", limit=2)


@pytest.mark.parametrize("drawn", ["mermaid", "svg"])
@pytest.mark.parametrize(
    ("items", "steps", "caption"),
    [
        (None, 1, "for each item, at most 2 at a time"),
        ([], 0, None),
        ([1, 2, 3], 3, "for each item, at most 2 at a time"),
        (list(range(9)), 6, "for each item, at most 2 at a time, 3 more not drawn"),
    ],
)
def test_what_is_done_for_each_item_is_drawn_for_the_first(drawn: str, items: Any, steps: int, caption: str | None) -> None:
    saga = Saga("s").add_task(LISTED).add_task(works("After"))
    diagram = saga.diagram(None if items is None else saga.execute({"parcels": items}))
    text = diagram.mermaid() if drawn == "mermaid" else diagram.svg()
    assert (text.count(">pack<") if drawn == "svg" else text.count('["pack')) == steps
    assert (caption in text) if caption is not None else ("for each item" not in text)


def test_what_is_done_for_each_item_is_drawn_where_no_list_was_made() -> None:
    saga = Saga("s").add_task(LISTED)
    assert "send<br/>· not reached" in saga.diagram(saga.try_execute({"parcels": 5})).mermaid()


def test_what_is_undone_when_a_later_step_fails_has_a_mark() -> None:
    svg = everything().diagram().svg()
    marked = [g.attrib["data-step"] for g in elements(svg, "g", **{"class": "step"}) if 'class="undo"' in as_text(g)]
    # Nothing is undone once the pivot, payment/capture, has succeeded.
    assert marked == ["ReserveStock", "PackParcel", "BookExpress", "BookStandard", "EngraveIt", "WrapGold", "payment/authorise"]
    assert 'class="undo"' not in Saga("s").add_task(works("a", False)).diagram().svg()


def as_text(element: ElementTree.Element) -> str:
    return ElementTree.tostring(element, encoding="unicode")


def test_an_svg_has_no_scripts_links_or_ids() -> None:
    for saga in (everything(), hostile()):
        root = ElementTree.fromstring(saga.diagram().svg())
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
            "svg",
            "style",
            "g",
            "title",
            "rect",
            "path",
            "circle",
            "text",
        }
        assert not any(key == "id" or key.startswith("on") or "href" in key for one in root.iter() for key in one.attrib)


# -- an execution -----------------------------------------------------------------------------------------------------


def drawn(saga: Saga) -> str:
    return saga.diagram(saga.try_execute(saga_id="A1")).svg()


def told(svg: str) -> dict[str, list[str]]:
    """What is said of each step, without its name."""
    return {
        group.attrib["data-step"]: [text.text or "" for text in group.iter(SVG + "text")][1:]
        for group in elements(svg, "g", **{"class": "step"})
    }


def test_a_failed_execution_tells_what_became_of_each_step() -> None:
    said = told(drawn(failing()))
    assert [lines[0].partition(" ·")[0] for lines in said.values()] == [
        "undone 4th",
        "undone 3rd",
        "succeeded",
        "undone 2nd",
        "failed",
        "undone 1st",
        "skipped",
        "failed",
        "not reached",
    ]
    assert "fell back" in said["BookExpress"][0]
    assert "2 attempts" in said["ChargeCard"][0]
    assert said["ChargeCard"][1] == "ValueError: the bank refuses the card"
    assert said["ConfirmOrder"] == ["not reached"]


def test_an_execution_that_is_undone_on_request_tells_what_is_undone_now() -> None:
    store = MemoryStore()
    saga = Saga("rent", store=store).add_task(works("a")).add_task(fallback(fails("b"), works("c"))).add_task(works("d"))
    saga.execute(saga_id="R1")

    def told_now() -> list[str]:
        return [lines[0].partition(" ·")[0] for lines in told(saga.diagram(saga.load("R1")).svg()).values()]

    saga.undo("R1", "she rents another", "a")
    assert told_now() == ["succeeded", "failed", "undone 2nd", "undone 1st"]
    Operations(store, "ann", sagas=[saga]).resume("R1", "she does not")
    Recovery(store, [saga]).run_once()
    assert told_now() == ["succeeded", "failed", "succeeded", "succeeded"]
    saga.undo("R1", "she does not come")
    assert told_now() == ["undone 3rd", "failed", "undone 2nd", "undone 1st"]


def test_a_stuck_execution_tells_why() -> None:
    def broken() -> None:
        raise OSError("the bank is closed")

    saga = Saga("stuck").add_task(step(lambda: None, broken, name="a", compensation_retry=Retry(2))).add_task(fails("b"))
    svg = drawn(saga)
    assert "2 undo attempts" in told(svg)["a"][0]
    assert told(svg)["a"][1] == "undo: OSError: the bank is closed"
    assert any("a person must act: compensation failed: a" in (one.text or "") for one in elements(svg, "text"))


def all_statuses() -> tuple[Saga, list[StepStatus]]:
    saga = Saga("all")
    for status in StepStatus:
        saga.add_task(works(str(status)))
    return saga, list(StepStatus)


@pytest.mark.parametrize("text", ["svg", "mermaid"])
def test_every_status_has_a_colour_a_mark_and_words_of_its_own(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    saga, statuses = all_statuses()
    result = saga.execute()
    for record, status in zip(result.history, statuses, strict=True):
        record.status = status
    diagram = saga.diagram(result)
    if text == "svg":
        marks = [
            (as_text(mark), told(diagram.svg())[group.attrib["data-step"]][0].partition(" ·")[0])
            for group in elements(diagram.svg(), "g", **{"class": "step"})
            for mark in group.findall(SVG + "g/" + SVG + "path")
        ]
        assert [one.get("data-status") for one in elements(diagram.svg(), "g", **{"class": "step"})] == list(map(str, statuses))
    else:
        marks = [
            tuple(re.findall(r"<br/>(\S+) ([^·\"<]+)", line)) for line in diagram.mermaid().splitlines() if "<br/>" in line
        ][1:]
    assert len(marks) == len(statuses)
    assert len(set(marks)) == len(statuses)


def test_an_execution_that_is_not_at_its_end_is_drawn_as_it_stands() -> None:
    go, at = threading.Event(), threading.Event()

    class Slow(Task[None]):
        timeout = 0.01

        def execute(self, context: Context) -> None:
            at.set()
            go.wait()

    saga = Saga("slow").add_task(works("a")).add_task(Slow)
    result = saga.try_execute()
    assert told(saga.diagram(result).svg())["Slow"][0].startswith("timed out")
    assert "timed out, and still runs" in saga.diagram(result).sequence()
    go.set()
    result.join(10)


def test_a_result_of_another_definition_is_refused() -> None:
    result = failing().try_execute()
    with pytest.raises(SagaDefinitionError, match="as it is now"):
        everything().diagram(result)


def test_a_block_has_no_flow_to_draw() -> None:
    with transaction("block") as block:
        block.step(lambda: None)
    with pytest.raises(SagaDefinitionError, match="blocks"):
        Diagram(block._definition)


def test_an_error_whose_text_cannot_be_made_does_no_harm() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert "Broken: &lt;" in drawn(Saga("s").add_task(fails("a", Broken())))


# -- Jupyter ----------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_a_saga_and_a_diagram_as_svg() -> None:
    saga = everything()
    assert saga._repr_svg_() == saga.diagram()._repr_svg_() == saga.diagram().svg()
    assert repr(saga.diagram()) == "<Diagram of saga 'place-order'>"
    done = failing()
    assert repr(done.diagram(done.try_execute(saga_id="A1"))) == "<Diagram of saga 'place-order' as A1 went>"


def test_a_saga_that_is_not_finished_is_shown_as_text() -> None:
    assert Saga("empty")._repr_svg_() is None
    with pytest.raises(SagaDefinitionError):
        Saga("empty").diagram()


def test_importing_the_package_does_not_import_diagrams() -> None:
    code = "import sys, saga; assert not [name for name in sys.modules if 'diagram' in name]"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- Mermaid ----------------------------------------------------------------------------------------------------------

SAFE_LINE = re.compile(
    r"""flowchart\ TD | \ *(subgraph\ \w+\["[^"<>`]*"\] | end | classDef\ .* | class\ s\d+\ \w+
    | \w+(\[|\[\[|\(\[|\(\(|\{\{?)"([^"<>`]|<br/>)*"(\]|\]\]|\]\)|\)\)|\}\}?)
    | \w+\ (-->|-\.\ "[^"<>`]*"\ \.->|--\ "[^"<>`]*"\ -->)\ \w+)""",
    re.VERBOSE,
)


@pytest.mark.parametrize("make", SAGAS)
def test_a_flowchart_is_made_of_known_lines_whatever_the_names_are(make: Callable[[], Saga]) -> None:
    saga = make()
    for diagram in (saga.diagram(), saga.diagram(saga.try_execute()) if make is failing else saga.diagram()):
        text = diagram.mermaid()
        for line in text.splitlines():
            assert SAFE_LINE.fullmatch(line), line
        defined = re.findall(r"^ *s(\d+)[\[({]", text, re.MULTILINE)
        assert sorted(map(int, defined)) == list(range(len(saga.plan.steps)))


def test_a_flowchart_links_what_follows_what() -> None:
    text = everything().diagram().mermaid()
    for link in ("s0 --> fork1", "fork1 --> s1", "s2 --> s3", "s3 --> join1", "join1 --> s5", "s5 --> s8", "s7 --> s8"):
        assert f"\n    {link}\n" in text
    assert '    s5 -. "on TimeoutError or ConnectionError" .-> s6\n' in text
    for link in ("s8 -- \"'gold'\" --> s9", 's8 -- "None" --> s12', 's8 -- "otherwise" --> s11', "s10 --> s12", "s11 --> s12"):
        assert f"\n    {link}\n" in text
    assert 's8{"choose wrapping<br/>' in text
    assert 'subgraph saga2["payment"]' in text


def test_a_sequence_diagram_tells_who_would_call_whom() -> None:
    text = everything().diagram().sequence()
    assert text.startswith("sequenceDiagram\n    participant saga as place-order\n    participant s0 as ReserveStock\n")
    for line in (
        "par branch 1",
        "and branch 3",
        "loop up to 3 attempts",
        "alt 'gold'",
        "else otherwise",
        "opt instead, on TimeoutError or ConnectionError",
    ):
        assert f"    {line}\n" in text
    undone = re.findall(r"saga->>(s\d+): compensate", text)
    assert undone == ["s13", "s10", "s9", "s6", "s5", "s1", "s0"]


def test_a_sequence_diagram_of_an_execution_tells_who_called_whom() -> None:
    saga = failing()
    text = saga.diagram(saga.try_execute()).sequence()
    assert re.findall(r"saga->>(s\d+): (compensate|execute, attempt 2)", text) == [
        ("s7", "execute, attempt 2"),
        ("s5", "compensate"),
        ("s3", "compensate"),
        ("s1", "compensate"),
        ("s0", "compensate"),
    ]
    assert "s7--xsaga: ValueError#58; the bank refuses the card" in text
    assert text.endswith("Note over saga: compensated")


def test_a_sequence_diagram_of_an_execution_tells_of_waits() -> None:
    saga = Saga("waits").add_task(timer(0.01, name="breathe")).add_task(receive("approved", timeout=0.01))
    text = saga.diagram(saga.try_execute(store=MemoryStore())).sequence()
    assert "Note over saga: breathe#58; waits 10 ms" in text
    assert "StepTimeoutError#58;" in text


WAITS = {
    "waits until 2030-01-14 12:00:00+00:00": timer(datetime(2030, 1, 14, 12, tzinfo=UTC)),
    "waits as the step before says": timer(lambda context: 5.0),
    "waits for signal 'paid' or 'gone', at most 1 h": receive_first("paid", "gone", timeout=3600.0),
}


@pytest.mark.parametrize("words", WAITS)
def test_what_is_waited_for_is_told_in_words(words: str) -> None:
    diagram = Saga("waits").add_task(WAITS[words]).diagram()
    assert words in " ".join(one.text or "" for one in elements(diagram.svg(), "text"))
    for text in (diagram.mermaid(), diagram.sequence()):
        assert escaped(words) in text


SAFE_CALL = re.compile(
    r"""sequenceDiagram | \ *(participant\ \w+\ as\ | Note\ over\ \w+:\ | (opt|alt|else|loop|par|and)\ )([^"<>`;%#]|\#\d+;)+
    | \ *saga-+>+\+?\w+:\ [\w ,.()]+ | \ *\w+-+(>+-?|x)saga:\ ([^"<>`;%#]|\#\d+;)+ | \ *end""",
    re.VERBOSE,
)


@pytest.mark.parametrize("make", SAGAS)
def test_a_sequence_diagram_is_made_of_known_lines_whatever_the_names_are(make: Callable[[], Saga]) -> None:
    saga = make()
    for diagram in (saga.diagram(), saga.diagram(saga.try_execute()) if make is failing else saga.diagram()):
        for line in diagram.sequence().splitlines():
            assert SAFE_CALL.fullmatch(line), line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("end", "#101;#110;#100;"),
        ("1. a", "#49;#46; a"),
        ("a--b", "a#45;#45;b"),
        (" ", "#32;"),
        ("redirection LR", "re#100;#105;#114;#101;#99;#116;#105;#111;#110; LR"),
    ],
)
def test_what_mermaid_would_take_for_its_own_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00001, "<0.1 ms"),
        (0.0012, "1.2 ms"),
        (0.25, "250 ms"),
        (5.0, "5 s"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (200_000, "2 days 7 h"),
    ],
)
def test_durations_are_told_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_diagram_is_made_by_its_class_too() -> None:
    result: SagaResult = Saga("s").add_task(works("a")).execute()
    assert isinstance(Diagram(Saga("s").add_task(works("a")), result), Diagram)


@pytest.mark.parametrize("form", ["svg", "mermaid", "sequence"])
@pytest.mark.parametrize("executed", [False, True])
def test_a_diagram_says_what_it_is_given_to_say(form: str, executed: bool) -> None:
    saga = Saga("s").add_task(works("a"))
    diagram = Diagram(saga.definition, saga.execute() if executed else None, ["Friday", "the <13th>"])
    text = getattr(diagram, form)()
    assert text.index("Friday") < text.index("13th")
    assert "<13th>" not in text
