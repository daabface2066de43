"""Settings of all tests.

Test modules may import BasicSR first, which on today's torchvision works only after this package.
"""

from hypothesis import HealthCheck, settings

import lightbsr_arch  # noqa: F401

# Few examples, the same ones in each run, and no limit on time, so that a run on a busy machine fails for a fault only.
settings.register_profile(
    "lightbsr",
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lightbsr")
