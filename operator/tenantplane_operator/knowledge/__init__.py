"""Index builds as the operator sees them: who runs them, fenced how, and when one has succeeded."""
