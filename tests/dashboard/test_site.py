"""The site as files: the same bytes each time, nothing from elsewhere, every link resolves."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from ssmith.dashboard import write_site
from ssmith.dashboard.language import LANGUAGES

LINE = "Digits-reader-co"


class Links(HTMLParser):
    """Ids, addresses and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.links, self.texts = set(), [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            assert found["id"] not in self.ids, f"two elements are called {found['id']}"
            self.ids.add(found["id"])
        self.links += [found[key] for key in ("href", "src") if key in found]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_link_resolves_and_leads_to_a_page_of_the_site(sites, code):
    pages = {page.resolve(): Links(page) for page in sites[code].rglob("*.html")}
    assert len(pages) == 2 + (3 + 3) + 3
    for page, read in pages.items():
        for link in read.links:
            if link == "data:,":
                continue
            path, _, place = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target in pages, f"{page.name}: {link}"
            assert not place or place in pages[target].ids, f"{page.name}: {link}"


def test_the_same_story_gives_the_same_bytes(story, begun, sites, tmp_path):
    write_site([story, begun], tmp_path, "ja")
    for page in sites["ja"].rglob("*.html"):
        assert (tmp_path / page.relative_to(sites["ja"])).read_bytes() == page.read_bytes()


@pytest.mark.parametrize("code", LANGUAGES)
def test_nothing_is_asked_of_the_network_or_run(sites, code):
    for page in sites[code].rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text)
        assert not re.search(r"@import|url\((?!#)", text)
        assert f'<html lang="{code}">' in text


def test_names_and_reasons_are_shown_as_they_are(sites):
    page = Links(sites["en"] / LINE / "audit.html")
    text = "".join(page.texts)
    assert "Digits <reader> & co" in text
    assert "agreed with the head of quality, ticket 8812" in text


def test_the_first_line_says_what_matters(sites):
    def first(page):
        text = page.read_text(encoding="utf-8")
        line = re.search(r'<p class="headline">(.*?)</p>', text, re.S)[1]
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", line)).strip()

    line = (sites["en"] / LINE / "audit.html").parent
    assert first(line / "index.html") == (
        "Version 2 of Digits &lt;reader&gt; &amp; co has been live since 21 July 2026; it takes "
        "31 % less space than the first version, and accuracy differs by −0.3 points (−1.1 "
        "to +0.6) from the model it was made from."
    )
    assert "overridden once" in first(line / "audit.html")
    assert "was quiet" in first(line / "watch.html")
    assert "was live until 21 July 2026" in first(line / "version-3.html")
    assert first(sites["en"] / "index.html") == "No alarm is open; nothing is live yet in begun."


def test_overrides_stand_out_and_unsigned_entries_are_called_so(sites):
    text = (sites["en"] / LINE / "audit.html").read_text(encoding="utf-8")
    assert text.count('<li class="override">') == 1
    assert text.count("(unsigned)") == text.count("<time ")
