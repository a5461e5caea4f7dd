"""The promotion decision.

`criteria` names every limit once, `neighbours` simulates what lies beside a blueprint, `evidence` measures, `decide` holds
everything against the limits, `strategies` lists what it leaves.
"""
