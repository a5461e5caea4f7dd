"""Tidy parquet files in a folder as a source; downloading them stays out."""
