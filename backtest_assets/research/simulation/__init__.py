"""Execution: blueprints meet the market in one causal pass, and the ledger says what came of it, bar by bar.

`prices` and `orders` bring frames to the kernel's arrays, `ledger` books what the kernel did. How good it was is asked in
`research/walkforward`; which blueprints exist is decided in `research/blueprints`.
"""
