"""How hypothesis searches: quickly and the same every time; ``HYPOTHESIS_PROFILE=long`` searches on."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "saga", deadline=None, max_examples=200, derandomize=True, database=None, suppress_health_check=CHECKS
)
settings.register_profile("long", deadline=None, max_examples=20_000, suppress_health_check=CHECKS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "saga"))
