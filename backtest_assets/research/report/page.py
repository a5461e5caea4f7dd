"""The page: rows and pictures into one HTML file that asks the network for nothing; what it says is decided before."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.research.report.row import Part, Row, rows_of
from backtest_assets.research.report.verdict import Judgement
from backtest_assets.research.report.words import GLOSSARY, number_text, plain

MAX_BYTES: Final = 2_000_000
"""Largest page [bytes]; larger ones are slow to open and to send."""

_LOADING: Final = frozenset(
    {
        "src",
        "srcset",
        "href",
        "xlink:href",
        "data",
        "action",
        "formaction",
        "poster",
        "background",
        "cite",
        "ping",
        "manifest",
    }
)
_FORBIDDEN: Final = frozenset({"script", "iframe", "frame", "object", "embed", "link", "base", "form", "portal"})
_STYLE_LOADS = re.compile(r"url\(\s*['\"]?(?!#|data:)[^)]*\)?|@import[^;]*|image-set\([^)]*\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """What one page shows.

    Attributes:
        run: the settings, for the page's head.
        judgement: the verdict in words.
        parts: grids and rows by name, in the page's order.
        charts: pictures by name; a chart that is missing is left out.
        facts: the few rows shown beside the verdict.
        reading: what the test window says to the promotion; None where nothing was promoted.
    """

    run: ResearchRun
    judgement: Judgement
    parts: Mapping[str, Part]
    charts: Mapping[str, Markup]
    facts: tuple[tuple[str, Row], ...]
    reading: Row | None

    @property
    def tone(self) -> str:
        """Colour of the verdict: `care` where something is promoted and the test does not agree."""
        if self.reading is not None and not self.reading.is_passed:
            return "care"
        return self.judgement.tone

    def gates_of(self, blueprint_id: str) -> tuple[Row, ...]:
        """Return the promotion gates of one blueprint."""
        return tuple(
            row for row in rows_of(self.parts) if row.section == "gates" and row.item.startswith(f"{blueprint_id}/")
        )


def render(content: Content) -> bytes:
    """Render the page.

    Args:
        content: what it shows.

    Returns:
        UTF-8 HTML; equal contents give equal bytes.

    Knows:
        what `content` holds.

    Raises:
        RefusedError: if the page would load anything from outside, or is larger than `MAX_BYTES`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("backtest_assets.research.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    html = template.render(content=content, glossary=GLOSSARY, number=number_text, plain=plain, breakable=_breakable)
    if outside := external_references(html):
        message = f"report of {content.run.run_id}: the page would load {', '.join(outside)}; it must open offline"
        raise RefusedError(message)
    page = html.encode()
    if len(page) > MAX_BYTES:
        message = (
            f"report of {content.run.run_id}: the page has {len(page):,} bytes, limit {MAX_BYTES:,}; name fewer symbols"
        )
        raise RefusedError(message)
    return page


def _breakable(name: str) -> Markup:
    return Markup("_<wbr>").join(name.split("_"))


def external_references(html: str) -> tuple[str, ...]:
    """List everything in a page that would load, run or send something.

    Args:
        html: the page.

    Returns:
        One entry per finding: loading attributes that leave the page, active elements, event handlers, refreshing
        metas, `url()` and `@import` in styles; empty if the page is self-contained.

    Knows:
        the page's text.
    """
    finder = _References()
    finder.feed(html)
    finder.close()
    return tuple(finder.found)


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        if tag in _FORBIDDEN:
            self.found.append(f"<{tag}>")
        for name, raw in attrs:
            value = (raw or "").strip()
            if name.startswith("on") or (tag == "meta" and name == "http-equiv" and value.lower() == "refresh"):
                self.found.append(f"{tag}[{name}]")
            elif name in _LOADING and not value.startswith(("#", "data:")):
                self.found.append(f"{tag}[{name}={value}]")
            self._search_style(value)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._search_style(data)

    def _search_style(self, text: str) -> None:
        self.found.extend(_STYLE_LOADS.findall(text))
