"""Events: what happened that a trader could have acted on, and quiet instants to compare with; what followed stays out.

`definition` is the form of a family's parameters and of its candidates, `families/` holds one module per family,
`detect` runs them all, `accepted` registers the events among the candidates, `controls` matches each event with
instants of its past.
"""
