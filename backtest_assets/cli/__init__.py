"""The command line: parses, calls defs or lake, prints; logic stays out."""
