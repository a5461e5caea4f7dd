"""Phase 1: what followed a family's events beside what followed their controls, and one decision per family.

- `sets`: events and controls as matched sets, one array per family; `placebo`: the same at instants that were no events.
- `criteria`: the limits and the decision; `evidence`: the numbers of every family and metric.
- `hazards`: age curves of the first move by a daily sigma.

Keep out: measuring outcomes (`research/outcomes`), tests of rules that could be traded (`research/hypotheses`), and the
validation and test windows. Import from the modules; the package exports nothing.
"""
