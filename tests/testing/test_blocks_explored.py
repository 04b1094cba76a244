"""Blocks are explored: what keeps the laws in every history, and what is found where one does not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest

from saga import Context, Done, NotDone, Retry, Skip, Task, step, transaction
from saga.durable.codec import Codec
from saga.errors import SagaDefinitionError, SagaExecutionException
from saga.testing import Events, Fault, Kind, LawBrokenError, certify, explore, replay


class Shop:
    """What blocks act on here: what is done, by name."""

    def __init__(self) -> None:
        self.done: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        return dict(self.done)


SHOP: Final = Shop()
CODEC: Final = Codec(modules=[__name__])


def emptied() -> Shop:
    """Return the one shop that this module's functions act on, with nothing done."""
    SHOP.done.clear()
    return SHOP


def do(name: str) -> str:
    SHOP.done[name] = True
    return name


def undo(name: str) -> None:
    SHOP.done.pop(name, None)


def is_done(name: str) -> Any:
    return Done(name) if name in SHOP.done else NotDone()


async def ado(name: str) -> str:
    await asyncio.sleep(1000.0)
    return do(name)


async def aundo(name: str) -> None:
    await asyncio.sleep(1000.0)
    undo(name)


class Pack(Task[str]):
    def execute(self, context: Context) -> str:
        return do("pack")

    def compensate(self, context: Context) -> None:
        undo("pack")


def of(name: str, **more: Any) -> dict[str, Any]:
    """Return what gives a step its name, and its functions that."""
    return {"name": name, "args": (name,), "compensate_args": (name,), **more}


def stored(**more: Any) -> Any:
    return transaction("order", store="orders.db", codec=CODEC, **more)


# -- what keeps the laws ------------------------------------------------------------------------------------------------


def in_sequence(**policies: Any) -> Callable[[Shop], None]:
    def run(shop: Shop) -> None:
        with stored() as tx:
            for name in "abc":
                tx.step(do, undo, **of(name, **policies))

    return run


def with_task_classes(shop: Shop) -> None:
    with stored() as tx:
        if tx.step(do, undo, **of("a")) == "a":
            tx.step(Pack)


def with_verify(shop: Shop) -> None:
    with stored() as tx:
        tx.step(do, undo, **of("a", verify=is_done))
        tx.step(do, undo, **of("b", verify=is_done, verification_retry=Retry(2)))


def what_is_skipped(shop: Shop) -> None:
    with stored() as tx:
        if tx.step(do, undo, **of("a", on_error=Skip)) is None:
            tx.step(do, undo, **of("b"))
        tx.step(do, undo, **of("c"))


def past_a_pivot(shop: Shop) -> None:
    with stored() as tx:
        tx.step(do, undo, **of("a"))
        tx.step(do, undo, **of("b", pivot=True))
        tx.step(do, undo, **of("c", retry=Retry(3)))


def once_more(shop: Shop) -> None:
    with stored(saga_id="A1", again=True) as tx:
        for name in "ab":
            tx.step(do, undo, **of(name))


def without_a_store(shop: Shop) -> None:
    with transaction("order") as tx:
        name = tx.step(lambda: do("a"), lambda: undo("a"), name="a")
        tx.parallel(*(step(do, undo, **of(f"{name}{number}")) for number in range(2)))


def told_when_it_fails(shop: Shop) -> str:
    try:
        with stored() as tx:
            tx.step(do, undo, **of("a"))
            return str(tx.step(do, undo, **of("b")))
    except SagaExecutionException as error:
        return f"failed: {error}"


async def in_a_loop(shop: Shop) -> None:
    async with stored() as tx:
        await tx.astep(ado, aundo, **of("a", timeout=5000.0))
        await asyncio.sleep(1000.0)
        await tx.astep(do, aundo, **of("b"))


async def once_more_in_a_loop(shop: Shop) -> None:
    async with stored(saga_id="A1", again=True) as tx:
        await tx.astep(ado, aundo, **of("a"))


async def in_a_loop_without_a_store(shop: Shop) -> None:
    async with transaction("order") as tx:
        await tx.astep(ado, undo, **of("a"))
        await tx.aparallel(step(ado, undo, **of("b")), step(do, aundo, **of("c")))


async def in_time_or_not(shop: Shop) -> str:
    try:
        async with asyncio.timeout(1500.0), stored() as tx:
            await tx.astep(ado, aundo, **of("a"))
            await tx.astep(ado, aundo, **of("b"))
            await tx.astep(do, aundo, **of("c"))
    except TimeoutError:
        return "late"
    return "in time"


