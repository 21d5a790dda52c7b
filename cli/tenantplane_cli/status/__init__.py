"""`tenantplane status`: what stands of a tenant, as a tree."""

from tenantplane_cli.status.view import View, view_of

__all__ = ["View", "view_of"]
