"""Vega-Lite specifications into inline SVG: no script, no request, the same bytes for the same specification.

What is drawn stays in `charts`; colours live here, because the page's dark mode recolours exactly these.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import vl_convert
from markupsafe import Markup, escape

Spec: TypeAlias = Mapping[str, object]
Layer: TypeAlias = dict[str, object]

FIT: Final[Spec] = {"width": 440, "autosize": {"type": "fit", "contains": "padding"}}
"""Size of a small picture: two stand side by side on a desk, one fills a phone."""

BLUE: Final = "#1f5fa8"
PALE: Final = "#8fb4dd"
GREY: Final = "#a3abb5"
RED: Final = "#b3261e"
INK: Final = "#2a2f36"
MUTED: Final = "#5b6470"
GRID: Final = "#e4e7eb"
SHADE: Final = "#fbf1d8"

_CONFIG: Final[Spec] = {
    "aria": False,
    "background": None,
    "padding": {"left": 14, "right": 14, "top": 5, "bottom": 5},
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "grid": False,
        "gridColor": GRID,
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelPadding": 6,
        "titlePadding": 16,
    },
    "axisY": {"grid": True},
    "legend": {
        "labelColor": MUTED,
        "labelFontSize": 11,
        "title": None,
        "orient": "top",
        "symbolType": "square",
        "offset": 4,
    },
}
_SIZE = re.compile(r'^<svg [^>]*?width="(?P<width>[\d.]+)" height="(?P<height>[\d.]+)" viewBox="(?P<box>[^"]+)"[^>]*>')
_IDS = re.compile(r'(?P<before>\bid="|url\(#|href="#)(?P<id>[\w-]+)')


def draw(spec: Spec, *, name: str, title: str) -> Markup:
    """Draw a specification with inline data.

    Args:
        spec: Vega-Lite; no URL in it may be loaded.
        name: unique in the page; ids inside the picture start with it.
        title: what a reader who cannot see the picture is told.

    Returns:
        One `svg` element that scales to its container; every text in it is escaped.

    Knows:
        the data in `spec`.

    Raises:
        ValueError: if the picture loads anything or cannot be drawn.
    """
    picture = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG}, allowed_base_urls=[])
    head = _SIZE.match(picture)
    if head is None:
        message = (
            f"report: picture {name} does not start as vl-convert 1.9 starts an SVG: {picture[:120]!r}; adapt svg.py"
        )
        raise ValueError(message)
    # Vega numbers ids over all pictures ever drawn; here they are numbered within the picture.
    ids: dict[str, str] = {}
    body = _IDS.sub(
        lambda found: found["before"] + ids.setdefault(found["id"], f"{name}-{len(ids)}"), picture[head.end() :]
    )
    return Markup(  # noqa: S704  # vl-convert escapes every text of the specification; a test feeds it hostile ones
        f'<svg role="img" aria-label="{escape(title)}" viewBox="{head["box"]}" style="max-width:{float(head["width"]) * 1.25:.0f}px">{body}'
    )
