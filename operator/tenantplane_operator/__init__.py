"""The operator: from Tenants, APIKeys and ModelDeployments to namespaces, fences, keys and runtime documents."""
