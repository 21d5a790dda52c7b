"""A Tenant: one module per concern, all pure but ``reconcile``."""