SOUND: Final[dict[str, Callable[[Shop], Any]]] = {
    "in sequence": in_sequence(),
    "limited": in_sequence(timeout=5.0, retry=Retry(2)),
    "undo limited": in_sequence(compensation_timeout=5.0, compensation_retry=Retry(2)),
    "with task classes": with_task_classes,
    "with verify": with_verify,
    "what is skipped": what_is_skipped,
    "past a pivot": past_a_pivot,
    "once more": once_more,
    "without a store": without_a_store,
    "told when it fails": told_when_it_fails,
    "in a loop": in_a_loop,
    "once more in a loop": once_more_in_a_loop,
    "in a loop without a store": in_a_loop_without_a_store,
}
ASKED_FOR: Final = (
    *("fails oddly", "interrupted", "second owner", "cancelled", "paused", "retried", "skipped", "undo fails"),
    *("store fails", "store answer lost", "store gone before", "store gone after", "block fails", "block interrupted"),
)


@pytest.mark.parametrize("block", SOUND)
def test_what_can_be_done_twice_and_undone_twice_keeps_the_laws(block: str) -> None:
    found = explore(SOUND[block], world=emptied)
    assert found.complete
    assert found.failure is None
    assert Kind.BLOCK_FAILS in found.kinds
    assert found.has_store is ("without a store" not in block)
    assert (Kind.DIES_AFTER in found.kinds) is found.has_store


@pytest.mark.parametrize("block", SOUND)
def test_persons_and_second_owners_and_interrupts_and_stores_that_fail_break_no_law(block: str) -> None:
    assert explore(SOUND[block], world=emptied, kinds=ASKED_FOR).complete


def test_a_timeout_of_a_blocks_own_strikes_the_step_that_it_awaits() -> None:
    found = explore(in_time_or_not, world=emptied)
    assert found.complete
    assert found.failure is not None
    assert found.failure.startswith("compensated at step 'b': CancelledError")
    history = replay(in_time_or_not, world=emptied)
    assert [(line.step, line.what) for line in history.lines] == [
        *(("a", "execute"), ("b", "execute"), ("b", "compensate"), ("a", "compensate")),
    ]


@pytest.mark.parametrize("block", ["in sequence", "once more", "in a loop"])
def test_it_is_the_same_each_time(block: str) -> None:
    one, other = (explore(SOUND[block], world=emptied, faults=1) for _ in range(2))
    assert (one.histories, one.kinds) == (other.histories, other.kinds)


def test_a_process_that_dies_past_the_pivot_of_a_block_leaves_it_to_a_person() -> None:
    history = replay(past_a_pivot, [("b", "dies after storing", 2)], world=emptied)
    assert (history.status, history.broken, list(SHOP.done)) == ("stuck", None, ["a", "b"])


# -- what follows a death -----------------------------------------------------------------------------------------------


def told(history: Any) -> list[tuple[int, str, str]]:
    return [(line.life, line.step, line.what) for line in history.lines]


def test_a_recovery_undoes_what_a_dead_process_has_left() -> None:
    history = replay(in_sequence(), [("b", "dies after")], world=emptied)
    assert told(history) == [
        *((1, name, "execute") for name in "ab"),
        *((2, name, "compensate") for name in "ba"),
    ]
    assert (history.status, history.number) == ("compensated", 1)


@pytest.mark.parametrize(
    "fault",
    [("b", "dies before"), ("b", "dies after"), ("b", "dies before storing"), ("b", "dies after storing", 2)],
    ids=lambda fault: fault[1],
)
def test_nothing_of_a_function_runs_when_its_process_is_dead(fault: Any) -> None:
    reached = []

    def block(shop: Shop) -> None:
        with stored() as tx:
            tx.step(do, undo, **of("a"))
            reached.append("b")
            tx.step(do, undo, **of("b"))
        reached.append("the end")

    replay(block, [fault], world=emptied)
    assert reached == ["b", "the end", "b"], "the first history is one without a fault"


@pytest.mark.parametrize("block", ["in sequence", "in a loop"])
def test_a_blocks_own_code_fails_before_the_next_step(block: str) -> None:
    history = replay(SOUND[block], [("a", "block fails")], world=emptied)
    assert [(line.step, line.what) for line in history.lines] == [("a", "execute"), ("a", ""), ("a", "compensate")]


