"""The `tenantplane` command line, and the cluster provider that tests, demo and benchmarks share."""
