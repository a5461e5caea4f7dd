"""Statistics: float64 arrays in, arrays or small frozen dataclasses out; nothing here knows a market, a frame or a clock.

- `rolling`, `rank`: trailing windows over one series with gaps (their order statistics live in `order`).
- `clustered`, `bootstrap`, `multiplicity`: the inference recipe, from day sums to step-down p-values.
- `matched`, `survival`: cases beside their controls, and how long until something happens.
- `spa`, `shrinkage`, `overfitting`: what the best of many is worth, shown beside or asked at promotion.
- `folds`: combinatorial purged train and test sets of observations that overlap.
- `dependence`, `sharpe`, `drawdown`, `robustness`: single numbers about one series of outcomes.
- `scan`, `simulate`, `funding`: walks along one series of bars, orders or settlements.
- `spread`: what bars without quotes show of one.
- `kernel`, `arrays`: the one door to numba; what an array argument must be.

Keep out: frames and columns (`research/`), thresholds (`gates/`, `research/promotions/`), and any source of randomness
or time; a function that needs draws takes `rng`. Import from the modules; the package exports nothing.
"""
