"""What must be true of every table: pure questions held against limits; Dagster's wrapping of the answers stays out.

`registry.GATES` maps each table to its gates, which are in the module of its stage or, where several tables share a question,
in that question's. A limit is named once, with unit and reason: at the top of its module, or in `domain/limits.py` where the
market layer may set it.
"""
