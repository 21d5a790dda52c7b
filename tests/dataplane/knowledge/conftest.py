"""Settings of the property tests."""

from hypothesis import settings

# Examples share two cores with everything else: a deadline per example would judge the machine.
settings.register_profile("tenantplane", deadline=None)
settings.load_profile("tenantplane")
