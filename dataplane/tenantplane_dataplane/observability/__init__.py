"""Logs and metrics of the data plane: nothing in here knows a tenant, a request or a model."""
