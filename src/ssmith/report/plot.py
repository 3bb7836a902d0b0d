"""Matplotlib → SVG that takes the page's colours, plus its data as CSV.

Text stays text, in the reader's own system font: it can be searched, read aloud and needs no
font file. The layout is measured in DejaVu Sans, which is wider than system fonts, so nothing
overlaps that did not overlap when it was laid out.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from ssmith.core.optional import require

INK, MUTED, SOFT, LINE, ACCENT, PAPER, BAD = (
    "#1c2227",
    "#5b6670",
    "#b4bcc4",
    "#dfe3e8",
    "#0f7173",
    "#ffffff",
    "#a8321f",
)
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    SOFT: "--soft",
    LINE: "--line",
    ACCENT: "--accent",
    PAPER: "--card",
    BAD: "--bad",
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SVG = "http://www.w3.org/2000/svg"
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_FAMILY = re.compile(r"font-family:[^;]*;?\s*")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot: a file to paste elsewhere, the same for the page, and its data.

    Args:
        name: file name without suffix; also the prefix of every id inside.
        svg: stand-alone file, in the light colours, on white.
        inline: the same for the page, in the page's colours, without a background.
        csv: the data that was drawn, with a header.
        alt: what the plot shows, in a sentence.
    """

    name: str
    svg: str
    inline: str
    csv: str
    alt: str


@contextmanager
def canvas(width: float, height: float) -> Iterator[Any]:
    """Yield an empty figure in the house style."""
    matplotlib = require("matplotlib", extra="report", purpose="the report's plots")
    figures = require("matplotlib.figure", extra="report", purpose="the report's plots")
    defaults = {
        key: value
        for key, value in matplotlib.rcParamsDefault.items()
        if not key.startswith("backend")
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A user's own matplotlibrc must not change a report; a letter that DejaVu lacks is
        # drawn by the reader's browser all the same.
        warnings.filterwarnings("ignore", message="(?s).*Glyph .* missing from")
        warnings.simplefilter("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcParams.update(defaults)
        matplotlib.rcParams.update(_style())
        yield figures.Figure(figsize=(width / 72, height / 72), dpi=72)


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "ssmith",
        "text.parse_math": False,
        "axes.unicode_minus": True,
        "font.size": 12,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.labelsize": 12,
        "axes.edgecolor": SOFT,
        "axes.linewidth": 1.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 1.0,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": 11.5,
        "ytick.labelsize": 11.5,
        "ytick.major.size": 0,
        "xtick.major.size": 4,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "lines.solid_capstyle": "round",
    }


def render(figure: Any, *, name: str, alt: str, data: str) -> Plot:
    """Render a figure twice: stand-alone and for the page (see `Plot`)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return Plot(
        name=name,
        svg=_standalone(buffer.getvalue(), name, alt),
        inline=_inline(buffer.getvalue(), name, alt),
        csv=data,
        alt=alt,
    )


def table_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Render rows as CSV; numbers in full precision, None as an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _standalone(source: bytes, name: str, alt: str) -> str:
    root = _cleaned(source, name, alt)
    root.set("xmlns", _SVG)
    title = ElementTree.Element("title")
    title.text = alt
    root.insert(0, title)
    root.insert(1, ElementTree.Element("rect", width="100%", height="100%", fill=PAPER))
    root.set("style", f"{root.get('style')}; font-family: {_FONTS}")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _inline(source: bytes, name: str, alt: str) -> str:
    root = _cleaned(source, name, alt)
    del root.attrib["width"], root.attrib["height"]
    for element in root.iter():
        style = element.get("style")
        if style:
            element.set("style", _COLOUR.sub(_variable, style))
    return ElementTree.tostring(root, encoding="unicode")


def _variable(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match.group())
    return f"var({name})" if name else match.group()


def _cleaned(source: bytes, name: str, alt: str) -> ElementTree.Element:
    """Drop metadata, styles and namespaces; make every id unique on a page."""
    root = ElementTree.fromstring(source)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if key.startswith("{")]:
            element.set(key.rpartition("}")[2], element.attrib.pop(key))
        _rename(element, name)
        style = element.get("style")
        if style and "font-family" in style:
            element.set("style", _FAMILY.sub("", style))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or (child.tag == "defs" and not len(child)):
                parent.remove(child)
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for side in ("width", "height"):
        root.set(side, root.get(side, "").removesuffix("pt"))
    return root


def _rename(element: ElementTree.Element, name: str) -> None:
    if element.tag == "g":
        element.attrib.pop("id", None)
    elif "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    if element.get("href", "").startswith("#"):
        element.set("href", f"#{name}-{element.attrib['href'][1:]}")
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))
