"""Causal features of every bar: `build` puts them together on the ground of `grid`; labels and events stay out.

`price`, `liquidity`, `interest` and `persistence` each know one kind of input; `window` says how much of it is enough.
`universe` ranks symbols by month.
"""
