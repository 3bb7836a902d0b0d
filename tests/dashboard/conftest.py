"""A line that went through a year, and its site in every language."""

import pytest

from helpers.year import Clock, make_year
from ssmith.dashboard import read_story, write_site
from ssmith.dashboard.language import LANGUAGES
from ssmith.release.begin import init


@pytest.fixture(scope="session")
def line(tmp_path_factory):
    place = tmp_path_factory.mktemp("year")
    return make_year(place / "line", place / "models")[0]


@pytest.fixture(scope="session")
def story(line):
    return read_story(line.path)


@pytest.fixture(scope="session")
def begun(tmp_path_factory):
    """A line that holds nothing yet."""
    place = tmp_path_factory.mktemp("empty") / "begun"
    return read_story(init(place, clock=Clock()).path)


@pytest.fixture(scope="session")
def sites(story, begun, tmp_path_factory):
    """Directory of the site by language."""
    places = {code: tmp_path_factory.mktemp(f"site-{code}") for code in LANGUAGES}
    for code, place in places.items():
        write_site([story, begun], place, code)
    return places
