"""Market regimes that hypotheses condition on, known at each bar's close; events stay out."""
