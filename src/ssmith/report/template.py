"""Jinja templates, with every string of a receipt escaped."""

from __future__ import annotations

from importlib import resources
from typing import Any

from ssmith.core.optional import require
from ssmith.report.plot import Plot


def fill(name: str, context: dict[str, Any]) -> str:
    """Fill a template of ``report/templates``."""
    jinja2 = require("jinja2", extra="report", purpose="the HTML report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    markup = require("markupsafe", extra="report", purpose="the HTML report").Markup

    def inline(plot: Plot) -> Any:
        """Mark a plot as safe: it was serialised by an XML writer that escapes."""
        return markup(plot.inline)

    environment.filters["inline"] = inline
    page: str = environment.get_template(name).render(context)
    return page


def _source(name: str) -> str:
    return (resources.files("ssmith.report") / "templates" / name).read_text(encoding="utf-8")
