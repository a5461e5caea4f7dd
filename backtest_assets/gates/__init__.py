"""What must be true of every table: pure questions with their limits; Dagster's wrapping of the answers stays out.

One module per stage, thresholds named at its top with unit and reason; `registry.GATES` maps each table to its gates.
"""
