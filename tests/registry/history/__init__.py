"""Histories of concurrent calls on adapters, and the search that finds an order explaining them."""
