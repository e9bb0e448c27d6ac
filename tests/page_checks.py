"""What every page must be: whole, alone, and readable for who cannot see it."""

from html.parser import HTMLParser


_ALONE = {"img", "meta", "br", "link", "input", "hr"}
_SVG_ALONE = {"polyline"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headed = True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SVG_ALONE, f"<{tag}/>"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in _ALONE:
            self.open.append(tag)
        for name in ("src", "href"):
            address = given.get(name) or ""
            assert address.startswith(("data:", "#")) or not address, address[:80]
        if "id" in given:
            self.ids.append(str(given["id"]))
        if (given.get("href") or "").startswith("#"):
            self.links.append(str(given["href"])[1:])
        if tag == "html":
            assert given.get("lang"), "a page says its language"
        if tag == "img":
            assert given.get("alt"), "a picture says what it shows"
        if tag in ("audio", "svg"):
            assert given.get("aria-label"), f"{tag} says what it is"
        if tag == "table":
            self.headed = False
        if tag == "th":
            assert given.get("scope") in ("col", "row")
            self.headed = True
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            level = int(tag[1])
            assert level <= (self.levels[-1] if self.levels else 0) + 1, f"<{tag}> after {self.levels[-1:]}"
            self.levels.append(level)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}>"
        assert self.open.pop() == tag, f"</{tag}>"
        if tag == "table":
            assert self.headed, "a table has a header"


def check_page(text: str) -> None:
    """Tags fit, nothing is loaded, headings go down step by step, pictures and tables say what they are."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [], reader.open
    assert reader.levels.count(1) == 1
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.links) <= set(reader.ids)
