"""A seeded exchange for demos and tests: invented symbols, martingale prices, planted edges on request."""
