"""Jinja templates, with every string of a receipt escaped."""

from __future__ import annotations

from importlib import resources
from typing import Any

from ssmith.core.optional import require
from ssmith.report.look import printable
from ssmith.report.plot import Plot

_OURS = "ssmith.report"


def check_extras() -> None:
    """Raise `MissingExtraError` unless pages and plots can be made; to be asked before work."""
    for package in ("matplotlib", "jinja2"):
        require(package, extra="report", purpose="the report")


def fill(name: str, context: dict[str, Any]) -> str:
    """Fill a template of ``report/templates``."""
    page: str = environment(_OURS).get_template(name).render(context)
    return page


def environment(*rooms: str) -> Any:
    """Return an environment that escapes every string and misses no variable in silence.

    The ``templates/`` of the rooms (packages) are searched in order; plots go in by ``inline``.
    """
    jinja2 = require("jinja2", extra="report", purpose="the HTML report")
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _source(name, rooms)),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    markup = require("markupsafe", extra="report", purpose="the HTML report").Markup

    def inline(plot: Plot) -> Any:
        """Mark a plot as safe: it was serialised by an XML writer that escapes."""
        return markup(plot.inline)

    made.filters["inline"] = inline
    return made


def _source(name: str, rooms: tuple[str, ...]) -> str | None:
    """Return a template's source, or None if no room has it."""
    for room in rooms:
        found = resources.files(room) / "templates" / name
        if found.is_file():
            return found.read_text(encoding="utf-8")
    return None
