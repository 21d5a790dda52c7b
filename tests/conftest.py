"""What all tests share: the real Kubernetes API as a fixture, and the order of slow things."""

pytest_plugins = ["tests.support.cluster"]
