"""Hosts with a network between them: the server on one, workers on three; each of these has its own misfortune.

``pytest -m network`` selects what needs the right to make networks (root), ``-m 'not network'`` leaves it out.
"""

from __future__ import annotations

import pytest

from tests.hosts.networks import NETWORK, hosts
from tests.storage import clusters

pytestmark = pytest.mark.network


@pytest.fixture
def network():
    with hosts(4) as made:
        yield made


def test_money_is_kept_whichever_host_is_cut_off_paused_killed_or_an_hour_off(day, network):
    database, cut_off, off, busy = network
    with clusters.server(database.address, database.within) as server:
        server.allow(NETWORK)
        server.start()
        today = day(f"{server.url}?connect_timeout=2", here=server.local_url)
        today.offered = ("1", "2")

        def start(host, **options):
            return today.processes.start("1", "2", within=host.within, **options)

        lonely, ahead, behind = start(cut_off), start(off, clock=3600.0), start(off, clock=-3600.0)
        paused, killed = start(busy), start(busy)
        for worker in (lonely, ahead, behind, paused, killed):
            today.until(lambda worker=worker: today.lives(worker))
        today.until_more_ended(30)
        cut_off.cut_off()
        paused.pause()
        killed.kill_and_start()
        lost = {row.saga_id for row in in_hand(today, lonely, paused)}
        today.until(lambda: not lost & {row.saga_id for row in in_hand(today, lonely, paused)})  # others have them
        today.until_more_ended(30)
        ahead.kill_and_start()
        cut_off.connect()
        paused.go_on()
        assert lost
        today.until(lambda: in_hand(today, lonely))  # it goes on
        today.until(lambda: in_hand(today, paused))
        behind.kill_and_start()
        assert today.end() > 0
        today.stop(lonely, ahead, behind, paused, killed)


def in_hand(today, *workers):
    """Return the executions that workers have."""
    pids = {str(worker.pid) for worker in workers}
    rows = today.store.list(status=["running", "compensating"], limit=1000).executions
    return [row for row in rows if row.owner is not None and row.owner.split(":")[1] in pids]
