"""The hypothesis queue: which mechanisms a run's data can show, and which of its declared hypotheses they ask for first.

- `mechanism`, `templates`, `fusion`: the claims, as data; `leaks`: what a claim may not say.
- `datasets`: what the run's tables really hold; `placebos`: the negative controls that phase 1 ran.
- `scores`, `judge`: how good a claim is and whether it may be queued; `build` brings it together; `select` is what phase 2
  obeys.

Keep out: outcomes of the events themselves. What is queued depends on data that are there and on placebos, never on an
effect. Import from the modules; the package exports nothing.
"""
