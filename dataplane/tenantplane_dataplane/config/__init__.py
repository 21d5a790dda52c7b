"""What to obey: runtime documents from a private directory, as immutable snapshots. Knows no Kubernetes."""
