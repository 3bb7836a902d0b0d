"""Every code block of the documentation runs as it stands there; the README has its own file."""

import re

import pytest

from helpers.pages import ROOT, make_targets, pages, run_page

LISTED = {"pilot": "pilot.md"}
"""Directories whose content a page lists, and that page."""
DOCS = [page for page in pages() if page.name != "README.md"]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page)
    # Every page that makes one of these lists what lies in it.
    for place, described in LISTED.items():
        if (tmp_path / place).is_dir() and page.name == described:
            text = page.read_text(encoding="utf-8")
            names = {item.name + "/" * item.is_dir() for item in (tmp_path / place).iterdir()}
            assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_make_targets_a_page_names_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in make_targets(page):
        script = ROOT / "benchmarks" / f"{name.removeprefix('bench-')}.py"
        assert script.is_file() or re.search(rf"^{re.escape(name)}:", makefile, re.M), name


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/-]+\.md", text.split("nav:", maxsplit=1)[1]))
    assert named == {str(page.relative_to(ROOT / "docs")) for page in DOCS}
