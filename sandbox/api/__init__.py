"""The API server of the sandbox: an in-memory store with Kubernetes' rules, and HTTP in front of it."""
