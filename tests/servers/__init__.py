"""Real PostgreSQL and S3 servers on loopback, for tests and for trying things by hand.

`python -m tests.servers` starts them all, prints where they are and waits. Nothing needs root, a
container or an installed server: what the machine lacks is unpacked into the user's cache.
"""
