"""The exchange's public archive, read from disk in its own layout; fetching it over a network stays out."""
