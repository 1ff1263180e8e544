"""For all tests: machines are shared, so no example of hypothesis is judged by the clock, and numpy has one thread.

OpenBLAS gives the smallest product a thread for each core; beside another worker these wait for each other by spinning.
"""

import os

from hypothesis import HealthCheck, settings

import cairn_kit  # noqa: F401 - before gRPC, see there

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy is imported; workers and services inherit it

settings.register_profile("cairn", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cairn")
