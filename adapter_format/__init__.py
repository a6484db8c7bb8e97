"""What the files of a PEFT adapter mean: one reading for all who must agree on it. Pure.

The registry judges an upload with it, the engine judges again what it is about to serve: had each
its own rules, one would sooner or later accept what the other reads differently. Nothing here does
I/O but through a file it is given, and nothing imports torch, gRPC or a service.
"""
