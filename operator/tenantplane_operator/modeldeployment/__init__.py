"""A ModelDeployment: one runtime document, published or refused; pure but ``reconcile``."""
