"""The promotion decision: `criteria` names every limit once, `neighbours` simulates what lies beside a blueprint, `evidence`
measures, and `decide` holds everything against the limits. `strategies` lists what it leaves.
"""
