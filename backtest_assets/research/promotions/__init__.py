"""The promotion decision: `criteria` names every limit once, `decide` holds the walk-forward evidence against them."""
