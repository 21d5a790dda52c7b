"""What all tests share: the real Kubernetes API as a fixture, and property tests without a stop-watch."""

from hypothesis import settings

pytest_plugins = ["tests.support.cluster"]

# The machine is shared: how long one example took says nothing about the code.
settings.register_profile("tenantplane", deadline=None)
settings.load_profile("tenantplane")
