"""How the engine's cost grows with one thing at a time, each curve beside its floor."""
