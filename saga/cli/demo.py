"""``saga demo``: a shop to play with, in a directory of its own. Some of its orders are stuck, and some wait."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click

from saga.cli.definitions import loaded
from saga.cli.options import Settings
from saga.cli.shown import line, say

__all__ = ["COMMANDS"]

_SETUP: Final = """[saga]
store = shop.db
import = shop
"""
_ORDERS: Final = 36
_TRY: Final = (
    ("saga list", "where each order stands"),
    ("saga causes", "why some are stuck: a person has to see to these"),
    ("saga show A3", "what happened there, and what each action would do"),
    ("saga debug A3", "step through the refund that failed, to no effect"),
    ("rm bank-is-closed carrier-is-down", "mend what was wrong"),
    ("saga retry --status stuck --why 'the bank is open again'", "try the failed refunds again"),
    ("saga worker --once", "which carries that out"),
    ("saga doctor", "whether all is well now"),
)


@click.command()
@click.argument("directory", default="saga-demo", type=click.Path(file_okay=False, path_type=Path))
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of what goes wrong.")
@click.pass_obj
def demo(settings: Settings, directory: Path) -> None:
    """Make a directory with a shop: its sagas in shop.py, its orders in shop.db. It needs no network and no server."""
    if directory.exists() and any(directory.iterdir()):
        raise click.UsageError(f"{directory} is not empty; give a directory that is not there yet")
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("shop.py.txt").read_text(encoding="utf-8")
    for name, text in (("shop.py", source), ("setup.cfg", _SETUP), ("bank-is-closed", ""), ("carrier-is-down", "")):
        (directory / name).write_text(text, encoding="utf-8")
    os.chdir(directory)
    sys.path.insert(0, str(Path.cwd()))
    place_order, approved, later = _sagas()
    ended = Counter(
        str(place_order.try_execute({"order": f"A{number}"}, saga_id=f"A{number}", store="shop.db").status)
        for number in range(1, _ORDERS + 1)
    )
    from saga.operations import Operations
    from saga.worker import Worker

    for number, saga in enumerate((approved, approved, later), _ORDERS + 1):
        saga.submit({"order": f"A{number}"}, saga_id=f"A{number}", store="shop.db")
    Worker("shop.db", [approved, later]).run_once()
    for number in range(_ORDERS + 4, _ORDERS + 7):
        place_order.submit({"order": f"A{number}"}, saga_id=f"A{number}", store="shop.db")
    Operations("shop.db", "the demo").pause(f"A{_ORDERS + 6}", "the customer is on the phone")
    say(
        line(
            f"{directory} has a shop with {_ORDERS + 6} orders: {', '.join(f'{n} {name}' for name, n in ended.most_common())},"
        )
    )
    say("2 that wait for an approval, 1 that waits an hour, 2 submitted, 1 paused. Try:")
    say()
    say(line(f"  cd {directory}"))
    for command, what in _TRY:
        say(line(f"  {command:<58} # {what}"))


def _sagas() -> list[Any]:
    return [saga for name in ("place_order", "approved", "later") for saga in loaded(f"shop:{name}")]


COMMANDS: Final = {"demo": demo}
