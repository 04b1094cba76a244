"""Classes that a text names: found again as they are now, and no other callable."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

from saga.durable.codec import Codec
from tests.unit.codec.conftest import HERE, Frozen, Plain, Point, back, made, refusal, unreadable


def test_a_class_that_its_own_name_does_not_lead_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = made("Lost", HERE)
    assert f"(it is not found as '{HERE}:Lost': '{HERE}' has no class 'Lost'); give it its own name" in refusal(lost(1))
    usurper = made("Plain", HERE)
    assert "another object has that name" in refusal(usurper(1))
    elsewhere = made("Gone", "no_such_module_here")
    assert "'no_such_module_here' is not imported, and is not for a stored text; import it" in refusal(elsewhere(1))


def test_a_class_of_the_main_module_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = made("OfMain", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "OfMain", cls, raising=False)
    assert Codec().encode(cls(1)) == '{"$dataclass":["__main__:OfMain",{"a":1}]}'
    back(cls(1))


def test_fields_that_a_class_got_since_take_their_defaults() -> None:
    codec = Codec()
    assert codec.decode(f'{{"$dataclass":["{HERE}:Plain",{{}}]}}') == Plain(1, [])
    assert codec.decode(f'{{"$dataclass":["{HERE}:Frozen",{{"name":"a"}}]}}') == Frozen("a")
    assert codec.decode(f'{{"$namedtuple":["{HERE}:Point",{{"x":1}}]}}') == Point(1, 0)
    assert "has no field 'name'; give that a default" in unreadable(f'{{"$dataclass":["{HERE}:Frozen",{{}}]}}')
    assert "has no field 'x'; give that a default" in unreadable(f'{{"$namedtuple":["{HERE}:Point",{{}}]}}')


@pytest.mark.parametrize("tag", ["$dataclass", "$enum", "$namedtuple", "$object"])
@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "subprocess:run",
        "builtins:eval",
        "builtins:dict",
        "builtins:type",
        "os:path.join",
        "os:sys.exit",
        "logging:config.dictConfig",
        "HERE:Money",
        "HERE:Local",
        "HERE:raising",
        "HERE:Plain.__init__",
        "HERE:Plain.__class__",
    ],
)
def test_a_text_can_name_no_other_callable(tag: str, name: str, tmp_path: pathlib.Path) -> None:
    trap = tmp_path / "trap"
    for held in ({"args": f"touch {trap}"}, {}, f"touch {trap}", [f"touch {trap}"]):
        unreadable(json.dumps({tag: [name.replace("HERE", HERE), held]}))
    assert not trap.exists()
