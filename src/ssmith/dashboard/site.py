"""A static site about some lines, written from their logs; opens from disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.files import write_text
from ssmith.dashboard import overview, sentences, values, versions, watches
from ssmith.dashboard.glossary import TERMS
from ssmith.dashboard.health import health_of, open_alarm
from ssmith.dashboard.language import Language
from ssmith.dashboard.story import Story, moment_of
from ssmith.dashboard.words import Words
from ssmith.report.template import environment

_ROOMS = ("ssmith.dashboard", "ssmith.report")
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page, by its path below the site."""

    path: str
    html: str


def write_site(stories: Sequence[Story], directory: Path, language: str = "en") -> list[Path]:
    """Write the pages of some lines, and return their paths, the list of lines first.

    The same stories give the same bytes. Raises `InputError` if there is no such language,
    `MissingExtraError` if matplotlib, jinja2 or Babel is not installed (nothing is written), and
    `ArtefactError` if the disk refuses.
    """
    pages = render(stories, language)
    for page in pages:
        write_text(directory / page.path, page.html)
    return [directory / page.path for page in pages]


def render(stories: Sequence[Story], language: str) -> list[Page]:
    """Return every page: lines, glossary, and of each line overview, versions, watch and audit."""
    spoken = Language(language)
    places = _places(stories)
    below = Words(spoken, "../glossary.html")
    top = Words(spoken, "glossary.html")
    fill = _Filler(environment(*_ROOMS), stories)
    listed = {"here": "lines", "places": places, "overview": overview}
    pages = [
        fill.page("index.html", "lines.html.j2", top, listed),
        fill.page("glossary.html", "glossary.html.j2", top, {"here": "glossary", "terms": TERMS}),
    ]
    for story, place in zip(stories, places, strict=True):
        pages += _pages_of(story, place, below, fill)
    return pages


def _pages_of(story: Story, place: str, words: Words, fill: _Filler) -> list[Page]:
    language = words.language
    shared = {
        "story": story,
        "health": health_of(story),
        "alarm": open_alarm(story),
        "overview": overview,
    }

    def page(name: str, here: str, context: Mapping[str, Any]) -> Page:
        template = f"{here}.html.j2"
        return fill.page(
            f"{place}/{name}.html", template, words, {**shared, "here": here, **context}
        )

    drawn = {
        "panels": overview.panels(story, language),
        "timelines": overview.timelines(story, language),
    }
    return [
        page("index", "line", drawn),
        page("watch", "watch", {"watch": watches.watches_of(story, words)}),
        page("audit", "audit", {}),
        *(
            page(
                f"version-{version.place}",
                "version",
                {"version": version, "shown": versions.page_of(story, version, words)},
            )
            for version in story.versions
        ),
    ]


class _Filler:
    """Fills templates with what all of them know."""

    def __init__(self, environment: Any, stories: Sequence[Story]) -> None:
        self.environment, self.stories = environment, stories

    def page(self, path: str, template: str, words: Words, context: Mapping[str, Any]) -> Page:
        """Return one page."""
        known = {
            "stories": self.stories,
            "root": "../" if "/" in path else "",
            "words": words,
            "language": words.language,
            "say": words.say,
            "many": words.many,
            "term": words.term,
            "heading": words.heading,
            "plain": words.plain,
            "retold": words.retold,
            "values": values,
            "watches": watches,
            "sentences": sentences,
            "moment_of": moment_of,
            "health_of": health_of,
        }
        html = self.environment.get_template(template).render({**known, **context})
        return Page(path=path, html=html)


def _places(stories: Sequence[Story]) -> list[str]:
    """Return a directory for each line: its name as far as files can bear it, and no two alike."""
    found: list[str] = []
    for story in stories:
        plain = _PLAIN.sub("-", story.name).strip("-.") or "line"
        place, count = plain, 2
        while place.lower() in {item.lower() for item in found}:
            place, count = f"{plain}-{count}", count + 1
        found.append(place)
    return found
