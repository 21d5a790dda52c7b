"""`tenantplane plan`: what the operator would make of YAML, by its own pure functions, before it is applied."""