@pytest.mark.parametrize(
    ("block", "last"),
    [
        ("in sequence", "a"),
        ("in sequence", "c"),
        ("without a store", "a"),
        ("without a store", "a1"),
        ("in a loop without a store", "a"),
        ("in a loop without a store", "c"),
    ],
)
def test_a_ctrl_c_between_two_steps_or_at_the_end_has_all_undone(block: str, last: str) -> None:
    history = replay(SOUND[block], [(last, "block interrupted")], world=emptied)
    assert (history.status, history.broken, SHOP.done) == ("compensated", None, {})
    assert [line.came for line in history.lines if not line.what] == ["the block's own code raises KeyboardInterrupt"]


@pytest.mark.parametrize("block", ["once more", "once more in a loop"])
def test_a_program_that_is_run_again_undoes_it_and_begins_anew(block: str) -> None:
    history = replay(SOUND[block], [("a", "dies after")], world=emptied)
    assert told(history)[:3] == [(1, "a", "execute"), (2, "a", "compensate"), (2, "a", "execute")]
    assert (history.status, history.number, history.saga_id) == ("completed", 2, "A1~2")


def test_a_program_that_dies_while_it_undoes_an_earlier_run_is_run_again() -> None:
    history = replay(once_more, [("a", "dies after"), ("a", "dies before undo")], world=emptied)
    assert [life for life, _, _ in told(history)] == [1, 2, 3, 3, 3]
    assert (history.status, history.number) == ("completed", 2)


def test_where_a_person_decides_about_an_earlier_run_the_program_is_run_again() -> None:
    history = replay(once_more, [("a", "dies after"), ("a", "undo fails"), ("a", "retried")], world=emptied)
    assert [line.came for line in history.lines if not line.what] == ["a person says retry"]
    assert (history.status, history.number) == ("completed", 2)


@pytest.mark.parametrize("again", [False, True])
def test_no_observer_of_a_block_is_told(again: bool) -> None:
    events = Events()

    def block(shop: Shop) -> None:
        with stored(saga_id="A1", again=again, logger=events) as tx:
            tx.step(do, undo, **of("a"))

    assert explore(block, world=emptied).complete
    assert not events


@pytest.mark.parametrize("durable", [True, False])
def test_whether_processes_die_is_said_by_durable(durable: bool) -> None:
    found = explore(in_sequence(), world=emptied, durable=durable, faults=1)
    assert (found.has_store, Kind.DIES_AFTER in found.kinds) == (durable, durable)


# -- mistakes -----------------------------------------------------------------------------------------------------------


def an_effect_outside_a_step(shop: Shop) -> None:
    with stored() as tx:
        tx.step(do, undo, **of("a"))
        shop.done["mail"] = True


def an_undo_of_what_is_set_later(shop: Shop) -> None:
    with transaction("order") as tx:
        tx.step(lambda: do("a"), lambda: undo(name), name="a")
        name = "a"


def undo_by_result(result: str) -> None:
    del SHOP.done[result]


def an_undo_by_a_result_that_is_lost(shop: Shop) -> None:
    with stored() as tx:
        tx.step(do, undo_by_result, name="a", args=("a",))


def what_is_raised_after_the_last_step(shop: Shop) -> None:
    with stored() as tx:
        receipt = tx.step(do, name="a", args=("a",))
        print(receipt["number"])  # type: ignore[index]


def what_is_raised_after_the_block(shop: Shop) -> None:
    with stored() as tx:
        receipt = tx.step(do, undo, **of("a"))
    print(receipt["number"])


def what_is_raised_where_a_step_was_skipped(shop: Shop) -> None:
    with stored() as tx:
        receipt = tx.step(do, undo, **of("a", on_error=Skip))
    print(receipt.upper())


def a_step_after_one_that_failed(shop: Shop) -> None:
    with stored() as tx:
        try:
            tx.step(do, undo, **of("a"))
        except SagaExecutionException:
            tx.step(do, undo, **of("b"))


IDS: Final = itertools.count()


def another_id_each_time(shop: Shop) -> None:
    with stored(saga_id=f"A{next(IDS)}", again=True) as tx:
        tx.step(do, undo, **of("a"))


def what_is_cleaned_up(shop: Shop) -> None:
    shop.done["lock"] = True
    try:
        with stored() as tx:
            tx.step(do, undo, **of("a"))
    finally:
        del shop.done["lock"]


