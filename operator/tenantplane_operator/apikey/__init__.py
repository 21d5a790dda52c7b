"""An APIKey: a Secret in the tenant's namespace and a hash in its runtime document; pure but ``reconcile``."""
