"""Checks of an inference service from where it runs."""
