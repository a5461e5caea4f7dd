"""Causal features of every bar: `grid` is the ground they stand on, `build` makes them; labels and events stay out."""
