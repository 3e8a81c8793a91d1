"""A strict reading of the pages: balanced tags, and nothing fetched from anywhere."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}


class Reading(HTMLParser):
    """Collects tags and text and fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        """Return how often a tag occurs."""
        return sum(name == tag for name, _ in self.tags)


def read(page: str) -> Reading:
    """Check that a page is one balanced, self-contained document, and return what it holds."""
    reading = Reading()
    reading.feed(page)
    assert not reading.open
    assert not {"script", "link", "iframe"} & {name for name, _ in reading.tags}
    for name, attributes in reading.tags:
        for key in ("src", "href", "xlink:href"):
            value = attributes.get(key) or "#"
            inside = ("#", "data:image/png;base64,", "data:image/jpeg;base64,")
            assert value.startswith(inside), (name, value)
    assert "url(http" not in page
    assert "@import" not in page
    ids = [attributes["id"] for _, attributes in reading.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    return reading
