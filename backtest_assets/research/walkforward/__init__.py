"""How good the ledger is on each window: slices of the one ledger, never a second backtest.

`slices` cuts and measures what any window has, `backtest` lists it for the whole discovery span, `splits` adds what
promotion decides on. Limits stay out (`research/promotions/criteria`).
"""
