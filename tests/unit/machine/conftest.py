"""How hypothesis searches here."""

from __future__ import annotations

import tests.kit.profiles  # noqa: F401
