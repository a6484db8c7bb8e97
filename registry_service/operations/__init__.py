"""What each RPC does inside its transaction: check the request, decide, change, record, answer."""
