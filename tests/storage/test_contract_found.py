"""What every store does for who looks: it tells why executions are stuck, finds by the beginnings of ids, and who has a key."""

from __future__ import annotations

import pytest

from saga.storage import Lease, Store, Told, Wanted
from tests.storage.contract import ids

# --- causes


def stuck(store: Store, stored, saga_id: str, name: str, told: Told) -> float:
    """Let an execution be stuck. Return since when."""
    lease = stored.create(store, saga_id, name=name)
    store.append(lease, [], status="stuck", release=True, told=told)
    row = store.get(saga_id)
    assert row is not None
    return row.progressed


def test_what_is_stuck_is_counted_by_saga_step_and_error(store, stored):
    since = [
        stuck(store, stored, f"x{number}", name, Told(step, f"no: {step}", cause))
        for number, (name, step, cause) in enumerate(
            [("order", "charge", "OSError")] * 2 + [("order", "pack", None), ("refund", "charge", "OSError")]
        )
    ]
    stored.create(store, "runs", name="order")
    stored.create(store, "done", name="order", status="completed")
    expected = {
        ("order", "charge", "OSError", "no: charge", 2, since[0], "x1"),
        ("order", "pack", None, "no: pack", 1, since[2], "x2"),
        ("refund", "charge", "OSError", "no: charge", 1, since[3], "x3"),
    }
    assert set(store.causes()) == expected
    assert set(store.causes("order")) == {one for one in expected if one[0] == "order"}
    assert store.causes("none") == []


def test_what_is_stuck_without_saying_why_is_counted(store, stored):
    since = stuck(store, stored, "x", "order", Told())
    assert store.causes() == [("order", None, None, None, 1, since, "x")]


# --- by the beginning of an id

IDS = ["a", "ab", "abc", "abd", "ac", "b", "A", "a%", "a_", "a\U0010ffff", "a\ud7ffb", "a\ue000", "é", "e"]

BEGINNINGS = ["a", "ab", "abc", "abcd", "A", "a%", "a_", "%", "_", "a\U0010ffff", "\U0010ffff", "a\ud7ff", "é", "e", "z"]


def test_executions_are_found_by_the_beginnings_of_their_ids(store, stored):
    for saga_id in IDS:
        stored.create(store, saga_id)
    for text in BEGINNINGS:
        expected = sorted(saga_id for saga_id in IDS if saga_id.startswith(text))
        assert ids(store.beginning_with(text, 50)) == expected, ascii(text)
        assert ids(store.beginning_with(text, 2)) == expected[:2], ascii(text)
    assert store.beginning_with("ab", 1) == [store.get("ab")]
    for wrong in ("\0", "a\ud800", "a" * 201):
        assert store.beginning_with(wrong, 5) == []
    with pytest.raises(ValueError, match="limit"):
        store.beginning_with("a", 0)


# --- by tags


def test_the_keys_of_tags_are_told_one_after_the_other(store, stored):
    assert store.next_tag("") is None
    stored.create(store, "x", tags={"order": "1", "Tenant": "acme"})
    stored.create(store, "y", tags={"order": "2", "\U0001f600": "1", "a": "1"})
    keys = [""]
    while (key := store.next_tag(keys[-1])) is not None:
        keys.append(key)
    assert keys[1:] == ["Tenant", "a", "order", "\U0001f600"]


# --- by a key


def test_who_has_a_key_is_told_before_those_who_wait_for_it(store, stored):
    stored.submit(store, "x3", "x1", "x2", exclusive="k")
    stored.submit(store, "other", exclusive="l")
    stored.submit(store, "free")
    assert ids(store.in_line("k", 9)) == ["x3", "x1", "x2"]
    (row,) = store.claim("ann", 60.0, wanted=[Wanted("order")], saga_id="x3")
    stored.submit(store, "early", exclusive="k", at=1.0)
    assert ids(store.in_line("k", 9)) == ["x3", "early", "x1", "x2"]
    assert ids(store.in_line("k", 2)) == ["x3", "early"]
    store.append(Lease("x3", "ann", row.epoch), [], status="stuck", release=True)
    assert ids(store.in_line("k", 9)) == ["x3", "early", "x1", "x2"]  # which has it until it has ended
    assert store.in_line("k", 1) == [store.get("x3")]
    (row,) = store.claim("ann", 60.0, saga_id="x3")
    store.append(Lease("x3", "ann", row.epoch), [], status="completed", release=True)
    assert ids(store.in_line("k", 9)) == ["early", "x1", "x2"]
    for nobody in ("none", "", "\0"):
        assert store.in_line(nobody, 9) == []
    with pytest.raises(ValueError, match="limit"):
        store.in_line("k", 0)
