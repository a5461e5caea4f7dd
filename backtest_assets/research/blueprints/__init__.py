"""Blueprints: the selected hypotheses of a promoted run as executable rules (`compile`).

Keep out: testing (`research/hypotheses`), running (`research/simulation`). Import from the module; the package exports
nothing.
"""
