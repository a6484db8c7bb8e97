"""Prometheus metrics of the inference service."""
