"""The engines we are measured beside, each driven by a process in an environment of its own."""
