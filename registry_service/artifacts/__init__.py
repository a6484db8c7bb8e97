"""Artifacts: reading and judging their bytes, and keeping them."""
