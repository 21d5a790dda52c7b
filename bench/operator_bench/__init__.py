"""The operator at scale, beside the same writes by a bare client; see ``__main__`` for the method."""
