"""Talking to engines: one seam, addresses pinned when connecting, answers made harmless."""
