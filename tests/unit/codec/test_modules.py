"""Modules that a text names: none is imported, and no function called, but what the user has named."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from saga import Context, Status
from saga.durable.codec import Codec
from saga.errors import EncodingError, SagaDefinitionError
from tests.unit.codec.conftest import HERE, Plain

MODULE = """
import dataclasses, pathlib
from subprocess import run
pathlib.Path(__file__).with_name("imported").touch()

@dataclasses.dataclass
class Parcel:
    weight: int = 1

def unpack():
    "Undo."
"""


@pytest.fixture
def shop(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A package of one module that nobody has imported. Return what is there once somebody has."""
    (tmp_path / "shop_of_names").mkdir()
    (tmp_path / "shop_of_names" / "__init__.py").touch()
    (tmp_path / "shop_of_names" / "parcels.py").write_text(MODULE)
    (tmp_path / "shop_of_names" / "exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "shop_of_names" / "imported"
    for name in [name for name in sys.modules if name.startswith("shop_of_names")]:
        del sys.modules[name]


TEXT = '{"$dataclass":["shop_of_names.parcels:Parcel",{"weight":3}]}'
NOT_IMPORTED = "is not imported, and is not for a stored text; import it, or name it: Codec(modules=['shop_of_names.parcels'])"
NOT_NAMED = "'shop_of_names.parcels' is none of the codec's modules; name it, too: Codec(modules=["


@pytest.mark.parametrize(
    ("modules", "why", "imports"),
    [
        (None, NOT_IMPORTED, False),
        (["shop_of_names.parcels"], None, True),
        (["shop_of_names"], None, True),
        ([HERE, "shop_of_names.parcels"], None, True),
        ([], NOT_NAMED, False),
        ([HERE], NOT_NAMED, False),
        (["shop_of_name"], NOT_NAMED, False),
        (["shop_of_names.parcels.more"], NOT_NAMED, False),
    ],
)
def test_a_class_is_found_in_modules_that_are_named(modules: Any, why: str | None, imports: bool, shop: pathlib.Path) -> None:
    codec = Codec(modules=modules)
    if why is None:
        assert codec.encode(codec.decode(TEXT)) == TEXT
    else:
        with pytest.raises(EncodingError) as refused:
            codec.decode(TEXT)
        assert why in str(refused.value)
    assert shop.exists() is imports


def test_where_none_are_named_a_class_is_found_in_what_is_imported(shop: pathlib.Path) -> None:
    import shop_of_names.parcels as parcels  # type: ignore[import-not-found]

    assert Codec().decode(TEXT) == parcels.Parcel(3)
    assert Codec(modules=[parcels]).decode(TEXT) == parcels.Parcel(3)


def test_a_value_that_would_not_be_found_again_is_not_stored() -> None:
    with pytest.raises(EncodingError) as refused:
        Codec(modules=["json"]).encode([Plain()], "context.items")
    assert str(refused.value) == (
        f"context.items[0]: cannot store a value of type {HERE}.Plain (which would not be found again); {HERE!r} is none of "
        f"the codec's modules; name it, too: Codec(modules=['json', {HERE!r}]), or register it with Codec.register(...)"
    )


def test_what_is_registered_aliased_or_this_packages_needs_no_module() -> None:
    codec = Codec(modules=[]).register(pathlib.PurePath, str, pathlib.PurePath).alias("gone:Plain", Plain)
    assert codec.decode('{"$dataclass":["gone:Plain",{}]}') == Plain()
    assert codec.context_class("saga.context:Context") is Context
    assert codec.decode(codec.encode(Status.STUCK)) is Status.STUCK


def test_a_module_that_exits_on_import_is_an_encoding_error(shop: pathlib.Path) -> None:
    with pytest.raises(EncodingError, match=r"importing 'shop_of_names.exits' raised SystemExit"):
        Codec(modules=["shop_of_names"]).decode('{"$dataclass":["shop_of_names.exits:X",{}]}')


@pytest.mark.parametrize(
    ("modules", "name", "why"),
    [
        (None, "os:system", "'os' is none of the codec's modules; name it: Codec(modules=['os'])"),
        (None, "shop_of_names.parcels:unpack", "is none of the codec's modules"),
        (["shop_of_names"], "subprocess:run", "'subprocess' is none of the codec's modules"),
        (["shop_of_names"], "shop_of_names.parcels:run", "'subprocess' is none of the codec's modules"),
        (["shop_of_names"], "shop_of_names.parcels:pathlib", "has no function and no class of that name"),
        (["shop_of_names"], "shop_of_names.parcels:nothing", "has no function and no class of that name"),
        (["shop_of_names"], "shop_of_names.parcels:run()", "it is not of the form"),
    ],
)
def test_a_text_can_have_no_function_called_but_of_modules_that_are_named(
    modules: Any, name: str, why: str, shop: pathlib.Path
) -> None:
    with pytest.raises(LookupError) as refused:
        Codec(modules=modules).names.callable_of(name)
    assert why in str(refused.value)
    assert shop.exists() == (modules is not None and "parcels:" in name and "()" not in name)


def test_a_function_of_a_module_that_is_named_is_found(shop: pathlib.Path) -> None:
    assert Codec(modules=["shop_of_names"]).names.callable_of("shop_of_names.parcels:unpack").__doc__ == "Undo."


@pytest.mark.parametrize("module", ["", "shop.", "a b", 7, None, json.JSONDecoder])
def test_what_is_no_module_is_refused(module: Any) -> None:
    with pytest.raises(SagaDefinitionError, match=r"Codec: one of modules is .*; give modules or their names"):
        Codec(modules=["json", module])


def test_a_name_alone_is_refused() -> None:
    with pytest.raises(SagaDefinitionError, match="Codec: modules is 'shop'; give several"):
        Codec(modules="shop")
