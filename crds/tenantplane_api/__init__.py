"""The contract of tenantplane: what the operator writes, the data plane obeys and users apply.

Two halves that never mix: ``crd`` (pydantic models of the custom resources, from which the CRDs are generated) and
``runtime`` (msgspec structs of the documents between operator and data plane, and every name, limit and error code).
The data plane imports only ``runtime``, which imports no pydantic.
"""
