"""What every test shares: how long Hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Slow machines are no failures, hence no deadline and no check of speed.
settings.register_profile(
    "short", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("short"), max_examples=5000)
settings.load_profile("long" if os.environ.get("ACKED_LONG") == "1" else "short")
