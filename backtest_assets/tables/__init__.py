"""The contract of every table: name, columns with units, key, order, rules; how rows are made stays out.

`registry.TABLES` holds them all by name; a table's name is its asset's name and its folder in the lake.
"""
