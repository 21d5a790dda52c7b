"""`tenantplane demo`: two tenants on a real Kubernetes API, from `kubectl apply` to a grounded answer."""
