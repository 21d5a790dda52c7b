"""Composition of a data-plane process: which parts, in which order, and how they end."""
