"""Hosts in one machine: network namespaces that a switch connects. Needs root, and ``ip`` of iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NETWORK = "10.213.0.0/24"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"ip {' '.join(arguments)}: {done.stderr}")


class Host:
    """:ivar within: runs a command there.
    :ivar address: its own.
    """

    def __init__(self, network: str, number: int) -> None:
        self._name, self._port, self._switch = f"{network}-{number}", f"to{number}", network
        self.address = NETWORK.replace("0/24", str(number))
        self.within = ("ip", "netns", "exec", self._name)
        _ip("netns", "add", self._name)
        self._in("link", "set", "lo", "up")
        _ip("-n", network, "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        _ip("-n", network, "link", "set", self._port, "master", "switch", "up")
        self._in("addr", "add", f"{self.address}/24", "dev", "eth0")
        self._in("link", "set", "eth0", "up")

    def cut_off(self) -> None:
        """Let nothing through any more, of which nobody is told."""
        _ip("-n", self._switch, "link", "set", self._port, "nomaster")

    def connect(self) -> None:
        _ip("-n", self._switch, "link", "set", self._port, "master", "switch")

    def remove(self) -> None:
        _ip("netns", "del", self._name)

    def _in(self, *arguments: str) -> None:
        _ip("-n", self._name, *arguments)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make so many hosts, in a network of their own."""
    network = f"saga{os.getpid()}"
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces are Linux's, and 'ip' makes them: not here (Debian: apt-get install iproute2)")
    made = subprocess.run(["ip", "netns", "add", network], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespace can be made; it takes root's rights: {made.stderr.strip()}")
    there: list[Host] = []
    try:
        _ip("-n", network, "link", "add", "switch", "type", "bridge")
        _ip("-n", network, "link", "set", "switch", "up")
        for number in range(1, count + 1):
            there.append(Host(network, number))
        yield there
    finally:
        for host in there:
            host.remove()
        _ip("netns", "del", network)
