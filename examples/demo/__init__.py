"""A small base model and three adapters, made from nothing, for the demo and its measurements."""
