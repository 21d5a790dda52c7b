"""The data plane: serves chat to tenants, obeys runtime documents, never writes to Kubernetes."""
