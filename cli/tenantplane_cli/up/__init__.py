"""`tenantplane up`: the whole product from a folder of YAML in one process, without Kubernetes."""
