"""Random numbers for acked itself, from the system.

`random` belongs to the tasks: one that seeds it, as those that train a model do, would give every
retry the same jitter; and whatever acked drew from it, the task would miss in its own numbers.
"""

from __future__ import annotations

import random

roll = random.SystemRandom().random
"""A number of 0 or more, and less than 1."""
