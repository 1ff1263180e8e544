"""For all tests: machines are shared, so no example of hypothesis is judged by the clock."""

from hypothesis import HealthCheck, settings

settings.register_profile("cairn", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cairn")
