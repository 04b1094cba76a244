"""Every driver is run by a kit, so that the tests which are written once hold for it too."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest

import saga.drivers
from saga import Saga
from saga.drivers.base import Driver
from tests.kit import KITS, Kit

#: What a loop has to have beside what it inherits: who starts, extends and leaves an execution calls these.
LOOP = ("advance", "leave", "run", "run_one")


def drivers() -> dict[str, type[Driver]]:
    """Return every driver, by its name; no class that drivers are built on."""
    found: dict[str, type[Driver]] = {}
    for module in pkgutil.iter_modules(saga.drivers.__path__):
        for value in vars(importlib.import_module(f"saga.drivers.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Driver) and value is not Driver:
                found[value.__name__] = value
    # What simulates one of them, for tests of users' sagas, does not make it something that drivers are built on.
    inside = {
        name: [one for one in kind.__subclasses__() if one.__module__.startswith("saga.drivers")]
        for name, kind in found.items()
    }
    return {name: kind for name, kind in found.items() if not inside[name]}


@pytest.mark.parametrize("name", drivers())
def test_a_driver_has_a_loop(name: str) -> None:
    lacks = [method for method in LOOP if not callable(getattr(drivers()[name], method, None))]
    assert not lacks, f"{drivers()[name].__module__}: {name} has no {', '.join(lacks)}"
    assert drivers()[name]._wake is not Driver._wake, f"{drivers()[name].__module__}: {name} has no _wake"


def test_every_driver_is_run_by_a_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: set[str] = set()
    begin = Driver.__init__

    def noted(self: Driver, *args: Any, **more: Any) -> None:
        ran.add(type(self).__name__)
        begin(self, *args, **more)

    monkeypatch.setattr(Driver, "__init__", noted)
    for how in KITS.values():
        kit = Kit(*how)
        assert kit.run(Saga("s").add_task(kit.task("a"))).ok
    assert ran == set(drivers()), f"tests/kit/runners.py: KITS runs no {set(drivers()) - ran}"
