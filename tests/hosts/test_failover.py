"""The server is lost in mid-run, and the one that follows it takes its place; the stores' URL names both."""

from __future__ import annotations

import pytest

from saga.storage import postgres_silence
from tests.storage import clusters, servers


@pytest.mark.parametrize("lost", ["killed", "frozen"])
def test_all_ends_on_the_server_that_was_promoted(day, lost, monkeypatch):
    monkeypatch.setattr(postgres_silence, "SILENCE", 1.0)
    with clusters.server() as first:
        first.start()
        second = first.standby(servers.free_port())
        hosts = f"{first.host}:{first.port},{second.host}:{second.port}"
        today = day(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write&connect_timeout=2")
        workers = today.start(3, "1", "2", silence=1.0)
        today.offered = ("1", "2")
        today.until_more_ended(30)
        if lost == "killed":
            first.kill()
        else:
            first.freeze()
        second.promote()
        today.until_more_ended(30)
        today.end()
        today.stop(*workers)
