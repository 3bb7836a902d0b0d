"""A real browser that looks at pages: what is cut off, too wide, broken, or asks the network."""

import functools
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 390)

LOOK = """
() => {
  const found = [];
  const root = document.documentElement;
  const say = (what, node) => found.push(
    `${what}: ${(node.textContent || node.tagName).trim().replace(/\\s+/g, " ").slice(0, 60)}`);
  if (root.scrollWidth > root.clientWidth) {
    found.push(`the page is ${root.scrollWidth} wide in a window of ${root.clientWidth}`);
  }
  const unseen = (node) => node && node !== document.body &&
    (getComputedStyle(node).clipPath === "inset(50%)" || unseen(node.parentElement));
  const folded = ".skip, details:not([open]) > :not(summary)";
  const hidden = (node) => unseen(node) || node.closest(folded) ||
    !node.checkVisibility({opacityProperty: true, visibilityProperty: true});
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || hidden(parent) || parent.closest("script, style, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width && box.height) texts.push({node, parent, box});
    }
  }
  for (const {node, parent, box} of texts) {
    if (box.left < -1 || box.right > root.clientWidth + 1) say("outside the window", node);
    const drawing = parent.closest("svg");
    if (drawing) {
      const frame = drawing.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
          box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
        say("cut off by a drawing", node);
      }
      if (box.height < 9) say(`only ${box.height.toFixed(1)} px high`, node);
      continue;
    }
    for (let above = parent; above && above !== document.body; above = above.parentElement) {
      const style = getComputedStyle(above);
      const frame = above.getBoundingClientRect();
      const cell = ["TD", "TH"].includes(above.tagName) && style.display === "table-cell";
      if ((cell || style.overflowX !== "visible") &&
          (box.left < frame.left - 1 || box.right > frame.right + 1)) {
        say(`cut off by ${above.tagName.toLowerCase()}`, node);
        break;
      }
      if (style.overflowY === "hidden" && above.className !== "sr" &&
          (box.top < frame.top - 2 || box.bottom > frame.bottom + 2)) {
        say(`cut off below by ${above.tagName.toLowerCase()}`, node);
        break;
      }
    }
  }
  for (const drawing of document.querySelectorAll("svg")) {
    const inside = texts.filter((text) => drawing.contains(text.parent));
    for (let one = 0; one < inside.length; one++) {
      for (let other = one + 1; other < inside.length; other++) {
        const a = inside[one].box, b = inside[other].box;
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3) {
          say("over another text", inside[one].node);
        }
      }
    }
  }
  return [...new Set(found)];
}
"""


@functools.cache
def program():
    """Return the path of a browser of this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browser():
    """Yield a running browser; skip where there is none."""
    if program() is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        # Root in a container has no sandbox to use; pages are our own files.
        running = started.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        yield running
        running.close()


@contextmanager
def opened(running, address, *, width=1280, **settings):
    """Yield a page with everything that went wrong while it was opened, in ``page.wrong``."""
    context = running.new_context(viewport={"width": width, "height": 900}, **settings)
    page = context.new_page()
    wrong = []
    own = address.partition("://")[0] + "://"
    page.on("console", lambda message: wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url == address or asked.url.startswith("data:")
            else wrong.append(f"request: {asked.url}")
        ),
    )
    page.goto(address)
    assert page.url.startswith(own)
    page.wrong = wrong
    try:
        yield page
    finally:
        context.close()


def problems(page):
    """Return everything that a reader of an open page could not read."""
    return [*page.wrong, *page.evaluate(LOOK)]
