"""Checks that need the registry's own settings: its bucket, its database, its files."""
