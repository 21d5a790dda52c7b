"""The run-time half of the contract: names, limits, error codes, runtime documents, Platform file, manifests."""
