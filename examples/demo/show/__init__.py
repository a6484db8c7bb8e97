"""What `make demo` shows: panels, refusals, residency, and measurements."""
