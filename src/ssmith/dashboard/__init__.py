"""Lines as a static site in English or Japanese, and the same served read-only."""

from ssmith.dashboard.site import render, write_site

__all__ = ["render", "write_site"]
