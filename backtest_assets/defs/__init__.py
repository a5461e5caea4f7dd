"""Everything that imports Dagster: assets, checks, jobs, partitions, storage; numbers and files stay out.

`publish` is the only way to write a table, `guard` the only way to read one.
"""
