"""The site in a real browser: wide and narrow, on paper, in the dark, by keyboard."""

import pytest

from helpers.browser import WIDTHS, browser, opened, problems
from ssmith.dashboard.language import LANGUAGES

LINE = "Digits-reader-co"
PAPER = 696
"""Width of an A4 page between its margins, in CSS pixels."""


@pytest.fixture(scope="module")
def running():
    with browser() as started:
        yield started


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_page_can_be_read(running, sites, code):
    for page in sorted(sites[code].rglob("*.html")):
        with opened(running, page.as_uri()) as shown:
            for width in WIDTHS:
                shown.set_viewport_size({"width": width, "height": 900})
                assert problems(shown) == [], (page.name, width)
            shown.evaluate("document.querySelectorAll('details').forEach((item) => item.open = 1)")
            assert problems(shown) == [], (page.name, "unfolded")
            for scheme in ("light", "dark"):
                shown.emulate_media(color_scheme=scheme)
                assert shown.evaluate(CONTRAST) == [], (page.name, scheme)
            shown.set_viewport_size({"width": PAPER, "height": 900})
            shown.emulate_media(media="print")
            assert problems(shown) == [], (page.name, "printed")
            assert not shown.locator("nav").is_visible()


def test_a_page_becomes_paper(running, sites):
    page = sites["ja"] / LINE / "index.html"
    with opened(running, page.as_uri()) as shown:
        assert shown.pdf(format="A4").startswith(b"%PDF")


def test_the_keyboard_can_skip_to_the_content(running, sites):
    with opened(running, (sites["en"] / LINE / "watch.html").as_uri()) as shown:
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.className") == "skip"
        shown.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")
        shown.keyboard.press("Enter")
        shown.wait_for_function("document.activeElement.id === 'content'")


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(running, sites):
    with opened(running, (sites["en"] / LINE / "version-2.html").as_uri()) as shown:
        wanted = shown.evaluate(
            "[...document.querySelectorAll('a[href], summary')].map((item) => item.outerHTML)"
        )
        for place, each in enumerate(wanted):
            shown.keyboard.press("Tab")
            reached, outline = shown.evaluate(
                "[document.activeElement.outerHTML, "
                "getComputedStyle(document.activeElement).outlineStyle]"
            )
            assert reached == each, place
            assert outline == "solid", f"{each}: focus cannot be seen"


def test_states_differ_without_colour(running, sites):
    page = sites["en"] / LINE / "index.html"
    with opened(running, page.as_uri()) as shown:
        said = shown.locator(".state").all_inner_texts()
    assert said == ["was live", "live", "was live"]
    text = page.read_text(encoding="utf-8")
    # Each kind of mark is a path of its own.
    assert len({"refuse", "alarm", "rollback", "override"}) == 4
    assert text.count("<use ") >= 4


CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let above = node; above; above = above.parentElement) {
      const colour = rgba(getComputedStyle(above).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = new Set();
  for (const node of document.querySelectorAll("main *, nav *, footer *")) {
    const own = [...node.childNodes].some((item) => item.nodeType === 3 && item.data.trim());
    if (!own || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = rgba(node.closest("svg") ? style.fill : style.color);
    const a = light(ink), b = light(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(`${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`);
  }
  return [...found];
}
"""
