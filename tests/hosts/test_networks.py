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
            return today.start(1, "1", "2", within=host.within, **options)[0]

        lonely, ahead, behind = start(cut_off), start(off, clock=3600.0), start(off, clock=-3600.0)
        paused, killed = start(busy), start(busy)
        today.until(lambda: today.in_hand(lonely))
        cut_off.cut_off()
        today.until(lambda: today.in_hand(paused))
        paused.pause()
        lost = today.in_hand(lonely, paused)
        assert lost
        today.kill(killed)
        today.until(lambda: not lost & today.in_hand(lonely, paused))  # others have them
        today.until_more_ended(30)
        today.kill(ahead)
        cut_off.connect()
        paused.go_on()
        today.until(lambda: today.in_hand(lonely))  # it goes on
        today.until(lambda: today.in_hand(paused))
        today.kill(behind)
        assert today.end() > 0
        today.stop(lonely, ahead, behind, paused, killed)
