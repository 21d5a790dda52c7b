"""The only part of the data plane that knows Kubernetes: a process that copies runtime Secrets into a directory."""
