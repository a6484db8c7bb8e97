"""What both services and the SDK share about gRPC: errors, names, digests, server lifecycle."""