async def what_is_cleaned_up_in_a_loop(shop: Shop) -> None:
    shop.done["lock"] = True
    try:
        async with stored() as tx:
            await tx.astep(do, undo, **of("a"))
    finally:
        del shop.done["lock"]


async def what_waits_for_ever(shop: Shop) -> None:
    async with stored() as tx:
        await tx.astep(do, undo, **of("a"))
        await asyncio.get_running_loop().create_future()


async def what_waits_however_often_it_is_cancelled(shop: Shop) -> None:
    async with stored() as tx:
        await tx.astep(do, undo, **of("a"))
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()


MISTAKES: Final[list[tuple[Callable[[Shop], Any], list[tuple[str, Kind]], str, str]]] = [
    (an_effect_outside_a_step, [("a", Kind.BLOCK_FAILS)], "undone equals never begun", "mail: nothing, then True"),
    (
        an_undo_of_what_is_set_later,
        [("a", Kind.ANSWER_LOST)],
        "compensate fails only where a fault makes it fail",
        "compensate of a raised NameError: cannot access free variable 'name'",
    ),
    (
        an_undo_by_a_result_that_is_lost,
        [("a", Kind.ANSWER_LOST)],
        "compensate fails only where a fault makes it fail",
        "compensate of a raised KeyError: None",
    ),
    (what_is_raised_after_the_last_step, [], "undone equals never begun", "a: nothing, then True"),
    (
        what_is_raised_after_the_block,
        [],
        "who is told of an error finds all undone",
        "the block completed, and its function raised TypeError: string indices must be integers",
    ),
    (
        what_is_raised_where_a_step_was_skipped,
        [("a", Kind.FAILS)],
        "who is told of an error finds all undone",
        "AttributeError: 'NoneType' object has no attribute 'upper'",
    ),
    (
        a_step_after_one_that_failed,
        [("a", Kind.FAILS)],
        "a block's steps are right, whatever happens",
        "transaction 'order' has failed: no step can follow",
    ),
    (
        another_id_each_time,
        [("a", Kind.DIES_BEFORE_STORING)],
        "a block that is begun again has the same id",
        "its saga_id was 'A",
    ),
    (
        what_is_cleaned_up,
        [("a", Kind.DIES_BEFORE_STORING)],
        "what a killed process would not clean up is a step",
        "lock: True, then nothing",
    ),
    (
        what_is_cleaned_up_in_a_loop,
        [("a", Kind.DIES_BEFORE_STORING)],
        "what a killed process would not clean up is a step",
        "lock: True, then nothing",
    ),
    (what_waits_for_ever, [], "it comes to an end", "the block's own code waits for what never comes"),
]


@pytest.mark.parametrize(("block", "faults", "law", "how"), MISTAKES, ids=[one[0].__name__ for one in MISTAKES])
def test_a_mistake_is_found_with_few_faults(block: Any, faults: list[tuple[str, Kind]], law: str, how: str) -> None:
    with pytest.raises(LawBrokenError) as broken:
        explore(block, world=emptied)
    history = broken.value.history
    assert history.faults == tuple(Fault(name, kind) for name, kind in faults)
    assert history.broken is not None
    assert history.broken.law == law
    assert how in history.broken.how


def test_what_is_found_is_told_with_a_test_to_paste() -> None:
    with pytest.raises(LawBrokenError) as broken:
        explore(an_effect_outside_a_step, world=emptied)
    assert str(broken.value).splitlines() == [
        "block 'order' breaks a law with 1 fault: undone equals never begun",
        "    mail: nothing, then True",
        "",
        "     1  a  execute     returns",
        "     2  a              the block's own code raises InjectedError  <- block fails",
        "     3  a  compensate  returns",
        "",
        "It ends as compensated. To see it again:",
        "",
        "    def test_order_a_block_fails() -> None:",
        "        replay(an_effect_outside_a_step, [('a', 'block fails')], world=emptied)",
    ]


@pytest.mark.parametrize("block", ["in sequence", "without a store", "once more", "in a loop without a store"])
def test_how_a_history_went_is_drawn(block: str) -> None:
    drawn = replay(SOUND[block], [("a", "block fails")], world=emptied).diagram()
    assert "a block fails" in drawn.svg()
    assert "undone" in drawn.svg()


