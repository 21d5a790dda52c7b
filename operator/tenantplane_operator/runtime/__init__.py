"""The machinery of an operator that knows nothing of tenants: API client, cache, queue, apply, prune, outcomes."""
