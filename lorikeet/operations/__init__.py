"""What the clients can ask, written once for sync and async: see `lorikeet.operations.call`."""
