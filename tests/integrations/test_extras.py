"""Each integration says which extra brings its library."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("room", "library", "extra"),
    [("opentelemetry", "opentelemetry", "otel"), ("sentry", "sentry_sdk", "sentry"), ("s3", "boto3", "s3")],
)
def test_without_its_library_it_says_what_to_install(
    room: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"saga.integrations.{room}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'saga-tasks\[{extra}\]'"):
        importlib.import_module(f"saga.integrations.{room}")
