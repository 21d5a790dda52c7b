"""Knowledge: building a tenant's indices (extract, finalise) and reading them (open, search, pack)."""