def test_a_history_that_came_to_no_step_is_not_drawn() -> None:
    def block(shop: Shop) -> None:
        with stored():
            do("a")
            raise ValueError

    history = replay(block, world=emptied, check=False)
    assert history.broken == ("undone equals never begun", "a: nothing, then True")
    with pytest.raises(SagaDefinitionError, match="transaction 'order': this history came to no step; none is drawn"):
        history.diagram()


def test_what_is_left_when_a_run_is_begun_again_is_seen_before_that_hides_it() -> None:
    def block(shop: Shop) -> None:
        with stored(saga_id="A1", again=True) as tx:
            tx.step(do, undo_nothing, name="a", args=("a",))

    with pytest.raises(LawBrokenError) as broken:
        explore(block, world=emptied, kinds=["dies after"])
    assert broken.value.history.broken == ("undone equals never begun", "a: nothing, then True")
    assert broken.value.history.status == "completed"


def undo_nothing() -> None:
    """What a compensation does that was forgotten."""


# -- what is refused ----------------------------------------------------------------------------------------------------


def with_a_codec_that_names_nothing(shop: Shop) -> None:
    with transaction("order", store="orders.db") as tx:
        tx.step(do, undo, **of("a"))


def with_a_lambda(shop: Shop) -> None:
    with stored() as tx:
        tx.step(lambda: None, name="a")


def two_blocks(shop: Shop) -> None:
    for _ in range(2):
        with stored() as tx:
            tx.step(do, undo, **of("a"))


def with_a_transactional_step(shop: Shop) -> None:
    with stored() as tx:
        tx.step(do, undo, **of("a", transactional=True))


def without_a_block_the_second_time() -> Callable[[Shop], None]:
    times = iter([True, True])

    def run(shop: Shop) -> None:
        if next(times, False):
            in_sequence()(shop)

    return run


async def of_no_block(shop: Shop) -> int:
    return 3


WRONG: Final[dict[str, tuple[Callable[[], object], str]]] = {
    "a codec that names nothing": (
        lambda: explore(with_a_codec_that_names_nothing, world=emptied),
        r"transaction 'order': .* give it the one that its recovery has, such as codec=Codec\(modules=\['shop.orders'\]\)",
    ),
    "what nobody finds again": (lambda: explore(with_a_lambda, world=emptied), "step 'a' .* could not find"),
    "a context": (lambda: explore(once_more, {"order": 1}, world=emptied), "a block makes its own context"),
    "two blocks": (
        lambda: explore(two_blocks, world=emptied),
        "runs block 'order' and then 'order'; explore each by a function",
    ),
    "a transactional step": (
        lambda: explore(with_a_transactional_step, world=emptied),
        "step 'a' is transactional, and histories have no database",
    ),
    "what runs no block": (lambda: explore(lambda shop: None, world=emptied), "which is no saga, and ran no block"),  # type: ignore[arg-type, return-value]
    "a coroutine that runs none": (lambda: explore(of_no_block, world=emptied), "returned 3, which is no saga"),
    "what runs none later": (
        lambda: explore(without_a_block_the_second_time(), world=emptied, histories=9),
        "ran no block this time",
    ),
    "what cannot be cancelled": (
        lambda: explore(what_waits_however_often_it_is_cancelled, world=emptied),
        "the block's own code waits for what never comes, and cannot be cancelled",
    ),
    "a signal": (lambda: explore(once_more, world=emptied, signals={"ok": 1}), "receives no signal 'ok'"),
    "a fault that cannot strike": (lambda: replay(once_more, [("c", "fails")], world=emptied), "never came to"),
    "certificates": (lambda: certify(once_more, world=emptied), "certificates are of a saga's tasks"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_refused(what: str) -> None:
    ask, text = WRONG[what]
    with pytest.raises(SagaDefinitionError, match=text):
        ask()


def test_an_async_block_is_not_explored_within_an_event_loop() -> None:
    async def explored() -> None:
        explore(in_a_loop, world=emptied)

    with pytest.raises(SagaDefinitionError, match="an event loop runs here: explore an async block in a plain function"):
        asyncio.run(explored())


def test_blocks_that_are_entered_elsewhere_are_run_as_ever() -> None:
    with transaction("before") as tx:
        explore(once_more, world=emptied, faults=0)
        tx.step(do, undo, **of("z"))
    with transaction("after") as after:
        after.step(undo, args=("a",))
    assert tx.result is not None
    assert (tx.result.status, list(SHOP.done)) == ("completed", ["b", "z"])
