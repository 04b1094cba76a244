"""Turns at a database: nobody writes beside another, nobody waits for ever, wherever an interrupt strikes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from saga.storage.turns import Alone, Turns, Waiting
from tests.kit import background, until


class Note(Waiting):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Notes(Turns[Note]):
    """Writes texts into a list; ``gates`` says for which of them it waits."""

    def __init__(self, places: int = 1, crowd: int = 0) -> None:
        super().__init__(places, crowd)
        self.written: list[str] = []
        self.groups: list[list[str]] = []
        self.gates: dict[str, threading.Event] = {}
        self.at_once, self.most = 0, 0

    _waiting = staticmethod(Note)

    def write(self, text: str) -> str:
        return self._take_turn(text)

    def _write_alone(self, text: str) -> str:
        self._write([text])
        return text

    def _write_together(self, group: list[Note]) -> None:
        self.groups.append([note.text for note in group])
        self._write([note.text for note in group])
        for note in group:
            note.result = note.text
            note.done = True

    def _write(self, texts: list[str]) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            for text in texts:
                if text in self.gates:
                    assert self.gates[text].wait(10)
            self.written += texts
        finally:
            self.at_once -= 1

    def _interrupted(self, note: Note) -> None:
        note.error = RuntimeError("interrupted")


class Interrupting:
    """A lock that interrupts one thread at one of the places where that takes it or gives it back."""

    def __init__(self, at: int) -> None:
        self.lock, self.at, self.places = threading.Lock(), at, 0
        self.victim: threading.Thread | None = None
        self.soon_after: Callable[[], object] | None = None

    def _strike(self) -> None:
        if threading.current_thread() is self.victim:  # an ident comes again when its thread has ended
            self.places += 1
            if self.places == self.at:
                raise KeyboardInterrupt
            if self.places == self.at + 3 and self.soon_after is not None:
                self.soon_after()

    def __enter__(self) -> None:
        self._strike()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self._strike()


def waiting(notes: Notes, count: int) -> None:
    until(lambda: len(notes._queue) >= count)


def write_in_line(notes: Notes, texts: str) -> list[str]:
    """Write the first text, and let the others wait for it, in order. Return what each was told."""
    gate = notes.gates[texts[0]] = threading.Event()
    with ThreadPoolExecutor(len(texts)) as pool:
        futures = [pool.submit(notes.write, texts[0])]
        until(lambda: notes.at_once == 1)
        for number, text in enumerate(texts[1:], 1):
            futures.append(pool.submit(notes.write, text))
            waiting(notes, number)
        gate.set()
        return [future.result(10) for future in futures]


def test_who_waits_is_written_for_by_the_first() -> None:
    notes = Notes()
    assert write_in_line(notes, "abcde") == list("abcde")
    assert notes.groups == [list("bcde")]
    assert notes.most == 1


@pytest.mark.parametrize("place", range(1, 12))
@pytest.mark.parametrize("leads", [True, False])
def test_an_interrupt_anywhere_leaves_nobody_waiting(leads: bool, place: int) -> None:
    notes = Notes()
    lock = notes._mutex = Interrupting(place)  # type: ignore[assignment]
    gate = notes.gates["first"] = threading.Event()

    def victim() -> str:
        lock.victim = threading.current_thread()
        return notes.write("victim" if leads else "first")

    def others() -> list[object]:
        with ThreadPoolExecutor(4) as pool:
            begun = [pool.submit(notes.write, text) for text in ("b", "c", "d")]
            return [future.exception(10) or future.result(10) for future in begun]

    if leads:
        first = background(lambda: notes.write("first"))
        until(lambda: notes.at_once == 1)
        struck = background(victim)
        until(lambda: bool(notes._queue) or lock.places >= place)
    else:
        struck = background(victim)
        until(lambda: notes.at_once == 1 or lock.places >= place)
    rest = background(others)
    until(lambda: len(notes._queue) >= 3 or not notes._writing)
    gate.set()
    if leads:
        assert first(10) == "first"
    try:
        struck(10)
        assert lock.places < place  # there are no more places than these
    except KeyboardInterrupt:
        pass
    for text, told in zip(("b", "c", "d"), rest(10), strict=True):
        assert told == text or isinstance(told, RuntimeError)
    assert not notes._writing
    assert not notes._queue
    assert notes.write("last") == "last"
    assert notes.most == 1
    assert len(set(notes.written)) == len(notes.written)


def test_a_leader_that_is_interrupted_before_it_begins_keeps_its_place() -> None:
    notes = Notes()
    lock = notes._mutex = Interrupting(0)  # type: ignore[assignment]
    notes.gates = {"first": threading.Event(), "late": threading.Event()}
    first = background(lambda: notes.write("first"))
    until(lambda: notes.at_once == 1)

    def victim() -> str:
        lock.victim = threading.current_thread()
        return notes.write("victim")

    late = []

    def comes_late() -> None:
        late.append(background(lambda: notes.write("late")))
        until(lambda: bool(notes._queue[1:]) or notes.at_once == 1)

    struck = background(victim)
    waiting(notes, 1)
    until(lambda: lock.places == 2)  # it has left the queue's lock
    lock.at, lock.soon_after = 3, comes_late
    notes.gates["first"].set()
    assert first(10) == "first"
    until(lambda: bool(late) and notes.at_once > 0)
    time.sleep(0.02)
    notes.gates["late"].set()
    with pytest.raises(KeyboardInterrupt):
        struck(10)
    assert late[0](10) == "late"
    assert notes.most == 1
    assert notes.groups == [["victim", "late"]]


def test_a_few_write_side_by_side_and_one_for_a_crowd() -> None:
    notes = Notes(places=3, crowd=4)
    with ThreadPoolExecutor(20) as pool:
        notes.gates = {text: threading.Event() for text in "abc"}
        futures = [pool.submit(notes.write, text) for text in "abc"]
        until(lambda: notes.at_once == 3)
        for number in range(6):
            futures.append(pool.submit(notes.write, str(number)))
            waiting(notes, number + 1)
        notes.gates["b"].set()  # the others are still held up, and hold nobody up
        assert [future.result(10) for future in futures[3:]] == list("012345")
        assert notes.groups == [list("012345")]
        more = pool.submit(notes.write, "d")
        assert more.result(10) == "d"
        notes.gates["a"].set()
        notes.gates["c"].set()
    assert notes.most == 3


def test_fewer_than_a_crowd_write_each_by_itself() -> None:
    notes = Notes(places=1, crowd=4)
    assert write_in_line(notes, "abcde") == list("abcde")
    assert notes.groups == [["b"], ["c"], ["d"], ["e"]]


def test_between_two_that_write_alone_all_others_write_once() -> None:
    notes = Notes()
    others = []

    def alone(text: str, meanwhile: str) -> None:
        turn = Alone()
        try:
            notes._take_alone(turn)
            notes.written.append(text)
            others.append(background(lambda: notes.write(meanwhile)))
            until(lambda: meanwhile in [note.text for note in notes._queue])
        finally:
            notes._give_back(turn)

    first = Alone()
    notes._take_alone(first)
    taken = [background(lambda: alone("A", "b"))]
    until(lambda: len(notes._alone) == 2)
    taken.append(background(lambda: alone("B", "c")))
    until(lambda: len(notes._alone) == 3)
    gate = notes.gates["a"] = threading.Event()
    others.append(background(lambda: notes.write("a")))
    waiting(notes, 1)
    notes._give_back(first)
    until(lambda: notes.at_once == 1)
    others.append(background(lambda: notes.write("late")))  # comes when A has been in line for long
    waiting(notes, 1)
    gate.set()
    for end in taken:
        end(10)
    assert [end(10) for end in others] == ["a", "late", "b", "c"]
    assert notes.written[:2] == ["a", "A"]
    assert sorted(notes.written[2:4]) == ["b", "late"]
    assert notes.written[4:] == ["B", "c"]


def test_what_is_halted_waits_until_it_is_resumed() -> None:
    notes = Notes()
    gate = notes.gates["a"] = threading.Event()
    first = background(lambda: notes.write("a"))
    until(lambda: notes.at_once == 1)
    assert not notes.halt(0.01)
    second = background(lambda: notes.write("b"))
    waiting(notes, 1)
    gate.set()
    assert notes.halt(10)
    assert first(10) == "a"
    time.sleep(0.02)
    assert notes.written == ["a"]
    notes.resume()
    assert second(10) == "b"
