"""A rolling deploy of two versions, neither of which can finish what the other began, under load, and with kills."""

from __future__ import annotations


def test_a_deploy_under_load_strands_nothing(day, own_postgres_url):
    today = day(own_postgres_url)
    old = today.start(2, "1", unfit_after=1.0)
    today.offered = ("1",)
    today.until_more_ended(20)
    new = today.start(1, "2", unfit_after=1.0)
    today.offered = ("1", "2")  # some web servers are replaced, and some are not
    today.until_more_ended(10, "2")
    today.kill(old[0])
    today.kill(new[0])
    new += today.start(1, "2", unfit_after=1.0)
    today.until_more_ended(20, "2")

    today.until(lambda: today.in_hand(old[1]))  # these are not new
    today.operations.drain("transfer", "1", "version 2 is there")
    old[1].kill()
    old[1].start()
    today.until_more_ended(20, "2")
    today.until(lambda: not today.open("1").keys() & {"running", "compensating"})
    kept = [saga_id for saga_id in today.submitted if (row := today.store.get(saga_id)).version == "1" and row.started is None]
    today.until_more_ended(20, "2")
    assert kept
    assert {today.store.get(saga_id).status for saga_id in kept} == {"submitted"}

    today.offered = ("2",)
    today.operations.let_go("transfer", version="1")
    today.kill(new[1])
    today.until(lambda: not today.open("1"))
    today.stop(*old)
    today.until_more_ended(20, "2")
    assert today.end() > 0
    assert not today.store.list(status=["stuck"]).executions
    today.stop(*new)
