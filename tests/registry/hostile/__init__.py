"""Artifacts made to deceive or to exhaust: of every kind, with the reason each is refused for."""
