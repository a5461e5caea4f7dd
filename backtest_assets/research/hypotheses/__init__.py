"""Hypotheses: declared, tested once on train, confirmed on validation, judged by fixed gates, counted in a ledger.

- `rules`: what is declared; `criteria`: the limits and what they make of the numbers.
- `admitted`: what phase 1 decided about each family.
- `queue`: which of it the run's data and placebos ask for first; phase 2 obeys if told to.
- `trades`, `cells`, `days`: the outcomes of every rule, as rows, as means, as day sums.
- `inference`, `robustness`: what the numbers are worth; `study` brings it together.
- `members`: the trades of each hypothesis; `naive_entry`, `expectancy`, `traps`: what they come to; `candidates`: all of it.
- `trials`, `checklist`: how often the data were asked, and whether execution may run.

Keep out: measuring outcomes (`research/outcomes`), conditions (`research/events/conditions`), rules that trade
(`research/blueprints`). Import from the modules; the package exports nothing.
"""
