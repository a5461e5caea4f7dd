import pytest

from backtest_assets.research.report.page import external_references
from backtest_assets.research.report.svg import BLUE, draw


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<a href="#gates">x</a><svg><use href="#a"/></svg>', ()),
        ('<img src="data:image/png;base64,AA">', ()),
        ("<p>https://example.com is only a word, and so is url(x) or onclick=</p>", ()),
        ('<rect clip-path="url(#clip0)"/>', ()),
        ('<img src="https://x.example/a.png">', ("img[src=https://x.example/a.png]",)),
        ('<a href="//x.example">', ("a[href=//x.example]",)),
        ('<image xlink:href="pic.png"/>', ("image[xlink:href=pic.png]",)),
        ("<script>1</script>", ("<script>",)),
        ('<p onclick="x()">', ("p[onclick]",)),
        ('<meta http-equiv="Refresh" content="0">', ("meta[http-equiv]",)),
        ('<link rel="stylesheet">', ("<link>",)),
        ("<style>p { background: url(pic.png) }</style>", ("url(pic.png)",)),
        ("<style>@import 'a.css';</style>", ("@import 'a.css'",)),
        ('<p style="background:URL( http://x )">', ("URL( http://x )",)),
        ('<img src="javascript:x()">', ("img[src=javascript:x()]",)),
    ],
)
def test_what_leaves_the_page_is_found_and_words_are_not(html, found):
    assert found == external_references(html)


def chart(words: str) -> dict[str, object]:
    data = {"values": [{"x": 1, "y": 2, "name": words}, {"x": 2, "y": 1, "name": words}]}
    encoding = {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "name", "type": "nominal"},
        "text": {"field": "name"},
    }
    return {"data": data, "mark": {"type": "text", "color": BLUE, "clip": True}, "encoding": encoding}


def test_pictures_are_the_same_bytes_each_time_and_share_no_ids():
    one, again, other = (draw(chart("x"), name=name, title="t") for name in ("a", "a", "b"))
    assert one == again
    assert str(one) == str(other).replace('"b-', '"a-').replace("#b-", "#a-")
    assert 'id="a-0"' in one
    assert "url(#a-0)" in one


def test_pictures_escape_their_words():
    picture = draw(chart('</text><script>alert("1")</script>'), name="a", title='<b>"t"</b>')
    assert "<script" not in picture
    assert "&lt;script&gt;" in picture
    assert external_references(picture) == ()


def test_pictures_load_nothing():
    with pytest.raises(ValueError, match="External data url"):
        draw({**chart("x"), "data": {"url": "https://example.com/a.json"}}, name="a", title="t")
