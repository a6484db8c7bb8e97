"""Measurements, each run by hand: `python -m benchmarks.<name>`. Figures: docs/performance.md."""
