"""Answers that are lost at every place of a flow, what comes of asking about them, and processes that are killed meanwhile.

The kills are a sample, the same each time, and with ``SAGA_CRASH=full`` all there are.
"""

from __future__ import annotations

import pytest
from crashkit.pool import check
from crashkit.scenarios import DOUBTFUL

DOUBLE = [
    "lost-retried-compensate-raises",
    "lost-retried-rerun-knows-nothing",
    "lost-skipped-compensate-tells-not-done",
    "lost-replaced-compensate-knows-nothing",
    "lost-beside-rerun-tells",
    "lost-past-the-pivot-compensate-raises",
    "asked-of-all-then-fails",
    "asked-after-a-crash-alone",
]
STUCK = [name for name, one in DOUBTFUL.items() if one.ends == "stuck"]


def points(outcome):
    """Return the points at which the process that executed it may be killed, those in a verification apart."""
    asked = [point for point in outcome["points"][0] if " verify " in point]
    return asked, [point for point in outcome["points"][0] if point not in asked]


def test_lost_answers_at_every_place_and_a_kill_at_any_point_are_recovered_from(pool, chance, full):
    whole = [{"scenario": name, "kills": []} for name in DOUBTFUL]
    outcomes = check(pool, whole)
    assert [outcome["status"] for outcome in outcomes] == [one.ends for one in DOUBTFUL.values()]
    for which in (0, 1):  # in a verification, and elsewhere
        cases = [
            case | {"kills": [point]} for case, outcome in zip(whole, outcomes, strict=True) for point in points(outcome)[which]
        ]
        assert len(cases) > (300, 1500)[which]
        chosen = cases if full else chance.sample(cases, 120)
        kills = sum(outcome["kills"] for outcome in check(pool, chosen))
        assert kills >= len(chosen) * 9 // 10


@pytest.mark.parametrize("name", DOUBLE)
def test_a_kill_of_the_recovering_process_is_recovered_from(pool, name, chance, full):
    [outcome] = check(pool, [{"scenario": name, "kills": []}])
    firsts = [{"scenario": name, "kills": [point]} for point in outcome["points"][0]]
    cases = [
        {"scenario": name, "kills": [*first["kills"], point]}
        for first, outcome in zip(firsts, check(pool, firsts), strict=True)
        for point in outcome["points"][1]
    ]
    asked = [case for case in cases if " verify " in case["kills"][1]]
    chosen = cases if full else chance.sample(cases, 15) + chance.sample(asked, min(5, len(asked)))
    kills = sum(outcome["kills"] for outcome in check(pool, chosen))
    assert kills >= len(chosen) * 3 // 2


def left_to(person, name, **more):
    """Return a case in which a person does these things, one after the other, before there is a recovery."""
    *before, action = person
    return {"scenario": name, "kills": [], "operator": [action, "?"], "operator_before": before} | more


@pytest.mark.parametrize("mended", [True, False])
def test_a_person_decides_about_an_answer_that_was_lost(pool, mended):
    """It is asked about again, and by then its verify may tell."""
    cases = [left_to(["resume"], name, mended=mended) for name in STUCK]
    cases += [left_to(["skip"], name, mended=mended) for name in STUCK]
    cases += [left_to(["compensate"], name, mended=mended) for name in STUCK if DOUBTFUL[name].pivot != "a"]
    outcomes = check(pool, cases)
    assert {outcome["status"] for outcome in outcomes} == {"completed", "compensated", "stuck"}
    asked = [outcome for case, outcome in zip(cases, outcomes, strict=True) if case["scenario"].endswith("knows-nothing")]
    assert any(outcome["status"] == "stuck" for outcome in asked) is not mended


@pytest.mark.parametrize("last", ["compensate", "cancel"])
def test_a_person_who_thinks_better_of_it_before_any_recovery_is_obeyed(pool, last):
    """What was to be executed again is in doubt all the same, so it is undone."""
    person = ["resume", last]
    goes_on = [name for name in STUCK if "skipped" in name or "replaced" in name]  # which have not given up
    cases = [left_to(person, name, mended=mended) for name in goes_on for mended in (True, False)]
    died = {"1-steps-ask": ["a"], "3-steps-ask": ["a", "b", "c"], "fork-ask": ["a", "b", "c", "d"]}
    cases += [
        left_to(person, name, kills=[f"{step} execute 1 {where}"])
        for name, steps in died.items()
        for step in steps
        for where in ("before", "after")
    ]
    cases += [left_to(person, "retried-ask", kills=[f"b execute {n} before"]) for n in (1, 2, 3)]
    outcomes = check(pool, cases)
    assert {outcome["status"] for outcome in outcomes} == {"compensated"}


@pytest.mark.parametrize("person", [["resume"], ["compensate"], ["resume", "compensate"]], ids="-".join)
def test_a_kill_of_the_persons_process_is_recovered_from(pool, person):
    names = [name for name in STUCK if "skipped" in name]
    cases = [left_to(person, name, mended=mended) for name in names for mended in (True, False)]
    cases += [left_to(person, "3-steps-ask", kills=["b execute 1 after"])]
    killed = [
        case | {"operator_kills": [point]}
        for case, outcome in zip(cases, check(pool, cases), strict=True)
        for point in outcome["points"][len(case["kills"]) + 1]
    ]
    check(pool, killed)
